//! How long a request that fails is made again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::ApiError;

/// The pauses between tries, where the API server names none.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How long requests waited for their turns, in milliseconds.
#[derive(Clone, Debug, Default)]
pub struct Waited(Arc<AtomicU64>);

impl Waited {
    /// One has waited.
    pub fn add(&self, waited: Duration) {
        self.0.fetch_add(waited.as_millis().try_into().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn sum(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

/// How long requests are tried again: a busy or failing API server is asked again after a pause.
#[derive(Clone, Debug)]
pub struct Patience {
    deadline: Instant,
    waited: Waited,
    dropped: CancellationToken,
}

impl Patience {
    /// Patience until the deadline, put off by what requests waited, or until nobody wants the answer any more.
    #[must_use]
    pub const fn new(deadline: Instant, waited: Waited, dropped: CancellationToken) -> Self {
        Self { deadline, waited, dropped }
    }

    /// Patience until the deadline.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self::new(deadline, Waited::default(), CancellationToken::new())
    }

    /// Whether nobody wants the answer any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.dropped.is_cancelled()
    }

    /// Waits; `false`: for that, there is no time.
    pub async fn pause(&self, pause: Duration) -> bool {
        if Instant::now() + pause >= self.deadline + self.waited.sum() {
            return false;
        }
        tokio::select! {
            () = self.dropped.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Makes a request until it is answered for good. One that is under way is always waited for.
    ///
    /// # Errors
    /// The last error.
    pub async fn until_answered<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match request().await {
                Err(error) if error.may_pass() => error,
                result => return result,
            };
            let wait = error.retry_after().unwrap_or_else(|| pause.mul_f64(0.5 + rand::random::<f64>() / 2.0));
            if !self.pause(wait).await {
                return Err(error);
            }
            tracing::debug!(%error, "the cluster is asked again");
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
