//! Errors of the admin API: problem details of RFC 9457.

use std::any::Any;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::admin;
use crate::error::Error;
use crate::http::observe;

/// `application/problem+json`.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::http) struct Problem {
    /// `about:blank`: the status says what kind of problem it is.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: &'static str,
    /// The HTTP status.
    status: u16,
    /// What is wrong, as a sentence for the administrator.
    detail: String,
    /// The request's id in the log of Outpost.
    instance: String,
}

impl Problem {
    /// A problem with this status.
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or_default(),
            status: status.as_u16(),
            detail: detail.into(),
            instance: observe::request_id(),
        }
    }

    /// 422: a part of the request is not what it has to be.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        if status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<admin::Error> for Problem {
    fn from(error: admin::Error) -> Self {
        let status = match error {
            admin::Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            admin::Error::Missing(_) => StatusCode::NOT_FOUND,
            admin::Error::Conflict(_) => StatusCode::CONFLICT,
            admin::Error::Outdated(_) => StatusCode::PRECONDITION_FAILED,
            admin::Error::Failed(error) => return error.into(),
        };
        Self::new(status, error.to_string())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let status = match &error {
            Error::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Error::NotFound => StatusCode::NOT_FOUND,
            Error::Invalid { .. } | Error::Refused(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Cancelled => StatusCode::CONFLICT,
            Error::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Error::Failed { .. } | Error::Internal { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        };
        if let Some(cause) = error.cause() {
            tracing::error!(error = %error, cause, "a request of an administrator failed");
        }
        Self::new(status, error.to_string())
    }
}

pub(super) async fn not_found() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "There is nothing at this path; `outpost openapi` prints what there is.")
}

pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "This path does not know this method.")
}

/// A handler that panicked: a fault of ours.
pub(super) fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
    Problem::from(Error::internal(format!("a request handler panicked: {text}"))).into_response()
}
