//! `/flavors`, `/userflavors`, `/credits`, `/usercredits`.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Map, Value};

use super::App;
use super::body::JsonBytes;
use super::caller::Caller;
use super::error::{HttpError, failure};
use crate::model::check_authentication;

/// The flavors of the calling hub, with their use.
#[utoipa::path(get, path = "/flavors/", responses(
        (status = 200, description = "Flavors by name, each with `current`", body = Object),
        (status = 401, description = "No or wrong credentials"),
    ))]
pub(super) async fn flavors(State(outpost): State<App>, Caller(hub): Caller) -> Json<Map<String, Value>> {
    Json(outpost.flavors(&hub, &Map::new()))
}

/// The flavors of one user of the calling hub. The body is what the hub's authenticator knows about the user.
#[utoipa::path(post, path = "/userflavors", request_body(content = Object), responses(
        (status = 200, description = "Flavors by name, each with `current`", body = Object),
        (status = 401, description = "No or wrong credentials"),
        (status = 419, description = "The body is no JSON"),
    ))]
pub(super) async fn user_flavors(
    State(outpost): State<App>,
    Caller(hub): Caller,
    JsonBytes(body): JsonBytes,
) -> Response {
    of_user(&body, |authentication| outpost.flavors(&hub, authentication))
}

/// The credits of the calling hub.
#[utoipa::path(get, path = "/credits/", responses(
        (status = 200, description = "Credits by name", body = Object),
        (status = 401, description = "No or wrong credentials"),
    ))]
pub(super) async fn credits(State(outpost): State<App>, Caller(hub): Caller) -> Json<Map<String, Value>> {
    Json(outpost.credits(&hub, &Map::new()))
}

/// The credits of one user of the calling hub.
#[utoipa::path(post, path = "/usercredits", request_body(content = Object), responses(
        (status = 200, description = "Credits by name", body = Object),
        (status = 401, description = "No or wrong credentials"),
        (status = 419, description = "The body is no JSON"),
    ))]
pub(super) async fn user_credits(
    State(outpost): State<App>,
    Caller(hub): Caller,
    JsonBytes(body): JsonBytes,
) -> Response {
    of_user(&body, |authentication| outpost.credits(&hub, authentication))
}

/// A body that is no JSON has the answer that the Python service gives.
fn of_user(body: &[u8], answer: impl FnOnce(&Map<String, Value>) -> Map<String, Value>) -> Response {
    match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(authentication)) => match check_authentication("body", &authentication) {
            Ok(()) => Json(answer(&authentication)).into_response(),
            Err(error) => HttpError(error).into_response(),
        },
        // JSON that says nothing about a user.
        Ok(_) => Json(answer(&Map::new())).into_response(),
        Err(error) => {
            let text = format!("The body is no valid JSON (line {}, column {}).", error.line(), error.column());
            failure("json.decoder", "JSONDecodeError", &text)
        }
    }
}
