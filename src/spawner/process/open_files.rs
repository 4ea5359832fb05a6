//! How many files processes may have open: Outpost as many as the system allows it, its servers as many as Outpost was started
//! with, since programs that use `select` break above 1024.

use std::io;
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The limit that Outpost was started with, if it has another one now.
static BEFORE: OnceLock<u64> = OnceLock::new();

/// The most that this process may have.
///
/// # Errors
/// The system does not tell.
pub fn most() -> io::Result<u64> {
    Ok(getrlimit(Resource::RLIMIT_NOFILE)?.1)
}

/// Raises the limit of this process to the most that it may have, which is given. Servers that are started from then on get
/// the one that was.
///
/// # Errors
/// The system does not take it.
pub fn raise() -> io::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let _ = BEFORE.set(soft);
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// What a server is to have, if that is not what this process has.
pub(super) fn of_servers() -> Option<u64> {
    BEFORE.get().copied()
}

/// Puts this process, and all that it starts, under a limit that can be raised again.
pub(super) fn limit(files: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    Ok(setrlimit(Resource::RLIMIT_NOFILE, files.min(hard), hard)?)
}
