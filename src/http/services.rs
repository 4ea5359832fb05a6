//! `/services`: start, poll, stop, list.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::App;
use super::body::JsonBytes;
use super::caller::{Caller, Head};
use super::error::HttpError;
use super::path::ServicePath;
use crate::error::Error;
use crate::model::{Phase, Server, StartRequest};
use crate::outpost::{Polled, Stopped};

/// The answer to a start.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StartedAnswer {
    /// `host:port`; empty: not known yet.
    service: String,
}

/// The answer to a poll.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PolledAnswer {
    /// `null`: it runs. Else the exit code; negative: the signal that ended it.
    status: Option<i32>,
    /// The last lines that the server wrote, if they were asked for.
    logs: Vec<String>,
}

/// The answer to a stop.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct StoppedAnswer {
    /// The last lines that the server wrote; `null` if it was being stopped already.
    logs: Option<Vec<String>>,
}

/// One server in the list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedServer {
    name: String,
    start_id: String,
    /// UTC with microseconds, for example `2026-11-21T08:51:26.707735Z`.
    start_date: String,
    end_date: String,
    jupyterhub: String,
    jupyterhub_userid: String,
    last_update: String,
    state_stored: bool,
    start_pending: bool,
    stop_pending: bool,
}

/// Whether Outpost is there. Needs no credentials and no database.
#[utoipa::path(get, path = "/ping", responses((status = 200, description = "`{\"ping\":\"pong!\"}`")), security(()))]
pub(super) async fn ping() -> Json<Value> {
    Json(json!({ "ping": "pong!" }))
}

/// Starts a server.
///
/// With the header `execution-type: async` the answer comes as soon as the server is written down, and the start goes on.
/// The same request again joins the start that is under way, or gets the answer of the server that runs.
#[utoipa::path(post, path = "/services", request_body(content = Object, description = "name, env, user_options, misc, certs, internal_trust_bundles, authentication, flavor"),
    responses(
        (status = 200, description = "It runs", body = StartedAnswer),
        (status = 202, description = "It is starting", body = StartedAnswer),
        (status = 401, description = "No or wrong credentials"),
        (status = 413, description = "The body is too large"),
        (status = 419, description = "It was refused or failed: `args[0]` is a sentence for the user"),
        (status = 422, description = "The body is no service: `detail` names the fields"),
    ))]
pub(super) async fn start(
    State(outpost): State<App>,
    Caller(hub): Caller,
    head: Head,
    JsonBytes(body): JsonBytes,
) -> Result<Response, HttpError> {
    let request = StartRequest::parse(&body)?;
    drop(body);
    let service = outpost.start(&hub, request, head.auth_state, head.asynchronous).await?;
    let status = if head.asynchronous { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Json(StartedAnswer { service: service.to_string() })).into_response())
}

/// What is known about a server. `{start_id}` may be left out: `0`.
#[utoipa::path(get, path = "/services/{name}/{start_id}",
    params(("name" = String, Path), ("start_id" = String, Path), ("collect_logs" = Option<bool>, Query)),
    responses(
        (status = 200, description = "It runs or has ended", body = PolledAnswer),
        (status = 401, description = "No or wrong credentials"),
        (status = 404, description = "There is no such server of this hub"),
    ))]
pub(super) async fn poll(
    State(outpost): State<App>,
    caller: Result<Caller, HttpError>,
    head: Head,
    path: ServicePath,
) -> Result<Json<PolledAnswer>, HttpError> {
    let polled = match caller {
        Ok(Caller(hub)) => outpost.poll(&path.of(&hub), head.collect_logs, head.auth_state).await?,
        // Who asks cannot be known before the database was reached once. "Running" tells nobody anything.
        Err(HttpError(Error::Unavailable { .. })) => Polled { status: None, logs: Vec::new() },
        Err(error) => return Err(error),
    };
    Ok(Json(PolledAnswer { status: polled.status, logs: polled.logs }))
}

/// Stops a server. With `execution-type: async` the answer comes at once.
#[utoipa::path(delete, path = "/services/{name}/{start_id}",
    params(("name" = String, Path), ("start_id" = String, Path), ("collect_logs" = Option<bool>, Query)),
    responses(
        (status = 200, description = "It is gone", body = StoppedAnswer),
        (status = 202, description = "It is being stopped"),
        (status = 401, description = "No or wrong credentials"),
        (status = 404, description = "There is no such server of this hub"),
        (status = 419, description = "It cannot be stopped just now"),
    ))]
pub(super) async fn stop(
    State(outpost): State<App>,
    Caller(hub): Caller,
    head: Head,
    path: ServicePath,
) -> Result<Response, HttpError> {
    let Stopped { logs } = outpost.stop(&path.of(&hub), head.asynchronous, head.collect_logs, head.auth_state).await?;
    Ok(if head.asynchronous {
        (StatusCode::ACCEPTED, Json(json!({}))).into_response()
    } else {
        Json(StoppedAnswer { logs }).into_response()
    })
}

/// The caller's servers, the oldest first.
#[utoipa::path(get, path = "/services/", responses(
        (status = 200, description = "The caller's servers", body = Vec<ListedServer>),
        (status = 401, description = "No or wrong credentials"),
    ))]
pub(super) async fn list(
    State(outpost): State<App>,
    Caller(hub): Caller,
) -> Result<Json<Vec<ListedServer>>, HttpError> {
    Ok(Json(outpost.list(&hub)?.into_iter().map(listed).collect()))
}

fn listed(server: Server) -> ListedServer {
    ListedServer {
        name: server.id.name.to_string(),
        start_id: server.id.start_id.to_string(),
        start_date: date(server.start_date),
        end_date: server.end_date.map_or_else(|| "9999-12-31T23:59:59.999999Z".to_owned(), date),
        jupyterhub: server.id.hub.to_string(),
        jupyterhub_userid: server.user_id.to_string(),
        last_update: date(server.last_update),
        state_stored: server.phase > Phase::Starting,
        start_pending: server.phase <= Phase::Starting,
        stop_pending: server.phase == Phase::Stopping,
    }
}

/// With a zone on every database; microseconds are left out when they are 0, as the Python service does.
fn date(date: DateTime<Utc>) -> String {
    let form = if date.timestamp_subsec_micros() == 0 { SecondsFormat::Secs } else { SecondsFormat::Micros };
    date.to_rfc3339_opts(form, true)
}
