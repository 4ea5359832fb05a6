//! An Outpost in this process, on free ports, with the in-memory backend.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use outpost::app::{App, Options};
use outpost::config::{Config, Environment, Secret};
use outpost::outpost::Outpost;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use super::database::KEY;
use super::{Kind, TestDb};

pub struct TestOutpost {
    pub outpost: Arc<Outpost>,
    pub url: String,
    pub admin_url: String,
    pub ssh: Option<SocketAddr>,
    pub db: Option<TestDb>,
    pub dir: Option<TempDir>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), String>>,
    client: reqwest::Client,
}

/// An answer, as the snapshots show it.
#[derive(Debug)]
pub struct Reply {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub body: Value,
}

pub fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap()
}

/// Two hubs with the passwords `one` and `two`, on the in-memory backend.
pub fn options(dir: &Path, db_url: &str, toml: &str) -> Options {
    let ports = "[http]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\nshutdown_timeout = '5s'\n";
    let toml =
        if toml.contains("[http]") { toml.replace("[http]", ports.trim_end()) } else { format!("{toml}\n{ports}") };
    let memory = if toml.contains("[spawners.") { "" } else { "[spawners.local]\ntype = 'memory'\n" };
    let mut config = Config::parse(&format!("{toml}\n{memory}")).unwrap();
    config.state_dir = Some(dir.to_owned());
    std::fs::write(dir.join("test.key"), KEY).unwrap();
    config.store.keys = vec![Secret::File(dir.join("test.key"))];
    config.tasks.refresh = std::time::Duration::from_millis(200);
    config.tasks.reconcile = std::time::Duration::from_millis(500);
    // By the environment, since a configuration must not hold a password.
    let environment = Environment::of(&[
        ("usernames", "hub1;hub2;hüb"),
        ("passwords", "one;two;drei"),
        ("OUTPOST_DATABASE_URL", db_url),
    ]);
    Options {
        path: None,
        environment,
        config,
        supervisor: env!("CARGO_BIN_EXE_outpost").into(),
        level: None,
        announce: |_| (),
    }
}

impl TestOutpost {
    pub async fn start(toml: &str) -> Self {
        let db = TestDb::new(Kind::Sqlite).await.unwrap();
        Self::start_with(db, toml).await
    }

    pub async fn start_with(db: TestDb, toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut outpost = Self::start_in(dir.path(), &db.url, toml).await;
        outpost.db = Some(db);
        outpost.dir = Some(dir);
        outpost
    }

    pub async fn start_in(dir: &Path, db_url: &str, toml: &str) -> Self {
        Self::run(options(dir, db_url, toml)).await
    }

    pub async fn run(options: Options) -> Self {
        let client = client();
        let app = App::build(options).await.unwrap();
        let (api, admin) = app.addresses().unwrap();
        let ssh = app.ssh_address();
        app.connect(outpost::app::FIRST_LOOK).await.unwrap();
        let (outpost, shutdown) = (app.outpost.clone(), app.shutdown.clone());
        let running = tokio::spawn(app.run());
        Self {
            outpost,
            url: format!("http://{api}"),
            admin_url: format!("http://{admin}"),
            ssh,
            db: None,
            dir: None,
            shutdown,
            running,
            client,
        }
    }

    /// Ends gently, as a SIGTERM would.
    pub async fn stop(self) -> (Option<TestDb>, Option<TempDir>) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
        (self.db, self.dir)
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url)).basic_auth("hub1", Some("one"))
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Reply {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let text = response.text().await.unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::String(text));
        Reply { status, headers, body }
    }

    pub fn view_is_empty(&self) -> bool {
        self.outpost.view.is_empty()
    }

    pub fn view_entry(&self, name: &str, start_id: &str) -> Arc<outpost::outpost::Entry> {
        self.outpost.view.get(&outpost::model::ServerId::new("hub1", name, start_id)).unwrap()
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.send(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.send(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    pub async fn post_async(&self, body: &Value) -> Reply {
        self.send(self.request(Method::POST, "/services").header("execution-type", "async").json(body)).await
    }
}

/// The body of a start, as OutpostSpawner sends it.
pub fn body(name: &str, start_id: &str, api: &str) -> Value {
    json!({
        "name": name,
        "env": {
            "JUPYTERHUB_USER": "jürgen", "JUPYTERHUB_USER_ID": "7", "JUPYTERHUB_API_TOKEN": "s3cret-token",
            "JUPYTERHUB_API_URL": api,
            "JUPYTERHUB_EVENTS_URL": format!("{api}/users/progress/events/jürgen/{name}"),
            "JUPYTERHUB_SETUPTUNNEL_URL": format!("{api}/users/setuptunnel/jürgen/{name}"),
            "JUPYTERHUB_FLAVORS_UPDATE_URL": format!("{api}/outpostflavors/site"),
            "JUPYTERHUB_FLAVORS_UPDATE_TOKEN": "s3cret-flavors",
            "JUPYTERHUB_SERVICE_URL": "http://0.0.0.0:55713/user/x/",
        },
        "user_options": { "start_id": start_id },
        "misc": {
            "dns_name_template": "{name}.{namespace}.svc.cluster.local",
            "pod_name_template": "jupyter-{username}--{servername}",
            "internal_ssl": false, "port": 55713, "ip": "0.0.0.0", "services_enabled": true, "extra_labels": {},
        },
        "certs": {}, "internal_trust_bundles": {},
    })
}
