//! A hub that counts what it is told, and misbehaves on demand: the real one does not.

use std::net::TcpListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::IntoMakeService;
use axum_server::tls_rustls::RustlsConfig;
use serde_json::Value;

use super::eventually;

#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    Answer(u16),
    /// A proxy before the hub answers in its place.
    Proxy(u16),
    Hang,
    Slow(Duration),
    Redirect,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub token: String,
    pub body: Value,
}

#[derive(Clone)]
pub struct FakeHub {
    pub url: String,
    calls: Arc<Mutex<Vec<Call>>>,
    behaviour: Arc<Mutex<Behaviour>>,
    exceptions: Arc<Mutex<Vec<(String, Behaviour)>>>,
    /// How many calls are under way, and how many there were at once.
    at_once: Arc<(AtomicUsize, AtomicUsize)>,
}

impl FakeHub {
    pub async fn start() -> Self {
        let (hub, listener, service) = Self::bound("http").await;
        tokio::spawn(axum_server::from_tcp(listener).unwrap().serve(service));
        hub
    }

    /// With the certificate and the key of these PEM files.
    pub async fn start_with_tls(certificate: &Path, key: &Path) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let config = RustlsConfig::from_pem_file(certificate, key).await.unwrap();
        let (hub, listener, service) = Self::bound("https").await;
        tokio::spawn(axum_server::from_tcp_rustls(listener, config).unwrap().serve(service));
        hub
    }

    async fn bound(scheme: &str) -> (Self, TcpListener, IntoMakeService<Router>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = Self {
            url: format!("{scheme}://{}", listener.local_addr().unwrap()),
            calls: Arc::default(),
            behaviour: Arc::new(Mutex::new(Behaviour::Answer(204))),
            exceptions: Arc::default(),
            at_once: Arc::default(),
        };
        let service = Router::new().fallback(answer).with_state(hub.clone()).into_make_service();
        (hub, listener.into_std().unwrap(), service)
    }

    pub fn api(&self) -> String {
        format!("{}/hub/api", self.url)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    /// How calls of exactly this path are answered from now on.
    pub fn behave_at(&self, path: &str, behaviour: Behaviour) {
        let mut exceptions = self.exceptions.lock().unwrap();
        exceptions.retain(|(known, _)| known != path);
        exceptions.push((path.to_owned(), behaviour));
    }

    /// The most calls that there were at once.
    pub fn most_at_once(&self) -> usize {
        self.at_once.1.load(Ordering::SeqCst)
    }

    /// What was called below `prefix`, in order.
    pub fn calls(&self, prefix: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.path.starts_with(prefix)).cloned().collect()
    }

    pub async fn wait_for_calls(&self, prefix: &str, count: usize) -> Vec<Call> {
        eventually(&format!("{count} calls of {prefix}"), || async {
            let calls = self.calls(prefix);
            (calls.len() >= count).then_some(calls)
        })
        .await
    }
}

async fn answer(State(hub): State<FakeHub>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let token =
        request.headers().get("authorization").map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
    let body = to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let body = serde_json::from_slice(&body).unwrap_or(Value::Null);
    let exceptions = hub.exceptions.lock().unwrap().clone();
    let exception = exceptions.iter().find(|(known, _)| *known == path).map(|(_, behaviour)| *behaviour);
    hub.calls.lock().unwrap().push(Call { path, token, body });
    let behaviour = exception.unwrap_or(*hub.behaviour.lock().unwrap());
    let _counted = Counted::one(&hub.at_once);
    match behaviour {
        Behaviour::Answer(status) => {
            (StatusCode::from_u16(status).unwrap(), [("x-jupyterhub-version", "5.4.0")]).into_response()
        }
        Behaviour::Proxy(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Slow(pause) => {
            tokio::time::sleep(pause).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Behaviour::Redirect => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
    }
}

/// A call that is under way, until it is dropped: answered, or given up.
struct Counted(Arc<(AtomicUsize, AtomicUsize)>);

impl Counted {
    fn one(at_once: &Arc<(AtomicUsize, AtomicUsize)>) -> Self {
        let now = at_once.0.fetch_add(1, Ordering::SeqCst) + 1;
        at_once.1.fetch_max(now, Ordering::SeqCst);
        Self(at_once.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
