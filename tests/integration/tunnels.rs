//! Tunnels after a restart: which hub is asked for which server, how often, and what is known about it.

mod replicas;
mod settings;

use std::collections::BTreeMap;
use std::time::Duration;

use outpost::admin::Admin;
use outpost::auth::TokenScope;
use outpost::clock::Clock;
use outpost::model::{Actor, ServerId};
use rstest::rstest;
use secrecy::ExposeSecret as _;
use serde_json::json;
use sqlx::{Connection as _, SqliteConnection};

use crate::support::fake_hub::Call;
use crate::support::server::{body, client};
use crate::support::ssh::{SshClient, admit};
use crate::support::{Behaviour, FakeHub, Kind, TestDb, TestOutpost, eventually, running_servers};

const TUNNEL: &str = "/hub/api/users/setuptunnel/ada/";

/// A database with running servers of the fake hubs `hub1`, `hub2` and so on, and settings by which they are asked.
async fn site(kind: Kind, hubs: &[(&FakeHub, usize)]) -> Option<(TestDb, String)> {
    let db = TestDb::new(kind).await?;
    let store = db.store(Clock::System).await;
    let mut toml = String::new();
    for (at, (hub, count)) in hubs.iter().enumerate() {
        let name = format!("hub{}", at + 1);
        running_servers(&store, &name, &hub.api(), *count).await;
        toml += &format!("[hubs.{name}]\napi_url = '{}'\nsetup_tunnel = true\n", hub.api());
    }
    store.close().await;
    Some((db, toml))
}

/// What the rows say about the tunnels of a hub, as often as they say it.
async fn states(outpost: &TestOutpost, hub: &str) -> BTreeMap<String, usize> {
    let mut states = BTreeMap::new();
    for server in outpost.outpost.store.servers().await.unwrap() {
        if *server.id.hub == *hub {
            *states.entry(server.tunnel.state.to_string()).or_default() += 1;
        }
    }
    states
}

async fn until(outpost: &TestOutpost, hub: &str, expected: &[(&str, usize)]) {
    let expected = expected.iter().map(|(state, count)| ((*state).to_owned(), *count)).collect();
    eventually(&format!("{hub} has {expected:?}"), || async { (states(outpost, hub).await == expected).then_some(()) })
        .await;
}

/// The names of the servers that were asked for, in their order.
fn asked(hub: &FakeHub) -> Vec<String> {
    let mut names: Vec<String> = hub.calls(TUNNEL).iter().map(name).collect();
    names.sort();
    names
}

fn name(call: &Call) -> String {
    call.path.strip_prefix(TUNNEL).unwrap().to_owned()
}

fn names(count: usize) -> Vec<String> {
    let mut names: Vec<String> = (0..count).map(|at| format!("s{at}")).collect();
    names.sort();
    names
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn each_tunnel_is_asked_for_once_with_its_own_token(#[case] kind: Kind) {
    let (one, two) = (FakeHub::start().await, FakeHub::start().await);
    let Some((db, toml)) = site(kind, &[(&one, 30), (&two, 5)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    until(&outpost, "hub1", &[("made", 30)]).await;
    until(&outpost, "hub2", &[("made", 5)]).await;
    for (hub, of) in [(&one, "hub1"), (&two, "hub2")] {
        for call in hub.calls("/") {
            let name = name(&call);
            assert_eq!(call.token, format!("token token-of-{of}-{name}"));
            let port = 1000 + name[1..].parse::<usize>().unwrap();
            assert_eq!(call.body, json!({"service": format!("10.0.0.1:{port}")}));
        }
    }
    assert_eq!((asked(&one), asked(&two)), (names(30), names(5)));

    // What is listed comes from memory, and says the same.
    let config = outpost.outpost.config.load_full();
    let admin = Admin { store: &outpost.outpost.store, config: &config, actor: Actor::Cli("test".into()) };
    let (token, _) = admin.add_token("looker", TokenScope::Read, None).await.unwrap();
    let list = client().get(format!("{}/api/v1/services?hub=hub2", outpost.admin_url));
    let list = list.bearer_auth(token.expose_secret());
    let listed = outpost.send(list).await.body;
    let tunnels: Vec<_> = listed["services"].as_array().unwrap().iter().map(|server| &server["tunnel"]).collect();
    assert_eq!(tunnels, [&json!("made"); 5]);
    let metrics = outpost.outpost.metrics.encode();
    assert!(metrics.contains("outpost_hub_calls_total{hub=\"hub1\",call=\"tunnel\",outcome=\"ok\"} 30"), "{metrics}");
    eventually("the metrics say so", || async {
        let metrics = outpost.outpost.metrics.encode();
        metrics.contains("outpost_tunnels{hub=\"hub1\",state=\"made\"} 30").then_some(())
    })
    .await;

    // The SSH server had to be replaced: all are asked for again.
    outpost.outpost.tunnels.due();
    eventually("all are asked for again", || async { (asked(&one).len() == 60).then_some(()) }).await;
    until(&outpost, "hub1", &[("made", 30)]).await;
    assert_eq!(asked(&one).len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_so_many_are_asked_for_at_once() {
    let hub = FakeHub::start().await;
    hub.behave(Behaviour::Slow(Duration::from_millis(50)));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 60)]).await else { return };
    let outpost = TestOutpost::start_with(db, &format!("[tasks]\nconcurrent_tunnels = 4\n{toml}")).await;
    until(&outpost, "hub1", &[("made", 60)]).await;
    assert_eq!((hub.most_at_once(), asked(&hub)), (4, names(60)));
}

#[rstest]
#[case(401)]
#[case(403)]
#[case(404)]
#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_does_not_know_is_noted_and_asked_for_again_after_the_next_restart_only(#[case] status: u16) {
    let hub = FakeHub::start().await;
    hub.behave_at(&format!("{TUNNEL}s1"), Behaviour::Answer(status));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 3)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    let refused = format!("refused {status}");
    until(&outpost, "hub1", &[("made", 2), (&refused, 1)]).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(asked(&hub), names(3));
    let (db, _dir) = outpost.stop().await;
    let outpost = TestOutpost::start_with(db.unwrap(), &toml).await;
    eventually("all are asked for again", || async { (asked(&hub).len() == 6).then_some(()) }).await;
    until(&outpost, "hub1", &[("made", 2), (&refused, 1)]).await;
    let entry = outpost.outpost.view.get(&ServerId::new("hub1", "s1", "0")).unwrap();
    assert_eq!(entry.server().tunnel.state.to_string(), refused);
}

#[rstest]
#[case::not_now(Behaviour::Answer(400))]
#[case::broken(Behaviour::Answer(500))]
#[case::behind_a_proxy(Behaviour::Answer(503))]
#[case::not_of_the_hub(Behaviour::Proxy(403))]
#[case::elsewhere(Behaviour::Redirect)]
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_in_trouble_is_asked_again(#[case] behaviour: Behaviour) {
    let hub = FakeHub::start().await;
    hub.behave(behaviour);
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 2)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    hub.wait_for_calls(TUNNEL, 2).await;
    assert_eq!(states(&outpost, "hub1").await, [("due".to_owned(), 2)].into());
    let metrics = outpost.outpost.metrics.encode();
    assert!(metrics.contains("outpost_tunnel_failures_total{hub=\"hub1\"}"), "{metrics}");
    hub.behave(Behaviour::Answer(204));
    until(&outpost, "hub1", &[("made", 2)]).await;
    assert!(hub.calls("/elsewhere").is_empty(), "redirects are not followed");
}

/// Nor the start of the API: it answers before any hub does.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_hangs_holds_up_nobody() {
    let (bad, good) = (FakeHub::start().await, FakeHub::start().await);
    bad.behave(Behaviour::Hang);
    let Some((db, toml)) = site(Kind::Sqlite, &[(&bad, 200), (&good, 200)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    let ready = client().get(format!("{}/readyz", outpost.admin_url));
    assert_eq!(outpost.send(ready).await.status, 200);
    until(&outpost, "hub2", &[("made", 200)]).await;
    assert_eq!(outpost.get("/services/s0/0").await.body, json!({"status": null, "logs": []}));
    assert_eq!(states(&outpost, "hub1").await, [("due".to_owned(), 200)].into());
    assert_eq!(bad.most_at_once(), 1, "one that does not answer is not asked more");
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_has_ended_is_not_asked_for() {
    let hub = FakeHub::start().await;
    hub.behave(Behaviour::Answer(503));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 2)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    hub.wait_for_calls(TUNNEL, 2).await;
    let entry = outpost.outpost.view.get(&ServerId::new("hub1", "s1", "0")).unwrap();
    let exit = outpost::model::Exit { code: Some(1), early: false, reason: "It ended.".to_owned() };
    let ended = outpost::store::Advance::Ended(&exit);
    outpost.outpost.store.advance(&entry.uid, entry.server().generation, &ended).await.unwrap().unwrap();
    entry.move_to(outpost::model::Phase::Ended, |server| server.exit = Some(exit.clone()));
    let before = asked(&hub).iter().filter(|name| **name == "s1").count();
    hub.wait_for_calls(TUNNEL, asked(&hub).len() + 2).await;
    hub.behave(Behaviour::Answer(204));
    eventually("the other is made", || async { states(&outpost, "hub1").await.get("made").copied() }).await;
    assert_eq!(asked(&hub).iter().filter(|name| **name == "s1").count(), before);
}

/// A hub would not get through, and stop the servers.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_asked_before_the_ssh_server_accepts() {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 3)]).await else { return };
    db.store(Clock::System).await.close().await;
    let url = db.url.clone();
    let mut connection = SqliteConnection::connect(&url).await.unwrap();
    let unreadable = "INSERT INTO ssh_host_keys VALUES ('current', 'SHA256:none', 'no token', CURRENT_TIMESTAMP)";
    sqlx::query(unreadable).execute(&mut connection).await.unwrap();
    let outpost = TestOutpost::start_with(db, &format!("[ssh]\nlisten = '127.0.0.1:0'\n{toml}")).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(hub.calls("/").is_empty());
    sqlx::query("DELETE FROM ssh_host_keys").execute(&mut connection).await.unwrap();
    until(&outpost, "hub1", &[("made", 3)]).await;
}

/// Each question may have cost a user's server.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_cannot_make_tunnels_is_not_asked_for_all() {
    let hub = FakeHub::start().await;
    hub.behave(Behaviour::Answer(400));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 100)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    hub.wait_for_calls(TUNNEL, 3).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((asked(&hub).len(), hub.most_at_once()), (3, 1));
    outpost.stop().await;
}

/// What a hub says to have made in a connection that it does not know to be lost is made again in the next one.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_connects_is_asked_for_what_was_made_before() {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 3)]).await else { return };
    let outpost = TestOutpost::start_with(db, &format!("[ssh]\nlisten = '127.0.0.1:0'\n{toml}")).await;
    let client = SshClient::new(outpost.ssh.unwrap());
    admit(&outpost.outpost, "hub1", &client).await;
    until(&outpost, "hub1", &[("made", 3)]).await;
    assert_eq!(asked(&hub), names(3));
    let fresh = outpost.post("/services", &body("fresh", "0", &hub.api())).await;
    assert_eq!(fresh.status, 200, "{fresh:?}");
    client.connect().await;
    eventually("they are asked for again", || async { (asked(&hub).len() >= 6).then_some(()) }).await;
    until(&outpost, "hub1", &[("", 1), ("made", 3)]).await;
    assert_eq!(asked(&hub).len(), 6, "the hub makes the tunnel to a server that it starts by itself");
    outpost.stop().await;
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn what_no_hub_is_to_be_asked_for_is_left_alone(#[case] kind: Kind) {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(kind, &[(&hub, 4)]).await else { return };
    let store = db.store(Clock::System).await;
    for (name, change) in [
        ("s0", "target = '127.0.0.1:8888'"),
        ("s1", "target = '127.0.0.1:8888', tunnel = 'due', tunnel_at = start_date"),
        ("s2", "tunnel = 'of another version', tunnel_at = '2999-01-01T00:00:00+00:00'"),
        ("s3", "tunnel = 'due', tunnel_at = NULL, running_at = '2999-01-01T00:00:00+00:00'"),
    ] {
        db.execute(&format!("UPDATE servers SET {change} WHERE name = '{name}'")).await;
    }
    assert_eq!(store.hubs_with_due_tunnels().await.unwrap(), ["hub1"], "for s1, not for s3");
    store.close().await;
    let outpost = TestOutpost::start_with(db, &toml).await;
    until(&outpost, "hub1", &[("", 3), ("due", 1)]).await;
    assert!(outpost.outpost.store.hubs_with_due_tunnels().await.unwrap().is_empty());
    assert_eq!(outpost.get("/services/s2/0").await.body["status"], serde_json::Value::Null);
    assert!(hub.calls("/").is_empty());
}
