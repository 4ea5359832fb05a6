//! `/api/v1/services`: servers of all hubs.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::access::{Reader, Writer};
use super::input::{Body, Paging, Parameters, Segment};
use super::problem::Problem;
use crate::admin::{self, ServerSearch, ServerSummary, Until, parse_length};
use crate::http::App;
use crate::model::{Phase, UsageFilter};
use crate::store::{PastServer, Search};

/// Which servers, and how many.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Filter {
    /// Of this hub.
    hub: Option<String>,
    /// Of the user with this name.
    user: Option<String>,
    /// With this flavor.
    flavor: Option<String>,
    /// In this phase; not with `ended`.
    phase: Option<String>,
    /// In this backend; not with `ended`.
    spawner: Option<String>,
    /// Those that have left instead of those that exist.
    #[serde(default)]
    ended: bool,
    /// At most so many: 1 to 1000, else 100.
    limit: Option<usize>,
    /// Those behind this id: the `next` of the page before.
    after: Option<String>,
}

/// Servers that exist, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Services {
    services: Vec<ServerSummary>,
    /// What `after` has to be for the next page; `null`: this was the last.
    next: Option<String>,
}

/// Servers that have left, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct PastServices {
    services: Vec<PastServer>,
    /// What `after` has to be for the next page; `null`: this was the last.
    next: Option<String>,
}

/// Until when a server may run: `{"by": "2h"}` or `{"until": "2026-12-01T12:00:00Z"}`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Extension {
    /// So much longer than now agreed; than now, if that is over or there is no end.
    by: Option<String>,
    /// Until then; `null`: without an end.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    until: Option<Option<String>>,
}

/// Keeps a `null` apart from what is not there.
fn given<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Extension {
    fn until(&self) -> Result<Until, Problem> {
        match (&self.by, &self.until) {
            (Some(by), None) => {
                parse_length(by).map(Until::By).map_err(|mistake| Problem::invalid(format!("by: {mistake}.")))
            }
            (None, Some(None)) => Ok(Until::Open),
            (None, Some(Some(date))) => UsageFilter::parse_time(date)
                .map(Until::Date)
                .map_err(|mistake| Problem::invalid(format!("until: {mistake}."))),
            _ => Err(Problem::invalid("There has to be either `by` or `until`.")),
        }
    }
}

/// When a server's time is over.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct End {
    id: String,
    /// `null`: no end.
    end_date: Option<DateTime<Utc>>,
}

/// Servers of all hubs, the newest first.
#[utoipa::path(get, path = "/api/v1/services", security(("admin" = [])), params(Filter), responses(
        (status = 200, description = "Servers that exist; with `ended` those that have left (PastServices)", body = Services),
        (status = 401, description = "No valid token", body = Problem),
        (status = 422, description = "The query has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn list(
    _: Reader,
    State(outpost): State<App>,
    Parameters(filter): Parameters<Filter>,
) -> Result<Response, Problem> {
    let page = Paging::of(filter.limit, filter.after).page()?;
    let search = Search { hub: filter.hub, user: filter.user, flavor: filter.flavor };
    if filter.ended {
        if filter.phase.is_some() || filter.spawner.is_some() {
            return Err(Problem::invalid("phase and spawner: are not known of servers that have left."));
        }
        let limit = i64::try_from(page.look_for()).unwrap_or(i64::MAX);
        let mut services = outpost.store.past_servers(&search, page.after.as_ref(), limit).await?;
        let next = page.cut(&mut services, |server| server.id.clone());
        return Ok(Json(PastServices { services, next }).into_response());
    }
    let phase = filter.phase.as_deref().map(|phase| {
        Phase::parse(phase)
            .ok_or_else(|| Problem::invalid("phase: has to be the name of a phase, for example running or stopping."))
    });
    let search = ServerSearch { search, phase: phase.transpose()?, spawner: filter.spawner };
    let mut servers = search.page(outpost.all_servers()?, page.after.as_ref(), page.look_for());
    let next = page.cut(&mut servers, |server| server.uid.to_string());
    Ok(Json(Services { services: servers.iter().map(ServerSummary::from).collect(), next }).into_response())
}

/// One server, that exists or has left.
#[utoipa::path(get, path = "/api/v1/services/{id}", security(("admin" = [])), params(("id" = String, Path)), responses(
        (status = 200, description = "The server; of one that has left, a PastServer", body = ServerSummary),
        (status = 401, description = "No valid token", body = Problem),
        (status = 404, description = "There is no such server, or it is forgotten", body = Problem),
    ))]
pub(in crate::http) async fn show(_: Reader, State(outpost): State<App>, id: Segment) -> Result<Json<Value>, Problem> {
    let uid = id.uid()?;
    if let Some(entry) = outpost.view.by_uid(&uid) {
        return Ok(Json(json!(ServerSummary::from(&entry.server()))));
    }
    let past = outpost.store.past_server(&uid).await?;
    let past = past.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("There is no server {uid}.")))?;
    Ok(Json(json!(past)))
}

/// Stops a server. The answer comes at once, and the stop goes on.
#[utoipa::path(delete, path = "/api/v1/services/{id}", security(("admin" = [])), params(("id" = String, Path)), responses(
        (status = 202, description = "It is being stopped"),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no such server", body = Problem),
    ))]
pub(in crate::http) async fn stop(
    writer: Writer,
    State(outpost): State<App>,
    id: Segment,
) -> Result<StatusCode, Problem> {
    let server = admin::server(&outpost.store, &id.uid()?).await?;
    writer.admin(&outpost, &outpost.config.load()).stop_server(&server).await?;
    outpost.take_up().await;
    Ok(StatusCode::ACCEPTED)
}

/// Changes when a server's time is over.
#[utoipa::path(post, path = "/api/v1/services/{id}/extend", security(("admin" = [])), params(("id" = String, Path)),
    request_body = Extension, responses(
        (status = 200, description = "When its time is over now", body = End),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no such server", body = Problem),
        (status = 409, description = "It has ended, is being stopped, or waits for its turn still", body = Problem),
        (status = 422, description = "That is no length of time or no date to come", body = Problem),
    ))]
pub(in crate::http) async fn extend(
    writer: Writer,
    State(outpost): State<App>,
    id: Segment,
    Body(extension): Body<Extension>,
) -> Result<Json<End>, Problem> {
    let (uid, until) = (id.uid()?, extension.until()?);
    let end_date = writer.admin(&outpost, &outpost.config.load()).extend_server(&uid, until).await?;
    outpost.take_up().await;
    Ok(Json(End { id: uid.to_string(), end_date }))
}
