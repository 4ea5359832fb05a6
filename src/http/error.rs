//! Errors on the wire of the hub's API, in the form of the Python service.

use std::any::Any;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::observe;
use crate::error::Error;

/// The status of every failure that a person is to read: the hub shows `args`.
pub(super) fn failure_status() -> StatusCode {
    StatusCode::from_u16(419).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

/// An error as an answer.
#[derive(Debug)]
pub(super) struct HttpError(pub Error);

impl From<Error> for HttpError {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for HttpError {
    fn into_response(self) -> Response {
        let error = self.0;
        match &error {
            Error::NotFound | Error::Unauthorized(_) | Error::Invalid { .. } => {}
            error => match error.cause() {
                Some(cause) => tracing::error!(error = %error, cause, "a request failed"),
                None => tracing::warn!(error = %error, "a request was answered with a refusal or failure"),
            },
        }
        match &error {
            Error::NotFound => detail(StatusCode::NOT_FOUND, "Item not found"),
            Error::Unauthorized(text) => {
                let mut response = detail(StatusCode::UNAUTHORIZED, text);
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Basic"));
                response
            }
            Error::Invalid { field, expected } => invalid(field, expected),
            Error::Refused(_) => failure("", "StartRefused", &error),
            Error::Failed { .. } => failure("", "StartFailed", &error),
            Error::Cancelled => failure("", "StartCancelled", &error),
            Error::Unavailable { .. } => failure("", "OutpostUnavailable", &error),
            Error::Internal { .. } => failure("", "OutpostError", &error),
        }
    }
}

/// `{"detail": …}`: what is wrong with the request as such.
pub(super) fn detail(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "detail": text }))).into_response()
}

/// 422: a field of the body. The value is not repeated, it may be a secret.
fn invalid(field: &str, expected: &str) -> Response {
    let kind = if expected.starts_with("is no valid JSON") {
        "json_invalid"
    } else if expected.starts_with("is required") {
        "missing"
    } else {
        "value_error"
    };
    let location: Vec<&str> = field.split('.').collect();
    let body = json!({ "detail": [{ "type": kind, "loc": location, "msg": format!("{field} {expected}") }] });
    (StatusCode::UNPROCESSABLE_ENTITY, Json(body)).into_response()
}

/// 419: a sentence for the person at the browser, and instead of a stack the id to look for in Outpost's log.
pub(super) fn failure(module: &str, class: &str, message: &dyn std::fmt::Display) -> Response {
    let body = json!({
        "module": module,
        "class": class,
        "traceback": format!("Request {} in the log of Outpost", observe::request_id()),
        "args": [message.to_string()],
        "kwargs": Value::Object(serde_json::Map::new()),
    });
    (failure_status(), Json(body)).into_response()
}

/// A handler that panicked: a fault of ours.
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    HttpError(Error::internal(format!("a request handler panicked: {text}"))).into_response()
}
