//! Who sends a request to the admin API. Being extractors of the head, they are done before a body is read.

use axum::extract::FromRequestParts;
use axum::http::StatusCode;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

use super::problem::Problem;
use crate::admin::{Admin, authenticate};
use crate::auth::TokenScope;
use crate::config::Config;
use crate::http::App;
use crate::model::Actor;
use crate::outpost::Outpost;

/// Somebody who may look.
#[derive(Debug)]
pub(in crate::http) struct Reader;

/// Somebody who may change things.
#[derive(Debug)]
pub(in crate::http) struct Writer(Actor);

impl Writer {
    /// This one at work.
    pub(super) fn admin<'a>(self, outpost: &'a Outpost, config: &'a Config) -> Admin<'a> {
        Admin { store: &outpost.store, config, actor: self.0 }
    }
}

impl FromRequestParts<App> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, outpost: &App) -> Result<Self, Problem> {
        identify(parts, outpost).await?;
        Ok(Self)
    }
}

impl FromRequestParts<App> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, outpost: &App) -> Result<Self, Problem> {
        let (actor, scope) = identify(parts, outpost).await?;
        if scope < TokenScope::Write {
            let detail = "This token may only read; `outpost token add --scope write` makes one that may write.";
            return Err(Problem::new(StatusCode::FORBIDDEN, detail));
        }
        Ok(Self(actor))
    }
}

async fn identify(parts: &Parts, outpost: &App) -> Result<(Actor, TokenScope), Problem> {
    let header = parts.headers.get(AUTHORIZATION).map(|value| value.as_bytes());
    let (actor, scope) = authenticate(&outpost.store, header).await?;
    tracing::Span::current().record("actor", tracing::field::display(&actor));
    Ok((actor, scope))
}
