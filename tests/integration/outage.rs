//! The database gone: what answers, what says so, and how it comes back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};

use crate::support::server::{body, client};
use crate::support::{Kind, TestDb, TestOutpost, eventually};

const NO_HUB: &str = "http://127.0.0.1:1/hub/api";

/// A way to PostgreSQL that can be cut.
struct Cable {
    url: String,
    whole: Arc<AtomicBool>,
}

impl Cable {
    async fn to(db: &TestDb) -> Self {
        let mut url = url::Url::parse(&db.url).unwrap();
        let target = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
        url.set_host(Some("127.0.0.1")).unwrap();
        let whole = Arc::new(AtomicBool::new(true));
        let state = whole.clone();
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (state, target) = (state.clone(), target.clone());
                tokio::spawn(async move {
                    if !state.load(Ordering::SeqCst) {
                        return;
                    }
                    let mut far = TcpStream::connect(target).await.unwrap();
                    let cut = async {
                        while state.load(Ordering::SeqCst) {
                            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                        }
                    };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        () = cut => {}
                    }
                });
            }
        });
        Self { url: url.to_string(), whole }
    }

    fn cut(&self) {
        self.whole.store(false, Ordering::SeqCst);
    }

    fn mend(&self) {
        self.whole.store(true, Ordering::SeqCst);
    }
}

async fn ready(outpost: &TestOutpost) -> (u16, Value) {
    let reply = outpost.send(client().get(format!("{}/readyz", outpost.admin_url))).await;
    (reply.status.as_u16(), reply.body)
}

#[tokio::test(flavor = "multi_thread")]
async fn polls_go_on_without_a_database_and_all_recovers() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let cable = Cable::to(&db).await;
    let dir = tempfile::tempdir().unwrap();
    let outpost = TestOutpost::start_in(dir.path(), &cable.url, "").await;
    assert_eq!(outpost.post("/services", &body("lab", "abc", NO_HUB)).await.status, 200);
    cable.cut();

    assert_eq!(outpost.get("/ping").await.body, json!({"ping": "pong!"}));
    let health = client().get(format!("{}/healthz", outpost.admin_url)).send().await.unwrap();
    assert_eq!(health.status(), 200);
    let (status, reasons) = ready(&outpost).await;
    assert_eq!(status, 503);
    assert!(reasons["reasons"][0].as_str().unwrap().starts_with("the database does not answer"), "{reasons}");
    assert_eq!(outpost.get("/services/lab/abc").await.body, json!({"status": null, "logs": []}));
    // It may have been started by another Outpost: not known is not ended.
    assert_eq!(outpost.get("/services/other/abc").await.body, json!({"status": null, "logs": []}));
    assert_eq!(outpost.get("/services/").await.body.as_array().unwrap().len(), 1);
    let start = outpost.post("/services", &body("new", "abc", NO_HUB)).await;
    assert_eq!(start.status, 419);
    assert_eq!(
        start.body["args"],
        json!(["Outpost's database does not answer just now. Please try again in a minute."])
    );
    assert!(!start.body.to_string().contains("127.0.0.1"), "{}", start.body);

    cable.mend();
    eventually("it is ready again", || async { (ready(&outpost).await.0 == 200).then_some(()) }).await;
    assert_eq!(outpost.post("/services", &body("new", "abc", NO_HUB)).await.status, 200);
    assert_eq!(outpost.delete("/services/lab/abc").await.status, 200);
    assert_eq!(outpost.get("/services/other/abc").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_stop_outlive_a_database_that_goes_in_their_middle() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let cable = Cable::to(&db).await;
    let dir = tempfile::tempdir().unwrap();
    let outpost =
        TestOutpost::start_in(dir.path(), &cable.url, "[spawners.local]\ntype = 'memory'\nstart_delay = '500ms'").await;
    assert_eq!(outpost.post_async(&body("lab", "abc", NO_HUB)).await.status, 202);
    cable.cut();
    // Joined in memory: it runs, whether or not that could be written down.
    let joined = outpost.view_entry("lab", "abc").started().await.unwrap();
    assert_eq!(&*joined, "127.0.0.1:8888");
    cable.mend();
    eventually("the row says that it runs", || async {
        let servers = outpost.outpost.store.servers().await.ok()?;
        (servers[0].phase.as_str() == "running").then_some(())
    })
    .await;

    cable.cut();
    let stop = outpost.request(reqwest::Method::DELETE, "/services/lab/abc").header("execution-type", "async");
    assert_eq!(outpost.send(stop).await.status, 202);
    let spawner = outpost.outpost.spawners.get("local").unwrap();
    eventually("the server is gone without the database", || async {
        spawner.list().await.unwrap().is_empty().then_some(())
    })
    .await;
    cable.mend();
    eventually("its row is gone too", || async {
        outpost.outpost.store.servers().await.ok()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(outpost.get("/services/lab/abc").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outpost_that_starts_without_its_database_waits_for_it() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let cable = Cable::to(&db).await;
    let dir = tempfile::tempdir().unwrap();
    let before = TestOutpost::start_in(dir.path(), &cable.url, "").await;
    assert_eq!(before.post("/services", &body("lab", "abc", NO_HUB)).await.status, 200);
    before.stop().await;
    cable.cut();
    let outpost = TestOutpost::start_in(dir.path(), &cable.url, "").await;
    assert_eq!(outpost.get("/ping").await.status, 200);
    assert_eq!(ready(&outpost).await.0, 503);
    assert_eq!(outpost.get("/services/lab/abc").await.body, json!({"status": null, "logs": []}));
    assert_eq!(outpost.get("/services/").await.status, 419);
    assert_eq!(outpost.post("/services", &body("new", "abc", NO_HUB)).await.status, 419);
    cable.mend();
    eventually("it is ready", || async { (ready(&outpost).await.0 == 200).then_some(()) }).await;
    // The in-memory server did not survive, and that is known now.
    assert_eq!(outpost.get("/services/lab/abc").await.status, 200);
    assert_eq!(outpost.delete("/services/lab/abc").await.status, 200);
}
