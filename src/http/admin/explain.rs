//! `/api/v1/explain`: how a request of a hub would be decided.

use axum::Json;
use axum::extract::State;

use super::access::Reader;
use super::input::Body;
use super::problem::Problem;
use crate::admin::{self, Explained, Question};
use crate::http::App;

/// How a request would be decided: the rule and what it does to each option, the flavors, the limits and what is used of
/// them, the effective options, and the sentence of a refusal. Nothing is started.
#[utoipa::path(post, path = "/api/v1/explain", security(("admin" = [])), request_body = Question, responses(
        (status = 200, description = "The decision, step by step", body = Object),
        (status = 401, description = "No valid token", body = Problem),
        (status = 422, description = "The body has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn explain(
    _: Reader,
    State(outpost): State<App>,
    Body(question): Body<Question>,
) -> Result<Json<Explained>, Problem> {
    let (config, in_force) = (outpost.config.load_full(), outpost.definitions.load_full());
    let store = Some(&outpost.store);
    Ok(Json(admin::explain(&config, &in_force.definitions, store, question).await?))
}
