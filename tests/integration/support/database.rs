//! A fresh database of either kind.

use std::sync::Arc;

use outpost::clock::Clock;
use outpost::metrics::Metrics;
use outpost::model::{Handle, Need, Phase, Server, ServerId, StoredRequest, Uid};
use outpost::store::{Ring, Store};
use serde_json::json;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use tempfile::TempDir;

use super::provided;

pub const KEY: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=";

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

/// An empty database, gone with the value (a PostgreSQL database goes with its throw-away server).
pub struct TestDb {
    pub url: String,
    _dir: Option<TempDir>,
}

impl TestDb {
    /// `None`: there is no PostgreSQL here, and the test is skipped.
    pub async fn new(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Sqlite => {
                let dir = tempfile::tempdir().unwrap();
                Some(Self { url: format!("sqlite:{}", dir.path().join("test.sqlite").display()), _dir: Some(dir) })
            }
            Kind::Postgres => {
                let server = provided("OUTPOST_TEST_POSTGRES_URL", "PostgreSQL")?;
                let name = format!("test_{}", ulid::Ulid::generate().to_string().to_lowercase());
                let mut connection = PgConnection::connect(&server).await.unwrap();
                sqlx::query(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&mut connection).await.unwrap();
                let mut url = url::Url::parse(&server).unwrap();
                url.set_path(&name);
                Some(Self { url: url.to_string(), _dir: None })
            }
        }
    }

    /// A store that nobody else uses, with its schema.
    pub async fn store(&self, clock: Clock) -> Store {
        let store = self.open(&[KEY], clock);
        store.migrate().await.unwrap();
        store
    }

    /// Changes rows as nothing in Outpost does.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        if self.url.starts_with("sqlite:") {
            sqlx::query(sql).execute(&mut SqliteConnection::connect(&self.url).await.unwrap()).await.unwrap();
        } else {
            sqlx::query(sql).execute(&mut PgConnection::connect(&self.url).await.unwrap()).await.unwrap();
        }
    }

    pub fn open(&self, keys: &[&str], clock: Clock) -> Store {
        let ring = Ring::new(keys.iter().copied()).unwrap();
        Store::open(&self.url, None, Some(3), ring, clock, Arc::new(Metrics::default())).unwrap()
    }
}

/// A row as a start makes it, for a server of the user 7 of `hub1`.
pub fn a_server(clock: &Clock) -> Server {
    let uid = Uid::generate();
    let now = clock.now();
    Server {
        id: ServerId::new("hub1", uid.as_str(), "0"),
        uid,
        user_id: 7,
        user: "jürgen".into(),
        flavor: Some("big".into()),
        need: Need { cpu_millis: 1500, memory_bytes: 1 << 30, gpus: 1 },
        runtime: None,
        phase: Phase::Starting,
        generation: 0,
        owner: "me".into(),
        handle: Handle { spawner: "local".into(), state: json!({"a": 1}) },
        asynchronous: true,
        address: "".into(),
        target: "".into(),
        tunnel: outpost::model::Tunnel::default(),
        exit: None,
        start_date: now,
        end_date: None,
        last_update: now,
    }
}

/// Rows of running servers of a hub, named `s0` and so on. Nobody looks whether they run: their backend is not configured.
pub async fn running_servers(store: &Store, hub: &str, api: &str, count: usize) {
    for at in 0..count {
        let name = format!("s{at}");
        let server = Server {
            id: ServerId::new(hub, &name, "0"),
            phase: Phase::Running,
            handle: Handle { spawner: "elsewhere".into(), state: json!(null) },
            address: format!("10.0.0.1:{}", 1000 + at).into(),
            flavor: None,
            ..a_server(store.clock())
        };
        let request: StoredRequest = serde_json::from_value(json!({
            "env": {
                "JUPYTERHUB_API_TOKEN": format!("token-of-{hub}-{name}"),
                "JUPYTERHUB_API_URL": api,
                "JUPYTERHUB_SETUPTUNNEL_URL": format!("{api}/users/setuptunnel/ada/{name}"),
            },
            "groups": [if at % 2 == 0 { "even" } else { "odd" }],
        }))
        .unwrap();
        assert!(store.insert_server(&server, &request).await.unwrap());
    }
}
