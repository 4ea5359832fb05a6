//! `/api/v1/usage`: what servers used, for accounting.

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_DISPOSITION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use chrono::{DateTime, Utc};
use http_body_util::channel::Channel;
use serde::Deserialize;

use super::access::Reader;
use super::input::Parameters;
use super::problem::Problem;
use crate::admin::{Export, Format};
use crate::error::Error;
use crate::http::App;
use crate::model::{Usage, UsageFilter};

/// How many parts of a text wait for a slow client.
const AHEAD: usize = 2;

/// What is accounted for, and how it is written.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Parts {
    /// From then on: RFC 3339, or a date, whose midnight (UTC) is meant.
    from: Option<String>,
    /// Until then, not included.
    to: Option<String>,
    /// Of this hub.
    hub: Option<String>,
    /// Of the user with this name.
    user: Option<String>,
    /// `json` or `csv`; else as `Accept` says.
    format: Option<String>,
}

impl Parts {
    fn format(&self, headers: &HeaderMap) -> Result<Format, Problem> {
        let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        match self.format.as_deref() {
            Some("csv") => Ok(Format::Csv),
            Some("json") => Ok(Format::Json),
            Some(_) => Err(Problem::invalid("format: has to be json or csv.")),
            None if accepted.contains("text/csv") => Ok(Format::Csv),
            None => Ok(Format::Json),
        }
    }

    fn filter(self) -> Result<UsageFilter, Problem> {
        let time = |key: &str, text: Option<String>| -> Result<Option<DateTime<Utc>>, Problem> {
            let time = text.as_deref().map(UsageFilter::parse_time).transpose();
            time.map_err(|mistake| Problem::invalid(format!("{key}: {mistake}.")))
        };
        let (from, to) = (time("from", self.from)?, time("to", self.to)?);
        Ok(UsageFilter { from, to, hub: self.hub, user: self.user })
    }
}

/// What servers used: one record for each that ran in the period, in the order in which they were started.
///
/// Times and sums count what is within the period; a server that still runs is charged until now. A server of which the
/// history is cut (`tasks.keep_history`) is not there any more. In CSV, a text that a spreadsheet would take for a formula
/// has an apostrophe in front, and control characters are escaped.
#[utoipa::path(get, path = "/api/v1/usage", security(("admin" = [])), params(Parts), responses(
        (status = 200, description = "The records", content((Vec<Usage> = "application/json"), (String = "text/csv"))),
        (status = 401, description = "No valid token", body = Problem),
        (status = 404, description = "There is no such hub, and no record of one", body = Problem),
        (status = 422, description = "The query has a mistake", body = Problem),
    ))]
pub(in crate::http) async fn export(
    _: Reader,
    State(outpost): State<App>,
    headers: HeaderMap,
    Parameters(parts): Parameters<Parts>,
) -> Result<Response, Problem> {
    let format = parts.format(&headers)?;
    let mut export = Export::new(outpost.store.clone(), parts.filter()?).await?;
    // The first part before the answer, which could say 503 until then.
    let mut part = export.text(format).await?;
    let (mut sender, body) = Channel::<Bytes, Error>::new(AHEAD);
    outpost.tracker.spawn(async move {
        while let Some(text) = part {
            if sender.send_data(text.into()).await.is_err() {
                return;
            }
            part = match export.text(format).await {
                Ok(part) => part,
                Err(error) => {
                    tracing::error!(error = %error, cause = error.cause(), "an export of usage was cut off");
                    return sender.abort(error);
                }
            };
        }
    });
    let mut response = Body::new(body).into_response();
    let headers = response.headers_mut();
    match format {
        Format::Json => drop(headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"))),
        Format::Csv => {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8"));
            let name = HeaderValue::from_static("attachment; filename=\"usage.csv\"");
            headers.insert(CONTENT_DISPOSITION, name);
        }
    }
    Ok(response)
}
