//! Two replicas on one PostgreSQL are replaced while servers start: the real program, the real API server.

mod balancer;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use outpost::spawner::kubernetes::names::SERVER;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;

use self::balancer::Balancer;
use crate::kubernetes::{configuration, settings_of};
use crate::support::daemon::{Daemon, as_hub, send};
use crate::support::database::KEY;
use crate::support::kube::{Cluster, Kubelet, Step};
use crate::support::{Kind, TestDb, within};

const STARTS: usize = 50;

/// The time between two starts.
const PACE: Duration = Duration::from_millis(250);

/// The time between two polls of a server.
const POLL: Duration = Duration::from_millis(300);

/// How long all may take to end well: an Outpost that is missed has to be missed first.
const PATIENCE: Duration = Duration::from_secs(120);

/// A cluster's namespace with a database, and what is in front of the replicas.
struct Site {
    pods: Api<Pod>,
    db: TestDb,
    toml: String,
    balancer: Balancer,
    _kubelet: Kubelet,
}

impl Site {
    async fn new() -> Option<Self> {
        let cluster = Cluster::shared().await?;
        let db = TestDb::new(Kind::Postgres).await?;
        let namespace = cluster.namespace().await;
        // Some are there at once, others take long.
        let count = AtomicUsize::new(0);
        let script = move |_: &Pod| {
            let at = count.fetch_add(1, Ordering::Relaxed);
            let takes = Duration::from_millis(200 + 650 * (at as u64 % 8));
            vec![Step::Bind, Step::Waits { reason: "ContainerCreating", message: "" }, Step::Pause(takes), Step::Runs]
        };
        let kubelet = Kubelet::start(cluster, &namespace, script).await;
        let settings = "services_enabled = true\n";
        let account = cluster.permitted(&namespace, &settings_of(&namespace, settings)).await;
        let toml = format!(
            "[http]\ndrain_delay = '6s'\nshutdown_timeout = '60s'\n[store]\nurl = '{}'\n{}",
            db.url,
            configuration(&account.kubeconfig, &namespace, settings)
        );
        let pods = Api::namespaced(cluster.admin().await, &namespace);
        Some(Self { pods, db, toml, balancer: Balancer::open().await, _kubelet: kubelet })
    }

    /// A new pod: with a state directory that nobody had before. Gives it once it gets connections.
    async fn replica(&self) -> Daemon {
        let mut replica = Daemon::new(&self.toml);
        replica.set("OUTPOST_CRYPT_KEY", Some(KEY));
        replica.spawn();
        replica.up().await;
        self.balancer.add(&replica).await;
        replica
    }

    /// The servers that the pods are of, one for each pod.
    async fn servers(&self) -> Vec<String> {
        let pods = self.pods.list(&ListParams::default()).await.unwrap();
        let mut servers: Vec<_> = pods.iter().map(|pod| pod.labels()[SERVER].to_ascii_uppercase()).collect();
        servers.sort();
        servers
    }

    /// How many rows belong to an Outpost that has gone.
    async fn orphans(&self) -> i64 {
        const SQL: &str = "SELECT COUNT(*) FROM servers WHERE phase <> 'gone' AND owner NOT IN \
                           (SELECT id FROM instances WHERE seen_at > now() - interval '30 seconds')";
        let mut connection = PgConnection::connect(&self.db.url).await.unwrap();
        sqlx::query_scalar(SQL).fetch_one(&mut connection).await.unwrap()
    }
}

/// What hubs do meanwhile, and what went wrong for them.
struct Hubs {
    url: String,
    /// It makes a connection for each request, as Tornado does.
    client: reqwest::Client,
    /// Whether a request that broke is sent again: only where something is killed.
    again: bool,
    broken: AtomicUsize,
    polls: AtomicUsize,
    over: AtomicBool,
    mishaps: Mutex<Vec<String>>,
}

impl Hubs {
    fn new(url: &str, again: bool) -> Arc<Self> {
        Arc::new(Self {
            url: url.to_owned(),
            client: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
            again,
            broken: AtomicUsize::new(0),
            polls: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            mishaps: Mutex::default(),
        })
    }

    fn mishap(&self, text: String) {
        self.mishaps.lock().unwrap().push(text);
    }

    /// An answer to hub 0 or 1; `None` is a mishap that was noted.
    async fn ask(
        &self,
        hub: usize,
        method: &Method,
        path: &str,
        body: &Value,
        asynchronous: bool,
    ) -> Option<(StatusCode, Value)> {
        let (name, password) = [("hub1", "one"), ("hub2", "two")][hub];
        loop {
            let request = as_hub(self.client.request(method.clone(), format!("{}{path}", self.url)), name, password);
            let request = if asynchronous { request.header("execution-type", "async") } else { request };
            let request = if body.is_null() { request } else { request.json(body) };
            match send(request).await {
                Ok(reply) => return Some((reply.status, reply.body)),
                Err(_) if self.again => {
                    self.broken.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(POLL).await;
                }
                Err(error) => {
                    self.mishap(format!("{method} {path}: {error:?}"));
                    return None;
                }
            }
        }
    }

    /// Starts a server, and polls it until all is over.
    async fn play(self: Arc<Self>, at: usize) {
        let (hub, asynchronous, path) = (at % 2, at % 4 < 2, format!("/services/lab{at}/1"));
        let body = json!({
            "name": format!("lab{at}"),
            "env": {"JUPYTERHUB_USER": format!("user{at}"), "JUPYTERHUB_API_TOKEN": "token"},
            "user_options": {"start_id": "1"},
        });
        let expected = if asynchronous { StatusCode::ACCEPTED } else { StatusCode::OK };
        let start = async {
            match self.ask(hub, &Method::POST, "/services", &body, asynchronous).await {
                Some((status, _)) if status == expected => {}
                Some(answer) => self.mishap(format!("POST of lab{at}: {answer:?}")),
                None => {}
            }
        };
        let poll = async {
            // The first answers may come before the row is there: others do not know it yet.
            let mut known = 0;
            while !self.over.load(Ordering::Relaxed) {
                tokio::time::sleep(POLL).await;
                let answer = self.ask(hub, &Method::GET, &path, &Value::Null, false).await;
                match answer {
                    Some((StatusCode::OK, body)) if body["status"].is_null() => known += 1,
                    // The start may not have come that far.
                    Some((StatusCode::NOT_FOUND, _)) if known < 10 => known = 0,
                    Some(answer) => self.mishap(format!("GET {path}: {answer:?}")),
                    None => {}
                }
                self.polls.fetch_add(1, Ordering::Relaxed);
            }
        };
        tokio::join!(start, poll);
    }
}

/// Begins one start after the other while `roll` goes on, and sees that each ends with one pod and one row.
async fn roll(site: Site, again: bool, roll: impl AsyncFnOnce(&Site, [Daemon; 2]) -> Vec<Daemon>) {
    let replicas = [site.replica().await, site.replica().await];
    let hubs = Hubs::new(&site.balancer.url, again);
    let mut plays = JoinSet::new();
    let starts = async {
        for at in 0..STARTS {
            plays.spawn(hubs.clone().play(at));
            tokio::time::sleep(PACE).await;
        }
    };
    let (replicas, ()) = tokio::join!(roll(&site, replicas), starts);

    let running = async || {
        let rows = replicas[0].rows().await;
        let running: BTreeSet<_> = rows
            .iter()
            .filter(|row| row["phase"] == "running")
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect();
        (rows.len(), running)
    };
    let rows = within(PATIENCE, "all servers run", || async {
        // A start that was cut off will not come.
        assert_eq!(*hubs.mishaps.lock().unwrap(), Vec::<String>::new());
        let (rows, running) = running().await;
        assert!(rows <= STARTS, "{rows} rows");
        (running.len() == STARTS).then_some(running)
    })
    .await;
    assert_eq!(site.servers().await, rows.into_iter().collect::<Vec<_>>(), "one pod for each row");
    within(PATIENCE, "those who are there have all of them", || async { (site.orphans().await == 0).then_some(()) })
        .await;
    hubs.over.store(true, Ordering::Relaxed);
    while let Some(played) = plays.join_next().await {
        played.unwrap();
    }
    assert_eq!(*hubs.mishaps.lock().unwrap(), Vec::<String>::new());
    let (polls, broken) = (hubs.polls.load(Ordering::Relaxed), hubs.broken.load(Ordering::Relaxed));
    assert!(polls > 10 * STARTS, "{polls} polls");
    assert!(broken < polls / 2, "{broken} of {polls} requests broke");

    for at in 0..STARTS {
        let stopped = hubs.ask(at % 2, &Method::DELETE, &format!("/services/lab{at}/1"), &Value::Null, true).await;
        assert!(matches!(stopped, Some((StatusCode::ACCEPTED, _))), "{stopped:?}");
    }
    within(PATIENCE, "nothing is left", || async {
        (replicas[0].rows().await.is_empty() && site.servers().await.is_empty()).then_some(())
    })
    .await;
    for replica in replicas {
        assert!(replica.terminate().await.success());
    }
}

/// One after the other: each keeps a machine busy.
static TURN: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_one_after_the_other() {
    let _turn = TURN.lock().await;
    let Some(site) = Site::new().await else { return };
    roll(site, false, async |site: &Site, replicas: [Daemon; 2]| {
        let mut new = Vec::new();
        for old in replicas {
            // As a Deployment does with maxSurge 1 and maxUnavailable 0.
            new.push(site.replica().await);
            assert!(old.terminate().await.success(), "{}", old.stderr());
        }
        new
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_killed_and_another_takes_its_place() {
    let _turn = TURN.lock().await;
    let Some(site) = Site::new().await else { return };
    roll(site, true, async |site: &Site, [killed, stays]: [Daemon; 2]| {
        tokio::time::sleep(PACE * 20).await;
        killed.kill();
        vec![stays, site.replica().await]
    })
    .await;
}
