//! Around every request: an id, a log line, a count.

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use super::App;
use super::error::detail;
use crate::metrics::RequestLabels;

tokio::task_local! {
    static REQUEST_ID: ulid::Ulid;
}

/// The id of the request that is being answered.
pub(super) fn request_id() -> String {
    REQUEST_ID.try_with(ToString::to_string).unwrap_or_default()
}

/// Gives the request an id, counts it and writes a line about it.
pub(super) async fn observe(State(outpost): State<App>, request: Request, next: Next) -> Response {
    let id = ulid::Ulid::generate();
    let method = method(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("", |path| route(path.as_str()));
    let span = tracing::error_span!("request", id = %id, method, route, hub.name = tracing::field::Empty, actor = tracing::field::Empty);
    let begun = std::time::Instant::now();
    let mut response = REQUEST_ID.scope(id, next.run(request)).instrument(span.clone()).await;
    if outpost.ending.is_cancelled() {
        // The client's next request needs a new connection, which leads to an Outpost that goes on.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    let status = response.status();
    outpost.metrics.requests.get_or_create(&RequestLabels { method, route, status: status.as_u16() }).inc();
    let _entered = span.enter();
    tracing::debug!(
        status = status.as_u16(),
        duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
        "request"
    );
    if !status.is_success()
        && let Ok(id) = HeaderValue::try_from(id.to_string())
    {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}

/// The Python service knows no HEAD; axum answers one like a GET.
pub(super) async fn no_head(request: Request, next: Next) -> Response {
    if request.method() != Method::HEAD {
        return next.run(request).await;
    }
    let mut response = detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    let allow = request.extensions().get::<MatchedPath>().map_or("", |path| allowed(path.as_str()));
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    response
}

/// The methods of a route.
pub(super) fn allowed(pattern: &str) -> &'static str {
    match route(pattern) {
        "/services/{name}/{start_id}" => "DELETE, GET",
        "/services" => "GET, POST",
        "/userflavors" | "/usercredits" => "POST",
        _ => "GET",
    }
}

/// Methods and routes as labels: a fixed few, whatever a client sends.
fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

fn route(pattern: &str) -> &'static str {
    if pattern.starts_with("/api/v1/") {
        return "/api/v1";
    }
    let known = [
        "/services/{*path}",
        "/services",
        "/ping",
        "/userflavors",
        "/flavors",
        "/usercredits",
        "/credits",
        "/openapi.json",
    ];
    let pattern = pattern.trim_end_matches('/');
    match known.into_iter().find(|known| pattern.ends_with(known)) {
        Some("/services/{*path}") => "/services/{name}/{start_id}",
        Some(known) => known,
        None => "",
    }
}
