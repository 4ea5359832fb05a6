//! `/api/v1/hubs`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{Reader, Writer};
use super::input::{Body, Segment};
use super::problem::Problem;
use crate::admin::{self, HubSummary};
use crate::http::App;

/// All hubs.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Hubs {
    hubs: Vec<HubSummary>,
}

/// The hub to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewHub {
    /// The user name of its credential.
    name: String,
}

/// How to replace a password.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Rotation {
    /// Whether the password before ends at once.
    #[serde(default)]
    now: bool,
}

/// A new credential. It is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct NewCredential {
    hub: String,
    password: String,
}

impl From<admin::Credential> for NewCredential {
    fn from(credential: admin::Credential) -> Self {
        Self { hub: credential.hub, password: credential.password.expose_secret().to_owned() }
    }
}

/// All hubs, by name.
#[utoipa::path(get, path = "/api/v1/hubs", security(("admin" = [])), responses(
        (status = 200, description = "The hubs", body = Hubs),
        (status = 401, description = "No valid token", body = Problem),
    ))]
pub(in crate::http) async fn list(_: Reader, State(outpost): State<App>) -> Result<Json<Hubs>, Problem> {
    let mut hubs = admin::hubs(&outpost.store).await?;
    for hub in &mut hubs {
        hub.dial = outpost.dials.get(&hub.hub).map(|dial| dial.state());
    }
    Ok(Json(Hubs { hubs }))
}

/// Makes a hub known and gives it a password, which is valid at once.
#[utoipa::path(post, path = "/api/v1/hubs", security(("admin" = [])), request_body = NewHub, responses(
        (status = 201, description = "The credential, shown this once", body = NewCredential),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 409, description = "The hub has a password already", body = Problem),
        (status = 422, description = "The name cannot be one", body = Problem),
    ))]
pub(in crate::http) async fn add(
    writer: Writer,
    State(outpost): State<App>,
    Body(hub): Body<NewHub>,
) -> Result<(StatusCode, Json<NewCredential>), Problem> {
    let credential = writer.admin(&outpost, &outpost.config.load()).add_hub(&hub.name).await?;
    outpost.take_up().await;
    Ok((StatusCode::CREATED, Json(credential.into())))
}

/// Gives a hub a new password. The one before stays valid, unless `now`.
#[utoipa::path(post, path = "/api/v1/hubs/{name}/rotate", security(("admin" = [])), params(("name" = String, Path)),
    request_body = Rotation, responses(
        (status = 200, description = "The credential, shown this once", body = NewCredential),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no such hub", body = Problem),
    ))]
pub(in crate::http) async fn rotate(
    writer: Writer,
    State(outpost): State<App>,
    Segment(name): Segment,
    Body(rotation): Body<Rotation>,
) -> Result<Json<NewCredential>, Problem> {
    let credential = writer.admin(&outpost, &outpost.config.load()).rotate_hub(&name, rotation.now).await?;
    outpost.take_up().await;
    Ok(Json(credential.into()))
}

/// Removes a hub and its passwords.
#[utoipa::path(delete, path = "/api/v1/hubs/{name}", security(("admin" = [])), params(("name" = String, Path)), responses(
        (status = 204, description = "It is removed"),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no such hub", body = Problem),
        (status = 409, description = "It has servers, or is in the configuration", body = Problem),
    ))]
pub(in crate::http) async fn remove(
    writer: Writer,
    State(outpost): State<App>,
    Segment(name): Segment,
) -> Result<StatusCode, Problem> {
    writer.admin(&outpost, &outpost.config.load()).remove_hub(&name).await?;
    outpost.take_up().await;
    Ok(StatusCode::NO_CONTENT)
}
