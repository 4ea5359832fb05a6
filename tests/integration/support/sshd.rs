//! OpenSSH's server, as the test's own user, on loopback.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::daemon::{free_port, start_of, text};
use super::program::Program;
use super::provided;

/// A server with a host key of its own. It has all that is below it killed when it is dropped.
pub struct Sshd {
    dir: TempDir,
    program: String,
    pub port: u16,
    running: Option<Program>,
}

/// The user that runs the tests, who is the only one that this sshd lets in.
pub fn user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

/// Makes a key pair and gives the public half.
pub fn make_key(path: &Path) -> String {
    make_key_of(path, "ed25519")
}

/// The same of another kind.
pub fn make_key_of(path: &Path, kind: &str) -> String {
    let mut command = Command::new("ssh-keygen");
    command.args(["-q", "-t", kind, "-N", "", "-C", "test", "-f"]).arg(path);
    assert!(command.stdin(Stdio::null()).status().unwrap().success());
    fs::read_to_string(path.with_extension("pub")).unwrap().trim().to_owned()
}

impl Sshd {
    /// One that runs; `None`: the program is not provided.
    pub fn start() -> Option<Self> {
        let program = provided("OUTPOST_TEST_SSHD", "OpenSSH's sshd")?;
        let dir = tempfile::tempdir().unwrap();
        let port = free_port();
        make_key(&dir.path().join("host_key"));
        fs::write(dir.path().join("authorized_keys"), "").unwrap();
        let path = |name: &str| dir.path().join(name).display().to_string();
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nStreamLocalBindUnlink yes\n\
             MaxStartups 100\nLogLevel VERBOSE\n",
            path("host_key"),
            path("authorized_keys")
        );
        fs::write(dir.path().join("sshd_config"), config).unwrap();
        let mut sshd = Self { dir, program, port, running: None };
        sshd.run();
        Some(sshd)
    }

    /// Starts it, again.
    pub fn run(&mut self) {
        let mut command = Command::new(&self.program);
        command.args(["-D", "-e", "-f"]).arg(self.path("sshd_config"));
        self.running = Some(Program::start(&command, &self.path("log"), None));
        let end = Instant::now() + Duration::from_secs(20);
        let address = SocketAddr::from(([127, 0, 0, 1], self.port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            assert!(Instant::now() < end, "sshd does not listen:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Kills it with all its connections, and waits until they are gone.
    pub fn kill(&mut self) {
        let Some(program) = self.running.take() else { return };
        let mut found = vec![program.pid];
        // A session is a process of its own, which would go on.
        while let Some(child) = children(&found).into_iter().find(|child| !found.contains(child)) {
            found.push(child);
        }
        let found: Vec<_> = found.into_iter().map(|pid| (pid, start_of(pid))).collect();
        program.kill();
        for (pid, start) in found {
            while start.is_some() && start_of(pid) == start {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Lets a key in; `options` are those of authorized_keys.
    pub fn authorize(&self, options: &str, key: &str) {
        let mut lines = fs::read_to_string(self.path("authorized_keys")).unwrap();
        lines.push_str(&format!("{options} {key}\n"));
        fs::write(self.path("authorized_keys"), lines.replace("\n ", "\n").trim_start()).unwrap();
    }

    /// The host key as `host_keys` wants it.
    pub fn host_key(&self) -> String {
        let line = fs::read_to_string(self.path("host_key.pub")).unwrap();
        line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")
    }

    /// What Outpost needs to log in with the key at `key`, as TOML.
    pub fn login(&self, key: &Path) -> String {
        format!(
            "to = '127.0.0.1:{}'\nuser = '{}'\nkey = {{ file = '{}' }}\nhost_keys = ['{}']\n",
            self.port,
            user(),
            key.display(),
            self.host_key()
        )
    }

    /// Logs in with OpenSSH's client.
    pub async fn ssh(&self, key: &Path, command: &[&str]) -> Output {
        let mut ssh = Command::new("ssh");
        ssh.args([
            "-F",
            "none",
            "-n",
            "-o",
            "BatchMode=yes",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "IdentitiesOnly=yes",
        ]);
        ssh.args(["-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-p", &self.port.to_string(), "-i"]);
        ssh.arg(key).args(["--", &format!("{}@127.0.0.1", user())]).args(command).stdin(Stdio::null());
        tokio::task::spawn_blocking(move || ssh.output().unwrap()).await.unwrap()
    }

    pub fn log(&self) -> String {
        fs::read(self.path("log")).map(|log| text(&log)).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The processes that one of these started.
fn children(parents: &[i32]) -> Vec<i32> {
    let is_child = |entry: io::Result<fs::DirEntry>| {
        let entry = entry.ok()?;
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let stat = text(&fs::read(entry.path().join("stat")).ok()?);
        let parent: i32 = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
        parents.contains(&parent).then_some(pid)
    };
    fs::read_dir("/proc").unwrap().filter_map(is_child).collect()
}
