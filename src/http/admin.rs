//! The listener of the site: health, readiness, metrics, and the admin API below `/api/v1`.
//!
//! The first three have no credentials, so keep it on loopback or in the cluster. The admin API asks for a token.

pub(super) mod access;
pub(super) mod audit;
pub(super) mod definitions;
pub(super) mod explain;
pub(super) mod host_keys;
pub(super) mod hubs;
mod input;
mod problem;
pub(super) mod reload;
pub(super) mod services;
pub(super) mod ssh_keys;
pub(super) mod usage;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde_json::json;
use tower_http::catch_panic::CatchPanicLayer;

use self::problem::Problem;
use super::{App, observe};
use crate::admission::Kind;
use crate::error::Error;
use crate::model::Phase;

/// The URL table. A layer is around what stands above it, and the last of them is the first to see a request.
pub fn router(outpost: App) -> Router {
    Router::new()
        .nest("/api/v1", api())
        .fallback(problem::not_found)
        .layer(CatchPanicLayer::custom(problem::panicked))
        .layer(axum::middleware::from_fn_with_state(outpost.clone(), observe::observe))
        .layer(axum::middleware::from_fn_with_state(outpost.clone(), finish))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(outpost)
}

/// The admin API.
fn api() -> Router<App> {
    Router::new()
        .route("/hubs", get(hubs::list).post(hubs::add))
        .route("/hubs/{name}", delete(hubs::remove))
        .route("/hubs/{name}/rotate", post(hubs::rotate))
        .route("/hubs/{name}/ssh-keys", get(ssh_keys::list).post(ssh_keys::add))
        .route("/hubs/{name}/ssh-keys/{fingerprint}", delete(ssh_keys::remove))
        .route("/ssh/host-keys", get(host_keys::list))
        .route("/ssh/host-keys/rotation", post(host_keys::rotate))
        .route("/services", get(services::list))
        .route("/services/{id}", get(services::show).delete(services::stop))
        .route("/services/{id}/extend", post(services::extend))
        .nest("/flavors", definitions::routes(Kind::Flavors))
        .nest("/credits", definitions::routes(Kind::Credits))
        .route("/usage", get(usage::export))
        .route("/explain", post(explain::explain))
        .route("/reload", post(reload::reload))
        .route("/audit", get(audit::list))
        .method_not_allowed_fallback(problem::method_not_allowed)
}

/// What was begun is finished and written down, even if whoever asked for it does not wait: a request without a task of its
/// own ends in its middle when its client goes.
async fn finish(State(outpost): State<App>, request: Request, next: Next) -> Response {
    if request.method().is_safe() {
        return next.run(request).await;
    }
    let answered = outpost.tracker.spawn(next.run(request)).await;
    answered.unwrap_or_else(|error| Problem::from(Error::internal(error)).into_response())
}

/// The process answers: a restart would not help.
async fn healthz() -> &'static str {
    "ok\n"
}

/// 200 if hubs can be served, else 503 with the reasons.
async fn readyz(State(outpost): State<App>) -> Response {
    let reasons = outpost.unready().await;
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(outpost): State<App>) -> Response {
    outpost.metrics.servers.set(i64::try_from(outpost.view.len()).unwrap_or(i64::MAX));
    let queued = outpost.view.in_phase(Phase::Queued).len();
    outpost.metrics.queued.set(i64::try_from(queued).unwrap_or(i64::MAX));
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([("content-type", kind)], outpost.metrics.encode()).into_response()
}
