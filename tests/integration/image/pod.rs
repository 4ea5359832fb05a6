//! The image's root as a kubelet lays it out for the chart's pod, with the program as its process 1.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use outpost::spawner::kubernetes::rights::Rule;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::daemon::{free_port, send, text};
use crate::support::kube::Cluster;
use crate::support::program::Program;
use crate::support::server::{Reply, client};
use crate::support::{eventually, provided, skipped};

/// What a container's process has without being told; and what the Dockerfile sets, which a test compares.
pub const VARIABLES: [(&str, &str); 3] = [
    ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    ("HOME", "/var/lib/outpost"),
    ("OUTPOST_STATE_DIR", "/var/lib/outpost/state"),
];

/// Where the image's files are, as `image/root` laid them out.
pub fn root() -> Option<PathBuf> {
    provided("OUTPOST_TEST_IMAGE", "the image's root").map(PathBuf::from)
}

/// A pod that is not started yet.
pub struct Pod {
    root: PathBuf,
    dir: TempDir,
    variables: Vec<(String, String)>,
    port: u16,
    admin_port: u16,
}

/// A pod whose program runs.
pub struct Running {
    program: Program,
    pid: i32,
    pub pod: Pod,
}

impl Pod {
    /// With this configuration, and the hub `hub1` with these settings and the password `one`.
    pub fn new(toml: &str, hub: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["config", "secrets", "account", "volume"] {
            fs::create_dir(dir.path().join(folder)).unwrap();
        }
        let pod = Self { root: root()?, dir, variables: Vec::new(), port: free_port(), admin_port: free_port() };
        if !pod.can_run() {
            return None;
        }
        pod.write("hosts", "127.0.0.1 localhost\n");
        pod.write("resolv.conf", "");
        pod.write("secrets/password", "one");
        let listen =
            format!("[http]\nlisten = '127.0.0.1:{}'\nadmin_listen = '127.0.0.1:{}'\n", pod.port, pod.admin_port);
        let hub = format!("[hubs.hub1]\npasswords = [{{ file = '/etc/outpost-secrets/password' }}]\n{hub}\n");
        pod.write("config/outpost_config.toml", format!("{toml}\n{listen}{hub}"));
        Some(pod)
    }

    /// Without root it takes user namespaces, which not every kernel allows.
    fn can_run(&self) -> bool {
        let mut probe = Command::new("unshare");
        let namespaces = ["--user", "--map-root-user", "--mount", "true"];
        let allowed =
            geteuid().is_root() || probe.args(namespaces).output().is_ok_and(|output| output.status.success());
        if !allowed {
            skipped("neither root nor user namespaces are to be had");
        }
        allowed
    }

    /// Writes one of the files that are mounted.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }

    /// Mounts the token of a service account that may do what these rules say, and says where the cluster is.
    pub async fn join(&mut self, cluster: &Cluster, namespace: &str, rules: &[Rule]) {
        let rules: Value = rules
            .iter()
            .map(|rule| json!({"apiGroups": [rule.group], "resources": [rule.resource], "verbs": rule.verbs}))
            .collect();
        self.write("account/token", cluster.token(namespace, &rules).await);
        self.write("account/namespace", namespace);
        self.write("account/ca.crt", fs::read(cluster.certificate().0).unwrap());
        let address = cluster.address();
        self.set("KUBERNETES_SERVICE_HOST", &address.ip().to_string());
        self.set("KUBERNETES_SERVICE_PORT", &address.port().to_string());
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().envs(VARIABLES);
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    fn outpost(&self, arguments: &[&str]) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/image/as-a-pod");
        let mut command = self.command(script);
        command.arg(&self.root).arg(self.dir.path()).args(arguments);
        command
    }

    /// Runs a command of the command line in a pod of its own.
    pub async fn run(&self, arguments: &[&str]) -> Output {
        output(self.outpost(arguments)).await
    }

    /// Starts `outpost serve` and waits until it is ready.
    pub async fn start(self) -> Running {
        let program = Program::start(&self.outpost(&["serve"]), &self.dir.path().join("log"), None);
        let pid = eventually("the program runs", || async { child_of(program.pid) }).await;
        let running = Running { program, pid, pod: self };
        let client = client();
        let ready = format!("http://127.0.0.1:{}/readyz", running.pod.admin_port);
        eventually("it is ready", || async {
            assert!(running.program.runs(), "it ended:\n{}", running.log());
            client.get(&ready).send().await.ok().filter(|answer| answer.status().is_success())
        })
        .await;
        running
    }
}

impl Running {
    /// A request of the hub.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("http://127.0.0.1:{}{path}", self.pod.port);
        client().request(method, url).basic_auth("hub1", Some("one"))
    }

    /// What the hub is answered.
    pub async fn send(&self, request: RequestBuilder) -> Reply {
        send(request).await.unwrap_or_else(|error| panic!("{error}:\n{}", self.log()))
    }

    /// All that it wrote.
    pub fn log(&self) -> String {
        fs::read_to_string(self.pod.dir.path().join("log")).unwrap()
    }

    /// A line of what the kernel says about its process.
    pub fn status(&self, name: &str) -> String {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":"));
        line.unwrap().trim().to_owned()
    }

    /// Runs a command of the command line beside it, as `kubectl exec` does.
    pub async fn exec(&self, arguments: &[&str]) -> Output {
        let mut command = self.pod.command("nsenter");
        if !geteuid().is_root() {
            // First to where these namespaces belong.
            command.args(["--target", &self.program.pid.to_string(), "--user", "--preserve-credentials", "nsenter"]);
        }
        command.args(["--target", &self.pid.to_string(), "--mount", "--pid", "--root"]);
        if geteuid().is_root() {
            command.args(["--setuid", "65532", "--setgid", "65532"]);
        }
        command.arg("/usr/local/bin/outpost").args(arguments);
        output(command).await
    }

    /// Asks it to end, as a kubelet does, and waits for that; all that it wrote.
    pub async fn end(self) -> String {
        kill(Pid::from_raw(self.pid), Signal::SIGTERM).unwrap();
        eventually("it has ended", || async { (!self.program.runs()).then_some(()) }).await;
        let log = self.log();
        assert!(self.program.kill() == 0 && !log.contains("panicked"), "{log}");
        log
    }
}

/// The process that `unshare` waits for, once that is the program.
fn child_of(pid: i32) -> Option<i32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
    let child = children.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
    (name.trim() == "outpost").then_some(child)
}

async fn output(mut command: Command) -> Output {
    tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap()
}

/// What a command printed, which has to have ended well.
pub fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}
