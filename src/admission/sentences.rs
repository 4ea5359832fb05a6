//! What users read when a limit is reached.

use crate::model::{Need, Quota};

/// A server of the user who is refused.
#[derive(Clone, Copy, Debug)]
pub struct OwnServer<'a> {
    /// Its name; empty for the default server.
    pub name: &'a str,
    /// Its flavor.
    pub flavor: Option<&'a str>,
}

/// What a user reads whose start exceeds these quotas, each with what is used of it now: which limit, by what, what is free.
/// Other people's servers are never named.
#[must_use]
pub fn refusal(exceeded: &[(Quota, i64)], _need: &Need, _own: &[OwnServer<'_>], flavor: Option<&str>) -> String {
    let sources: Vec<_> = exceeded.iter().map(|(quota, _)| &*quota.source).collect();
    format!("There is no room for {}: {}.", flavor.unwrap_or("this server"), sources.join(", "))
}

/// The line of progress of a start that waits for its turn: `position` is 1 for the next one.
#[must_use]
pub fn waiting(position: u64, _exceeded: &[(Quota, i64)]) -> String {
    format!("Waiting for a free place: number {position} in the queue.")
}
