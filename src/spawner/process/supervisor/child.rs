//! Starting a program as somebody else, below limits, in a session of its own.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{self, ErrorKind, PipeReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::SigSet;
use nix::unistd::{Gid, Pid, Uid, chdir, getppid, setgid, setgroups, setsid, setuid};

use super::super::account::Switch;
use super::super::limits::Prepared;

/// A program that is to be started.
pub struct Program<'a> {
    /// The program and its arguments.
    pub argv: &'a [String],
    /// Its environment.
    pub environment: &'a BTreeMap<String, String>,
    /// More of it.
    pub more: &'a BTreeMap<String, String>,
    /// Where it is looked for.
    pub path: &'a str,
    /// Where it starts.
    pub working_dir: &'a Path,
    /// Whether it starts in `/` where that cannot be entered.
    pub or_anywhere: bool,
    /// The Unix user to become.
    pub switch: Option<&'a Switch>,
    /// The limits.
    pub limits: Prepared,
    /// Whether both outputs come through one pipe, as the server wrote them.
    pub joined: bool,
}

/// A program that runs.
pub struct Started {
    /// Its number, and that of its session and group.
    pub pid: i32,
    /// What it writes.
    pub stdout: PipeReader,
    /// What it writes on standard error, if that is apart.
    pub stderr: Option<PipeReader>,
}

/// Why a program was not started.
#[derive(Debug)]
pub enum Failure {
    /// There is no such program.
    Missing,
    /// There is one, which the user may not execute.
    NotExecutable,
    /// What the program needs itself is missing.
    Interpreter,
    /// Its working directory cannot be entered.
    WorkingDir,
    /// The Unix user could not be taken on.
    Switch(io::Error),
    /// The limits were not taken.
    Limits(io::Error),
    /// Anything else.
    Other(io::Error),
}

/// What is done between fork and exec. An error comes back as one number, so the step is in its upper half.
#[derive(Clone, Copy)]
enum Step {
    Session = 1,
    Limits,
    Switch,
    WorkingDir,
}

impl Step {
    fn failed(self, error: &io::Error) -> io::Error {
        io::Error::from_raw_os_error((self as i32) << 16 | error.raw_os_error().unwrap_or_default())
    }
}

impl Program<'_> {
    /// Starts the program.
    ///
    /// # Errors
    /// Why not; then there is no process.
    pub fn start(self) -> Result<Started, Failure> {
        let program = find(self.argv.first().map_or("", String::as_str), self.path, self.working_dir)?;
        let (stdout, writer) = io::pipe().map_err(Failure::Other)?;
        let mut command = Command::new(&program);
        let (stderr, error_writer) = if self.joined {
            (None, writer.try_clone().map_err(Failure::Other)?)
        } else {
            let (reader, writer) = io::pipe().map_err(Failure::Other)?;
            (Some(reader), writer)
        };
        command.args(&self.argv[1..]).env_clear().envs(self.environment).envs(self.more);
        command.stdin(Stdio::null()).stdout(writer).stderr(error_writer);

        let working_dir = CString::new(self.working_dir.as_os_str().as_bytes()).map_err(|_| Failure::WorkingDir)?;
        let groups: Vec<_> = self.switch.iter().flat_map(|switch| &switch.groups).copied().map(Gid::from_raw).collect();
        let ids = self.switch.map(|switch| (Uid::from_raw(switch.uid), Gid::from_raw(switch.gid)));
        let (limits, or_anywhere, parent) = (self.limits, self.or_anywhere, Pid::this());
        let enter = move || {
            setsid().map_err(|error| Step::Session.failed(&error.into()))?;
            // The supervisor hears its signals in another way; a program expects to get them.
            SigSet::empty().thread_set_mask().map_err(|error| Step::Session.failed(&error.into()))?;
            limits.enter().map_err(|error| Step::Limits.failed(&error))?;
            if let Some((uid, gid)) = ids {
                setgroups(&groups)
                    .and_then(|()| setgid(gid))
                    .and_then(|()| setuid(uid))
                    .map_err(|error| Step::Switch.failed(&error.into()))?;
            }
            // After the switch, so that nobody starts in a directory that he could not enter.
            if let Err(error) = chdir(working_dir.as_c_str())
                && !(or_anywhere && chdir(c"/").is_ok())
            {
                return Err(Step::WorkingDir.failed(&error.into()));
            }
            // A supervisor that was killed in the meantime has not recorded this process, and never will.
            if getppid() != parent {
                return Err(Step::Session.failed(&nix::errno::Errno::ESRCH.into()));
            }
            Ok(())
        };
        // SAFETY: this process has one thread, and the closure makes system calls only; all it needs was allocated
        // before the fork.
        unsafe { command.pre_exec(enter) };
        match command.spawn() {
            Ok(child) => Ok(Started { pid: child.id().cast_signed(), stdout, stderr }),
            Err(error) => Err(explain(error)),
        }
    }
}

fn explain(error: io::Error) -> Failure {
    let number = error.raw_os_error().unwrap_or_default();
    let cause = io::Error::from_raw_os_error(number & 0xffff);
    match number >> 16 {
        step if step == Step::Limits as i32 => Failure::Limits(cause),
        step if step == Step::Switch as i32 => Failure::Switch(cause),
        step if step == Step::WorkingDir as i32 => Failure::WorkingDir,
        step if step == Step::Session as i32 => Failure::Other(cause),
        // The program itself has been found before.
        _ if error.kind() == ErrorKind::NotFound => Failure::Interpreter,
        _ if error.kind() == ErrorKind::PermissionDenied => Failure::NotExecutable,
        _ => Failure::Other(error),
    }
}

/// The first of the name that could be executed.
fn find(name: &str, path: &str, working_dir: &Path) -> Result<PathBuf, Failure> {
    let candidates: Vec<_> = if name.is_empty() {
        Vec::new()
    } else if name.contains('/') {
        vec![working_dir.join(name)]
    } else {
        // An empty entry would be the working directory, which belongs to the user.
        path.split(':').filter(|entry| entry.starts_with('/')).map(|entry| Path::new(entry).join(name)).collect()
    };
    let mut failure = Failure::Missing;
    for candidate in candidates {
        match candidate.metadata() {
            Ok(meta) if meta.is_file() && meta.permissions().mode() & 0o111 != 0 => return Ok(candidate),
            Ok(_) => failure = Failure::NotExecutable,
            Err(error) if error.kind() == ErrorKind::PermissionDenied => failure = Failure::NotExecutable,
            Err(_) => {}
        }
    }
    Err(failure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_where_the_site_says() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("plain"), "").unwrap();
        let here = dir.path().to_str().unwrap();
        assert!(find("sh", "/usr/bin:/bin", dir.path()).is_ok());
        assert!(matches!(find("sh", &format!(":{here}"), dir.path()), Err(Failure::Missing)));
        assert!(matches!(find("plain", here, dir.path()), Err(Failure::NotExecutable)));
        assert!(matches!(find("./plain", "", dir.path()), Err(Failure::NotExecutable)));
        assert!(matches!(find("", here, dir.path()), Err(Failure::Missing)));
        assert!(matches!(find("/", here, dir.path()), Err(Failure::NotExecutable)));
    }
}
