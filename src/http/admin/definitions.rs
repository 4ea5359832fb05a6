//! `/api/v1/flavors` and `/api/v1/credits`: the same for both.

use axum::extract::{Extension, FromRequestParts, State};
use axum::http::StatusCode;
use axum::http::header::{ETAG, IF_MATCH};
use axum::http::request::Parts;
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::access::{Reader, Writer};
use super::input::{Body, Segment, Text};
use super::problem::Problem;
use crate::admin::{self, DefinitionVersion};
use crate::admission::{Document, Format, Kind};
use crate::http::App;
use crate::outpost::{Changed, Expected};

/// The paths of one kind, below its name.
pub(super) fn routes(kind: Kind) -> Router<App> {
    Router::new()
        .route("/", get(show).put(replace))
        .route("/versions", get(versions))
        .route("/versions/{version}", get(show_version))
        .route("/diff", post(diff))
        .route("/entries/{name}", put(set).delete(remove))
        .method_not_allowed_fallback(super::problem::method_not_allowed)
        .layer(Extension(kind))
}

/// A version with what it defines.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Definition {
    #[serde(flatten)]
    version: DefinitionVersion,
    /// The document, as it was written.
    #[schema(value_type = Object)]
    document: Value,
}

/// All versions, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Versions {
    versions: Vec<DefinitionVersion>,
}

/// What a change changes.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Difference {
    /// The version that is in force.
    version: i64,
    /// What is different, a line each: `flavors.small.max: 5 -> 10`.
    differences: Vec<String>,
    /// What may not be meant so, a sentence each.
    warnings: Vec<String>,
}

impl From<admin::Definition> for Definition {
    fn from(definition: admin::Definition) -> Self {
        Self { document: definition.document.raw().clone(), version: definition.version }
    }
}

/// `If-Match`: the version that a change is for.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct IfMatch(Expected);

impl FromRequestParts<App> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _outpost: &App) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(IF_MATCH) else { return Ok(Self(Expected::Whichever)) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self(Expected::Something));
        }
        let version = text.trim_matches('"').parse().ok();
        let mistake = || Problem::invalid("If-Match: has to be the number of a version.");
        version.map(|version| Self(Expected::Version(version))).ok_or_else(mistake)
    }
}

fn tagged<T: Serialize>(version: i64, body: T) -> impl IntoResponse {
    (AppendHeaders([(ETAG, format!("\"{version}\""))]), Json(body))
}

/// Reads a document of the body.
fn document(kind: Kind, body: &Text) -> Result<Document, Problem> {
    let format = if body.yaml { Format::Yaml } else { Format::Json };
    Document::parse(kind, &body.text, format).map_err(Problem::invalid)
}

/// Takes a change over at once.
async fn in_force(outpost: &App, changed: Changed) -> impl IntoResponse + use<> {
    outpost.take_up().await;
    let Changed { version, differences, warnings, .. } = changed;
    tagged(version, Difference { version, differences, warnings })
}

/// What is defined. `ETag` is the version, for `If-Match` of a change.
#[utoipa::path(get, path = "/api/v1/{kind}", security(("admin" = [])),
    params(("kind" = String, Path, description = "`flavors` or `credits`")), responses(
        (status = 200, description = "The version in force", body = Definition),
        (status = 401, description = "No valid token", body = Problem),
    ))]
pub(in crate::http) async fn show(
    _: Reader,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
) -> Result<impl IntoResponse, Problem> {
    let definition = admin::definition(&outpost.store, kind, None).await?;
    Ok(tagged(definition.version.version, Definition::from(definition)))
}

/// All versions, the newest first, without their documents.
#[utoipa::path(get, path = "/api/v1/{kind}/versions", security(("admin" = [])), params(("kind" = String, Path)), responses(
        (status = 200, description = "The versions", body = Versions),
        (status = 401, description = "No valid token", body = Problem),
    ))]
pub(in crate::http) async fn versions(
    _: Reader,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
) -> Result<Json<Versions>, Problem> {
    Ok(Json(Versions { versions: admin::definition_versions(&outpost.store, kind).await? }))
}

/// What an older version defined.
#[utoipa::path(get, path = "/api/v1/{kind}/versions/{version}", security(("admin" = [])),
    params(("kind" = String, Path), ("version" = i64, Path)), responses(
        (status = 200, description = "The version", body = Definition),
        (status = 401, description = "No valid token", body = Problem),
        (status = 404, description = "There is no such version", body = Problem),
    ))]
pub(in crate::http) async fn show_version(
    _: Reader,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
    Segment(version): Segment,
) -> Result<Json<Definition>, Problem> {
    let missing = || Problem::new(StatusCode::NOT_FOUND, "A version is a number.");
    let version = version.parse().map_err(|_| missing())?;
    Ok(Json(admin::definition(&outpost.store, kind, Some(version)).await?.into()))
}

/// Replaces everything that is defined.
#[utoipa::path(put, path = "/api/v1/{kind}", security(("admin" = [])),
    params(("kind" = String, Path), ("If-Match" = Option<String>, Header, description = "The version that is replaced")),
    request_body(content((Object = "application/json"), (String = "application/yaml"))), responses(
        (status = 200, description = "The version in force, and what it changed", body = Difference),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 412, description = "Another version is in force, or none", body = Problem),
        (status = 422, description = "The document has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn replace(
    writer: Writer,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
    IfMatch(expected): IfMatch,
    body: Text,
) -> Result<impl IntoResponse, Problem> {
    let document = document(kind, &body)?;
    let changed = writer.admin(&outpost, &outpost.config.load()).apply(&document, expected).await?;
    Ok(in_force(&outpost, changed).await)
}

/// Defines one flavor or credit, or replaces it; the others stay as they are.
#[utoipa::path(put, path = "/api/v1/{kind}/entries/{name}", security(("admin" = [])),
    params(("kind" = String, Path), ("name" = String, Path), ("If-Match" = Option<String>, Header)),
    request_body = Object, responses(
        (status = 200, description = "The version in force, and what it changed", body = Difference),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 412, description = "Another version is in force, or none", body = Problem),
        (status = 422, description = "It has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn set(
    writer: Writer,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
    IfMatch(expected): IfMatch,
    Segment(name): Segment,
    Body(entry): Body<Value>,
) -> Result<impl IntoResponse, Problem> {
    let config = outpost.config.load();
    let changed = writer.admin(&outpost, &config).set_entry(kind, &name, &entry, expected).await?;
    Ok(in_force(&outpost, changed).await)
}

/// Removes one flavor or credit.
#[utoipa::path(delete, path = "/api/v1/{kind}/entries/{name}", security(("admin" = [])),
    params(("kind" = String, Path), ("name" = String, Path), ("If-Match" = Option<String>, Header)), responses(
        (status = 200, description = "The version in force, and what it changed", body = Difference),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 404, description = "There is none of that name", body = Problem),
        (status = 412, description = "Another version is in force, or none", body = Problem),
    ))]
pub(in crate::http) async fn remove(
    writer: Writer,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
    IfMatch(expected): IfMatch,
    Segment(name): Segment,
) -> Result<impl IntoResponse, Problem> {
    let changed = writer.admin(&outpost, &outpost.config.load()).remove_entry(kind, &name, expected).await?;
    Ok(in_force(&outpost, changed).await)
}

/// What a document would change. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/{kind}/diff", security(("admin" = [])), params(("kind" = String, Path)),
    request_body(content((Object = "application/json"), (String = "application/yaml"))), responses(
        (status = 200, description = "The version in force, and what is different in the document", body = Difference),
        (status = 401, description = "No valid token", body = Problem),
        (status = 422, description = "The document has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn diff(
    _: Reader,
    State(outpost): State<App>,
    Extension(kind): Extension<Kind>,
    body: Text,
) -> Result<Json<Difference>, Problem> {
    let document = document(kind, &body)?;
    let newest = admin::definition(&outpost.store, kind, None).await?;
    Ok(Json(Difference {
        version: newest.version.version,
        differences: newest.document.differences(&document),
        warnings: document.warnings().to_vec(),
    }))
}
