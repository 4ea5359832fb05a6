//! Flavors from a file to the wire: what hubs see, what users read, the queue, run-time ends.

use std::path::PathBuf;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tempfile::TempDir;

use crate::support::daemon::as_hub;
use crate::support::server::{Reply, body};
use crate::support::{FakeHub, Kind, TestDb, TestOutpost, eventually, within};

const NO_HUB: &str = "http://127.0.0.1:9/hub/api";

/// An Outpost with a file of flavors.
struct Site {
    outpost: TestOutpost,
    file: PathBuf,
    _dir: TempDir,
}

impl Site {
    async fn new(yaml: &str, toml: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("flavors.yaml");
        std::fs::write(&file, yaml).unwrap();
        let toml = format!("{toml}\n[flavors]\nfile = '{}'\n", file.display());
        Self { outpost: TestOutpost::start(&toml).await, file, _dir: dir }
    }

    /// Starts a server with a flavor.
    async fn start(&self, hub: &str, name: &str, user: i64, flavor: Option<&str>) -> Reply {
        self.outpost.post("/services", &request(hub, name, user, flavor)).await
    }

    async fn queue(&self, hub: &str, name: &str, user: i64, flavor: &str) -> Reply {
        self.outpost.post_async(&request(hub, name, user, Some(flavor))).await
    }

    async fn stop(&self, name: &str) {
        let reply = self.outpost.delete(&format!("/services/{name}/abc")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    }

    async fn phase(&self, name: &str) -> Value {
        let list = self.outpost.get("/services/").await.body;
        list.as_array().unwrap().iter().find(|server| server["name"] == name).cloned().unwrap_or_default()
    }
}

fn request(hub: &str, name: &str, user: i64, flavor: Option<&str>) -> Value {
    let mut body = body(name, "abc", hub);
    body["env"]["JUPYTERHUB_USER_ID"] = user.to_string().into();
    body["user_options"]["flavor"] = flavor.into();
    body
}

fn sentence(reply: &Reply) -> String {
    assert_eq!(reply.status.as_u16(), 419, "{reply:?}");
    reply.body["args"][0].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn hubs_see_their_flavors_with_their_use() {
    let yaml = "
flavors:
  zebra: {max: 5, display_name: Zebra, description: 'striped', weight: 9, own_key: [1, 2]}
  ant: {max: 5, maxPerUser: 1}
  bear: {}
hubs:
  ours: {jupyterhub_name: [hub1], flavors: [zebra, ant]}
users:
  staff: {authentication: {groups: [staff]}, flavors: [bear]}
  banned: {authentication: {name: 'x-.*'}, weight: 5, forbidden: true}
";
    let site = Site::new(yaml, "").await;
    let flavors = site.outpost.get("/flavors/").await.body;
    let expected = json!({
        "zebra": {"max": 5, "display_name": "Zebra", "description": "striped", "weight": 9, "own_key": [1, 2], "current": 0},
        "ant": {"max": 5, "maxPerUser": 1, "current": 0},
    });
    assert_eq!(flavors.to_string(), expected.to_string(), "in the order of the file");
    site.start(NO_HUB, "one", 1, Some("ant")).await;
    let flavors = site.outpost.get("/flavors/").await.body;
    let names: Vec<&str> = flavors.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!((names, &flavors["ant"]["current"]), (vec!["ant", "zebra"], &json!(1)), "those in use first");
    let of = async |authentication: Value| site.outpost.post("/userflavors", &authentication).await.body;
    assert_eq!(of(json!({"name": "a", "groups": ["staff"]})).await, json!({"bear": {"current": 0}}));
    assert_eq!(of(json!({"name": "x-1", "groups": ["staff"]})).await, json!({}));
    assert_eq!(of(json!({"name": "other"})).await.as_object().unwrap().len(), 2);
    assert_eq!(of(json!({})).await.as_object().unwrap().len(), 2);
    let other = as_hub(site.outpost.request(Method::GET, "/flavors/"), "hub2", "two");
    let other = site.outpost.send(other).await.body;
    assert_eq!(other.as_object().unwrap().len(), 3, "no set fits: all of them, {other}");
    assert_eq!(other["ant"]["current"], 0, "each hub sees its own use");
}

#[tokio::test]
async fn a_refused_user_reads_what_is_used_and_by_what() {
    let yaml = "
flavors:
  gpu: {max: 3, maxPerUser: 2, display_name: One GPU}
  cpu: {}
max_per_user: 3
";
    let site = Site::new(yaml, "").await;
    for name in ["", "lab"] {
        assert_eq!(site.start(NO_HUB, name, 1, Some("gpu")).await.status, 200);
    }
    let own = sentence(&site.start(NO_HUB, "third", 1, Some("gpu")).await);
    assert!(own.contains("at most 2 servers") && own.contains("One GPU") && own.contains("lab"), "{own}");
    assert!(own.contains("default server"), "{own}");
    assert_eq!(site.start(NO_HUB, "small", 1, Some("cpu")).await.status, 200);
    let all = sentence(&site.start(NO_HUB, "fourth", 1, Some("cpu")).await);
    assert!(all.contains("at most 3 servers") && all.contains("small"), "{all}");
    assert_eq!(site.start(NO_HUB, "theirs", 2, Some("gpu")).await.status, 200);
    let full = sentence(&site.start(NO_HUB, "late", 3, Some("gpu")).await);
    assert!(full.contains("at most 3 servers") && !full.contains("theirs") && !full.contains("lab"), "{full}");
    let unknown = sentence(&site.start(NO_HUB, "odd", 3, Some("<b>")).await);
    assert!(unknown.contains("<b>") && unknown.contains("One GPU"), "{unknown}");
    sentence(&site.start(NO_HUB, "none", 3, None).await);
    // Refused asynchronously as well, and nothing is left of any of them.
    sentence(&site.queue(NO_HUB, "late", 3, "gpu").await);
    assert_eq!(site.outpost.get("/services/").await.body.as_array().unwrap().len(), 4);
}

#[tokio::test]
async fn a_refusal_is_shown_on_the_hubs_page() {
    let hub = FakeHub::start().await;
    let site = Site::new("flavors: {gpu: {max: 0}}", "").await;
    let refused = sentence(&site.start(&hub.api(), "lab", 1, Some("gpu")).await);
    let events = hub.wait_for_calls("/hub/api/users/progress", 1).await;
    assert_eq!(events[0].body["message"], refused);
    // A rule that refuses is shown as well.
    let mut body = request(&hub.api(), "lab", 1, Some("gpu"));
    body["misc"]["cmd"] = json!(["sh"]);
    let refused = sentence(&site.outpost.post("/services", &body).await);
    let events = hub.wait_for_calls("/hub/api/users/progress", 2).await;
    assert_eq!(events[1].body["message"], refused);
    assert!(refused.contains("cmd"), "{refused}");
}

#[tokio::test]
async fn starts_wait_their_turn() {
    let hub = FakeHub::start().await;
    let site = Site::new("flavors: {gpu: {max: 1, queue: true, display_name: One GPU}}", "").await;
    let first = site.start(&hub.api(), "first", 1, Some("gpu")).await;
    assert_eq!(first.status, 200, "{first:?}");
    for (name, user) in [("second", 2), ("third", 3), ("fourth", 4)] {
        let reply = site.queue(&hub.api(), name, user, "gpu").await;
        assert_eq!((reply.status.as_u16(), &reply.body), (202, &json!({"service": ""})));
        assert_eq!(site.phase(name).await["start_pending"], true);
        assert_eq!(site.outpost.get(&format!("/services/{name}/abc")).await.body["status"], Value::Null);
    }
    assert_eq!(site.outpost.get("/flavors/").await.body["gpu"]["current"], 1, "who waits does not count");
    let told = async |name: &str, text: &str| {
        let path = format!("/hub/api/users/progress/events/j%C3%BCrgen/{name}");
        eventually(&format!("{name} is told {text:?}"), || async {
            hub.calls(&path).iter().any(|call| call.body["message"].to_string().contains(text)).then_some(())
        })
        .await;
    };
    told("second", "the next to start").await;
    told("fourth", "number 3").await;
    // One that cannot wait does not pass those who do.
    let sync = site.start(&hub.api(), "sync", 5, Some("gpu")).await;
    sentence(&sync);
    // One that is stopped leaves the queue.
    site.stop("third").await;
    told("fourth", "number 2").await;
    site.stop("first").await;
    eventually("the second one runs", || async {
        (site.phase("second").await["start_pending"] == false).then_some(())
    })
    .await;
    told("second", "A place is free").await;
    assert_eq!(site.phase("fourth").await["start_pending"], true);

    // The queue survives a restart, and so does what is free in it.
    let toml = format!("[flavors]\nfile = '{}'\n", site.file.display());
    let (db, dir) = site.outpost.stop().await;
    let (db, dir) = (db.unwrap(), dir.unwrap());
    let outpost = TestOutpost::start_in(dir.path(), &db.url, &toml).await;
    eventually("the one that ran in memory is found to be gone, and the last one runs", || async {
        let list = outpost.get("/services/").await.body;
        let fourth = list.as_array().unwrap().iter().find(|server| server["name"] == "fourth").cloned().unwrap();
        (fourth["start_pending"] == false).then_some(())
    })
    .await;
    outpost.stop().await;
}

#[tokio::test]
async fn one_that_waits_is_told_when_its_flavor_is_taken_away() {
    let hub = FakeHub::start().await;
    let site = Site::new("flavors: {gpu: {max: 1, queue: true}, other: {}}", "").await;
    site.start(&hub.api(), "first", 1, Some("gpu")).await;
    site.queue(&hub.api(), "second", 2, "gpu").await;
    let path = "/hub/api/users/progress/events/j%C3%BCrgen/second";
    hub.wait_for_calls(path, 2).await;
    std::fs::write(&site.file, "flavors: {other: {}}").unwrap();
    site.outpost.outpost.apply_files(&site.outpost.outpost.config.load().flavors).await.unwrap();
    eventually("the start has failed", || async { site.phase("second").await.is_null().then_some(()) }).await;
    eventually("its user knows", || async {
        hub.calls(path).iter().any(|call| call.body["failed"] == true).then_some(())
    })
    .await;
    assert!(!site.phase("first").await.is_null(), "what runs goes on");
}

#[tokio::test]
async fn a_run_time_ends_after_a_warning() {
    let hub = FakeHub::start().await;
    let site = Site::new("flavors: {short: {runtime: {seconds: 4}}}", "").await;
    site.start(&hub.api(), "lab", 1, Some("short")).await;
    let server = site.phase("lab").await;
    assert!(server["end_date"].as_str().unwrap() < "9999", "{server}");
    let path = "/hub/api/users/progress/events/j%C3%BCrgen/lab";
    let warned = |hub: &FakeHub| {
        let calls = hub.calls(path);
        calls.into_iter().filter(|call| call.body["message"].to_string().contains("run time is over")).count()
    };
    eventually("the user is warned", || async { (warned(&hub) == 1).then_some(()) }).await;
    assert_eq!(site.outpost.get("/services/lab/abc").await.body["status"], Value::Null);
    eventually("it is gone", || async { site.phase("lab").await.is_null().then_some(()) }).await;
    assert_eq!(warned(&hub), 1, "once");
    let ended = site.outpost.outpost.store.history(1).await.unwrap().remove(0);
    assert_eq!((ended.outcome.as_str(), ended.reason.as_deref()), ("expired", Some("Its run time was over.")));
    assert_eq!(site.outpost.get("/services/lab/abc").await.status, 404);
    let updates = hub.calls("/hub/api/outpostflavors");
    assert_eq!(updates.last().unwrap().body["short"]["current"], 0);
}

#[tokio::test]
async fn more_time_is_more_time() {
    let site = Site::new("flavors: {short: {runtime: {seconds: 2}}}", "").await;
    site.start(NO_HUB, "lab", 1, Some("short")).await;
    let outpost = &site.outpost.outpost;
    let entry = site.outpost.view_entry("lab", "abc");
    // As the command line does it, without this process.
    assert!(outpost.store.extend_server(&entry.uid, entry.server().end_date, None).await.unwrap());
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let server = site.phase("lab").await;
    assert_eq!(server["stop_pending"], false, "{server}");
    let end = outpost.clock.now();
    assert!(outpost.store.extend_server(&entry.uid, None, Some(end)).await.unwrap());
    eventually("it is gone", || async { site.phase("lab").await.is_null().then_some(()) }).await;
}

#[tokio::test]
async fn a_file_is_applied_when_it_changes_and_only_then() {
    let site = Site::new("flavors: {a: {max: 1}}", "").await;
    let outpost = &site.outpost.outpost;
    let versions = || async {
        let versions = outpost.store.definition_versions("flavors").await.unwrap();
        versions.into_iter().map(|version| (version.version, version.author)).collect::<Vec<_>>()
    };
    let file = |version| (version, "file".to_owned());
    assert_eq!(versions().await, [file(1)]);
    // Somebody else changes it, and it is in force within a second or so.
    let new = outpost::store::NewVersion {
        kind: "flavors",
        replaces: 1,
        document: r#"{"flavors": {"a": {"max": 1}, "b": {}}}"#,
        author: "cli:root",
        summary: "b",
        digest: None,
    };
    assert!(outpost.store.add_definitions(&new).await.unwrap());
    eventually("it is in force", || async { site.outpost.get("/flavors/").await.body.get("b").map(|_| ()) }).await;
    // The file did not change: what was changed since stays.
    let settings = outpost.config.load().flavors.clone();
    outpost.apply_files(&settings).await.unwrap();
    assert_eq!(versions().await.len(), 2);
    // A mistake changes nothing, and names the file and the line.
    std::fs::write(&site.file, "flavors:\n  a: {max: many}\n").unwrap();
    let mistake = outpost.apply_files(&settings).await.unwrap_err().cause().unwrap().to_owned();
    assert!(mistake.contains("flavors.yaml") && mistake.contains("max") && mistake.contains("line 2"), "{mistake}");
    assert!(site.outpost.get("/flavors/").await.body.get("b").is_some());
    std::fs::write(&site.file, "flavors:\n  c: {}\n").unwrap();
    outpost.apply_files(&settings).await.unwrap();
    assert_eq!(versions().await[0], file(3));
    assert_eq!(site.outpost.get("/flavors/").await.body, json!({"c": {"current": 0}}));
}

#[tokio::test]
async fn other_flavors_are_pushed_to_the_hubs_that_want_to_know() {
    let hub = FakeHub::start().await;
    let site = Site::new("flavors: {a: {}}", "").await;
    site.start(&hub.api(), "lab", 1, Some("a")).await;
    eventually("the hub knows the use", || async {
        hub.calls("/hub/api/outpostflavors").last().filter(|call| call.body["a"]["current"] == 1).map(|_| ())
    })
    .await;
    std::fs::write(&site.file, "flavors: {a: {}, b: {}}").unwrap();
    let outpost = &site.outpost.outpost;
    outpost.apply_files(&outpost.config.load().flavors).await.unwrap();
    eventually("the hub knows the new one", || async {
        hub.calls("/hub/api/outpostflavors").last().filter(|call| call.body.get("b").is_some()).map(|_| ())
    })
    .await;
}

#[tokio::test]
async fn resources_of_a_flavor_reach_the_backend_and_bound_the_hub() {
    let yaml = "flavors: {small: {resources: {mem_limit: 2G, cpu_limit: 1.5}}}";
    let site = Site::new(yaml, "").await;
    let mut body = request(NO_HUB, "less", 1, Some("small"));
    body["misc"]["mem_limit"] = json!("1G");
    assert_eq!(site.outpost.post("/services", &body).await.status, 200);
    let entry = site.outpost.view_entry("less", "abc");
    let stored = site.outpost.outpost.store.stored_request(&entry.uid).await.unwrap().unwrap();
    assert_eq!((&stored.options["mem_limit"], &stored.options["cpu_limit"]), (&json!("1G"), &json!(1.5)));
    let need = entry.server().need;
    assert_eq!((need.cpu_millis, need.memory_bytes), (1500, 1 << 30));
    body["name"] = json!("more");
    body["misc"]["mem_limit"] = json!("3G");
    let refused = sentence(&site.outpost.post("/services", &body).await);
    assert!(refused.contains("mem_limit") && refused.contains("3G") && refused.contains("2 GiB"), "{refused}");
}

#[tokio::test]
async fn a_dropped_option_is_told() {
    let hub = FakeHub::start().await;
    let rules = "[[overrides]]\nhubs = ['*']\nallow = { image = 'any' }\non_refused = 'drop'\n";
    let site = Site::new("flavors: {a: {}}", rules).await;
    let mut body = request(&hub.api(), "lab", 1, Some("a"));
    body["misc"]["cmd"] = json!(["sh"]);
    assert_eq!(site.outpost.post("/services", &body).await.status, 200);
    eventually("the user is told", || async {
        let calls = hub.calls("/hub/api/users/progress");
        calls.iter().any(|call| call.body["message"].to_string().contains("cmd")).then_some(())
    })
    .await;
    let entry = site.outpost.view_entry("lab", "abc");
    let stored = site.outpost.outpost.store.stored_request(&entry.uid).await.unwrap().unwrap();
    assert!(!stored.options.contains_key("cmd"));
}

#[tokio::test]
async fn credits_have_the_same_matching() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("credits.yaml");
    let yaml = "
credits:
  base: {cap: 100, grant_value: 5, grant_interval: 600}
  more: {cap: 500, grant_value: 5, grant_interval: 600}
hubs:
  ours: {jupyterhub_name: hub1, credits: [base], creditsOverride: {base: {cap: 50}}}
users:
  banned: {authentication: {name: banned}, forbidden: true}
";
    std::fs::write(&file, yaml).unwrap();
    let outpost = TestOutpost::start(&format!("[flavors]\ncredits_file = '{}'\n", file.display())).await;
    let credits = outpost.get("/credits/").await.body;
    assert_eq!(credits, json!({"base": {"cap": 50, "grant_value": 5, "grant_interval": 600}}));
    let banned = outpost.post("/usercredits", &json!({"name": "banned"})).await.body;
    assert_eq!(banned, json!({"cap": 0, "grant_value": 0, "grant_interval": 86400}));
    assert_eq!(outpost.post("/usercredits", &json!({"name": "x"})).await.body, credits);
}

#[tokio::test]
async fn replicas_see_a_change_of_each_other() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let one = TestOutpost::start_in(one.path(), &db.url, "").await;
    let two = TestOutpost::start_in(two.path(), &db.url, "").await;
    let change = outpost::outpost::change(
        &one.outpost.store,
        outpost::admission::Kind::Flavors,
        "token:test",
        None,
        outpost::outpost::Expected::Whichever,
        |_| {
            outpost::admission::Document::from_value(
                outpost::admission::Kind::Flavors,
                json!({"flavors": {"a": {"max": 1}}}),
            )
        },
    );
    assert_eq!(change.await.unwrap().version, 1);
    for outpost in [&one, &two] {
        eventually("it is in force", || async {
            (outpost.get("/flavors/").await.body == json!({"a": {"max": 1, "current": 0}})).then_some(())
        })
        .await;
    }
    one.stop().await;
    two.stop().await;
}

/// Two that share a database and one place.
async fn two_with_a_queue(db: &TestDb) -> ([TestOutpost; 2], [TempDir; 2]) {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let file = dirs[0].path().join("flavors.yaml");
    std::fs::write(&file, "flavors: {gpu: {max: 1, queue: true}}").unwrap();
    let toml = format!("[flavors]\nfile = '{}'\n", file.display());
    let one = TestOutpost::start_in(dirs[0].path(), &db.url, &toml).await;
    let two = TestOutpost::start_in(dirs[1].path(), &db.url, &toml).await;
    ([one, two], dirs)
}

/// (It takes the time after which an Outpost counts as gone.)
#[tokio::test]
async fn those_who_wait_are_taken_over_when_their_outpost_is_gone() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let hub = FakeHub::start().await;
    let ([one, two], _dirs) = two_with_a_queue(&db).await;
    let start = async |outpost: &TestOutpost, name: &str, user| {
        let reply = outpost.post_async(&request(&hub.api(), name, user, Some("gpu"))).await;
        assert_eq!(reply.status.as_u16(), 202, "{reply:?}");
    };
    start(&two, "first", 1).await;
    start(&one, "second", 2).await;
    start(&one, "third", 3).await;
    one.stop().await;
    // One that waits at an Outpost that is gone can be stopped by any other.
    let pending = async |name: &str| {
        let list = two.get("/services/").await.body;
        let server = list.as_array().unwrap().iter().find(|server| server["name"] == name).cloned();
        server.map(|server| server["start_pending"] == true)
    };
    eventually("the other one knows them", || async { (pending("third").await == Some(true)).then_some(()) }).await;
    assert_eq!(two.delete("/services/first/abc").await.status, StatusCode::OK);
    let patience = std::time::Duration::from_secs(90);
    within(patience, "the second one runs at the other", || async {
        (pending("second").await == Some(false)).then_some(())
    })
    .await;
    assert_eq!(pending("third").await, Some(true), "still one at a time");
    assert_eq!(two.delete("/services/third/abc").await.status, StatusCode::OK);
    assert_eq!(pending("third").await, None);
    two.stop().await;
}

/// Two that both live: one of them was not seen for a while, and does not know that it lost what waited there.
#[tokio::test]
async fn a_start_that_was_taken_over_is_started_once() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let ([one, two], _dirs) = two_with_a_queue(&db).await;
    assert_eq!(two.post_async(&request(NO_HUB, "first", 1, Some("gpu"))).await.status.as_u16(), 202);
    assert_eq!(one.post_async(&request(NO_HUB, "second", 2, Some("gpu"))).await.status.as_u16(), 202);
    let second = one.view_entry("second", "abc").uid.clone();
    eventually("the other one knows it", || async { two.outpost.view.by_uid(&second).map(|_| ()) }).await;
    let mut connection = sqlx::PgConnection::connect(&db.url).await.unwrap();
    let unseen = "UPDATE instances SET seen_at = seen_at - INTERVAL '1 minute' WHERE id = $1";
    sqlx::query(unseen).bind(&*one.outpost.instance).execute(&mut connection).await.unwrap();
    two.outpost.take_over().await.unwrap();
    assert_eq!(two.delete("/services/first/abc").await.status, StatusCode::OK);
    for outpost in [&two, &one] {
        eventually("it runs", || async {
            let list = outpost.get("/services/").await.body;
            (list[0]["name"] == "second" && list[0]["start_pending"] == false).then_some(())
        })
        .await;
    }
    let servers = async |outpost: &TestOutpost| {
        outpost
            .outpost
            .spawners
            .get("local")
            .unwrap()
            .list()
            .await
            .unwrap()
            .into_iter()
            .map(|found| found.uid)
            .collect()
    };
    let (theirs, ours): (Vec<_>, Vec<_>) = (servers(&one).await, servers(&two).await);
    assert_eq!((theirs, ours), (vec![], vec![second]));
    one.stop().await;
    two.stop().await;
}
