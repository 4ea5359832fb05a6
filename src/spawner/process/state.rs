//! The directory of one server, `<state_dir>/servers/<uid>/` (0700): how Outpost and the supervisor, which may outlive
//! it, tell each other what is.
//!
//! `lock`: held (flock) by the supervisor while it lives, and by whoever removes the directory; holds the backend's name.
//! `state.json`: the record, replaced as a whole. `log`, `log.1`: what the server wrote.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::proc::{ProcessId, boot_id};
use crate::model::Uid;

/// What is recorded about a server. No secret is in it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// The backend's name.
    pub spawner: String,
    /// The start of the machine that the processes belong to.
    pub boot: String,
    /// Who writes the record.
    pub supervisor: ProcessId,
    /// The host that hubs are told.
    pub host: String,
    /// The server's port.
    pub port: u16,
    /// How far it has come.
    #[serde(flatten)]
    pub stage: Stage,
}

/// How far a server has come.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "stage", rename_all = "snake_case")]
pub enum Stage {
    /// The process does not exist yet.
    Preparing,
    /// The process exists.
    Running {
        /// The server: the leader of a session and group of its own.
        server: ProcessId,
        /// Whether its port has been seen listening.
        listened: bool,
    },
    /// It was not started.
    Failed {
        /// Why, as a sentence for the user.
        message: String,
    },
    /// It ended.
    Exited {
        /// The exit code, or the signal as a negative number.
        code: i32,
        /// It ended before its port was seen listening.
        early: bool,
    },
}

impl Record {
    fn is_of_this_boot(&self) -> bool {
        self.boot == boot_id()
    }

    /// Whether the machine has been restarted since.
    #[must_use]
    pub fn is_of_another_boot(&self) -> bool {
        !self.is_of_this_boot()
    }

    /// Whether the supervisor lives.
    #[must_use]
    pub fn has_supervisor(&self) -> bool {
        self.is_of_this_boot() && self.supervisor.is_alive()
    }

    /// The server, if it runs.
    #[must_use]
    pub fn living_server(&self) -> Option<ProcessId> {
        match self.stage {
            Stage::Running { server, .. } => (self.is_of_this_boot() && server.is_alive()).then_some(server),
            _ => None,
        }
    }
}

/// What a look into a server's directory shows.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    /// There is no directory.
    Nothing,
    /// There is one, and no supervisor has recorded anything.
    Empty,
    /// The record cannot be understood (the machine lost power, or somebody changed it).
    Broken,
    /// The record.
    Record(Record),
}

/// A server's directory, whether or not it exists.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Dir(PathBuf);

impl Dir {
    /// The directory of this server below `servers`.
    #[must_use]
    pub fn of(servers: &Path, uid: &Uid) -> Self {
        Self(servers.join(uid.as_str()))
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Makes it, together with its lock, in one step. One that is there is fine.
    ///
    /// # Errors
    /// The disk.
    pub fn create(&self, spawner: &str) -> io::Result<()> {
        if self.0.exists() {
            return Ok(());
        }
        let new = self.0.with_extension("new");
        remove(&new)?;
        DirBuilder::new().mode(0o700).create(&new)?;
        private(&new.join("lock"))?.write_all(spawner.as_bytes())?;
        fs::rename(&new, &self.0)
    }

    /// The backend that it belongs to.
    #[must_use]
    pub fn spawner(&self) -> Option<String> {
        fs::read_to_string(self.file("lock")).ok()
    }

    /// Takes the lock: `None` if it is held. It is free again when the file is dropped.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if the directory is not there (any more).
    pub fn lock(&self) -> io::Result<Option<File>> {
        let file = OpenOptions::new().read(true).write(true).open(self.file("lock"))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // Somebody may have removed the directory, or made it anew, between the two calls.
        let (ours, now) = (file.metadata()?, fs::metadata(self.file("lock"))?);
        if (ours.dev(), ours.ino()) != (now.dev(), now.ino()) {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(Some(file))
    }

    /// Looks into it.
    ///
    /// # Errors
    /// It cannot be known: the disk, or `servers` itself is not there (not mounted?).
    pub fn look(&self) -> io::Result<Seen> {
        match fs::read(self.file("state.json")) {
            Ok(text) => Ok(serde_json::from_slice(&text).map_or(Seen::Broken, Seen::Record)),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                if self.0.try_exists()? {
                    return Ok(Seen::Empty);
                }
                let servers = self.0.parent().unwrap_or(&self.0);
                fs::metadata(servers)
                    .map(|_| Seen::Nothing)
                    .map_err(|error| io::Error::other(format!("{} is not there: {error}", servers.display())))
            }
            Err(error) => Err(error),
        }
    }

    /// Replaces the record. Only for the holder of the lock.
    ///
    /// # Errors
    /// The disk.
    pub fn record(&self, record: &Record) -> io::Result<()> {
        let new = self.file("state.new");
        let mut file = private(&new)?;
        file.set_len(0)?;
        file.write_all(&serde_json::to_vec(record)?)?;
        fs::rename(new, self.file("state.json"))
    }

    /// Forgets what was recorded. Only for the holder of the lock.
    ///
    /// # Errors
    /// The disk.
    pub fn forget(&self) -> io::Result<()> {
        match fs::remove_file(self.file("state.json")) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Removes it with all that is in it. Only for the holder of the lock, if it exists.
    ///
    /// # Errors
    /// The disk.
    pub fn remove(&self) -> io::Result<()> {
        // Outpost may have been killed while it made the directory.
        remove(&self.0.with_extension("new"))?;
        remove(&self.0)
    }

    /// The last lines of its log, oldest first.
    ///
    /// # Errors
    /// The disk.
    pub fn tail(&self, lines: usize) -> io::Result<Vec<String>> {
        super::log::tail(&self.file("log"), lines)
    }
}

fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)
}

/// Removes a directory; one that is not there is fine.
///
/// # Errors
/// The disk.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(stage: Stage) -> Record {
        Record {
            spawner: "local".to_owned(),
            boot: boot_id(),
            supervisor: ProcessId::own().unwrap(),
            host: "127.0.0.1".to_owned(),
            port: 1,
            stage,
        }
    }

    #[test]
    fn a_record_comes_back() {
        let servers = tempfile::tempdir().unwrap();
        let dir = Dir::of(servers.path(), &Uid::generate());
        assert_eq!(dir.look().unwrap(), Seen::Nothing);
        dir.create("local").unwrap();
        dir.create("local").unwrap();
        assert_eq!((dir.look().unwrap(), dir.spawner().as_deref()), (Seen::Empty, Some("local")));
        for stage in [
            Stage::Preparing,
            Stage::Running { server: ProcessId::own().unwrap(), listened: true },
            Stage::Failed { message: "Because.".to_owned() },
            Stage::Exited { code: -9, early: true },
        ] {
            let record = record(stage);
            dir.record(&record).unwrap();
            assert_eq!(dir.look().unwrap(), Seen::Record(record));
        }
        fs::write(dir.file("state.json"), "").unwrap();
        assert_eq!(dir.look().unwrap(), Seen::Broken);
        dir.remove().unwrap();
        dir.remove().unwrap();
        assert_eq!(dir.look().unwrap(), Seen::Nothing);
        drop(servers);
        assert!(dir.look().is_err(), "a missing disk is no missing server");
    }

    #[test]
    fn one_holds_the_lock() {
        let servers = tempfile::tempdir().unwrap();
        let dir = Dir::of(servers.path(), &Uid::generate());
        assert_eq!(dir.lock().unwrap_err().kind(), ErrorKind::NotFound);
        dir.create("local").unwrap();
        let held = dir.lock().unwrap().unwrap();
        assert!(dir.lock().unwrap().is_none());
        drop(held);
        assert!(dir.lock().unwrap().is_some());
    }

    #[test]
    fn another_boot_is_another_world() {
        let mut record = record(Stage::Running { server: ProcessId::own().unwrap(), listened: true });
        assert!(record.living_server().is_some() && record.has_supervisor());
        record.boot.push('x');
        assert!(record.living_server().is_none() && !record.has_supervisor() && record.is_of_another_boot());
    }
}
