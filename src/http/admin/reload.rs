//! `/api/v1/reload`: the configuration file, read now.

use axum::Json;
use axum::extract::State;

use super::access::Writer;
use super::problem::Problem;
use crate::http::App;
use crate::outpost::Reloaded;

/// Reads the configuration file now, as SIGHUP does. A mistake changes nothing.
#[utoipa::path(post, path = "/api/v1/reload", security(("admin" = [])), responses(
        (status = 200, description = "What has changed", body = Reloaded),
        (status = 401, description = "No valid token", body = Problem),
        (status = 403, description = "The token may only read", body = Problem),
        (status = 422, description = "The mistake; the last good configuration stays in force", body = Problem),
    ))]
pub(in crate::http) async fn reload(writer: Writer, State(outpost): State<App>) -> Result<Json<Reloaded>, Problem> {
    let config = outpost.config.load();
    let reloaded = writer.admin(&outpost, &config).reload(outpost.reload()).await?;
    Ok(Json(reloaded))
}
