//! A real JupyterHub with the real OutpostSpawner and the real proxy, which `tests/run` installs.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use super::server::client;
use super::{provided, within};

const TOKEN: &str = "0123456789abcdef-tests";
const OUTPOST_TOKEN: &str = "0123456789abcdef-outpost";

/// Two hubs and twenty notebooks share two cores with all other tests, and one poll of the hub may take a minute.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct RealHub {
    pub url: String,
    pub api: String,
    /// Where jupyterhub-singleuser is.
    pub bin: PathBuf,
    dir: TempDir,
    child: Child,
    client: reqwest::Client,
}

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A test that fails shows what the hub said last.
/// Waits until `check` gives something: hubs and Jupyter servers take their time while other tests run.
pub async fn patiently<T, F: Future<Output = Option<T>>>(what: &str, check: impl FnMut() -> F) -> T {
    within(PATIENCE, what, check).await
}

impl Drop for RealHub {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("the end of the hub's log:\n{}", lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

impl RealHub {
    /// Starts a hub whose servers are started by the Outpost on `outpost_port`. `None`: there is none here, and the test is
    /// skipped.
    pub async fn start(outpost_port: u16, internal_ssl: bool) -> Option<Self> {
        let internal_ssl = if internal_ssl { "1" } else { "0" };
        Self::start_with(outpost_port, &[("HUB_INTERNAL_SSL", internal_ssl)]).await
    }

    /// The same, with variables of its configuration.
    pub async fn start_with(outpost_port: u16, variables: &[(&str, &str)]) -> Option<Self> {
        let installed = PathBuf::from(provided("OUTPOST_TEST_HUB", "a real JupyterHub")?);
        let dir = tempfile::tempdir().unwrap();
        let (port, api_port, proxy_port) = (free_port(), free_port(), free_port());
        let log = std::fs::File::create(dir.path().join("hub.log")).unwrap();
        let config = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hub/jupyterhub_config.py");
        let bin = installed.join("venv/bin");
        let child = Command::new(bin.join("jupyterhub"))
            .args(["-f", config])
            .current_dir(dir.path())
            .env("HUB_DIR", dir.path())
            .env("HUB_PORT", port.to_string())
            .env("HUB_API_PORT", api_port.to_string())
            .env("HUB_PROXY_API_PORT", proxy_port.to_string())
            .env("HUB_PASSWORD", "a-password-of-tests")
            .env("HUB_TESTS_TOKEN", TOKEN)
            .env("HUB_OUTPOST_TOKEN", OUTPOST_TOKEN)
            .env("OUTPOST_TEST_HUB", &installed)
            .env("OUTPOST_URL", format!("http://127.0.0.1:{outpost_port}/services"))
            .env("OUTPOST_USER", "hub1")
            .env("OUTPOST_PASSWORD", "one")
            .envs(variables.iter().copied())
            .stdout(Stdio::from(log.try_clone().unwrap()))
            .stderr(Stdio::from(log))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let scheme = if variables.contains(&("HUB_INTERNAL_SSL", "1")) { "https" } else { "http" };
        let hub = Self {
            url: format!("http://127.0.0.1:{port}"),
            api: format!("{scheme}://127.0.0.1:{api_port}/hub/api"),
            bin,
            dir,
            child,
            client: client(),
        };
        let health = format!("{}/hub/health", hub.url);
        patiently("the hub is up", || async {
            hub.client.get(&health).send().await.ok().filter(|reply| reply.status() == 200).map(drop)
        })
        .await;
        Some(hub)
    }

    /// Ends the hub, which ends its proxy.
    pub async fn stop(mut self) {
        if let Some(pid) = self.child.id() {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        }
        let _ = tokio::time::timeout(Duration::from_secs(60), self.child.wait()).await;
    }

    /// The log without the questions of the tests themselves.
    pub fn log(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("hub.log")).unwrap_or_default();
        log.lines().filter(|line| !line.contains("200 GET /hub/api/users/")).collect::<Vec<_>>().join("\n")
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).header("Authorization", format!("token {TOKEN}"))
    }

    async fn json(&self, method: Method, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut request = self.request(method, path);
        if let Some(body) = body {
            request = request.json(body);
        }
        let reply = request.send().await.unwrap();
        let status = reply.status().as_u16();
        let text = reply.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    pub async fn add_user(&self, user: &str) {
        let (status, body) = self.json(Method::POST, &format!("/hub/api/users/{user}"), None).await;
        assert_eq!(status, 201, "{body}");
    }

    pub async fn start_server(&self, user: &str, name: &str, options: &Value) {
        let (status, body) = self.json(Method::POST, &server_path(user, name), Some(options)).await;
        assert!(matches!(status, 201 | 202), "{status} {body}");
    }

    pub async fn stop_server(&self, user: &str, name: &str) {
        let (status, body) = self.json(Method::DELETE, &server_path(user, name), None).await;
        assert!(matches!(status, 202 | 204), "{status} {body}");
        self.wait_until_stopped(user, name).await;
    }

    /// What the hub says about a server; null once it has stopped.
    pub async fn server(&self, user: &str, name: &str) -> Value {
        let (_, body) = self.json(Method::GET, &format!("/hub/api/users/{user}"), None).await;
        body["servers"][name].clone()
    }

    /// A token of a user.
    pub async fn token_of(&self, user: &str) -> String {
        let (status, body) = self.json(Method::POST, &format!("/hub/api/users/{user}/tokens"), None).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    /// The flavors of all Outposts, as the hub shows them to a user with this token.
    pub async fn flavors(&self, token: &str) -> Value {
        let request = self.client.get(format!("{}/hub/api/outpostflavors", self.url));
        let reply = request.header("Authorization", format!("token {token}")).send().await.unwrap();
        reply.json().await.unwrap()
    }

    pub async fn wait_until_ready(&self, user: &str, name: &str) {
        within(PATIENCE, &format!("{user}/{name} is ready"), || async {
            (self.server(user, name).await["ready"] == json!(true)).then_some(())
        })
        .await;
    }

    pub async fn wait_until_stopped(&self, user: &str, name: &str) {
        within(PATIENCE, &format!("{user}/{name} has stopped"), || async {
            self.server(user, name).await.is_null().then_some(())
        })
        .await;
    }

    /// The progress that a browser sees, until the hub ends the stream.
    pub async fn progress(&self, user: &str, name: &str) -> String {
        let path = format!("{}/progress", server_path(user, name));
        let reply = self.request(Method::GET, &path).send().await.unwrap();
        tokio::time::timeout(Duration::from_secs(120), reply.text()).await.expect("the progress ends").unwrap()
    }

    /// Whether the notebook server answers through the hub's proxy.
    pub async fn reachable(&self, user: &str, name: &str) -> bool {
        let path = if name.is_empty() {
            format!("/user/{user}/api/status")
        } else {
            format!("/user/{user}/{name}/api/status")
        };
        let (status, body) = self.json(Method::GET, &path, None).await;
        status == 200 && body.get("kernels").is_some()
    }
}

fn server_path(user: &str, name: &str) -> String {
    if name.is_empty() {
        format!("/hub/api/users/{user}/server")
    } else {
        format!("/hub/api/users/{user}/servers/{name}")
    }
}
