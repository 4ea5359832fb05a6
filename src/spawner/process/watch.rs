//! Notices that a server has ended by itself, and reports it.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::plan::Places;
use super::proc::ProcessId;
use super::state::{Seen, Stage};
use crate::model::Uid;
use crate::spawner::Changes;

/// How often all servers are looked at.
pub const INTERVAL: Duration = Duration::from_millis(500);
/// Every so many looks a thorough one, which a number that was given away again cannot deceive.
const THOROUGH: u32 = 10;

/// The servers that are known to run.
#[derive(Debug, Default)]
pub struct Watched(Mutex<HashMap<Uid, ProcessId>>);

impl Watched {
    fn lock(&self) -> MutexGuard<'_, HashMap<Uid, ProcessId>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches this server from now on.
    pub fn add(&self, uid: &Uid, server: ProcessId) {
        self.lock().insert(uid.clone(), server);
    }

    /// Watches this server no longer.
    pub fn remove(&self, uid: &Uid) {
        self.lock().remove(uid);
    }

    /// One look at all: reports each that has ended, once. `round` counts the looks. Reads files.
    pub fn look(&self, places: &Places, changes: &Changes, round: u32) {
        let thorough = round.is_multiple_of(THOROUGH);
        let gone: Vec<_> = self
            .lock()
            .iter()
            .filter(|(_, server)| !server.may_be_alive() || (thorough && !server.is_alive()))
            .map(|(uid, server)| (uid.clone(), *server))
            .collect();
        for (uid, server) in gone {
            // Its supervisor may be about to write how it ended: then the next look will tell.
            let Ok(known) = is_known(places, &uid) else { continue };
            let mut servers = self.lock();
            if known && servers.get(&uid) == Some(&server) {
                servers.remove(&uid);
                drop(servers);
                changes.report(uid);
            }
        }
    }
}

/// Whether all that can be known about the end of a server is known.
fn is_known(places: &Places, uid: &Uid) -> io::Result<bool> {
    Ok(match places.server(uid).look()? {
        Seen::Record(record) => match record.stage {
            Stage::Preparing | Stage::Running { .. } => !record.has_supervisor(),
            Stage::Failed { .. } | Stage::Exited { .. } => true,
        },
        Seen::Nothing | Seen::Empty | Seen::Broken => true,
    })
}
