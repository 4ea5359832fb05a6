//! The real program as a process of its own, with a configuration file and a state directory, to be killed and restarted.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use outpost::model::Uid;
use reqwest::{Method, RequestBuilder};
use serde_json::Value;
use tempfile::TempDir;

use super::server::{Reply, client};

/// The program.
pub const OUTPOST: &str = env!("CARGO_BIN_EXE_outpost");

/// An Outpost in a process of its own. The hubs `hub1` and `hub2` have the passwords `one` and `two`. When it is dropped
/// it is ended, with all servers that it started.
pub struct Daemon {
    dir: TempDir,
    pub url: String,
    pub admin_url: String,
    variables: Vec<(String, String)>,
    child: Mutex<Option<Child>>,
    client: reqwest::Client,
}

/// A port that stays free while a daemon is down: below those that the system gives to others by itself.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_default();
    loop {
        let port = rand::random_range(10_000..32_000);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() && given.insert(port) {
            return port;
        }
    }
}

fn appended(path: &Path) -> File {
    OpenOptions::new().create(true).append(true).open(path).unwrap()
}

impl Daemon {
    /// Writes the configuration: `toml`, and the ports, periods and directories that it does not set.
    pub fn new(toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (api, admin) = (address(free_port()), address(free_port()));
        let daemon = Self {
            url: format!("http://{api}"),
            admin_url: format!("http://{admin}"),
            variables: [("usernames", "hub1;hub2"), ("passwords", "one;two"), ("HOME", dir.path().to_str().unwrap())]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .to_vec(),
            child: Mutex::new(None),
            client: client(),
            dir,
        };
        daemon.configure(toml);
        daemon
    }

    /// Writes the configuration and starts.
    pub async fn start(toml: &str) -> Self {
        let daemon = Self::new(toml);
        daemon.spawn();
        daemon.up().await;
        daemon
    }

    /// Replaces the configuration file.
    pub fn configure(&self, toml: &str) {
        let (api, admin) = (self.url.trim_start_matches("http://"), self.admin_url.trim_start_matches("http://"));
        let mut text = format!("state_dir = '{}'\n{toml}\n", self.state().display());
        let patience = if text.contains("shutdown_timeout") { "" } else { "shutdown_timeout = '5s'" };
        for (section, keys) in [
            ("[http]", format!("listen = '{api}'\nadmin_listen = '{admin}'\n{patience}")),
            ("[tasks]", "refresh = '200ms'\nreconcile = '1s'".to_owned()),
        ] {
            if text.contains(section) {
                text = text.replace(section, &format!("{section}\n{keys}"));
            } else {
                text.push_str(&format!("{section}\n{keys}\n"));
            }
        }
        // In one step, as an editor does it: a daemon may be looking.
        let new = self.dir.path().join("outpost_config.new");
        fs::write(&new, text).unwrap();
        fs::rename(new, self.config_path()).unwrap();
    }

    /// Sets a variable of the next start; `None` takes it away.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        self.variables.retain(|(known, _)| known != name);
        self.variables.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("outpost_config.toml")
    }

    /// The program with this configuration and with no variable but its own.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(OUTPOST);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).current_dir(self.dir.path());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.env("OUTPOST_CONFIG", self.config_path()).args(arguments).stdin(Stdio::null());
        command
    }

    /// Runs a command of the command line.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(arguments);
        tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
    }

    /// The JSON that a command prints.
    pub async fn json(&self, arguments: &[&str]) -> Value {
        let output = self.run(arguments).await;
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// The rows, whoever has them now.
    pub async fn rows(&self) -> Vec<Value> {
        self.json(&["service", "list", "--json"]).await.as_array().unwrap().clone()
    }

    /// The last ends.
    pub async fn ended(&self) -> Vec<Value> {
        self.json(&["service", "list", "--ended", "--json"]).await.as_array().unwrap().clone()
    }

    fn child(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts `outpost serve`.
    pub fn spawn(&self) {
        let mut command = self.command(&["serve"]);
        command.stdout(appended(&self.dir.path().join("stdout"))).stderr(appended(&self.dir.path().join("stderr")));
        let before = self.child().replace(command.spawn().unwrap());
        assert!(before.is_none(), "it runs already");
    }

    /// Waits until it answers.
    pub async fn up(&self) {
        let end = Instant::now() + Duration::from_secs(60);
        while self.client.get(format!("{}/ping", self.url)).send().await.is_err() {
            if let Some(status) = self.child().as_mut().unwrap().try_wait().unwrap() {
                panic!("it ended ({status}):\n{}", self.stderr());
            }
            assert!(Instant::now() < end, "it does not answer:\n{}", self.stderr());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The daemon's process.
    pub fn pid(&self) -> i32 {
        self.child().as_ref().unwrap().id().cast_signed()
    }

    /// Ends it as the kernel does when memory runs out.
    pub fn kill(&self) {
        let mut child = self.child().take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid()), signal).unwrap();
    }

    /// Ends it as systemd does.
    pub async fn terminate(&self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait().await
    }

    /// Waits until it has ended.
    pub async fn wait(&self) -> ExitStatus {
        let mut child = self.child().take().unwrap();
        tokio::task::spawn_blocking(move || child.wait().unwrap()).await.unwrap()
    }

    /// SIGKILL, and a new one on the same state.
    pub async fn restart(&self) {
        self.kill();
        self.spawn();
        self.up().await;
    }

    /// All that it wrote to standard error so far, over all its starts.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.dir.path().join("stderr")).unwrap_or_default()
    }

    /// All that it wrote to standard output so far.
    pub fn stdout(&self) -> String {
        fs::read_to_string(self.dir.path().join("stdout")).unwrap_or_default()
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).basic_auth("hub1", Some("one"))
    }

    pub fn admin(&self, path: &str) -> RequestBuilder {
        self.client.get(format!("{}{path}", self.admin_url))
    }

    pub fn post(&self, body: &Value, asynchronous: bool) -> RequestBuilder {
        executed(self.request(Method::POST, "/services"), asynchronous).json(body)
    }

    pub fn delete(&self, path: &str, asynchronous: bool) -> RequestBuilder {
        executed(self.request(Method::DELETE, path), asynchronous)
    }

    pub async fn get(&self, path: &str) -> Reply {
        send(self.request(Method::GET, path)).await.unwrap()
    }

    /// The living processes of servers of this Outpost: each with the server's id. Those of a command before or after a
    /// server are among them.
    pub fn carriers(&self) -> Vec<(String, i32)> {
        let Ok(instance) = fs::read_to_string(self.state().join("instance")) else { return Vec::new() };
        carriers(instance.trim())
    }

    /// What a server's directory says.
    pub fn record(&self, uid: &str) -> Option<Value> {
        serde_json::from_slice(&fs::read(self.state().join("servers").join(uid).join("state.json")).ok()?).ok()
    }

    /// What is below `servers`.
    pub fn directories(&self) -> Vec<String> {
        let entries = fs::read_dir(self.state().join("servers")).into_iter().flatten().flatten();
        entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
    }
}

fn executed(request: RequestBuilder, asynchronous: bool) -> RequestBuilder {
    if asynchronous { request.header("execution-type", "async") } else { request }
}

/// The same request with other credentials.
pub fn as_hub(request: RequestBuilder, hub: &str, password: &str) -> RequestBuilder {
    let credential = base64::prelude::BASE64_STANDARD.encode(format!("{hub}:{password}"));
    let header = (reqwest::header::AUTHORIZATION, format!("Basic {credential}").parse().unwrap());
    request.headers([header].into_iter().collect())
}

/// Sends a request to a daemon that may be gone.
pub async fn send(request: RequestBuilder) -> reqwest::Result<Reply> {
    let response = request.send().await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let text = response.text().await?;
    let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
    Ok(Reply { status, headers, body })
}

/// What a program wrote.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn carriers(instance: &str) -> Vec<(String, i32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        let value = |name: &str| {
            let mut entries = environment.split(|byte| *byte == 0);
            entries.find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")).map(text)
        };
        if value("OUTPOST_INSTANCE").as_deref() == Some(instance)
            && let Some(uid) = value("OUTPOST_SERVER_ID")
            && start_of(pid).is_some()
        {
            found.push((uid, pid));
        }
    }
    found
}

/// When a living process started, which makes its number its own.
pub fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let stat = text(&stat);
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    if matches!(*fields.first()?, "Z" | "X") { None } else { fields.get(19)?.parse().ok() }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !self.directories().is_empty() && self.child().is_some() {
            let stopping =
                self.command(&["service", "stop", "--all"]).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            if let Ok(mut stopping) = stopping {
                wait_for(&mut stopping, Duration::from_secs(20));
            }
        }
        if let Some(mut child) = self.child().take() {
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGTERM);
            wait_for(&mut child, Duration::from_secs(8));
        }
        // The last resort: those that still are the processes that were recorded.
        let mut supervisors = Vec::new();
        for uid in self.directories() {
            let Some(record) = Uid::parse(&uid).and_then(|uid| self.record(uid.as_str())) else { continue };
            for key in ["server", "supervisor"] {
                let (pid, start) = (record[key]["pid"].as_i64(), record[key]["start_ticks"].as_u64());
                let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).filter(|pid| *pid > 1) else { continue };
                if start.is_none() || start_of(pid) != start {
                    continue;
                }
                if key == "server" {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
                } else {
                    let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
                    supervisors.push((pid, start));
                }
            }
        }
        for (_, pid) in self.carriers() {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let end = Instant::now() + Duration::from_secs(5);
        for (pid, start) in supervisors {
            while start_of(pid) == start && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Waits, but not for ever.
fn wait_for(child: &mut Child, patience: Duration) {
    let end = Instant::now() + patience;
    while matches!(child.try_wait(), Ok(None)) {
        if Instant::now() > end {
            let _ = child.kill();
            let _ = child.wait();
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
