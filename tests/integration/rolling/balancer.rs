//! The test plays the Service: new connections go to replicas that are ready, and whoever is not gets none, a moment later.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::support::daemon::Daemon;
use crate::support::server::client;

/// How often replicas are asked whether they are ready.
const PROBE: Duration = Duration::from_millis(100);

/// How long it takes until everybody who sends has heard of a change.
const MOMENT: Duration = Duration::from_millis(300);

/// Until it is dropped.
pub struct Balancer {
    pub url: String,
    endpoints: Arc<Mutex<Vec<Endpoint>>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone)]
struct Endpoint {
    api: SocketAddr,
    probe: String,
    /// Whether it gets connections.
    ready: bool,
    /// Since when it says something else than it did.
    changed: Option<Instant>,
}

impl Balancer {
    pub async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let endpoints: Arc<Mutex<Vec<Endpoint>>> = Arc::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(probe_all(endpoints.clone()));
        tasks.spawn(pass_all(listener, endpoints.clone()));
        Self { url, endpoints, _tasks: tasks }
    }

    /// A replica that gets connections as soon as it says that it is ready; returns then.
    pub async fn add(&self, replica: &Daemon) {
        let api = replica.url.trim_start_matches("http://").parse().unwrap();
        let probe = format!("{}/readyz", replica.admin_url);
        self.endpoints.lock().unwrap().push(Endpoint { api, probe, ready: false, changed: None });
        let is_in = || self.endpoints.lock().unwrap().iter().any(|endpoint| endpoint.api == api && endpoint.ready);
        crate::support::eventually("the replica is ready", || async { is_in().then_some(()) }).await;
    }
}

async fn probe_all(endpoints: Arc<Mutex<Vec<Endpoint>>>) {
    let client = client();
    loop {
        let known = endpoints.lock().unwrap().clone();
        for Endpoint { api, probe, .. } in known {
            let ready = match client.get(&probe).timeout(Duration::from_secs(1)).send().await {
                Ok(answer) if answer.status().is_success() => true,
                Ok(answer) => {
                    // A database that is late takes no replica out: the kubelet asks several times.
                    let text = answer.text().await.unwrap_or_default();
                    if !text.contains("ending") {
                        continue;
                    }
                    false
                }
                Err(error) if error.is_timeout() => continue,
                Err(_) => false,
            };
            let mut endpoints = endpoints.lock().unwrap();
            let Some(endpoint) = endpoints.iter_mut().find(|endpoint| endpoint.api == api) else { continue };
            if endpoint.ready == ready {
                endpoint.changed = None;
            } else if endpoint.changed.get_or_insert_with(Instant::now).elapsed() >= MOMENT {
                endpoint.ready = ready;
            }
        }
        tokio::time::sleep(PROBE).await;
    }
}

async fn pass_all(listener: TcpListener, endpoints: Arc<Mutex<Vec<Endpoint>>>) {
    let mut connections = JoinSet::new();
    for turn in 0_usize.. {
        let (mut client, _) = listener.accept().await.unwrap();
        let ready: Vec<_> =
            endpoints.lock().unwrap().iter().filter(|endpoint| endpoint.ready).map(|endpoint| endpoint.api).collect();
        if ready.is_empty() {
            continue;
        }
        let api = ready[turn % ready.len()];
        connections.spawn(async move {
            // Who is sent to one that has gone is refused: nobody tries another for them.
            let Ok(mut replica) = TcpStream::connect(api).await else { return };
            let _ = tokio::io::copy_bidirectional(&mut client, &mut replica).await;
        });
    }
}
