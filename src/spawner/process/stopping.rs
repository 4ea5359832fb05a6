//! How a server is ended and all of it removed.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::ladder::Ladder;
use super::proc::{self, ProcessId};
use super::state::{self, Dir, Record, Seen};
use super::{Process, blocking, plan, ports};
use crate::error::{Error, Result};
use crate::model::Uid;

/// How long a supervisor may take beyond the sum of what it waits for.
const SLACK: Duration = Duration::from_secs(10);

fn not_ended(cause: impl std::fmt::Display) -> Error {
    Error::Unavailable {
        message: "The server could not be stopped yet. Outpost goes on trying.",
        cause: format!("stop: {cause}"),
    }
}

impl Process {
    pub(super) async fn stop_server(&self, uid: &Uid) -> Result<()> {
        let slot = self.slots.hold(uid);
        slot.cancel_starts();
        let turn = slot.turn().await;
        self.watched.remove(uid);
        let dir = self.places.server(uid);
        // The lock is kept until the directory is gone: a supervisor that is still on its way finds neither.
        let lock = match self.look(uid).await? {
            Seen::Nothing => None,
            _ => self.end_supervisor(uid, &dir).await?,
        };
        if let Seen::Record(record) = self.look(uid).await? {
            self.end_server(&record).await?;
        }
        self.end_strays(uid).await?;
        let (certificates, owner) = (self.places.certificates(uid), uid.clone());
        let removed = blocking(move || {
            let (_turn, _lock) = (turn, lock);
            ports::give_back(&owner);
            state::remove(&certificates).and_then(|()| dir.remove())
        });
        removed.await?.map_err(|error| not_ended(format_args!("files of {uid}: {error}")))?;
        Ok(())
    }

    /// Has the supervisor end its server and itself, by force if it does not. The answer is the lock that it had, or
    /// nothing if the directory is not there.
    async fn end_supervisor(&self, uid: &Uid, dir: &Dir) -> Result<Option<std::fs::File>> {
        let settings = self.settings.load_full();
        // A command after the server, one before it that is being ended, and the server itself.
        let time = plan::patience(&settings).total() * 2 + settings.hook_timeout + SLACK;
        let start = Instant::now();
        let mut wait = Duration::from_millis(5);
        let mut told: Option<ProcessId> = None;
        loop {
            let (dir, again) = (dir.clone(), dir.clone());
            match blocking(move || dir.lock()).await? {
                Ok(Some(lock)) => return Ok(Some(lock)),
                Ok(None) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(not_ended(format_args!("lock of {uid}: {error}"))),
            }
            let late = start.elapsed() > time;
            if let Ok(Seen::Record(record)) = blocking(move || again.look()).await?
                && record.has_supervisor()
            {
                if late {
                    tracing::warn!(server.uid = %uid, "a supervisor does not end in time, and is ended by force");
                    if let Some(server) = record.living_server() {
                        server.signal_group(Signal::SIGKILL);
                    }
                    record.supervisor.signal(Signal::SIGKILL);
                } else if told != Some(record.supervisor) {
                    record.supervisor.signal(Signal::SIGTERM);
                    told = Some(record.supervisor);
                }
            }
            if start.elapsed() > time + SLACK {
                return Err(not_ended(format_args!("the supervisor of {uid} cannot be ended")));
            }
            tokio::time::sleep(wait).await;
            wait = (wait * 2).min(Duration::from_millis(100));
        }
    }

    /// Ends a server that has no supervisor any more.
    async fn end_server(&self, record: &Record) -> Result<()> {
        let mut ladder = Ladder::new(plan::patience(&self.settings.load()), Instant::now());
        while let Some(server) = record.living_server() {
            let now = Instant::now();
            if let Some(signal) = ladder.step(now) {
                server.signal_group(signal);
            } else if ladder.is_over(now) {
                return Err(not_ended(format_args!("process {} lives on after SIGKILL", server.pid)));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Ends processes that carry the server's name and that no supervisor looks after.
    pub(super) async fn end_strays(&self, uid: &Uid) -> Result<()> {
        let end = Instant::now() + self.settings.load().kill_timeout;
        loop {
            let instance = self.context.instance.clone();
            let mut strays = blocking(move || proc::carriers(&instance)).await?;
            strays.retain(|stray| stray.uid == *uid);
            if strays.is_empty() {
                return Ok(());
            }
            for stray in strays {
                stray.process.signal(Signal::SIGKILL);
            }
            if Instant::now() > end {
                return Err(not_ended(format_args!("processes of {uid} live on after SIGKILL")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}
