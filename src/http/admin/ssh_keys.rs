//! `/api/v1/hubs/{name}/ssh-keys`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::access::{Reader, Writer};
use super::input::{Body, Segment, Segments};
use super::problem::Problem;
use crate::admin::{self, SshKeySummary};
use crate::http::App;
use crate::model::AuthorizedKey;

/// The SSH keys of a hub.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct SshKeys {
    ssh_keys: Vec<SshKeySummary>,
}

/// The key to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewSshKey {
    /// A line of `authorized_keys`.
    key: String,
}

/// The keys that a hub may forward with, the oldest first.
#[utoipa::path(get, path = "/api/v1/hubs/{name}/ssh-keys", security(("admin" = [])), params(("name" = String, Path)),
    responses(
        (status = 200, description = "The keys", body = SshKeys),
        (status = 401, description = "No valid token", body = Problem),
        (status = 404, description = "There is no such hub", body = Problem),
    ))]
pub(in crate::http) async fn list(
    _: Reader,
    State(outpost): State<App>,
    Segment(name): Segment,
) -> Result<Json<SshKeys>, Problem> {
    Ok(Json(SshKeys { ssh_keys: admin::ssh_keys(&outpost.store, Some(&name)).await? }))
}

/// Lets a hub forward with a key. One that it has already gets the options of this line.
#[utoipa::path(post, path = "/api/v1/hubs/{name}/ssh-keys", security(("admin" = [])), params(("name" = String, Path)),
    request_body = NewSshKey, responses(
        (status = 201, description = "The key", body = SshKeySummary),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no such hub", body = Problem),
        (status = 409, description = "It is another hub's, or managed by the configuration", body = Problem),
        (status = 422, description = "It is no key that can be used, or has an option that cannot be honoured", body = Problem),
    ))]
pub(in crate::http) async fn add(
    writer: Writer,
    State(outpost): State<App>,
    Segment(name): Segment,
    Body(new): Body<NewSshKey>,
) -> Result<(StatusCode, Json<SshKeySummary>), Problem> {
    let key = AuthorizedKey::parse(&new.key).map_err(|mistake| Problem::invalid(format!("key: {mistake}")))?;
    let added = writer.admin(&outpost, &outpost.config.load()).add_ssh_key(&name, &key).await?;
    outpost.take_up().await;
    Ok((StatusCode::CREATED, Json(added)))
}

/// Takes a key from a hub; its connections end.
#[utoipa::path(delete, path = "/api/v1/hubs/{name}/ssh-keys/{fingerprint}", security(("admin" = [])),
    params(("name" = String, Path), ("fingerprint" = String, Path, description = "`SHA256:…`, percent-encoded, or the comment")),
    responses(
        (status = 204, description = "It is removed"),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is no such hub, or it has no such key", body = Problem),
        (status = 409, description = "It is managed by the configuration, or several have this comment", body = Problem),
    ))]
pub(in crate::http) async fn remove(
    writer: Writer,
    State(outpost): State<App>,
    Segments(name, fingerprint): Segments,
) -> Result<StatusCode, Problem> {
    writer.admin(&outpost, &outpost.config.load()).remove_ssh_key(&name, &fingerprint).await?;
    outpost.take_up().await;
    Ok(StatusCode::NO_CONTENT)
}
