//! Calls to the hub: in order, with the right token, and never in anybody's way.

use std::time::Duration;

use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::server::{body, client};
use crate::support::{Behaviour, FakeHub, TestOutpost};

const EVENTS: &str = "/hub/api/users/progress/events/";
const FLAVORS: &str = "/hub/api/outpostflavors/site";
const TUNNEL: &str = "/hub/api/users/setuptunnel/";

#[tokio::test]
async fn progress_comes_in_order_with_the_servers_token() {
    let (hub, outpost) = (FakeHub::start().await, TestOutpost::start("").await);
    outpost.post("/services", &body("grüße x", "abc", &hub.api())).await;
    let events = hub.wait_for_calls(EVENTS, 2).await;
    assert_eq!(events[0].body, json!({"progress": 0, "message": "Server requested"}));
    assert_eq!(events[1].body, json!({"progress": 50, "message": "Starting a server in memory."}));
    assert_eq!(events[0].path, "/hub/api/users/progress/events/j%C3%BCrgen/gr%C3%BC%C3%9Fe%20x");
    assert!(events.iter().all(|call| call.token == "token s3cret-token"));
    let flavors = hub.wait_for_calls(FLAVORS, 1).await;
    assert_eq!((flavors[0].token.as_str(), &flavors[0].body), ("token s3cret-flavors", &json!({})));
    let before = hub.calls(FLAVORS).len();
    outpost.delete("/services/gr%C3%BC%C3%9Fe%20x/abc").await;
    hub.wait_for_calls(FLAVORS, before + 1).await;
    assert!(hub.calls(TUNNEL).is_empty(), "a tunnel is asked for only where the hub's settings say so");
}

#[tokio::test]
async fn a_line_of_progress_is_text() {
    let settings = "[spawners.local]\ntype = 'memory'\n[[overrides]]\nallow = 'all'\nunknown = 'drop'";
    let (hub, outpost) = (FakeHub::start().await, TestOutpost::start(settings).await);
    let mut start = body("lab", "abc", &hub.api());
    start["misc"] = json!({ "<img src=x>": 1 });
    assert_eq!(outpost.post("/services", &start).await.status, 200);
    let events = hub.wait_for_calls(EVENTS, 3).await;
    let line =
        events.iter().map(|event| &event.body).find(|body| body["message"].as_str().unwrap().contains("<img src=x>"));
    let html = line.unwrap()["html_message"].as_str().unwrap();
    assert!(html.contains("&lt;img src=x&gt;"), "{html}");
    assert!(events.iter().any(|event| event.body.get("html_message").is_none()), "only where it differs");
}

#[tokio::test]
async fn a_failed_asynchronous_start_is_the_last_word_and_escaped() {
    let (hub, outpost) = (
        FakeHub::start().await,
        TestOutpost::start("[spawners.local]\ntype = 'memory'\nfail = '<b>no</b> & never'").await,
    );
    assert_eq!(outpost.post_async(&body("lab", "abc", &hub.api())).await.status, 202);
    let events = hub.wait_for_calls(EVENTS, 4).await;
    let ahead = &events[2].body;
    assert_eq!((&ahead["progress"], &ahead["message"]), (&json!(99), &json!("<b>no</b> & never")));
    assert!(
        ahead["html_message"]
            .as_str()
            .unwrap()
            .ends_with("&lt;b&gt;no&lt;/b&gt; &amp; never</summary>a log line</details>")
    );
    let last = &events[3].body;
    assert_eq!((&last["failed"], &last["progress"]), (&json!(true), &json!(100)));
    let html = last["html_message"].as_str().unwrap();
    assert!(html.starts_with("<details><summary>20"), "{html}");
    assert!(html.contains(": JupyterHub Outpost could not start service: &lt;b&gt;no&lt;/b&gt; &amp; never</summary>a log line</details>"), "{html}");
    // The row is gone before the hub is told, so that the hub's DELETE is answered at once.
    assert_eq!(outpost.delete("/services/lab/abc").await.status, 404);
    let synchronous = outpost.post("/services", &body("lab", "def", &hub.api())).await;
    assert_eq!(synchronous.status, 419);
    hub.wait_for_calls(EVENTS, 6).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(hub.calls(EVENTS).iter().filter(|call| call.body["failed"] == json!(true)).count(), 1);
}

#[tokio::test]
async fn a_tunnel_is_asked_for_after_an_asynchronous_start() {
    let (hub, outpost) = (FakeHub::start().await, TestOutpost::start("[hubs.hub1]\nsetup_tunnel = true").await);
    outpost.post("/services", &body("sync", "abc", &hub.api())).await;
    outpost.post_async(&body("lab", "abc", &hub.api())).await;
    let calls = hub.wait_for_calls(TUNNEL, 1).await;
    assert_eq!(calls[0].path, "/hub/api/users/setuptunnel/j%C3%BCrgen/lab");
    assert_eq!(
        (calls[0].token.as_str(), &calls[0].body),
        ("token s3cret-token", &json!({"service": "127.0.0.1:8888"}))
    );
    assert_eq!(hub.calls(TUNNEL).len(), 1);
}

#[rstest]
#[case::hanging(Behaviour::Hang)]
#[case::slow(Behaviour::Slow(Duration::from_secs(3)))]
#[case::forbidden(Behaviour::Answer(403))]
#[case::broken(Behaviour::Answer(500))]
#[case::elsewhere(Behaviour::Redirect)]
#[tokio::test]
async fn a_hub_in_trouble_delays_nothing_and_nobody(#[case] behaviour: Behaviour) {
    let (bad, good) = (FakeHub::start().await, FakeHub::start().await);
    let outpost = TestOutpost::start("").await;
    bad.behave(behaviour);
    for at in 0..30 {
        assert_eq!(outpost.post("/services", &body(&format!("s{at}"), "abc", &bad.api())).await.status, 200);
    }
    let other = client().post(format!("{}/services", outpost.url)).basic_auth("hub2", Some("two"));
    assert_eq!(outpost.send(other.json(&body("lab", "abc", &good.api()))).await.status, 200);
    good.wait_for_calls(EVENTS, 2).await;
    good.wait_for_calls(FLAVORS, 1).await;
    for at in 0..30 {
        assert_eq!(outpost.delete(&format!("/services/s{at}/abc")).await.status, 200);
    }
    assert!(bad.calls("/elsewhere").is_empty(), "redirects are not followed");
}

#[tokio::test]
async fn a_hub_that_is_down_does_not_fail_a_start() {
    let outpost = TestOutpost::start("").await;
    for api in
        ["http://127.0.0.1:1/hub/api", "no url at all", "", "http://169.254.169.254/hub/api", "file:///etc/passwd"]
    {
        let name = format!("n{}", api.len());
        assert_eq!(outpost.post("/services", &body(&name, "abc", api)).await.status, 200, "{api}");
    }
}

#[tokio::test]
async fn only_urls_below_the_hubs_api_are_called() {
    let (hub, elsewhere) = (FakeHub::start().await, FakeHub::start().await);
    let outpost = TestOutpost::start("").await;
    // The first start pins where the API is.
    outpost.post("/services", &body("first", "abc", &hub.api())).await;
    hub.wait_for_calls(EVENTS, 2).await;
    for (at, url) in [
        format!("{}/x", elsewhere.api()),
        format!("{}/hub/other", hub.url),
        format!("{}/../../admin", hub.api()),
        format!("{}@{}/x", hub.api(), elsewhere.url.trim_start_matches("http://")),
    ]
    .iter()
    .enumerate()
    {
        let mut request = body(&format!("s{at}"), "abc", &elsewhere.api());
        request["env"]["JUPYTERHUB_EVENTS_URL"] = json!(url);
        request["env"]["JUPYTERHUB_FLAVORS_UPDATE_URL"] = json!(url);
        assert_eq!(outpost.post("/services", &request).await.status, 200);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(elsewhere.calls("/").is_empty());
    assert!(hub.calls("/").iter().all(|call| call.path.starts_with("/hub/api/users/") || call.path == FLAVORS));
    assert_eq!(outpost.outpost.store.hubs().await.unwrap()[0].api_url.as_deref(), Some(hub.api().as_str()));
}

#[tokio::test]
async fn flavor_updates_of_many_starts_are_few() {
    let (hub, outpost) = (FakeHub::start().await, TestOutpost::start("").await);
    hub.behave(Behaviour::Slow(Duration::from_millis(300)));
    let starts: Vec<_> = (0..50)
        .map(|at| {
            let request = outpost.request(Method::POST, "/services").json(&body(&format!("s{at}"), "abc", &hub.api()));
            tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
        })
        .collect();
    for start in starts {
        assert_eq!(start.await.unwrap(), json!({"service": "127.0.0.1:8888"}));
    }
    hub.wait_for_calls(FLAVORS, 2).await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    let calls = hub.calls(FLAVORS).len();
    assert!((2..=20).contains(&calls), "{calls} calls for 50 starts");
}
