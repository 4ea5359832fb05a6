//! A hub that counts what it is told, and misbehaves on demand: the real one does not.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::Value;

use super::eventually;

#[derive(Clone, Copy, Debug)]
pub enum Behaviour {
    Answer(u16),
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
}

impl FakeHub {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let hub = Self {
            url: format!("http://{}", listener.local_addr().unwrap()),
            calls: Arc::default(),
            behaviour: Arc::new(Mutex::new(Behaviour::Answer(204))),
        };
        let router = Router::new().fallback(answer).with_state(hub.clone());
        tokio::spawn(async move {
            axum_server::from_tcp(listener.into_std().unwrap()).unwrap().serve(router.into_make_service()).await
        });
        hub
    }

    pub fn api(&self) -> String {
        format!("{}/hub/api", self.url)
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
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
    hub.calls.lock().unwrap().push(Call { path, token, body });
    let behaviour = *hub.behaviour.lock().unwrap();
    match behaviour {
        Behaviour::Answer(status) => StatusCode::from_u16(status).unwrap().into_response(),
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Slow(pause) => {
            tokio::time::sleep(pause).await;
            StatusCode::NO_CONTENT.into_response()
        }
        Behaviour::Redirect => (StatusCode::TEMPORARY_REDIRECT, [("location", "/elsewhere")]).into_response(),
    }
}
