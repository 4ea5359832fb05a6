//! The listener of the site: health, readiness, metrics. It has no credentials, so keep it on loopback or in the cluster.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::{App, not_found};
use crate::model::Phase;

/// The URL table.
pub fn router(outpost: App) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .fallback(not_found)
        .with_state(outpost)
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
