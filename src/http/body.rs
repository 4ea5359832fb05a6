//! The body of a request, bounded in size and time.

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
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
            let kind = media_type(value);
            kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json"))
        });
        if !is_json {
            let error = Error::invalid("body", "has to be JSON with the content type application/json");
            return Err(HttpError(error).into_response());
        }
        read(request.into_body(), outpost).await.map(Self).map_err(|(status, text)| detail(status, &text))
    }
}

/// The kind that a `Content-Type` names, without its parameters.
pub(super) fn media_type(value: &HeaderValue) -> String {
    value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Reads a body, or says with which status and sentence it is refused.
pub(super) async fn read(body: Body, outpost: &App) -> Result<Bytes, (StatusCode, String)> {
    let (limit, patience) = {
        let config = outpost.config.load();
        (config.http.body_limit, config.http.request_timeout)
    };
    match tokio::time::timeout(patience, Limited::new(body, limit).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let text = format!("The body of a request may have at most {limit} bytes");
            Err((StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Ok(Err(_)) => Err((StatusCode::BAD_REQUEST, "The body of the request ended early".to_owned())),
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, "The body of the request took too long".to_owned())),
    }
}
