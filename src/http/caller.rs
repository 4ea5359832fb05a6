//! Who sends a request. Being an extractor of the head, it is done before a body is read.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use secrecy::SecretString;

use super::App;
use super::error::HttpError;
use crate::model::AuthState;

/// The hub that sends the request.
#[derive(Clone, Debug)]
pub(super) struct Caller(pub Arc<str>);

impl FromRequestParts<App> for Caller {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, outpost: &App) -> Result<Self, HttpError> {
        let header = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
        let hub = outpost.auth.authenticate(header).await?;
        tracing::Span::current().record("hub.name", tracing::field::debug(&hub));
        Ok(Self(hub))
    }
}

/// What else the head says.
#[derive(Clone, Debug)]
pub(super) struct Head {
    /// `execution-type: async`, to the letter.
    pub asynchronous: bool,
    /// `auth-state-<key>` headers.
    pub auth_state: AuthState,
    /// `?collect_logs=true`, in any case.
    pub collect_logs: bool,
}

impl FromRequestParts<App> for Head {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _outpost: &App) -> Result<Self, Self::Rejection> {
        let auth_state = parts.headers.iter().filter_map(|(name, value)| {
            let key = name.as_str().strip_prefix("auth-state-")?;
            Some((key.to_owned(), SecretString::from(String::from_utf8_lossy(value.as_bytes()).into_owned())))
        });
        let query = parts.uri.query().unwrap_or_default();
        Ok(Self {
            asynchronous: parts.headers.get("execution-type").is_some_and(|value| value == "async"),
            auth_state: auth_state.collect(),
            collect_logs: url::form_urlencoded::parse(query.as_bytes())
                .any(|(key, value)| key == "collect_logs" && value.eq_ignore_ascii_case("true")),
        })
    }
}
