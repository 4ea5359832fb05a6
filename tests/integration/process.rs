//! The process backend with real processes.

mod end;
mod environment;
mod hooks;
mod outlive;
mod sentences;
mod start;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outpost::error::{Error, Result};
use outpost::model::{Environment, Handle, Launch, ServerId, Uid};
use outpost::spawner::process::{Context, Process, Settings};
use outpost::spawner::{Changes, Progress, ProgressEvent, Spawner, Started, Status};
use serde_json::{Map, Value};
use tempfile::TempDir;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A server that does nothing, for long.
pub const SLEEPER: &str = "cmd = ['sleep', '1000']\n";
/// A server that listens at its port. It is no Jupyter, but the port is real.
pub const LISTENER: &str = "cmd = ['/usr/bin/python3', '-u', '-m', 'http.server']\nargs = ['{port}', '--bind', '{ip}']\nwait_for_port = true\n";
/// Does not wait long for the stubborn.
pub const HASTY: &str = "interrupt_timeout = '200ms'\nterm_timeout = '200ms'\n";

/// One Outpost with a process backend, as far as a server notices.
pub struct Site {
    pub state: TempDir,
    pub process: Arc<Process>,
    pub changes: UnboundedReceiver<Uid>,
    instance: String,
    shutdown: CancellationToken,
}

fn begin(state: &Path, instance: &str, settings: &str) -> (Arc<Process>, UnboundedReceiver<Uid>, CancellationToken) {
    let (sender, changes) = Changes::channel();
    let shutdown = CancellationToken::new();
    let context = Context {
        state_dir: state.to_owned(),
        instance: instance.to_owned(),
        changes: sender,
        tracker: TaskTracker::new(),
        shutdown: shutdown.clone(),
        supervisor: env!("CARGO_BIN_EXE_outpost").into(),
    };
    let settings: Settings = toml::from_str(settings).unwrap();
    (Process::new("local", settings, context).unwrap(), changes, shutdown)
}

impl Site {
    pub fn new(settings: &str) -> Self {
        Self::within(tempfile::tempdir().unwrap(), settings)
    }

    pub fn within(state: TempDir, settings: &str) -> Self {
        let instance = Uid::generate().to_string();
        let (process, changes, shutdown) = begin(state.path(), &instance, settings);
        Self { state, process, changes, instance, shutdown }
    }

    /// Outpost ends, in whatever way, and begins again.
    pub fn restart(&mut self, settings: &str) {
        self.shutdown.cancel();
        (self.process, self.changes, self.shutdown) = begin(self.state.path(), &self.instance, settings);
    }

    pub async fn start(&self, launch: &Launch) -> Result<Started> {
        let (progress, _events) = Progress::channel();
        self.start_with(launch, &progress).await
    }

    pub async fn start_with(&self, launch: &Launch, progress: &Progress) -> Result<Started> {
        let handle = self.process.prepare(launch)?;
        self.process.start(&handle, launch, progress).await
    }

    /// The sentence and the log of a start that has to fail.
    pub async fn failure(&self, launch: &Launch) -> (String, Vec<String>) {
        match self.start(launch).await {
            Err(Error::Failed { message, logs }) => (message, logs),
            Err(Error::Refused(message)) => (message, Vec::new()),
            other => panic!("{other:?}"),
        }
    }

    pub async fn stop(&self, uid: &Uid) {
        self.process.stop(uid, &handle()).await.unwrap();
        assert_eq!(self.status(uid).await, Status::Absent);
        assert!(!self.dir(uid).exists());
        assert_eq!(self.carriers(uid), Vec::<i32>::new());
    }

    pub async fn status(&self, uid: &Uid) -> Status {
        self.process.status(uid, &handle()).await.unwrap()
    }

    pub async fn logs(&self, uid: &Uid) -> Vec<String> {
        self.process.logs(uid, &handle(), 50).await.unwrap()
    }

    pub async fn listed(&self) -> Vec<Uid> {
        self.process.list().await.unwrap().into_iter().map(|found| found.uid).collect()
    }

    pub fn dir(&self, uid: &Uid) -> PathBuf {
        self.state.path().join("servers").join(uid.as_str())
    }

    fn record(&self, uid: &Uid) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.dir(uid).join("state.json")).ok()?).ok()
    }

    pub fn server_pid(&self, uid: &Uid) -> i32 {
        self.record(uid).unwrap()["server"]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    pub fn supervisor_pid(&self, uid: &Uid) -> i32 {
        self.record(uid).unwrap()["supervisor"]["pid"].as_i64().unwrap().try_into().unwrap()
    }

    pub fn stage(&self, uid: &Uid) -> Option<String> {
        Some(self.record(uid)?["stage"].as_str()?.to_owned())
    }

    /// All living processes that carry the server's name.
    pub fn carriers(&self, uid: &Uid) -> Vec<i32> {
        processes_with(&format!("OUTPOST_SERVER_ID={uid}"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.shutdown.cancel();
        for pid in processes_with(&format!("OUTPOST_INSTANCE={}", self.instance)) {
            signal(pid, Signal::SIGKILL);
        }
        // What a failed test leaves behind should not go on for long.
        for uid in fs::read_dir(self.state.path().join("servers")).into_iter().flatten().flatten() {
            if let Some(uid) = uid.file_name().to_str().and_then(Uid::parse)
                && let Some(record) = self.record(&uid)
                && is_alive(record["supervisor"]["pid"].as_i64().unwrap().try_into().unwrap())
            {
                signal(self.supervisor_pid(&uid), Signal::SIGTERM);
            }
        }
    }
}

fn processes_with(variable: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()) && is_alive(pid) {
            found.push(pid);
        }
    }
    found
}

pub fn handle() -> Handle {
    Handle { spawner: "local".into(), state: Value::Null }
}

pub fn launch() -> Launch {
    launch_of("ada")
}

pub fn launch_of(user: &str) -> Launch {
    Launch {
        uid: Uid::generate(),
        id: ServerId::new("hub", "name", "0"),
        user: user.into(),
        user_id: 7,
        environment: Environment::default(),
        options: Map::new(),
        user_options: Map::new(),
        groups: Vec::new(),
        certificates: None,
        auth_state: [].into(),
    }
}

pub fn is_alive(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// Only for processes that a test has started.
pub fn signal(pid: i32, signal: Signal) {
    assert!(pid > 1);
    let _ = kill(Pid::from_raw(pid), signal);
}

/// Waits for something that has to happen.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < end, "did not happen: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub async fn until_status(site: &Site, uid: &Uid, holds: impl Fn(&Status) -> bool) -> Status {
    let end = Instant::now() + Duration::from_secs(30);
    loop {
        let status = site.status(uid).await;
        if holds(&status) {
            return status;
        }
        assert!(Instant::now() < end, "{status:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn ended(status: &Status) -> bool {
    matches!(status, Status::Exited(_))
}

pub fn events(receiver: &mut UnboundedReceiver<ProgressEvent>) -> Vec<(u8, String)> {
    std::iter::from_fn(|| receiver.try_recv().ok()).map(|event| (event.progress, event.message)).collect()
}

/// A script that can be executed.
pub fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}
