//! Programs that end with the test process, however that ends.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::daemon::start_of;

/// Runs a program until its own standard input ends, which the kernel sees to when a test process is killed. Then it ends
/// the program's whole session, and removes a folder if it was given one.
const GUARD: &str = r#"
log=$1 folder=$2
shift 2
setsid "$@" </dev/null >>"$log" 2>&1 &
pid=$!
echo "$pid"
cat >/dev/null
kill -KILL "-$pid" 2>/dev/null || kill -KILL "$pid"
wait "$pid"
status=$?
[ -z "$folder" ] || rm -rf "$folder"
exit "$status"
"#;

pub struct Program {
    guard: Child,
    pub pid: i32,
}

impl Program {
    /// Starts `command`, whose output is appended to `log`. With `folder` that is removed at the end.
    pub fn start(command: &Command, log: &Path, folder: Option<&Path>) -> Self {
        let mut guard = Command::new("sh");
        guard.args(["-c", GUARD, "guard"]).arg(log).arg(folder.map_or(OsStr::new(""), Path::as_os_str));
        guard.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guard.env(name, value),
                None => guard.env_remove(name),
            };
        }
        if let Some(dir) = command.get_current_dir() {
            guard.current_dir(dir);
        }
        // An interrupt at the terminal is for the test process only.
        guard.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut guard = guard.spawn().unwrap();
        let mut pid = String::new();
        BufReader::new(guard.stdout.take().unwrap()).read_line(&mut pid).unwrap();
        Self { guard, pid: pid.trim().parse().unwrap() }
    }

    /// Whether it still runs. Its number is its own until it is dropped.
    pub fn runs(&self) -> bool {
        start_of(self.pid).is_some()
    }

    /// Kills it, if it runs; its exit code, as a shell tells it.
    pub fn kill(mut self) -> i32 {
        self.end()
    }

    fn end(&mut self) -> i32 {
        drop(self.guard.stdin.take());
        self.guard.wait().ok().and_then(|status| status.code()).unwrap_or(-1)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.end();
    }
}
