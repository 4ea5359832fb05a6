//! Figures and ratios, each pair measured in turn in one run: `cargo bench`.
//!
//! Machines differ and are noisy, so that only the ratios are worth comparing.
#![expect(clippy::disallowed_methods, reason = "a benchmark has no application to spawn on")]

mod admission;
mod client;
mod kubernetes;
mod memory;
mod ssh;
mod tunnels;
#[path = "../integration"]
#[expect(dead_code, unused_imports, reason = "most of it is for the tests")]
mod integration {
    pub mod support;
}

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::get;
use outpost::app::{App, Options};
use outpost::config::{Config, Environment};
use serde_json::json;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use integration::support;

use client::{Connection, basic_auth, delete, poll, post};

const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(1500);
const CONNECTIONS: usize = 16;
/// A start and a stop: row inserted, running, stopping, removed.
const COMMITS_A_CYCLE: usize = 4;

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let dir = tempfile::tempdir().unwrap();
        let outpost = start_outpost(dir.path()).await;
        // `cargo bench -- polls` runs one part only.
        let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
        let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
        if wanted("polls") {
            polls(&outpost).await;
        }
        if wanted("cycles") {
            cycles(&outpost, dir.path()).await;
        }
        if wanted("admission") {
            admission::measure();
        }
        if wanted("memory") {
            memory::measure().await;
        }
        if wanted("kubernetes") {
            kubernetes::measure().await;
        }
        if wanted("ssh") {
            ssh::measure().await;
        }
        if wanted("tunnels") {
            tunnels::measure().await;
        }
    });
}

async fn start_outpost(dir: &Path) -> String {
    let mut config = Config::parse(
        "[http]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n[spawners.local]\ntype = 'memory'\n\
         [hubs.bench]\napi_url = 'http://127.0.0.1:1/hub/api'\nsend_events = false\n",
    )
    .unwrap();
    config.state_dir = Some(dir.to_owned());
    let environment = Environment::of(&[("usernames", "bench"), ("passwords", "s3cret")]);
    let options =
        Options { path: None, environment, config, supervisor: "/proc/self/exe".into(), level: None, announce: |_| () };
    let app = App::build(options).await.unwrap();
    let (api, _) = app.addresses().unwrap();
    app.connect(outpost::app::FIRST_LOOK).await.unwrap();
    tokio::spawn(app.run());
    api.to_string()
}

/// A bare axum handler that returns the bytes of a poll.
async fn start_bare() -> String {
    let bytes = "{\"status\":null,\"logs\":[]}";
    let answer = move || async move { ([("content-type", "application/json")], bytes) };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/services/{name}/{start_id}", get(answer));
    tokio::spawn(axum_server::from_tcp(listener).unwrap().serve(router.into_make_service()));
    address.to_string()
}

async fn polls(outpost: &str) {
    let bare = start_bare().await;
    let auth = basic_auth("bench", "s3cret");
    Connection::open(outpost).await.send(&post(&auth, "lab", "abc")).await;
    let request: Arc<[u8]> = poll(&auth, "lab", "abc").into();
    let (mut whole, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        whole.push(hammer(outpost, &request).await);
        plain.push(hammer(&bare, &request).await);
    }
    let ratio = median(whole.iter().zip(&plain).map(|(whole, plain)| whole.0 / plain.0));
    println!("polls, {CONNECTIONS} connections, whole stack beside a bare axum handler with the same bytes");
    for (name, rounds) in [("whole stack", &whole), ("bare handler", &plain)] {
        let (rate, p99) = (median(rounds.iter().map(|round| round.0)), median(rounds.iter().map(|round| round.1)));
        println!("  {name:<13} {rate:>9.0} polls/s   p99 {p99:>6.2} ms");
    }
    println!("  ratio         {ratio:>9.2}   (wanted: at least 0.60)\n");
}

/// Sends one request over and over; gives requests a second and the 99th percentile in milliseconds.
async fn hammer(address: &str, request: &Arc<[u8]>) -> (f64, f64) {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let (address, request) = (address.to_owned(), request.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                let mut times = Vec::new();
                while begun.elapsed() < ROUND {
                    let sent = Instant::now();
                    assert_eq!(connection.send(&request).await, 200);
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut times = Vec::new();
    for client in clients {
        times.extend(client.await.unwrap());
    }
    let rate = times.len() as f64 / begun.elapsed().as_secs_f64();
    times.sort_unstable();
    (rate, times[times.len() * 99 / 100].as_secs_f64() * 1000.0)
}

async fn cycles(outpost: &str, dir: &Path) {
    let options = SqliteConnectOptions::new()
        .filename(dir.join("bare.sqlite"))
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .pragma("wal_autocheckpoint", "8192");
    let bare =
        SqlitePoolOptions::new().max_connections(1).test_before_acquire(false).connect_with(options).await.unwrap();
    sqlx::query("CREATE TABLE bare (id BIGINT PRIMARY KEY, body TEXT NOT NULL)").execute(&bare).await.unwrap();
    let auth = basic_auth("bench", "s3cret");
    let (mut whole, mut plain) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        whole.push(start_and_stop(outpost, &auth, round).await);
        plain.push(commit(&bare, round).await / COMMITS_A_CYCLE as f64);
    }
    let ratio = median(whole.iter().zip(&plain).map(|(whole, plain)| whole / plain));
    println!(
        "start and stop, {CONNECTIONS} connections, in-memory backend on SQLite beside as many bare SQLite commits"
    );
    println!("  whole stack   {:>9.0} cycles/s", median(whole.iter().copied()));
    println!("  bare commits  {:>9.0} x {COMMITS_A_CYCLE} commits/s", median(plain.iter().copied()));
    println!("  ratio         {ratio:>9.2}   (wanted: at least 0.50)\n");
}

async fn start_and_stop(address: &str, auth: &str, round: usize) -> f64 {
    let begun = Instant::now();
    let clients: Vec<_> = (0..CONNECTIONS)
        .map(|client| {
            let (address, auth) = (address.to_owned(), auth.to_owned());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                let mut done = 0usize;
                while begun.elapsed() < ROUND {
                    let (name, start_id) = (format!("s{client}"), format!("{round}-{done}"));
                    assert_eq!(connection.send(&post(&auth, &name, &start_id)).await, 200);
                    assert_eq!(connection.send(&delete(&auth, &name, &start_id)).await, 200);
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for client in clients {
        done += client.await.unwrap();
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

async fn commit(pool: &sqlx::SqlitePool, round: usize) -> f64 {
    let body = json!({"as": "long", "as": "x".repeat(1500)}).to_string();
    let begun = Instant::now();
    let writers: Vec<_> = (0..CONNECTIONS)
        .map(|writer| {
            let (pool, body) = (pool.clone(), body.clone());
            tokio::spawn(async move {
                let mut done = 0i64;
                while begun.elapsed() < ROUND {
                    let id = i64::try_from(round * CONNECTIONS + writer).unwrap() * 1_000_000 + done / 4;
                    let query = match done % 4 {
                        0 => sqlx::query("INSERT INTO bare (id, body) VALUES ($1, $2)").bind(id).bind(&body),
                        3 => sqlx::query("DELETE FROM bare WHERE id = $1").bind(id),
                        _ => sqlx::query("UPDATE bare SET body = $2 WHERE id = $1").bind(id).bind("x"),
                    };
                    query.execute(&pool).await.unwrap();
                    done += 1;
                }
                done
            })
        })
        .collect();
    let mut done = 0;
    for writer in writers {
        done += writer.await.unwrap();
    }
    done as f64 / begun.elapsed().as_secs_f64()
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
