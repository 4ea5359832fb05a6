//! `/api/v1/audit`: who changed what.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::access::Reader;
use super::input::{Paging, Parameters};
use super::problem::Problem;
use crate::http::App;
use crate::store::Deed;

/// Changes, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Deeds {
    deeds: Vec<Deed>,
    /// What `after` has to be for the next page; `null`: this was the last.
    next: Option<String>,
}

/// Changes by the admin API and the command line, the newest first.
#[utoipa::path(get, path = "/api/v1/audit", security(("admin" = [])), params(Paging), responses(
        (status = 200, description = "The changes", body = Deeds),
        (status = 401, description = "No valid token", body = Problem),
        (status = 422, description = "The query has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn list(
    _: Reader,
    State(outpost): State<App>,
    Parameters(paging): Parameters<Paging>,
) -> Result<Json<Deeds>, Problem> {
    let page = paging.page()?;
    let limit = i64::try_from(page.look_for()).unwrap_or(i64::MAX);
    let mut deeds = outpost.store.deeds(page.after.as_ref(), limit).await?;
    let next = page.cut(&mut deeds, |deed| deed.id.clone());
    Ok(Json(Deeds { deeds, next }))
}
