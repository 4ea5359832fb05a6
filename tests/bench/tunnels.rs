//! Tunnels to 10,000 servers after a restart, and the polls that are answered meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::http::StatusCode;
use outpost::app::{App, Options};
use outpost::config::{Config, Environment};
use outpost::hub::Recreate;
use outpost::model::TunnelState;
use outpost::outpost::Outpost;

use super::client::{Connection, basic_auth, poll};
use super::median;
use super::support::running_servers;

const SERVERS: usize = 10_000;
const ROUNDS: usize = 3;
const ANSWER: Duration = Duration::from_millis(20);
/// Polls come from so many connections, each as often as this: hubs ask once in a while, and do not race.
const POLLERS: usize = 4;
const PAUSE: Duration = Duration::from_millis(4);
const IDLE: Duration = Duration::from_secs(5);

pub async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let (outpost, address) = start(dir.path(), &start_hub()).await;
    let (mut times, mut idle, mut busy) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        idle.push(polls(&address, async { tokio::time::sleep(IDLE).await }).await);
        if round == 0 {
            let mut hubs = outpost.config.load().hubs.clone();
            hubs.get_mut("bench").unwrap().ssh_recreate_at_start = Some(Recreate::Always(true));
            outpost.hubs.reconfigure(&hubs).unwrap();
        }
        let begun = Instant::now();
        outpost.tunnels.due();
        busy.push(polls(&address, made(&outpost, outpost.clock.now())).await);
        times.push(begun.elapsed().as_secs_f64());
    }
    let ratio = median(busy.iter().zip(&idle).map(|(busy, idle)| busy / idle));
    let slowest = times.iter().copied().fold(0.0, f64::max);
    println!(
        "tunnels to {SERVERS} servers on SQLite, a hub that answers in {ANSWER:?}, {POLLERS} connections that poll"
    );
    println!(
        "  all made in   {:>9.1} s   slowest round {slowest:.1} s   (wanted: at most 15 s)",
        median(times.into_iter())
    );
    println!("  polls idle    {:>9.2} ms p99", median(idle.into_iter()));
    println!("  meanwhile     {:>9.2} ms p99", median(busy.into_iter()));
    println!("  ratio         {ratio:>9.2}   (wanted: below 3)\n");
}

/// A hub in a thread of its own, as it would be on a machine of its own.
fn start_hub() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("http://{}/hub/api", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let answer = || async {
                tokio::time::sleep(ANSWER).await;
                StatusCode::NO_CONTENT
            };
            axum_server::from_tcp(listener).unwrap().serve(Router::new().fallback(answer).into_make_service()).await
        })
    });
    url
}

async fn start(dir: &std::path::Path, api: &str) -> (Arc<Outpost>, String) {
    let mut config = Config::parse(&format!(
        "[http]\nlisten = '127.0.0.1:0'\nadmin_listen = '127.0.0.1:0'\n[spawners.local]\ntype = 'memory'\n\
         [hubs.bench]\napi_url = '{api}'\nsend_events = false\nssh_recreate_at_start = false\n",
    ))
    .unwrap();
    config.state_dir = Some(dir.to_owned());
    let environment = Environment::of(&[("usernames", "bench"), ("passwords", "s3cret")]);
    let options =
        Options { path: None, environment, config, supervisor: "/proc/self/exe".into(), level: None, announce: |_| () };
    let app = App::build(options).await.unwrap();
    let (address, _) = app.addresses().unwrap();
    let outpost = app.outpost.clone();
    outpost.store.migrate().await.unwrap();
    running_servers(&outpost.store, "bench", api, SERVERS).await;
    app.connect(outpost::app::FIRST_LOOK).await.unwrap();
    tokio::spawn(app.run());
    (outpost, address.to_string())
}

/// Waits until all tunnels were made since `since`.
async fn made(outpost: &Outpost, since: chrono::DateTime<chrono::Utc>) {
    let all = outpost.view.all();
    let made = |entry: &Arc<outpost::outpost::Entry>| {
        let tunnel = entry.state().server.tunnel;
        tunnel.state == TunnelState::Made && tunnel.at > Some(since)
    };
    while !all.iter().all(made) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The 99th percentile of polls in milliseconds, until `end`.
async fn polls(address: &str, end: impl Future<Output = ()>) -> f64 {
    let request: Arc<[u8]> = poll(&basic_auth("bench", "s3cret"), "s0", "0").into();
    let ended = tokio_util::sync::CancellationToken::new();
    let pollers: Vec<_> = (0..POLLERS)
        .map(|_| {
            let (address, request, ended) = (address.to_owned(), request.clone(), ended.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                let mut times = Vec::new();
                while !ended.is_cancelled() {
                    let sent = Instant::now();
                    assert_eq!(connection.send(&request).await, 200);
                    times.push(sent.elapsed());
                    tokio::time::sleep(PAUSE).await;
                }
                times
            })
        })
        .collect();
    end.await;
    ended.cancel();
    let mut times = Vec::new();
    for poller in pollers {
        times.extend(poller.await.unwrap());
    }
    times.sort_unstable();
    times[times.len() * 99 / 100].as_secs_f64() * 1000.0
}
