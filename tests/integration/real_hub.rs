//! The main job with nothing fake: a real JupyterHub, the real OutpostSpawner, real Jupyter servers.

mod tunnels;

use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::real_hub::{RealHub, free_port, patiently};
use crate::support::{Kind, TestDb, TestOutpost};

/// An Outpost on a known port that starts jupyterhub-singleuser as local processes.
struct Site {
    dir: TempDir,
    db: TestDb,
    port: u16,
    toml: String,
}

impl Site {
    async fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            db: TestDb::new(Kind::Sqlite).await.unwrap(),
            port: free_port(),
            toml: String::new(),
        }
    }

    /// Flavors, in force from the next start on.
    fn with_flavors(&mut self, yaml: &str) {
        let file = self.dir.path().join("flavors.yaml");
        std::fs::write(&file, yaml).unwrap();
        self.toml = format!("[flavors]\nfile = '{}'\nwarn_before = '1s'\n{}", file.display(), self.toml);
    }

    fn of_hub(&mut self, hub: &RealHub) {
        let singleuser = hub.bin.join("jupyterhub-singleuser");
        self.toml = format!(
            "[hubs.hub1]\napi_url = '{}'\n[[overrides]]\nhubs = ['hub1']\nallow = 'all'\n[spawners.local]\ntype = 'process'\n\
             cmd = ['{}']\nargs = ['--allow-root', '--ServerApp.ip=127.0.0.1']\n",
            hub.api,
            singleuser.display()
        );
    }

    async fn start(&self) -> TestOutpost {
        let mut options = crate::support::server::options(self.dir.path(), &self.db.url, &self.toml);
        options.config.http.listen.set_port(self.port);
        TestOutpost::run(options).await
    }

    /// What the supervisors wrote about the servers that run.
    fn records(&self) -> Vec<Value> {
        let Ok(servers) = std::fs::read_dir(self.dir.path().join("servers")) else { return Vec::new() };
        servers
            .filter_map(|server| {
                serde_json::from_slice(&std::fs::read(server.ok()?.path().join("state.json")).ok()?).ok()
            })
            .collect()
    }
}

/// A test that fails leaves no servers.
impl Drop for Site {
    fn drop(&mut self) {
        for record in self.records() {
            let supervisor = record["supervisor"]["pid"].as_i64().and_then(|pid| i32::try_from(pid).ok());
            if let Some(pid) = supervisor.filter(|pid| *pid > 1) {
                let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
            }
        }
    }
}

fn environment_of(pid: i64) -> String {
    String::from_utf8_lossy(&std::fs::read(Path::new("/proc").join(pid.to_string()).join("environ")).unwrap())
        .replace('\0', "\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_hub_starts_polls_and_stops_real_servers() {
    let mut site = Site::new().await;
    let Some(hub) = RealHub::start(site.port, false).await else { return };
    site.of_hub(&hub);
    let outpost = site.start().await;
    for user in ["alice", "bob", "carol"] {
        hub.add_user(user).await;
    }

    // The default server, synchronously; its user sees what happens.
    hub.start_server("alice", "", &json!({})).await;
    let progress = hub.progress("alice", "").await;
    assert!(progress.contains("Server requested") && progress.contains("\"ready\": true"), "{progress}");
    assert!(hub.reachable("alice", "").await);

    // A named one, asynchronously, with an option of its own.
    let options = json!({"start_async": true, "stop_async": true, "misc": {"environment": {"CHOSEN": "by the hub"}}});
    hub.start_server("bob", "lab", &options).await;
    hub.wait_until_ready("bob", "lab").await;
    assert!(hub.reachable("bob", "lab").await);
    let chosen = site
        .records()
        .iter()
        .filter(|record| {
            environment_of(record["running"]["server"]["pid"].as_i64().or(record["server"]["pid"].as_i64()).unwrap())
                .contains("CHOSEN=by the hub")
        })
        .count();
    assert_eq!(chosen, 1);
    let listed = outpost.get("/services/").await.body;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    let bobs = listed.as_array().unwrap().iter().find(|server| server["name"] == "lab").unwrap();
    let path = format!("/services/lab/{}?collect_logs=true", bobs["start_id"].as_str().unwrap());
    let logs = outpost.get(&path).await.body["logs"].to_string();
    assert!(logs.contains("Jupyter Server"), "{logs}");

    // Outpost restarts; nobody notices, and what is stopped afterwards is stopped.
    outpost.stop().await;
    assert!(hub.reachable("alice", "").await && hub.reachable("bob", "lab").await);
    let outpost = site.start().await;
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert!(hub.reachable("alice", "").await && hub.reachable("bob", "lab").await, "{}", hub.log());
    hub.stop_server("bob", "lab").await;
    patiently("bob's process is gone", || async { (site.records().len() == 1).then_some(()) }).await;

    // A server that is killed from outside is noticed by the hub.
    let record = site.records().remove(0);
    let pid = record["running"]["server"]["pid"].as_i64().or(record["server"]["pid"].as_i64()).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    hub.wait_until_stopped("alice", "").await;
    patiently("nothing of it is left", || async { outpost.view_is_empty().then_some(()) }).await;

    // Refused, and failing: the person at the browser reads why.
    hub.start_server("carol", "refused", &json!({"misc": {"mem_limit": {"no": "number"}}})).await;
    let refused = hub.progress("carol", "refused").await;
    assert!(refused.contains("mem_limit"), "{refused}");
    hub.wait_until_stopped("carol", "refused").await;
    for (name, start_async) in [("sync", false), ("async", true)] {
        let options = json!({"start_async": start_async, "misc": {"cmd": ["/nowhere/jupyter"]}});
        hub.start_server("carol", name, &options).await;
        let progress = hub.progress("carol", name).await;
        assert!(progress.contains("is not installed on this machine"), "{name}: {progress}");
        hub.wait_until_stopped("carol", name).await;
    }
    // One that dies before it ever listens fails the spawn at once, with its last lines.
    let script = "echo the disk is full; sleep 2; exit 3";
    let options = json!({"start_async": true, "misc": {"cmd": ["sh", "-c", script]}});
    hub.start_server("carol", "dies", &options).await;
    let progress = hub.progress("carol", "dies").await;
    assert!(progress.contains("the disk is full") && progress.contains("exit code 3"), "{progress}");
    hub.wait_until_stopped("carol", "dies").await;
    patiently("nothing of it is left", || async { outpost.view_is_empty().then_some(()) }).await;
    let ended = outpost.outpost.store.history(1).await.unwrap().remove(0);
    assert_eq!((ended.name.as_str(), ended.exit_code), ("dies", Some(3)));

    // 20 users at once.
    let users: Vec<String> = (0..20).map(|at| format!("user{at}")).collect();
    for user in &users {
        hub.add_user(user).await;
        hub.start_server(user, "", &json!({"start_async": true})).await;
    }
    for user in &users {
        hub.wait_until_ready(user, "").await;
    }
    for user in &users {
        patiently(&format!("{user} is reachable"), || async { hub.reachable(user, "").await.then_some(()) }).await;
    }
    for user in &users {
        hub.stop_server(user, "").await;
    }
    patiently("all are gone", || async { (outpost.view_is_empty() && site.records().is_empty()).then_some(()) }).await;
    let metrics = outpost.outpost.metrics.encode();
    assert!(metrics.contains("hub=\"hub1\",call=\"flavors\",outcome=\"ok\""), "{metrics}");
    assert!(metrics.contains("hub=\"hub1\",call=\"event\",outcome=\"ok\""), "{metrics}");
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_hub_with_internal_ssl_reaches_its_servers() {
    let mut site = Site::new().await;
    let Some(hub) = RealHub::start(site.port, true).await else { return };
    site.of_hub(&hub);
    let outpost = site.start().await;
    hub.add_user("alice").await;
    hub.start_server("alice", "", &json!({})).await;
    hub.wait_until_ready("alice", "").await;
    assert!(hub.reachable("alice", "").await, "{}", hub.log());
    let metrics = outpost.outpost.metrics.encode();
    assert!(metrics.contains("hub=\"hub1\",call=\"event\",outcome=\"ok\""), "{metrics}");
    hub.stop_server("alice", "").await;
    assert!(site.records().is_empty());
    assert_eq!(std::fs::read_dir(site.dir.path().join("certs")).map_or(0, Iterator::count), 0);
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_hub_shows_flavors_limits_and_the_queue() {
    let mut site = Site::new().await;
    let Some(hub) = RealHub::start(site.port, false).await else { return };
    site.of_hub(&hub);
    site.with_flavors(
        "flavors:\n  gpu: {max: 1, display_name: One GPU}\n  turn: {max: 1, queue: true}\n  short: {runtime: {minutes: 30}}\n",
    );
    site.toml = site.toml.replace("allow = 'all'", "allow = { default_url = ['/lab', '/tree*'] }");
    let outpost = site.start().await;
    for user in ["alice", "bob"] {
        hub.add_user(user).await;
    }
    let token = hub.token_of("alice").await;
    let use_of = async |flavor: &str| hub.flavors(&token).await["outpost"][flavor]["current"].clone();

    // Flavors are pushed, with their use.
    hub.start_server("alice", "gpu", &json!({"flavor": "gpu"})).await;
    hub.wait_until_ready("alice", "gpu").await;
    patiently("the hub knows what is used", || async { (use_of("gpu").await == json!(1)).then_some(()) }).await;
    assert_eq!(hub.flavors(&token).await["outpost"]["turn"], json!({"max": 1, "queue": true, "current": 0}));

    // A full flavor, and an option that is not allowed: the spawn page says so, however the start was asked for.
    for start_async in [false, true] {
        let name = format!("full{start_async}");
        hub.start_server("bob", &name, &json!({"flavor": "gpu", "start_async": start_async})).await;
        let page = hub.progress("bob", &name).await;
        assert!(page.contains("One GPU") && page.contains("at most 1 server"), "{page}");
        hub.wait_until_stopped("bob", &name).await;
    }
    let misc = json!({"default_url": "/terminals"});
    hub.start_server("bob", "refused", &json!({"flavor": "short", "misc": misc})).await;
    let page = hub.progress("bob", "refused").await;
    assert!(page.contains("default_url") && page.contains("/terminals") && page.contains("/lab"), "{page}");
    hub.wait_until_stopped("bob", "refused").await;

    // A start that waits begins when a place becomes free; its user sees the queue meanwhile.
    hub.start_server("alice", "turn", &json!({"flavor": "turn"})).await;
    hub.wait_until_ready("alice", "turn").await;
    hub.start_server("bob", "turn", &json!({"flavor": "turn", "start_async": true})).await;
    let (page, ()) = tokio::join!(hub.progress("bob", "turn"), async {
        patiently("it waits", || async {
            (outpost.outpost.view.in_phase(outpost::model::Phase::Queued).len() == 1).then_some(())
        })
        .await;
        tokio::time::sleep(std::time::Duration::from_secs(3)).await;
        hub.stop_server("alice", "turn").await;
    });
    assert!(page.contains("the next to start") && page.contains("A place is free"), "{page}");
    hub.wait_until_ready("bob", "turn").await;
    patiently("it is reachable", || async { hub.reachable("bob", "turn").await.then_some(()) }).await;

    // A run time ends (sooner than it was to, since nobody knows how long a start takes): the hub notices.
    hub.start_server("bob", "short", &json!({"flavor": "short"})).await;
    hub.wait_until_ready("bob", "short").await;
    let short = outpost.outpost.view.all().into_iter().find(|entry| &*entry.id.name == "short").unwrap();
    let end = short.server().end_date.unwrap();
    assert!(end - outpost.outpost.clock.now() > chrono::TimeDelta::minutes(25), "{end}");
    let soon = outpost.outpost.clock.now() + chrono::TimeDelta::seconds(3);
    assert!(outpost.outpost.store.extend_server(&short.uid, Some(end), Some(soon)).await.unwrap());
    outpost.outpost.take_up().await;
    hub.wait_until_stopped("bob", "short").await;
    let ended = outpost.outpost.store.history(20).await.unwrap();
    assert!(ended.iter().any(|ended| ended.name == "short" && ended.outcome == "expired"), "{ended:?}");
    patiently("the hub knows that all is free", || async { (use_of("short").await == json!(0)).then_some(()) }).await;

    hub.stop_server("bob", "turn").await;
    hub.stop_server("alice", "gpu").await;
    patiently("nothing is left", || async { outpost.view_is_empty().then_some(()) }).await;
    hub.stop().await;
}
