//! What the processes of one tunnel know of each other: a count, a lock and a word, in files. No number of a process is
//! among them, which could be a stranger's by now.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use sha2::{Digest as _, Sha256};

use super::Status;

/// A log that is longer is begun anew when the next tunnel begins.
const LONGEST_LOG: u64 = 1024 * 1024;

/// The directory of one tunnel.
#[derive(Debug)]
pub(super) struct Files {
    dir: PathBuf,
}

/// The count of uses, locked: whoever holds this is the only one who decides.
#[derive(Debug)]
pub(super) struct Uses<'a> {
    files: &'a Files,
    file: Flock<File>,
}

/// Held by the process that keeps the tunnel; the kernel lets go of it when that ends, however it ends.
#[derive(Debug)]
pub(super) struct Kept {
    _lock: Flock<File>,
}

impl Files {
    /// The directory of the tunnel to `hub` on this machine (login nodes may share a home), made if it is not there.
    pub fn open(state_dir: &Path, hub: &str) -> Result<Self, String> {
        let host = nix::unistd::gethostname().map_err(|error| format!("this machine has no name: {error}"))?;
        let dir = state_dir.join("forward-agent").join(slug(&host.to_string_lossy())).join(slug(hub));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| format!("the directory {} cannot be made: {error}", dir.display()))?;
        Ok(Self { dir })
    }

    fn opened(&self, name: &str) -> Result<File, String> {
        let path = self.dir.join(name);
        let file = OpenOptions::new().create(true).read(true).write(true).truncate(false).mode(0o600).open(&path);
        file.map_err(|error| format!("{} cannot be opened: {error}", path.display()))
    }

    /// Locks the count.
    pub fn uses(&self) -> Result<Uses<'_>, String> {
        let file = Flock::lock(self.opened("uses")?, FlockArg::LockExclusive);
        let file = file.map_err(|(_, error)| self.failed("uses", error.into()))?;
        Ok(Uses { files: self, file })
    }

    /// The count, without waiting for whoever changes it.
    pub fn count(&self) -> Result<u64, String> {
        read_count(&self.opened("uses")?).map_err(|error| self.failed("uses", error))
    }

    /// The count, locked, if it is zero; else how much it is.
    pub fn unused(&self) -> Result<Result<Uses<'_>, u64>, String> {
        let count = self.count()?;
        if count > 0 {
            return Ok(Err(count));
        }
        let uses = self.uses()?;
        let count = uses.get()?;
        Ok(if count == 0 { Ok(uses) } else { Err(count) })
    }

    /// Where the log goes.
    pub fn log(&self) -> Result<File, String> {
        let path = self.dir.join("log");
        let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let log = log.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
        if log.metadata().is_ok_and(|log| log.len() > LONGEST_LOG) {
            log.set_len(0).map_err(|error| self.failed("log", error))?;
        }
        Ok(log)
    }

    /// Writes how the tunnel is, in one step. Where that fails, the status is an older one until the next change.
    pub fn note(&self, status: &Status) {
        let text = match status {
            Status::Up => "up",
            Status::Down(reason) => reason,
        };
        let new = self.dir.join("status.new");
        let written = std::fs::write(&new, text).and_then(|()| std::fs::rename(&new, self.dir.join("status")));
        if let Err(error) = written {
            tracing::warn!(error = %error, "the status of the tunnel cannot be written");
        }
    }

    /// What was written last.
    pub fn status(&self) -> Status {
        match std::fs::read_to_string(self.dir.join("status")) {
            Ok(text) if text == "up" => Status::Up,
            Ok(reason) => Status::Down(reason),
            Err(_) => Status::Down("it is starting".to_owned()),
        }
    }

    /// Forgets what was written.
    pub fn forget_status(&self) {
        let _ = std::fs::remove_file(self.dir.join("status"));
    }

    fn failed(&self, name: &str, error: io::Error) -> String {
        format!("{} cannot be used: {error}", self.dir.join(name).display())
    }
}

impl Uses<'_> {
    /// How often the tunnel is used.
    pub fn get(&self) -> Result<u64, String> {
        read_count(&self.file).map_err(|error| self.files.failed("uses", error))
    }

    /// Notes how often it is used, in one write of always the same length.
    pub fn set(&self, count: u64) -> Result<(), String> {
        let written = self.file.write_all_at(format!("{count:020}\n").as_bytes(), 0);
        written.map_err(|error| self.files.failed("uses", error))
    }

    /// Whether a process keeps the tunnel.
    pub fn is_kept(&self) -> Result<bool, String> {
        Ok(self.keep()?.is_none())
    }

    /// Makes this process the one that keeps the tunnel; `None`: there is one.
    pub fn keep(&self) -> Result<Option<Kept>, String> {
        match Flock::lock(self.files.opened("lock")?, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Kept { _lock: lock })),
            Err((_, Errno::EWOULDBLOCK)) => Ok(None),
            Err((_, error)) => Err(self.files.failed("lock", error.into())),
        }
    }
}

fn read_count(file: &File) -> io::Result<u64> {
    let mut bytes = [0; 32];
    let length = file.read_at(&mut bytes, 0)?;
    let text = String::from_utf8_lossy(bytes.get(..length).unwrap_or_default()).into_owned();
    Ok(text.trim().parse().unwrap_or(0))
}

/// A name that is a directory's, whatever the words are, and another one for each.
fn slug(name: &str) -> String {
    let readable: String = name.chars().filter(|c| c.is_ascii_alphanumeric()).take(24).collect();
    let hash: String = Sha256::digest(name).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    format!("{readable}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_paths() {
        for name in ["", "..", "../../etc/passwd", "a/b", "hüb", "x".repeat(300).as_str()] {
            let slug = slug(name);
            assert!(slug.len() <= 41 && slug.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'), "{slug}");
        }
        assert_ne!(slug("a/b"), slug("ab"));
    }

    #[test]
    fn one_process_keeps_the_tunnel() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), "hub").unwrap();
        assert!(!files.uses().unwrap().is_kept().unwrap());
        let kept = files.uses().unwrap().keep().unwrap().unwrap();
        assert!(files.uses().unwrap().is_kept().unwrap());
        assert!(files.uses().unwrap().keep().unwrap().is_none());
        drop(kept);
        assert!(!files.uses().unwrap().is_kept().unwrap());
    }

    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = Files::open(dir.path(), "hub").unwrap();
        assert_eq!(files.count(), Ok(0));
        files.uses().unwrap().set(12).unwrap();
        files.uses().unwrap().set(3).unwrap();
        assert_eq!((files.count(), files.uses().unwrap().get()), (Ok(3), Ok(3)));
        assert_eq!(files.unused().unwrap().err(), Some(3));
        files.uses().unwrap().set(0).unwrap();
        drop(files.unused().unwrap().unwrap());
        // What cannot be read is no zero.
        std::fs::remove_file(files.dir.join("uses")).unwrap();
        std::fs::create_dir(files.dir.join("uses")).unwrap();
        assert!(files.unused().is_err());
        for status in [Status::Up, Status::Down("why".to_owned())] {
            files.note(&status);
            assert_eq!(files.status(), status);
        }
        files.forget_status();
        assert_ne!(files.status(), Status::Up);
    }
}
