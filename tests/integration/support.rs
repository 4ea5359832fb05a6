//! What tests share.

pub mod daemon;
pub mod database;
pub mod fake_hub;
pub mod fake_kube;
pub mod helm;
pub mod kube;
mod metrics;
pub mod program;
pub mod real_hub;
pub mod server;
pub mod ssh;
pub mod sshd;

use std::time::Duration;

pub use database::{Kind, TestDb, a_server, running_servers};
pub use fake_hub::{Behaviour, FakeHub};
pub use metrics::every_metric;
pub use server::TestOutpost;

/// The value of a variable that the test command sets. Without it a test is skipped, and says so; in CI nothing may be.
pub fn provided(variable: &str, what: &str) -> Option<String> {
    match std::env::var(variable) {
        Ok(value) if !value.is_empty() => Some(value),
        _ => {
            skipped(&format!("{what} is needed; tests/run sets {variable}"));
            None
        }
    }
}

/// Says that a test is skipped, and why. In CI nothing may be.
pub fn skipped(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "nothing is skipped in CI: {why}");
    eprintln!("skipped: {why}");
}

/// Waits until `check` gives something.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, check: impl FnMut() -> F) -> T {
    within(Duration::from_secs(30), what, check).await
}

/// Waits until `check` gives something, for as long as `patience`.
pub async fn within<T, F: Future<Output = Option<T>>>(
    patience: Duration,
    what: &str,
    mut check: impl FnMut() -> F,
) -> T {
    let begun = std::time::Instant::now();
    while begun.elapsed() < patience {
        if let Some(value) = check().await {
            return value;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("in {patience:?} it never came true that {what}");
}
