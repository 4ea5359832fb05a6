//! The contract with the hub, line by line.

use std::time::Duration;

use base64::Engine as _;
use insta::{assert_json_snapshot, assert_snapshot};
use outpost::model::ServerId;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::server::{body, client};
use crate::support::{Kind, TestDb, TestOutpost, eventually};

const NO_HUB: &str = "http://127.0.0.1:1/hub/api";

#[tokio::test]
async fn a_server_is_started_polled_listed_and_stopped() {
    let outpost = TestOutpost::start("").await;
    let started = outpost.post("/services", &body("lab", "abc", NO_HUB)).await;
    assert_snapshot!(started.status, @"200 OK");
    assert_json_snapshot!(started.body, @r#"
    {
      "service": "127.0.0.1:8888"
    }
    "#);
    let polled = outpost.get("/services/lab/abc").await;
    assert_snapshot!(polled.status, @"200 OK");
    assert_eq!(polled.headers["content-type"], "application/json");
    assert_eq!(polled.body, json!({"status": null, "logs": []}));
    assert_eq!(outpost.get("/services/lab/abc?collect_logs=TRUE").await.body["logs"], json!(["a log line"]));
    let list = outpost.get("/services/").await.body;
    assert_json_snapshot!(list, {"[].start_date" => "date", "[].last_update" => "date"}, @r#"
    [
      {
        "name": "lab",
        "start_id": "abc",
        "start_date": "date",
        "end_date": "9999-12-31T23:59:59.999999Z",
        "jupyterhub": "hub1",
        "jupyterhub_userid": "7",
        "last_update": "date",
        "state_stored": true,
        "start_pending": false,
        "stop_pending": false
      }
    ]
    "#);
    let stopped = outpost.delete("/services/lab/abc?collect_logs=true").await;
    assert_snapshot!(stopped.status, @"200 OK");
    assert_eq!(stopped.body, json!({"logs": ["a log line"]}));
    for method in [Method::GET, Method::DELETE] {
        let gone = outpost.send(outpost.request(method, "/services/lab/abc")).await;
        assert_eq!(gone.status, 404);
        assert_eq!(gone.body, json!({"detail": "Item not found"}));
    }
    assert_eq!(outpost.get("/services/").await.body, json!([]));
}

#[tokio::test]
async fn an_asynchronous_start_and_stop_answer_at_once() {
    let outpost = TestOutpost::start("[spawners.local]\ntype = 'memory'\nstart_delay = '300ms'").await;
    let started = outpost.post_async(&body("lab", "abc", NO_HUB)).await;
    assert_snapshot!(started.status, @"202 Accepted");
    assert_eq!(started.body, json!({"service": ""}));
    assert_eq!(outpost.get("/services/lab/abc").await.body, json!({"status": null, "logs": []}));
    let listed = outpost.get("/services/").await.body;
    assert_eq!((&listed[0]["start_pending"], &listed[0]["state_stored"]), (&json!(true), &json!(false)));
    // The same request again joins it, and now waits for the answer.
    assert_eq!(outpost.post("/services", &body("lab", "abc", NO_HUB)).await.body, json!({"service": "127.0.0.1:8888"}));
    assert_eq!(outpost.post_async(&body("lab", "abc", NO_HUB)).await.body, json!({"service": ""}));

    let stop = outpost.request(Method::DELETE, "/services/lab/abc").header("execution-type", "async");
    let stopped = outpost.send(stop).await;
    assert_snapshot!(stopped.status, @"202 Accepted");
    assert_eq!(stopped.body, json!({}));
    eventually("the server is gone", || async { (outpost.get("/services/lab/abc").await.status == 404).then_some(()) })
        .await;
}

#[tokio::test]
async fn a_start_that_is_still_running_can_be_cancelled() {
    let outpost = TestOutpost::start("[spawners.local]\ntype = 'memory'\nstart_delay = '1h'").await;
    let request = outpost.request(Method::POST, "/services").json(&body("lab", "abc", NO_HUB));
    let waiting = tokio::spawn(async move { request.send().await.unwrap() });
    eventually("the start is pending", || async { (!outpost.view_is_empty()).then_some(()) }).await;
    assert_snapshot!(outpost.delete("/services/lab/abc").await.status, @"200 OK");
    let answer = waiting.await.unwrap();
    assert_snapshot!(answer.status(), @"419 <unknown status code>");
    let answer: Value = answer.json().await.unwrap();
    assert_eq!(answer["args"], json!(["The start was cancelled because the server was stopped."]));
    assert_snapshot!(outpost.get("/services/lab/abc").await.status, @"404 Not Found");
}

#[tokio::test]
async fn a_failed_start_says_why_and_leaves_nothing() {
    let outpost = TestOutpost::start("[spawners.local]\ntype = 'memory'\nfail = 'There is no <room>.'").await;
    let failed = outpost.post("/services", &body("lab", "abc", NO_HUB)).await;
    assert_snapshot!(failed.status, @"419 <unknown status code>");
    assert_json_snapshot!(failed.body, {".traceback" => "id"}, @r#"
    {
      "module": "",
      "class": "StartFailed",
      "traceback": "id",
      "args": [
        "There is no <room>."
      ],
      "kwargs": {}
    }
    "#);
    assert!(failed.body["traceback"].as_str().unwrap().contains(failed.headers["x-request-id"].to_str().unwrap()));
    assert_snapshot!(outpost.get("/services/lab/abc").await.status, @"404 Not Found");
    let ended = outpost.outpost.store.history(1).await.unwrap().remove(0);
    assert_eq!((ended.outcome.as_str(), ended.reason.as_deref()), ("failed", Some("There is no <room>.")));
}

#[tokio::test]
async fn an_end_is_polled_until_it_is_deleted() {
    let db = TestDb::new(Kind::Sqlite).await.unwrap();
    let outpost = TestOutpost::start_with(db, "").await;
    outpost.post("/services", &body("lab", "abc", NO_HUB)).await;
    let entry = outpost.outpost.view.get(&ServerId::new("hub1", "lab", "abc")).unwrap();
    // The in-memory server is lost behind Outpost's back.
    let handle = entry.state().server.handle.clone();
    outpost.outpost.spawners.get("local").unwrap().stop(&entry.uid, &handle).await.unwrap();
    outpost.outpost.look_at(&entry).await;
    for _ in 0..2 {
        assert_eq!(outpost.get("/services/lab/abc").await.body["status"], json!(0));
    }
    let again = outpost.post("/services", &body("lab", "abc", NO_HUB)).await;
    assert_snapshot!(again.body["args"][0].as_str().unwrap(), @"This server has ended already: The server is not there any more; how it ended is not known. Please start it again.");
    assert_eq!(outpost.delete("/services/lab/abc").await.status, 200);
}

#[rstest]
#[case::default_server("", "/services//abc")]
#[case::slash("a/b", "/services/a/b/abc")]
#[case::encoded_slash("a/b", "/services/a%2Fb/abc")]
#[case::umlaut("grüße 🚀", "/services/gr%C3%BC%C3%9Fe%20%F0%9F%9A%80/abc")]
#[case::percent("50%2F", "/services/50%252F/abc")]
#[case::line_break("a\nb\u{1b}[31m", "/services/a%0Ab%1B%5B31m/abc")]
#[case::markup("<script>", "/services/%3Cscript%3E/abc")]
#[case::services("services", "/services/services/abc")]
#[tokio::test]
async fn every_name_can_be_started_polled_and_stopped(#[case] name: &str, #[case] path: &str) {
    let outpost = TestOutpost::start("[http]\nbase_path = '/base'").await;
    for base in ["", "/base"] {
        assert_eq!(outpost.post(&format!("{base}/services"), &body(name, "abc", NO_HUB)).await.status, 200);
        for slash in ["", "/"] {
            assert_eq!(outpost.get(&format!("{base}{path}{slash}")).await.status, 200, "{base}{path}{slash}");
        }
        assert_eq!(outpost.get("/services/").await.body[0]["name"], name);
        let slash = if base.is_empty() { "" } else { "/" };
        assert_eq!(outpost.delete(&format!("{base}{path}{slash}")).await.status, 200);
        assert_eq!(outpost.get(&format!("{base}{path}")).await.status, 404);
    }
}

#[tokio::test]
async fn without_a_start_id_it_is_zero() {
    let outpost = TestOutpost::start("").await;
    assert_eq!(outpost.post("/services", &json!({"name": "lab"})).await.status, 200);
    for path in ["/services/lab", "/services/lab/", "/services/lab/0", "/services/lab/0/"] {
        assert_eq!(outpost.get(path).await.status, 200, "{path}");
    }
    assert_eq!(outpost.delete("/services/lab/").await.status, 200);
}

#[rstest]
#[case("GET", "/ping", 200)]
#[case("GET", "/services", 200)]
#[case("GET", "/flavors", 200)]
#[case("GET", "/credits", 200)]
#[case("POST", "/userflavors", 200)]
#[case("POST", "/usercredits", 200)]
#[tokio::test]
async fn a_slash_at_the_end_changes_nothing(#[case] method: Method, #[case] path: &str, #[case] status: u16) {
    let outpost = TestOutpost::start("[http]\nbase_path = '/base/'").await;
    for path in [path.to_owned(), format!("{path}/"), format!("/base{path}"), format!("/base{path}/")] {
        let mut request = outpost.request(method.clone(), &path);
        if method == Method::POST {
            request = request.json(&json!({"name": "x", "groups": []}));
        }
        assert_eq!(outpost.send(request).await.status, status, "{path}");
    }
}

#[tokio::test]
async fn what_is_no_route_is_not_found_or_not_allowed() {
    let outpost = TestOutpost::start("").await;
    assert_eq!(outpost.get("/nothing").await.body, json!({"detail": "Not Found"}));
    for (method, path, allow) in [
        (Method::PUT, "/services", "GET, POST"),
        (Method::DELETE, "/services", "GET, POST"),
        (Method::POST, "/services/lab/abc", "DELETE, GET"),
        (Method::POST, "/ping", "GET"),
        (Method::GET, "/userflavors", "POST"),
        (Method::OPTIONS, "/services", "GET, POST"),
    ] {
        let reply = outpost.send(outpost.request(method.clone(), path)).await;
        assert_eq!(reply.status, 405, "{method} {path}");
        let mut allowed: Vec<_> = reply.headers["allow"].to_str().unwrap().split(", ").collect();
        allowed.sort_unstable();
        assert_eq!(allowed.join(", "), allow, "{method} {path}");
        assert_eq!(reply.body, json!({"detail": "Method Not Allowed"}));
    }
    assert_eq!(outpost.send(outpost.request(Method::HEAD, "/ping")).await.status, 405);
    assert!(outpost.get("/ping").await.headers.get("access-control-allow-origin").is_none());
}

#[tokio::test]
async fn credentials_come_before_everything_else() {
    let outpost = TestOutpost::start("").await;
    let long = format!("hub1:{}", "x".repeat(5000));
    let encode = |text: &str| base64::engine::general_purpose::STANDARD.encode(text);
    for (header, detail) in [
        (None, "Not authenticated"),
        (Some("Bearer x".to_owned()), "Not authenticated"),
        (Some("Basic !!".to_owned()), "Not authenticated"),
        (Some(format!("Basic {}", encode("nocolon"))), "Not authenticated"),
        (Some(format!("Basic {}", encode("hub1:two"))), "Incorrect username or password"),
        (Some(format!("Basic {}", encode("hub1:"))), "Incorrect username or password"),
        (Some(format!("Basic {}", encode("nobody:one"))), "Incorrect username or password"),
        (Some(format!("Basic {}", encode(&long))), "Incorrect username or password"),
    ] {
        for (method, path) in [
            (Method::POST, "/services"),
            (Method::GET, "/services/"),
            (Method::GET, "/services/lab/abc"),
            (Method::DELETE, "/services/lab/abc"),
            (Method::GET, "/flavors/"),
            (Method::POST, "/userflavors"),
            (Method::GET, "/credits/"),
            (Method::POST, "/usercredits"),
        ] {
            // The body is no JSON and larger than allowed: nobody looks at it.
            let mut request = client().request(method.clone(), format!("{}{path}", outpost.url)).body("{".repeat(2000));
            if let Some(header) = &header {
                request = request.header("Authorization", header);
            }
            let reply = outpost.send(request).await;
            assert_eq!(
                (reply.status.as_u16(), &reply.body),
                (401, &json!({"detail": detail})),
                "{method} {path} {header:?}"
            );
            assert_eq!(reply.headers["www-authenticate"], "Basic");
        }
    }
    assert_eq!(client().get(format!("{}/ping", outpost.url)).send().await.unwrap().status(), 200);
    let scheme = client()
        .get(format!("{}/services/", outpost.url))
        .header("Authorization", format!("bAsIC {}", encode("hüb:drei")));
    assert_eq!(outpost.send(scheme).await.status, 200);
}

#[tokio::test]
async fn a_hub_sees_and_touches_only_its_own() {
    let outpost = TestOutpost::start("").await;
    // What two naive ways of joining the parts would confuse.
    outpost.post("/services", &body("b-c", "d", NO_HUB)).await;
    let other = |method: Method, path: &str| {
        client().request(method, format!("{}{path}", outpost.url)).basic_auth("hub2", Some("two"))
    };
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(outpost.send(other(method, "/services/b-c/d")).await.status, 404);
    }
    assert_eq!(outpost.send(other(Method::GET, "/services/")).await.body, json!([]));
    let same = outpost.send(other(Method::POST, "/services").json(&body("b-c", "d", NO_HUB))).await;
    assert_eq!(same.status, 200);
    assert_eq!(outpost.outpost.view.len(), 2);
    assert_eq!(outpost.send(other(Method::DELETE, "/services/b-c/d")).await.status, 200);
    assert_eq!(outpost.get("/services/b-c/d").await.status, 200);
    outpost.post("/services", &body("b", "c-d", NO_HUB)).await;
    outpost.delete("/services/b/c-d").await;
    assert_eq!(outpost.get("/services/b-c/d").await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_no_service_is_named() {
    let outpost = TestOutpost::start("[http]\nbody_limit = 4096").await;
    let reply = outpost.post("/services", &json!({"name": 5, "env": {"TOKEN": "s3cret"}})).await;
    assert_snapshot!(reply.status, @"422 Unprocessable Entity");
    assert_json_snapshot!(reply.body, @r#"
    {
      "detail": [
        {
          "type": "value_error",
          "loc": [
            "body",
            "name"
          ],
          "msg": "body.name has to be a string"
        }
      ]
    }
    "#);
    for (kind, text) in [
        ("application/json", "{"),
        ("application/json", ""),
        ("application/json", "[]"),
        ("text/plain", "{\"name\": \"x\"}"),
        ("application/json", "{\"name\": \"x\", \"env\": [\"s3cret\"]}"),
        ("application/json", "{\"name\": \"x\", \"user_options\": \"s3cret\"}"),
    ] {
        let reply =
            outpost.send(outpost.request(Method::POST, "/services").header("Content-Type", kind).body(text)).await;
        assert_eq!(reply.status, 422, "{text}");
        assert!(!reply.body.to_string().contains("s3cret"), "{}", reply.body);
    }
    let nested = format!("{{\"name\": {}1{}}}", "[".repeat(1000), "]".repeat(1000));
    let request = outpost.request(Method::POST, "/services").header("Content-Type", "application/json").body(nested);
    assert_eq!(outpost.send(request).await.status, 422);
    let large = outpost.post("/services", &json!({"name": "x".repeat(5000)})).await;
    assert_snapshot!(large.status, @"413 Payload Too Large");
    assert!(outpost.view_is_empty());
}

#[tokio::test]
async fn nothing_in_a_body_sets_what_is_ours() {
    let outpost = TestOutpost::start("").await;
    let mut body = body("lab", "abc", NO_HUB);
    for (key, value) in [
        ("end_date", json!("2000-01-01T00:00:00")),
        ("stop_pending", json!(true)),
        ("start_pending", json!(true)),
        ("state_stored", json!(false)),
        ("state", json!({"pid": 1})),
        ("jupyterhub", json!("hub2")),
        ("uid", json!("x")),
    ] {
        body[key] = value;
    }
    assert_eq!(outpost.post("/services", &body).await.status, 200);
    let listed = &outpost.get("/services/").await.body[0];
    assert_eq!((&listed["stop_pending"], &listed["jupyterhub"]), (&json!(false), &json!("hub1")));
    assert!(listed["end_date"].as_str().unwrap().starts_with("9999"));
    let entry = &outpost.outpost.view.all()[0];
    assert!(!format!("{:?}", entry.server()).contains("pid"));
}

#[tokio::test]
async fn null_parts_are_absent() {
    let outpost = TestOutpost::start("").await;
    let body = json!({"name": "x", "env": null, "user_options": null, "misc": null, "certs": null, "internal_trust_bundles": null});
    assert_eq!(outpost.post("/services", &body).await.status, 200);
    assert_eq!(outpost.delete("/services/x").await.status, 200);
}

#[tokio::test]
async fn what_a_hub_may_not_override_is_refused_by_name() {
    let outpost = TestOutpost::start("").await;
    let mut request = body("lab", "abc", NO_HUB);
    request["misc"]["cmd"] = json!(["sh", "-c", "s3cret"]);
    let reply = outpost.post("/services", &request).await;
    assert_snapshot!(reply.status, @"419 <unknown status code>");
    assert_snapshot!(reply.body["args"][0].as_str().unwrap(), @r#"The option "cmd" is not allowed for this JupyterHub on this system: it chooses the program that runs. Please choose another option or ask the administrators of the system."#);
    assert!(outpost.view_is_empty());
    let allowed = TestOutpost::start("[[overrides]]\nhubs = ['hub1']\nallow = 'all'").await;
    assert_eq!(allowed.post("/services", &request).await.status, 200);
}

#[tokio::test]
async fn a_hub_may_start_so_many_at_once_and_no_more() {
    let toml = "[hubs.hub1]\nconcurrent_starts = 2\n[spawners.local]\ntype = 'memory'\nstart_delay = '1h'";
    let outpost = TestOutpost::start(toml).await;
    for name in ["a", "b"] {
        assert_eq!(outpost.post_async(&body(name, "0", NO_HUB)).await.status, 202);
    }
    let refused = outpost.post_async(&body("c", "0", NO_HUB)).await;
    assert_snapshot!(refused.status, @"419 <unknown status code>");
    assert_snapshot!(refused.body["args"][0].as_str().unwrap(), @"This JupyterHub is already starting 2 servers on this system, which is the most it may start at once. Please try again in a minute.");
    assert_eq!(outpost.get("/services/c/0").await.status, 404);
    let other = client().post(format!("{}/services", outpost.url)).basic_auth("hub2", Some("two"));
    assert_eq!(outpost.send(other.header("execution-type", "async").json(&body("c", "0", NO_HUB))).await.status, 202);
    outpost.delete("/services/a/0").await;
    eventually("there is room again", || async {
        (outpost.post_async(&body("d", "0", NO_HUB)).await.status == 202).then_some(())
    })
    .await;
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_equal_starts_are_one(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let outpost = TestOutpost::start_with(db, "[spawners.local]\ntype = 'memory'\nstart_delay = '200ms'").await;
    let request = body("lab", "abc", NO_HUB);
    let posts: Vec<_> = (0..1000)
        .map(|_| {
            let request = outpost.request(Method::POST, "/services").json(&request);
            tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
        })
        .collect();
    for post in posts {
        assert_eq!(post.await.unwrap(), json!({"service": "127.0.0.1:8888"}));
    }
    assert_eq!(outpost.outpost.spawners.get("local").unwrap().list().await.unwrap().len(), 1);
    assert_eq!(outpost.outpost.store.servers().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_outposts_on_one_database_start_one_server() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let toml = "[spawners.local]\ntype = 'memory'\nstart_delay = '300ms'";
    let dir = tempfile::tempdir().unwrap();
    let one = TestOutpost::start_in(dir.path(), &db.url, toml).await;
    let two = TestOutpost::start_with(db, toml).await;
    let posts: Vec<_> = (0..40)
        .map(|at| {
            let outpost = if at % 2 == 0 { &one } else { &two };
            let request = outpost.request(Method::POST, "/services").json(&body("lab", "abc", NO_HUB));
            tokio::spawn(async move { request.send().await.unwrap().json::<Value>().await.unwrap() })
        })
        .collect();
    for post in posts {
        assert_eq!(post.await.unwrap(), json!({"service": "127.0.0.1:8888"}));
    }
    let servers = |outpost: &TestOutpost| {
        let spawner = outpost.outpost.spawners.get("local").unwrap();
        async move { spawner.list().await.unwrap().len() }
    };
    assert_eq!(servers(&one).await + servers(&two).await, 1);
    for outpost in [&one, &two] {
        assert_eq!(outpost.get("/services/lab/abc").await.body["status"], Value::Null);
        assert_eq!(outpost.get("/services/").await.body.as_array().unwrap().len(), 1);
    }
    // Whichever is asked: the one that has it stops it, and both know.
    assert_eq!(two.delete("/services/lab/abc").await.status, 200);
    assert_eq!(servers(&one).await + servers(&two).await, 0);
    eventually("the other knows as well", || async {
        (one.get("/services/lab/abc").await.status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_client_that_goes_away_changes_nothing() {
    let outpost = TestOutpost::start("[spawners.local]\ntype = 'memory'\nstart_delay = '500ms'").await;
    let request = outpost
        .request(Method::POST, "/services")
        .json(&body("lab", "abc", NO_HUB))
        .timeout(Duration::from_millis(150));
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(outpost.post("/services", &body("lab", "abc", NO_HUB)).await.body, json!({"service": "127.0.0.1:8888"}));
    let request = outpost.request(Method::DELETE, "/services/lab/abc").timeout(Duration::from_millis(1));
    let _ = request.send().await;
    eventually("it ends one way or the other", || async {
        let status = outpost.delete("/services/lab/abc").await.status;
        (status == 404).then_some(())
    })
    .await;
}

#[tokio::test]
async fn flavors_and_credits_without_a_definition_allow_everything() {
    let outpost = TestOutpost::start("").await;
    assert_eq!(outpost.get("/flavors/").await.body, json!({}));
    assert_eq!(outpost.get("/credits/").await.body, json!({}));
    let post = |path: &'static str, text: &'static str| {
        outpost.send(outpost.request(Method::POST, path).header("Content-Type", "application/json").body(text))
    };
    assert_eq!(post("/userflavors", "{\"name\": \"x\"}").await.body, json!({}));
    assert_eq!(post("/usercredits", "null").await.body, json!({}));
    let bad = post("/userflavors", "{").await;
    assert_eq!(
        (bad.status.as_u16(), &bad.body["module"], &bad.body["class"]),
        (419, &json!("json.decoder"), &json!("JSONDecodeError"))
    );
}

#[tokio::test]
async fn health_readiness_and_metrics_have_their_own_listener() {
    let outpost = TestOutpost::start("").await;
    outpost.post("/services", &body("lab", "abc", NO_HUB)).await;
    let admin = |path: &str| client().get(format!("{}{path}", outpost.admin_url));
    assert_eq!(admin("/healthz").send().await.unwrap().text().await.unwrap(), "ok\n");
    assert_eq!(outpost.send(admin("/readyz")).await.body, json!({"ready": true, "reasons": []}));
    let metrics = admin("/metrics").send().await.unwrap().text().await.unwrap();
    for line in [
        "outpost_requests_total{method=\"POST\",route=\"/services\",status=\"200\"} 1",
        "outpost_starts_total{spawner=\"local\",outcome=\"running\"} 1",
        "outpost_servers 1",
        "outpost_store_duration_seconds_count{operation=\"insert_server\"} 1",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    assert_eq!(outpost.get("/metrics").await.status, 404);
    assert_eq!(outpost.get("/healthz").await.status, 404);
}
