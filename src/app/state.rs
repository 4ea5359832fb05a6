//! The state directory: the SQLite file, the keys, the instance's name, the backends' files.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use nix::fcntl::{Flock, FlockArg};
use secrecy::SecretString;

use crate::config::Config;
use crate::model::Uid;
use crate::store::Ring;

/// The state directory; locked, once [`StateDir::lock`] was called, as long as this lives.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    lock: Mutex<Option<Flock<File>>>,
}

impl StateDir {
    /// Opens the directory and makes it (0700) when it is not there.
    ///
    /// # Errors
    /// A sentence that names the directory.
    pub fn open(path: &Path) -> Result<Self, String> {
        if !path.is_dir() {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(|error| format!("the state directory {} cannot be made: {error}", path.display()))?;
        }
        Ok(Self { path: path.to_owned(), lock: Mutex::new(None) })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes sure that one Outpost at a time works here.
    ///
    /// # Errors
    /// A sentence: another one does, or the lock cannot be made.
    pub fn lock(&self) -> Result<(), String> {
        let path = self.path.join("lock");
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path);
        let file = file.map_err(|error| format!("{} cannot be opened: {error}", path.display()))?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| format!("another Outpost is running with the state directory {}", self.path.display()))?;
        *self.lock.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(lock);
        Ok(())
    }

    /// The name of this Outpost in the rows that it drives: the same after every restart.
    ///
    /// # Errors
    /// A sentence: the file cannot be read or made.
    pub fn instance(&self) -> Result<String, String> {
        let text = self.file("instance", || Uid::generate().to_string())?;
        Uid::parse(text.trim()).map(|uid| uid.to_string()).ok_or_else(|| {
            format!(
                "{} does not hold an instance's name; it is made anew when the file is removed",
                self.path.join("instance").display()
            )
        })
    }

    /// The encryption keys: the configured ones, else those of the file `keys`, which is made when it is not there.
    ///
    /// # Errors
    /// A sentence that names the key's place.
    pub fn keys(&self, config: &Config) -> Result<Vec<SecretString>, String> {
        if config.store.keys.is_empty() {
            let keys = self.file("keys", Ring::generate_key)?;
            keep_private(&self.path.join("keys"))?;
            return Ok(vec![keys.into()]);
        }
        config.store.keys.iter().map(|key| key.read().map_err(|error| format!("store.keys: {error}"))).collect()
    }

    /// The content of a file; it is made for its owner only, whole or not at all, when it is not there.
    fn file(&self, name: &str, content: impl FnOnce() -> String) -> Result<String, String> {
        let path = self.path.join(name);
        let fail = |error: std::io::Error| format!("{}: {error}", path.display());
        if !path.exists() {
            let temporary = self.path.join(format!(".{name}.{}", Uid::generate()));
            let mut file =
                OpenOptions::new().create_new(true).write(true).mode(0o600).open(&temporary).map_err(fail)?;
            file.write_all(content().as_bytes()).and_then(|()| file.sync_all()).map_err(fail)?;
            // Not replaced if another process was faster.
            let linked = std::fs::hard_link(&temporary, &path);
            std::fs::remove_file(&temporary).map_err(fail)?;
            if let Err(error) = linked
                && error.kind() != std::io::ErrorKind::AlreadyExists
            {
                return Err(fail(error));
            }
        }
        let mut file = File::open(&path).map_err(fail)?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(fail)?;
        Ok(text)
    }
}

/// Takes others' rights away. Kubernetes opens the files of a volume to a group, when it mounts one that was another's or restored.
fn keep_private(path: &Path) -> Result<(), String> {
    let fail =
        |error: std::io::Error| format!("{}: others may read it, and that cannot be changed: {error}", path.display());
    let mode = std::fs::metadata(path).map_err(fail)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(fail)?;
        tracing::warn!(file = %path.display(), mode = format!("{mode:o}"), "others could read it; not any more");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::open(&dir.path().join("a/b")).unwrap();
        let instance = state.instance().unwrap();
        assert_eq!(StateDir::open(state.path()).unwrap().instance().unwrap(), instance);
        let mode = |name: &str| std::fs::metadata(state.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("instance"), mode("")), (0o600, 0o700));
        state.keys(&Config::default()).unwrap();
        std::fs::set_permissions(state.path().join("keys"), std::fs::Permissions::from_mode(0o660)).unwrap();
        state.keys(&Config::default()).unwrap();
        assert_eq!(mode("keys"), 0o600);
    }

    #[test]
    fn one_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (StateDir::open(dir.path()).unwrap(), StateDir::open(dir.path()).unwrap());
        one.lock().unwrap();
        assert!(two.lock().unwrap_err().contains("another Outpost is running"));
        drop(one);
        two.lock().unwrap();
    }
}
