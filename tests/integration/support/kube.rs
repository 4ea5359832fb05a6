//! A real Kubernetes API: etcd and kube-apiserver as `tests/run` provides them. There is no kubelet; [`Kubelet`] plays it.

pub mod access;
pub mod gate;
pub mod kubelet;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use nix::sys::statvfs::statvfs;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::daemon::free_port;
use super::program::Program;
use super::{eventually, provided, server, skipped};

pub use gate::{Gate, Side};
pub use kubelet::{Kubelet, Step};

/// The token of an administrator, who may do anything.
const ADMIN: &str = "the-token-of-the-administrator";

/// An API server with a database of its own, and nothing in it.
pub struct Cluster {
    bin: PathBuf,
    dir: PathBuf,
    options: Vec<String>,
    ports: [u16; 3],
    /// In the order in which they have to end: nothing is left that talks to what has gone.
    controllers: Option<Program>,
    server: Mutex<Option<Program>>,
    etcd: Option<Program>,
}

impl Cluster {
    /// The one that tests share, each with namespaces of its own. `None`: there is none here, and the test is skipped.
    pub async fn shared() -> Option<&'static Self> {
        static SHARED: OnceCell<Option<Cluster>> = OnceCell::const_new();
        SHARED.get_or_init(|| Self::own(&[])).await.as_ref()
    }

    /// One that nobody else uses, with more arguments of the API server.
    pub async fn own(options: &[&str]) -> Option<Self> {
        let bin = PathBuf::from(provided("OUTPOST_TEST_KUBE_BIN", "a Kubernetes API server")?);
        // Without a controller manager nobody makes the service accounts that this plugin insists on.
        let options = [&["--disable-admission-plugins=ServiceAccount"], options].concat();
        Some(Self::start(bin, options.into_iter().map(str::to_owned).collect()).await)
    }

    /// One of its own with a controller manager, which collects garbage, ends namespaces and counts quotas.
    pub async fn controlled() -> Option<Self> {
        let bin = PathBuf::from(provided("OUTPOST_TEST_KUBE_BIN", "a Kubernetes API server")?);
        if !bin.join("kube-controller-manager").exists() {
            skipped(&format!("there is no kube-controller-manager in {}", bin.display()));
            return None;
        }
        let mut cluster = Self::start(bin, Vec::new()).await;
        let mut command = Command::new(cluster.bin.join("kube-controller-manager"));
        command.arg(format!("--kubeconfig={}", cluster.admin_kubeconfig().display())).args([
            "--controllers=garbagecollector,namespace,resourcequota,root-ca-cert-publisher,serviceaccount",
            "--use-service-account-credentials=false",
            "--leader-elect=false",
            "--concurrent-gc-syncs=2",
            "--secure-port=0",
        ]);
        command.args(cluster.without_plain_http("--port=0"));
        command.arg(format!("--root-ca-file={}", cluster.dir.join("pki/apiserver.crt").display()));
        cluster.controllers = Some(Program::start(&command, &cluster.dir.join("controllers.log"), None));
        Some(cluster)
    }

    async fn start(bin: PathBuf, options: Vec<String>) -> Self {
        for _ in 0..3 {
            let dir = tempfile::Builder::new().prefix("outpost-test-kube-").tempdir_in(roomy()).unwrap().keep();
            std::fs::write(dir.join("tokens.csv"), format!("{ADMIN},admin,1,\"system:masters\"\n")).unwrap();
            let ports = [free_port(), free_port(), free_port()];
            let mut cluster = Self {
                bin: bin.clone(),
                dir,
                options: options.clone(),
                ports,
                controllers: None,
                server: Mutex::default(),
                etcd: None,
            };
            cluster.start_etcd();
            if cluster.start_server().await {
                return cluster;
            }
            // Somebody else may have taken a port in between.
            let end = cluster.logs(20);
            assert!(end.contains("address already in use"), "the API server does not start:\n{end}");
        }
        panic!("there are no free ports");
    }

    fn start_etcd(&mut self) {
        let data = self.dir.join("etcd");
        std::fs::create_dir_all(&data).unwrap();
        let [client, peer, _] = self.ports.map(|port| format!("http://127.0.0.1:{port}"));
        let mut command = Command::new(self.bin.join("etcd"));
        command.arg("--data-dir").arg(&data).args(["--name=test", "--logger=zap", "--log-level=error"]);
        for (name, url) in [
            ("listen-client-urls", &client),
            ("advertise-client-urls", &client),
            ("listen-peer-urls", &peer),
            ("initial-advertise-peer-urls", &peer),
        ] {
            command.arg(format!("--{name}={url}"));
        }
        command.arg(format!("--initial-cluster=test={peer}"));
        self.etcd = Some(Program::start(&command, &self.dir.join("etcd.log"), Some(&self.dir)));
    }

    /// Starts the API server, on what etcd has; returns once it answers. False: it ended.
    pub async fn start_server(&self) -> bool {
        let [etcd, _, port] = self.ports;
        let pki = self.dir.join("pki");
        let mut command = Command::new(self.bin.join("kube-apiserver"));
        command.args([
            format!("--etcd-servers=http://127.0.0.1:{etcd}"),
            format!("--secure-port={port}"),
            format!("--token-auth-file={}", self.dir.join("tokens.csv").display()),
            // It makes itself a certificate in here; its key also signs the tokens of service accounts.
            format!("--cert-dir={}", pki.display()),
            format!("--service-account-signing-key-file={}", pki.join("apiserver.key").display()),
            format!("--service-account-key-file={}", pki.join("apiserver.key").display()),
        ]);
        command.args([
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--profiling=false",
        ]);
        command.args(self.without_plain_http("--insecure-port=0"));
        command.args(&self.options);
        let server = Program::start(&command, &self.dir.join("apiserver.log"), None);
        let begun = Instant::now();
        let ready = loop {
            if !server.runs() || self.etcd.as_ref().is_some_and(|etcd| !etcd.runs()) {
                break false;
            }
            if self.is_ready().await {
                break true;
            }
            assert!(begun.elapsed() < Duration::from_secs(120), "the API server is not ready:\n{}", self.logs(20));
            tokio::time::sleep(Duration::from_millis(100)).await;
        };
        if ready {
            *self.server.lock().unwrap() = Some(server);
        }
        ready
    }

    /// What switches off the unprotected port that these programs had until 1.23.
    fn without_plain_http(&self, flag: &'static str) -> Option<&'static str> {
        let version = Command::new(self.bin.join("kube-apiserver")).arg("--version").output().unwrap().stdout;
        let minor = String::from_utf8_lossy(&version).split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
        (minor? < 24).then_some(flag)
    }

    /// Kills the API server, as the kernel does when memory runs out.
    pub fn kill_server(&self) {
        self.server.lock().unwrap().take().unwrap().kill();
    }

    /// Forgets all history, so that a watch cannot go on from where it was.
    pub async fn compact(&self) {
        let etcd = format!("http://127.0.0.1:{}/v3/kv", self.ports[0]);
        let client = server::client();
        let range = client.post(format!("{etcd}/range")).json(&json!({"key": "AA=="}));
        let answer: Value = range.send().await.unwrap().json().await.unwrap();
        let compaction = json!({"revision": answer["header"]["revision"], "physical": true});
        let answer = client.post(format!("{etcd}/compaction")).json(&compaction).send().await.unwrap();
        let (status, text) = (answer.status(), answer.text().await.unwrap());
        // Nothing may have happened since the last time.
        assert!(status.is_success() || text.contains("has been compacted"), "{text}");
    }

    async fn is_ready(&self) -> bool {
        if !self.dir.join("pki/apiserver.crt").exists() {
            return false;
        }
        let Ok(client) = client(read(self.kubeconfig_of(ADMIN))).await else { return false };
        let request = http_get("/readyz");
        let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request)).await;
        matches!(answer, Ok(Ok(text)) if text == "ok")
    }

    /// A client that may do anything.
    pub async fn admin(&self) -> Client {
        client(read(self.kubeconfig_of(ADMIN))).await.unwrap()
    }

    /// Where the API server listens, with TLS.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.ports[2]))
    }

    /// A kubeconfig for a token, as a file that stays as long as the cluster.
    pub fn kubeconfig(&self, token: &str) -> PathBuf {
        self.written(&self.kubeconfig_of(token))
    }

    /// A kubeconfig that may do anything.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.kubeconfig(ADMIN)
    }

    /// A kubeconfig that leads somewhere else.
    pub fn kubeconfig_at(&self, url: &str) -> PathBuf {
        let mut kubeconfig = self.kubeconfig_of("nobody");
        kubeconfig["clusters"][0]["cluster"] = json!({"server": url});
        self.written(&kubeconfig)
    }

    fn written(&self, kubeconfig: &Value) -> PathBuf {
        static WRITTEN: AtomicU32 = AtomicU32::new(0);
        let path = self.dir.join(format!("kubeconfig-{}", WRITTEN.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    fn kubeconfig_of(&self, token: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "users": [{"name": "test", "user": {"token": token}}],
            "clusters": [{"name": "test", "cluster": {
                "server": format!("https://{}", self.address()),
                "certificate-authority": self.certificate().0,
            }}],
        })
    }

    /// The files of the API server's certificate, with the authority that signed it, and of its key.
    pub fn certificate(&self) -> (PathBuf, PathBuf) {
        (self.dir.join("pki/apiserver.crt"), self.dir.join("pki/apiserver.key"))
    }

    /// A new namespace.
    pub async fn namespace(&self) -> String {
        let name = format!("test-{}", ulid::Ulid::generate().to_string().to_lowercase());
        let admin = self.admin().await;
        create::<Namespace>(Api::all(admin.clone()), json!({"metadata": {"name": name}})).await;
        if self.controllers.is_some() {
            let accounts: Api<ServiceAccount> = Api::namespaced(admin, &name);
            eventually("the namespace has its account", || async { accounts.get_opt("default").await.unwrap() }).await;
        }
        name
    }

    /// The last lines of what the programs wrote.
    pub fn logs(&self, lines: usize) -> String {
        let tail = |name: &str| {
            let text = std::fs::read_to_string(self.dir.join(name)).unwrap_or_default();
            let all: Vec<&str> = text.lines().collect();
            format!("--- {name}\n{}\n", all[all.len().saturating_sub(lines)..].join("\n"))
        };
        ["etcd.log", "apiserver.log", "controllers.log"].map(tail).concat()
    }
}

/// A folder with a gigabyte for a database. Not on a disk where that can be had: etcd insists on writing through. A container
/// has little of the other unless it is told to.
fn roomy() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let free = statvfs(memory).map_or(0, |system| system.blocks_available() * system.fragment_size());
    if free >= 1 << 30 { memory.to_owned() } else { std::env::temp_dir() }
}

fn http_get(path: &str) -> axum::http::Request<Vec<u8>> {
    axum::http::Request::get(path).body(Vec::new()).unwrap()
}

/// A client. It belongs to the test that made it: its connections end with that one's runtime.
pub async fn client(kubeconfig: Kubeconfig) -> kube::Result<Client> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config)
}

/// A value of the API from its JSON.
pub fn read<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

/// Creates an object from its JSON.
pub async fn create<K>(api: Api<K>, value: Value) -> K
where
    K: kube::Resource + Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    api.create(&PostParams::default(), &read(value)).await.unwrap()
}
