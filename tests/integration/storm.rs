//! Many starts at once against limits, on two Outposts that share a PostgreSQL and on one with SQLite: never more than a limit
//! says, and never a place lost.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use outpost::clock::Clock;
use outpost::store::Store;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, as_hub, send};
use crate::support::database::KEY;
use crate::support::{Kind, TestDb, eventually};

const HUBS: [(&str, &str); 3] = [("hub1", "one"), ("hub2", "two"), ("hub3", "three")];
const FLAVORS: [&str; 2] = ["small", "large"];
const USERS: usize = 20;
const POSTS: usize = 500;

/// At most 10 of a flavor on a hub, 3 servers of a user, 2 of a user with one flavor.
const LIMITS: &str = "
flavors:
  small: {max: 10, maxPerUser: 2}
  large: {max: 10, maxPerUser: 2}
max_per_user: 3
";

/// What the rows say is used, beside its limit: one line for each limit that is exceeded.
fn exceeded(rows: &[(String, i64, String)]) -> Vec<String> {
    let mut counts: HashMap<String, (i32, i32)> = HashMap::new();
    for (hub, user, flavor) in rows {
        for (of, limit) in [
            (format!("{flavor} on {hub}"), 10),
            (format!("{flavor} of user {user} on {hub}"), 2),
            (format!("all of user {user} on {hub}"), 3),
        ] {
            counts.entry(of).or_insert((0, limit)).0 += 1;
        }
    }
    let over = counts.into_iter().filter(|(_, (used, limit))| used > limit);
    over.map(|(of, (used, limit))| format!("{of}: {used} of {limit}")).collect()
}

/// Hub, user and flavor of the servers that count.
async fn counted(store: &Store) -> Vec<(String, i64, String)> {
    let servers = store.servers().await.unwrap();
    servers
        .into_iter()
        .filter(|server| server.phase.counts())
        .map(|server| (server.id.hub.to_string(), server.user_id, server.flavor.unwrap().to_string()))
        .collect()
}

struct Site {
    daemons: Vec<Daemon>,
    store: Store,
    _db: TestDb,
}

impl Site {
    async fn new(kind: Kind) -> Option<Self> {
        let db = TestDb::new(kind).await?;
        let mut daemons = Vec::new();
        for _ in 0..if kind == Kind::Postgres { 2 } else { 1 } {
            let mut daemon = Daemon::new("");
            let key = daemon.dir().join("test.key");
            std::fs::write(&key, KEY).unwrap();
            let flavors = daemon.dir().join("flavors.yaml");
            std::fs::write(&flavors, LIMITS).unwrap();
            let hubs = HUBS.map(|(name, _)| format!("[hubs.{name}]\nconcurrent_starts = 1000\n")).concat();
            daemon.configure(&format!(
                "{hubs}[log]\nlevel = 'error'\n[store]\nkeys = [{{ file = '{}' }}]\n[flavors]\nfile = '{}'\n\
                 [spawners.memory]\ntype = 'memory'\nstart_delay = '5ms'\n",
                key.display(),
                flavors.display()
            ));
            daemon.set("OUTPOST_DATABASE_URL", Some(&db.url));
            daemon.set("usernames", Some(&HUBS.map(|(name, _)| name).join(";")));
            daemon.set("passwords", Some(&HUBS.map(|(_, password)| password).join(";")));
            daemon.spawn();
            daemon.up().await;
            daemons.push(daemon);
        }
        let store = db.open(&[KEY], Clock::System);
        Some(Self { daemons, store, _db: db })
    }

    fn request(&self, at: usize, method: Method, path: &str) -> reqwest::RequestBuilder {
        let (hub, password) = HUBS[at % HUBS.len()];
        as_hub(self.daemons[at % self.daemons.len()].request(method, path), hub, password)
    }

    /// The start number `at`: its hub, user and flavor follow from it.
    fn start(&self, at: usize, name: &str) -> reqwest::RequestBuilder {
        let user = (at / HUBS.len()) % USERS + 1;
        let flavor = FLAVORS[at / (HUBS.len() * USERS) % FLAVORS.len()];
        let body = json!({
            "name": name, "flavor": flavor,
            "env": {"JUPYTERHUB_USER": format!("user{user}"), "JUPYTERHUB_USER_ID": user.to_string()},
        });
        let request = self.request(at, Method::POST, "/services").json(&body);
        // Both ways at once.
        if at.is_multiple_of(2) { request.header("execution-type", "async") } else { request }
    }

    async fn use_of(&self, at: usize) -> Value {
        send(self.request(at, Method::GET, "/flavors/")).await.unwrap().body
    }
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_whatever_comes_at_once(#[case] kind: Kind) {
    let Some(site) = Site::new(kind).await else { return };
    let site = Arc::new(site);
    let over = Arc::new(AtomicBool::new(false));
    let watching = {
        let (site, over) = (site.clone(), over.clone());
        tokio::spawn(async move {
            while !over.load(Ordering::Relaxed) {
                let exceeded = exceeded(&counted(&site.store).await);
                assert_eq!(exceeded, [] as [String; 0]);
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        })
    };

    let posts: Vec<_> = (0..POSTS)
        .map(|at| {
            let request = site.start(at, &format!("server{at}"));
            tokio::spawn(async move { (at, send(request).await.unwrap()) })
        })
        .collect();
    let mut started = Vec::new();
    for post in posts {
        let (at, reply) = post.await.unwrap();
        match reply.status.as_u16() {
            200 | 202 => started.push(at),
            419 => {
                let sentence = reply.body["args"][0].as_str().unwrap();
                assert!(sentence.contains("at most"), "{sentence}");
                assert_eq!(reply.body["class"], "StartRefused");
            }
            _ => panic!("{reply:?}"),
        }
    }
    // More than enough wanted each place, so that all are taken: none was lost.
    assert_eq!(started.len(), HUBS.len() * FLAVORS.len() * 10);
    assert_eq!(counted(&site.store).await.len(), started.len());
    for at in 0..HUBS.len() {
        eventually("the hub sees what is used", || async {
            let used = site.use_of(at).await;
            (used["small"]["current"] == 10 && used["large"]["current"] == 10).then_some(())
        })
        .await;
    }

    // Stops and starts in between each other.
    let turns: Vec<_> = started
        .iter()
        .flat_map(|at| {
            let stop = site.request(*at, Method::DELETE, &format!("/services/server{at}/0"));
            let stop = if at.is_multiple_of(3) { stop.header("execution-type", "async") } else { stop };
            [stop, site.start(at + 1, &format!("again{at}"))]
        })
        .map(|request| tokio::spawn(async move { send(request).await.unwrap().status.as_u16() }))
        .collect();
    for turn in turns {
        let status = turn.await.unwrap();
        assert!(matches!(status, 200 | 202 | 419), "{status}");
    }
    for at in started {
        let path = format!("/services/again{at}/0");
        let status = send(site.request(at + 1, Method::DELETE, &path)).await.unwrap().status.as_u16();
        assert!(matches!(status, 200 | 404), "{status}");
    }
    over.store(true, Ordering::Relaxed);
    watching.await.unwrap();

    eventually("all places are free", || async { counted(&site.store).await.is_empty().then_some(()) }).await;
    for (at, flavor) in (0..HUBS.len()).flat_map(|at| FLAVORS.map(|flavor| (at, flavor))) {
        eventually("the hub sees that all is free", || async {
            (site.use_of(at).await[flavor]["current"] == 0).then_some(())
        })
        .await;
    }
    // And every one of them can be had again.
    for at in 0..HUBS.len() * 10 {
        let reply = send(site.start(at, &format!("last{at}"))).await.unwrap();
        assert!(reply.status.is_success(), "{reply:?}");
    }
    assert_eq!(send(site.start(HUBS.len() * 10, "one more")).await.unwrap().status.as_u16(), 419);
}
