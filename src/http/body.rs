//! The body of a request, bounded in size and time.

use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse as _, Response};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};

use super::App;
use super::error::{HttpError, detail};
use crate::error::Error;

/// The bytes of a body that says it is JSON.
#[derive(Debug)]
pub(super) struct JsonBytes(pub Bytes);

impl FromRequest<App> for JsonBytes {
    type Rejection = Response;

    async fn from_request(request: Request, outpost: &App) -> Result<Self, Response> {
        let is_json = request.headers().get(CONTENT_TYPE).is_none_or(|value| {
            let kind =
                value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
        });
        if !is_json {
            let error = Error::invalid("body", "has to be JSON with the content type application/json");
            return Err(HttpError(error).into_response());
        }
        let (limit, patience) = {
            let config = outpost.config.load();
            (config.http.body_limit, config.http.request_timeout)
        };
        let body = Limited::new(request.into_body(), limit).collect();
        match tokio::time::timeout(patience, body).await {
            Ok(Ok(body)) => Ok(Self(body.to_bytes())),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let text = format!("The body of a request may have at most {limit} bytes");
                Err(detail(StatusCode::PAYLOAD_TOO_LARGE, &text))
            }
            Ok(Err(_)) => Err(detail(StatusCode::BAD_REQUEST, "The body of the request ended early")),
            Err(_) => Err(detail(StatusCode::REQUEST_TIMEOUT, "The body of the request took too long")),
        }
    }
}
