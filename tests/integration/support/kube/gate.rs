//! A way to the API server that notes what passes, and stops one call on demand.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, Method, header};
use axum::response::{IntoResponse as _, Response};
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::Cluster;

/// Where a call is stopped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// The API server does not get it.
    Before,
    /// The API server did what it says, and nobody learns of it.
    After,
}

/// Until it is dropped.
pub struct Gate {
    /// Leads here; may do anything.
    pub kubeconfig: PathBuf,
    passage: Arc<Passage>,
    _server: JoinSet<()>,
}

struct Passage {
    client: Client,
    state: Mutex<Passing>,
    stopped: watch::Sender<bool>,
}

#[derive(Default)]
struct Passing {
    calls: Vec<(Method, String)>,
    changes: usize,
    stop: Option<(usize, Side)>,
}

impl Gate {
    pub async fn open(cluster: &Cluster) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let kubeconfig = cluster.kubeconfig_at(&format!("http://{}", listener.local_addr().unwrap()));
        let passage = Arc::new(Passage {
            client: cluster.admin().await,
            state: Mutex::default(),
            stopped: watch::channel(false).0,
        });
        let router = Router::new().fallback(pass).with_state(passage.clone());
        let mut tasks = JoinSet::new();
        let server = axum_server::from_tcp(listener).unwrap();
        tasks.spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
        Self { kubeconfig, passage, _server: tasks }
    }

    /// Of the calls to come that change something, stops the one with this number (from 0), for good.
    pub fn stop(&self, number: usize, side: Side) {
        let mut state = self.passage.state.lock().unwrap();
        state.changes = 0;
        state.stop = Some((number, side));
        self.passage.stopped.send_replace(false);
    }

    /// Waits until that call is there.
    pub async fn stopped(&self) {
        let mut stopped = self.passage.stopped.subscribe();
        let there = tokio::time::timeout(Duration::from_secs(30), stopped.wait_for(|stopped| *stopped)).await;
        there.unwrap_or_else(|_| panic!("there is no such call: {:?}", self.calls())).unwrap();
    }

    /// What passed since the last time, but for watches: `POST /api/v1/…`, without the query.
    pub fn calls(&self) -> Vec<String> {
        let calls = std::mem::take(&mut self.passage.state.lock().unwrap().calls);
        calls.into_iter().map(|(method, path)| format!("{method} {path}")).collect()
    }
}

async fn pass(State(passage): State<Arc<Passage>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let side = {
        let mut state = passage.state.lock().unwrap();
        if !parts.uri.query().unwrap_or_default().contains("watch=") {
            state.calls.push((parts.method.clone(), parts.uri.path().to_owned()));
        }
        let changes = !matches!(parts.method, Method::GET | Method::HEAD);
        let number = state.changes;
        state.changes += usize::from(changes);
        // Once: whoever comes after a restart passes.
        state.stop.take_if(|(stop, _)| changes && *stop == number).map(|(_, side)| side)
    };
    if side == Some(Side::Before) {
        passage.stopped.send_replace(true);
        return std::future::pending().await;
    }
    for of_this_connection in [header::HOST, header::CONNECTION, header::AUTHORIZATION] {
        parts.headers.remove(of_this_connection);
    }
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
    let request = Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let answer = match passage.client.send(request).await {
        Ok(answer) => answer,
        Err(error) => return (axum::http::StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    };
    if side == Some(Side::After) {
        passage.stopped.send_replace(true);
        return std::future::pending().await;
    }
    let (mut parts, body) = answer.into_parts();
    for of_that_connection in [header::CONNECTION, header::TRANSFER_ENCODING, HeaderName::from_static("keep-alive")] {
        parts.headers.remove(of_that_connection);
    }
    Response::from_parts(parts, axum::body::Body::new(body))
}
