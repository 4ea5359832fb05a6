//! Rows that came, moved or went while nobody looked.

use std::time::Duration;

use outpost::clock::Clock;
use outpost::model::{Handle, Server, ServerId, StoredRequest};
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::server::body;
use crate::support::{Kind, TestDb, TestOutpost, a_server, eventually};

const NO_HUB: &str = "http://127.0.0.1:1/hub/api";

fn ghost(owner: &str) -> Server {
    Server {
        id: ServerId::new("hub1", "lab", "abc"),
        owner: owner.into(),
        handle: Handle { spawner: "local".into(), state: json!(null) },
        asynchronous: false,
        ..a_server(&Clock::System)
    }
}

/// A row that memory does not know is found when its identity is started, and goes on.
#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_nobody_knows_is_not_started_beside(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let outpost = TestOutpost::start_with(db, "").await;
    let row = ghost(&outpost.outpost.instance);
    assert!(outpost.outpost.store.insert_server(&row, &StoredRequest::default()).await.unwrap());
    let request = body("lab", "abc", NO_HUB);
    let started = futures_util::future::join_all((0..20).map(|_| outpost.post("/services", &request))).await;
    assert!(started.iter().all(|started| started.body == json!({"service": "127.0.0.1:8888"})), "{started:?}");
    assert_eq!(outpost.outpost.store.servers().await.unwrap()[0].uid, row.uid);
    assert_eq!(outpost.delete("/services/lab/abc").await.status, 200);
    assert!(outpost.outpost.store.servers().await.unwrap().is_empty());
}

/// What was buried cannot come up, whichever of the two statements arrives first.
#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_late_insertion_finds_its_place_taken(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let store = db.store(Clock::System).await;
    let outcome = outpost::store::Outcome { kind: "failed", reason: Some("no\0answer".to_owned()) };
    for early in [true, false] {
        let row = ghost("me");
        if early {
            assert!(store.insert_server(&row, &StoredRequest::default()).await.unwrap());
        }
        store.bury(&row, &outcome).await.unwrap();
        if !early {
            assert!(store.insert_server(&row, &StoredRequest::default()).await.is_err());
        }
        assert!(store.servers().await.unwrap().is_empty());
        assert_eq!(store.ended(&row.uid).await.unwrap().unwrap().reason.as_deref(), Some("no answer"));
    }
}

/// Changes that the quick look missed are found by the comparison of all rows.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_was_missed_is_found() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let outpost = TestOutpost::start_with(db, "").await;
    for name in ["stopped", "gone"] {
        assert_eq!(outpost.post("/services", &body(name, "abc", NO_HUB)).await.status, 200);
    }
    // As if the looks of the last hour had all failed, but for the clock.
    outpost.outpost.set_refreshed(Clock::System.now() + chrono::TimeDelta::hours(1));
    let store = &outpost.outpost.store;
    store.request_stop(&outpost.view_entry("stopped", "abc").uid).await.unwrap();
    let outcome = outpost::store::Outcome { kind: "stopped", reason: None };
    store.remove_server(&outpost.view_entry("gone", "abc").uid, &outcome).await.unwrap();
    eventually("both are gone", || async { outpost.view_is_empty().then_some(()) }).await;
}

/// A client that says nothing, or half of something, does not hold a connection for ever.
#[rstest]
#[case::nothing(b"")]
#[case::half_a_head(b"GET /ping HTTP/1.1\r\nHost:")]
#[case::another_protocol(b"PRI * HT")]
#[tokio::test]
async fn a_silent_client_is_disconnected(#[case] bytes: &[u8]) {
    let outpost = TestOutpost::start("[http]\nrequest_timeout = '1s'").await;
    let mut stream = tokio::net::TcpStream::connect(outpost.url.trim_start_matches("http://")).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    assert!(closed.is_ok(), "still open");
}

/// A body that never ends is given up, too.
#[tokio::test]
async fn a_slow_body_is_given_up() {
    let outpost = TestOutpost::start("[http]\nrequest_timeout = '1s'").await;
    let pending =
        outpost.request(Method::POST, "/services").header("Content-Type", "application/json").build().unwrap();
    let authorization = pending.headers()["authorization"].to_str().unwrap().to_owned();
    let mut stream = tokio::net::TcpStream::connect(outpost.url.trim_start_matches("http://")).await.unwrap();
    let head = format!(
        "POST /services HTTP/1.1\r\nHost: x\r\nAuthorization: {authorization}\r\nContent-Length: 100\r\n\r\n{{"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = vec![0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer, b"HTTP/1.1 408");
}

/// A hub keeps its connections: they must lead to whoever runs next, not to one that has ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_answers_after_the_end() {
    for _ in 0..15 {
        let outpost = TestOutpost::start("").await;
        let client = crate::support::server::client();
        let url = format!("{}/ping", outpost.url);
        assert!(client.get(&url).send().await.unwrap().text().await.is_ok());
        outpost.stop().await;
        assert!(client.get(&url).send().await.is_err(), "the connection is still there");
    }
}
