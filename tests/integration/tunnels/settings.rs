//! Which hubs are asked, and how.

use std::collections::BTreeMap;
use std::time::Duration;

use outpost::config::Secret;
use outpost::hub::{Recreate, Settings};
use outpost::model::AuthorizedKey;
use outpost::store::Source;
use reqwest::StatusCode;
use serde_json::Value;

use super::{TUNNEL, asked, site, states, until};
use crate::support::{Behaviour, FakeHub, Kind, TestOutpost, eventually};

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt";

/// Long enough for a question that must not come.
async fn nothing_comes() {
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// It would take the question for a broken tunnel, and stop the server.
#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_does_not_tunnel_is_not_asked() {
    let (none, off) = (FakeHub::start().await, FakeHub::start().await);
    let Some((db, toml)) = site(Kind::Sqlite, &[(&none, 3), (&off, 3)]).await else { return };
    let toml = toml.replacen("setup_tunnel = true\n", "", 1);
    let toml = toml.replace("setup_tunnel = true\n", "setup_tunnel = true\nssh_recreate_at_start = false\n");
    let outpost = TestOutpost::start_with(db, &toml).await;
    nothing_comes().await;
    assert!(none.calls("/").is_empty() && off.calls("/").is_empty());
    for hub in ["hub1", "hub2"] {
        assert_eq!(states(&outpost, hub).await, [(String::new(), 3)].into());
    }

    // A hub with an SSH key here does.
    let store = &outpost.outpost.store;
    store.add_ssh_key("hub1", Source::Cli, &AuthorizedKey::parse(KEY).unwrap()).await.unwrap();
    outpost.outpost.ssh_keys.update(store.ssh_keys().await.unwrap());
    outpost.outpost.tunnels.due();
    until(&outpost, "hub1", &[("made", 3)]).await;
    assert!(off.calls("/").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expression_chooses_servers() {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 10)]).await else { return };
    let chosen = "ssh_recreate_at_start = \"'even' in server.groups && server.name != 's4' && hub == 'hub1'\"";
    let outpost = TestOutpost::start_with(db, &toml.replace("setup_tunnel = true", chosen)).await;
    until(&outpost, "hub1", &[("", 6), ("made", 4)]).await;
    assert_eq!(asked(&hub), ["s0", "s2", "s6", "s8"]);
}

/// One that fails asks for nothing: the question can stop a server.
#[tokio::test(flavor = "multi_thread")]
async fn an_expression_that_fails_asks_for_nothing() {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 2)]).await else { return };
    let fails = "ssh_recreate_at_start = \"server.name == 's0' || server.no\"";
    let outpost = TestOutpost::start_with(db, &toml.replace("setup_tunnel = true", fails)).await;
    until(&outpost, "hub1", &[("", 1), ("made", 1)]).await;
    assert_eq!(asked(&hub), ["s0"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_urls_below_the_hubs_api_are_called() {
    let (hub, elsewhere) = (FakeHub::start().await, FakeHub::start().await);
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 2)]).await else { return };
    let store = db.open(&[crate::support::database::KEY], outpost::clock::Clock::System);
    crate::support::running_servers(&store, "hub2", &elsewhere.api(), 2).await;
    store.close().await;
    let toml = format!("{toml}[hubs.hub2]\nsetup_tunnel = true\napi_url = '{}'\n", hub.api());
    let outpost = TestOutpost::start_with(db, &toml).await;
    until(&outpost, "hub1", &[("made", 2)]).await;
    until(&outpost, "hub2", &[("", 2)]).await;
    assert!(elsewhere.calls("/").is_empty());
    assert_eq!(hub.calls("/").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_whose_api_is_not_known_is_not_asked() {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 2)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml.replace("api_url", "#")).await;
    nothing_comes().await;
    assert!(hub.calls("/").is_empty());
    assert_eq!(states(&outpost, "hub1").await, [(String::new(), 2)].into());
}

/// What `api_url` and settings say is asked with, and `all` is how the hub is asked once for all.
fn once_for_all(toml: &str, token: &std::path::Path) -> String {
    std::fs::write(token, "s3cret-service\n").unwrap();
    let keys = format!(
        "ssh_recreate = 'hub'\nssh_recreate_system = 'my site/1'\nssh_recreate_token = {{ file = '{}' }}",
        token.display()
    );
    toml.replace("setup_tunnel = true", &keys)
}

const ALL: &str = "/hub/api/recreateforward/";

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_can_be_asked_once_for_all() {
    let (hub, dir) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    hub.behave(Behaviour::Answer(503));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 20)]).await else { return };
    let outpost = TestOutpost::start_with(db, &once_for_all(&toml, &dir.path().join("token"))).await;
    hub.wait_for_calls(ALL, 2).await;
    assert_eq!(states(&outpost, "hub1").await, [("due".to_owned(), 20)].into());
    hub.behave(Behaviour::Answer(202));
    until(&outpost, "hub1", &[("made", 20)]).await;
    let calls = hub.calls("/");
    let call = calls.last().unwrap();
    assert_eq!(
        (call.path.as_str(), call.token.as_str()),
        ("/hub/api/recreateforward/my%20site%2F1", "token s3cret-service")
    );
    assert_eq!(call.body, Value::Null);
    assert!(hub.calls(TUNNEL).is_empty() && hub.most_at_once() == 1);
    nothing_comes().await;
    assert_eq!(hub.calls("/").len(), calls.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_that_refuses_to_be_asked_for_all_is_left_in_peace() {
    let (hub, dir) = (FakeHub::start().await, tempfile::tempdir().unwrap());
    hub.behave(Behaviour::Answer(StatusCode::FORBIDDEN.as_u16()));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&hub, 3)]).await else { return };
    let outpost = TestOutpost::start_with(db, &once_for_all(&toml, &dir.path().join("token"))).await;
    until(&outpost, "hub1", &[("refused 403", 3)]).await;
    nothing_comes().await;
    assert_eq!(hub.calls("/").len(), 1);
}

/// As a reload does it.
#[tokio::test(flavor = "multi_thread")]
async fn changed_settings_count_for_what_is_still_due() {
    let (one, two, dir) = (FakeHub::start().await, FakeHub::start().await, tempfile::tempdir().unwrap());
    one.behave(Behaviour::Answer(503));
    two.behave(Behaviour::Answer(503));
    let Some((db, toml)) = site(Kind::Sqlite, &[(&one, 4), (&two, 4)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    one.wait_for_calls(TUNNEL, 2).await;
    two.wait_for_calls(TUNNEL, 2).await;
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret-service").unwrap();
    let mut hubs: BTreeMap<String, Settings> = outpost.outpost.config.load().hubs.clone();
    hubs.get_mut("hub1").unwrap().ssh_recreate_at_start = Some(Recreate::Always(false));
    let second = hubs.get_mut("hub2").unwrap();
    second.ssh_recreate = outpost::hub::RecreateBy::Hub;
    second.ssh_recreate_system = Some("site".to_owned());
    second.ssh_recreate_token = Some(Secret::File(token));
    outpost.outpost.hubs.reconfigure(&hubs).unwrap();
    until(&outpost, "hub1", &[("", 4)]).await;
    two.wait_for_calls(ALL, 1).await;
    two.behave(Behaviour::Answer(204));
    until(&outpost, "hub2", &[("made", 4)]).await;
    let before = one.calls("/").len();
    eventually("the work ends", || async {
        outpost.outpost.store.hubs_with_due_tunnels().await.unwrap().is_empty().then_some(())
    })
    .await;
    nothing_comes().await;
    assert_eq!(one.calls("/").len(), before);
}
