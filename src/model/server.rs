//! A server: what Outpost knows about one service of one hub.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Handle, Need, Tunnel};

/// The identity of a server on the wire. `name` may be empty (JupyterHub's default server); every part may hold any
/// Unicode, so none of them becomes part of a path, a header or a log line without escaping.
#[derive(Clone, Debug, Eq, Hash, PartialEq, PartialOrd, Ord)]
pub struct ServerId {
    /// The hub's name: the user name of its credential.
    pub hub: Arc<str>,
    /// The server's name on the hub; empty for the default server.
    pub name: Arc<str>,
    /// One start of that server; `"0"` where the hub sent none.
    pub start_id: Arc<str>,
}

impl ServerId {
    /// The identity of one start of the server `name` of `hub`.
    #[must_use]
    pub fn new(hub: &str, name: &str, start_id: &str) -> Self {
        Self { hub: hub.into(), name: name.into(), start_id: start_id.into() }
    }
}

/// Outpost's own identifier of a server: a ULID. It is made of `[0-9A-Z]` only, so that it is safe in file names,
/// labels and environment variables, where the parts of [`ServerId`] are not.
#[derive(Clone, Debug, Eq, Hash, PartialEq, PartialOrd, Ord)]
pub struct Uid(Arc<str>);

impl Uid {
    /// A new identifier, greater than all that this process made before: lists are in the order of their ids.
    #[must_use]
    pub fn generate() -> Self {
        static GENERATOR: Mutex<ulid::Generator> = Mutex::new(ulid::Generator::new());
        let mut generator = GENERATOR.lock().unwrap_or_else(PoisonError::into_inner);
        let ulid = generator.generate().unwrap_or_else(|overflow| overflow.commit_overflow_increment());
        Self(ulid.to_string().into())
    }

    /// Reads an identifier; `None` if the text is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        ulid::Ulid::from_string(text).ok().filter(|ulid| ulid.to_string() == text)?;
        Some(Self(text.into()))
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a server is in its life.
///
/// ```text
/// Queued -> Starting -> Running -> Ended
///    |          |          |         |
///    +----------+----------+---------+--> Stopping -> (row removed, history written)
/// ```
/// A start that fails goes from `Starting` straight into the history.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub enum Phase {
    /// It waits for its turn, since a limit is reached; the backend knows nothing of it.
    Queued,
    /// The row exists; the backend may or may not have begun.
    Starting,
    /// The backend's start returned.
    Running,
    /// It ended by itself; the row stays until the hub deletes it, so that every poll gets the exit code.
    Ended,
    /// It is being stopped; when nothing of it is left, the row goes.
    Stopping,
}

impl Phase {
    /// The phase's name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Ended => "ended",
            Self::Stopping => "stopping",
        }
    }

    /// Reads a name from the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let phases = [Self::Queued, Self::Starting, Self::Running, Self::Ended, Self::Stopping];
        phases.into_iter().find(|phase| phase.as_str() == text)
    }

    /// Whether a server may move from this phase to `next`.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        matches!(
            (self, next),
            (Self::Queued, Self::Starting | Self::Stopping)
                | (Self::Starting, Self::Running | Self::Stopping)
                | (Self::Running, Self::Ended | Self::Stopping)
                | (Self::Ended, Self::Stopping)
        )
    }

    /// Whether limits count a server in this phase. One that ended by itself takes nothing up any more, though its row stays
    /// until its hub deletes it.
    #[must_use]
    pub const fn counts(self) -> bool {
        matches!(self, Self::Starting | Self::Running)
    }
}

/// How a server ended.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Exit {
    /// The exit code; the negative signal number if a signal ended it (-9: SIGKILL). `None`: nobody can know.
    pub code: Option<i32>,
    /// It ended before it ever accepted a connection, so that a hub may still be waiting for it.
    pub early: bool,
    /// A sentence for the user.
    pub reason: String,
}

/// One row: a server that exists, whatever its phase. It holds no secret; the request does, and stays in the database.
#[derive(Clone, Debug)]
pub struct Server {
    /// Outpost's identifier.
    pub uid: Uid,
    /// The hub's identifier.
    pub id: ServerId,
    /// JupyterHub's number of the user.
    pub user_id: i64,
    /// JupyterHub's name of the user.
    pub user: Arc<str>,
    /// The flavor that was asked for.
    pub flavor: Option<Arc<str>>,
    /// What it takes up.
    pub need: Need,
    /// How long it may run, from when it runs. `None`: `end_date` is what somebody set, or there is no end.
    pub runtime: Option<Duration>,
    /// Where it is in its life.
    pub phase: Phase,
    /// Counts the moves of the row: a move names the generation that it starts from (compare and swap).
    pub generation: i64,
    /// The Outpost instance that drives it.
    pub owner: Arc<str>,
    /// Where the backend keeps it.
    pub handle: Handle,
    /// Whether the hub asked for an asynchronous start.
    pub asynchronous: bool,
    /// The answer to the start: `host:port`, or empty while the address is not known.
    pub address: Arc<str>,
    /// Where the server itself listens (`host:port`), if the hub was told another address; else empty.
    pub target: Arc<str>,
    /// Whether the hub made its tunnel, as far as it was asked to.
    pub tunnel: Tunnel,
    /// How it ended, once it did.
    pub exit: Option<Exit>,
    /// When the row was made.
    pub start_date: DateTime<Utc>,
    /// When its time is over; `None`: no end.
    pub end_date: Option<DateTime<Utc>>,
    /// When the hub last asked about it.
    pub last_update: DateTime<Utc>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_never_comes_back() {
        let phases = [Phase::Queued, Phase::Starting, Phase::Running, Phase::Ended, Phase::Stopping];
        for (rank, from) in phases.into_iter().enumerate() {
            assert_eq!(Phase::parse(from.as_str()), Some(from));
            for to in &phases[..=rank] {
                assert!(!from.may_become(*to), "{from:?} -> {to:?}");
            }
        }
    }

    #[test]
    fn identifiers_are_in_order() {
        let made: Vec<Uid> = std::iter::repeat_with(Uid::generate).take(1000).collect();
        assert!(made.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn only_ulids_are_identifiers() {
        let uid = Uid::generate();
        assert_eq!(Uid::parse(uid.as_str()), Some(uid));
        for bad in ["", "..", "../../etc", "01ARZ3NDEKTSV4RRFFQ69G5FA", "01arz3ndektsv4rrffq69g5fav"] {
            assert_eq!(Uid::parse(bad), None, "{bad}");
        }
    }
}
