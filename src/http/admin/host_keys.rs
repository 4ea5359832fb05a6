//! `/api/v1/ssh/host-keys`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{Reader, Writer};
use super::input::Body;
use super::problem::Problem;
use crate::admin::{self, HostKeySummary};
use crate::http::App;

/// The keys by which SSH clients know this installation.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct HostKeys {
    host_keys: Vec<HostKeySummary>,
}

/// A step of a rotation.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct HostKeyRotation {
    /// Whether the next key takes the current one's place, instead of one being made.
    #[serde(default)]
    finish: bool,
}

/// The current host key, and the next one during a rotation; none before the SSH server's first start.
#[utoipa::path(get, path = "/api/v1/ssh/host-keys", security(("admin" = [])), responses(
        (status = 200, description = "The keys", body = HostKeys),
        (status = 401, description = "No valid token", body = Problem),
    ))]
pub(in crate::http) async fn list(_: Reader, State(outpost): State<App>) -> Result<Json<HostKeys>, Problem> {
    Ok(Json(HostKeys { host_keys: admin::host_keys(&outpost.store, &outpost.config.load()).await? }))
}

/// Makes the next host key or, to `finish`, puts it in the current one's place. Clients have to trust both before that.
#[utoipa::path(post, path = "/api/v1/ssh/host-keys/rotation", security(("admin" = [])), request_body = HostKeyRotation,
    responses(
        (status = 200, description = "The keys as they are now", body = HostKeys),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no host key yet", body = Problem),
        (status = 409, description = "There is a next key already or, to finish, there is none", body = Problem),
    ))]
pub(in crate::http) async fn rotate(
    writer: Writer,
    State(outpost): State<App>,
    Body(rotation): Body<HostKeyRotation>,
) -> Result<Json<HostKeys>, Problem> {
    let config = outpost.config.load();
    let admin = writer.admin(&outpost, &config);
    if rotation.finish {
        admin.finish_host_key_rotation().await?
    } else {
        admin.rotate_host_key().await?
    }
    Ok(Json(HostKeys { host_keys: admin::host_keys(&outpost.store, &config).await? }))
}
