//! What a request to the admin API says, with problem details where it cannot be understood.

use axum::RequestExt as _;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::problem::Problem;
use crate::http::{App, body};
use crate::model::Uid;

/// The most entries that a list gives at once, and how many it gives when nobody says.
const MOST: usize = 1000;
const USUAL: usize = 100;

/// The query of a URL.
#[derive(Debug)]
pub(in crate::http) struct Parameters<T>(pub T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _outpost: &App) -> Result<Self, Problem> {
        // PostgreSQL does not take it.
        if parts.uri.query().is_some_and(|query| query.contains("%00")) {
            return Err(Problem::invalid("The query must not hold a NUL."));
        }
        let query = Query::try_from_uri(&parts.uri);
        let Query(parameters) = query.map_err(|error| Problem::invalid(format!("The query: {}.", inner(&error))))?;
        Ok(Self(parameters))
    }
}

/// The one part of the path that is not fixed.
#[derive(Debug)]
pub(in crate::http) struct Segment(pub String);

impl FromRequestParts<App> for Segment {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, outpost: &App) -> Result<Self, Problem> {
        let path = Path::<String>::from_request_parts(parts, outpost).await.ok();
        let name = path.map(|Path(name)| name).filter(|name| !name.contains('\0'));
        name.map(Self).ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "No name can be like this."))
    }
}

/// The two parts of the path that are not fixed.
#[derive(Debug)]
pub(in crate::http) struct Segments(pub String, pub String);

impl FromRequestParts<App> for Segments {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, outpost: &App) -> Result<Self, Problem> {
        let path = Path::<(String, String)>::from_request_parts(parts, outpost).await.ok();
        let names = path.filter(|Path((first, second))| !first.contains('\0') && !second.contains('\0'));
        let names = names.map(|Path((first, second))| Self(first, second));
        names.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "No name can be like this."))
    }
}

impl Segment {
    /// The part as a server's id.
    pub(super) fn uid(&self) -> Result<Uid, Problem> {
        let missing = || Problem::new(StatusCode::NOT_FOUND, format!("{:?} is no server's id", self.0));
        Uid::parse(&self.0).ok_or_else(missing)
    }
}

/// A body that is JSON.
#[derive(Debug)]
pub(in crate::http) struct Body<T>(pub T);

impl<T: DeserializeOwned> FromRequest<App> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, outpost: &App) -> Result<Self, Problem> {
        let Text { text, yaml: false } = request.extract_with_state(outpost).await? else {
            return Err(not_supported());
        };
        // Who has nothing to say need not write braces.
        let text = if text.is_empty() { "{}" } else { &text };
        serde_json::from_str(text).map(Self).map_err(|error| Problem::invalid(format!("The body: {error}.")))
    }
}

/// A body that is JSON or YAML.
#[derive(Debug)]
pub(in crate::http) struct Text {
    /// The body.
    pub text: String,
    /// Whether it says that it is YAML.
    pub yaml: bool,
}

impl FromRequest<App> for Text {
    type Rejection = Problem;

    async fn from_request(request: Request, outpost: &App) -> Result<Self, Problem> {
        let kind = request.headers().get(CONTENT_TYPE).map(body::media_type);
        let yaml = match kind.as_deref() {
            None | Some("application/json") => false,
            Some("application/yaml" | "application/x-yaml" | "text/yaml") => true,
            Some(_) => return Err(not_supported()),
        };
        let bytes = body::read(request.into_body(), outpost).await;
        let bytes = bytes.map_err(|(status, detail)| Problem::new(status, detail))?;
        let text = String::from_utf8(bytes.into()).map_err(|_| Problem::invalid("The body has to be UTF-8."))?;
        // PostgreSQL does not take it.
        if text.contains('\0') || text.contains("\\u0000") {
            return Err(Problem::invalid("The body must not hold a NUL."));
        }
        Ok(Self { text, yaml })
    }
}

fn not_supported() -> Problem {
    let detail = "The body has to be application/json (or application/yaml where a document of flavors or credits is \
        expected), and Content-Type has to say so.";
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail)
}

/// The innermost cause: what serde says, which names the key.
fn inner(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), inner)
}

/// Which part of a list is asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct Paging {
    /// At most so many: 1 to 1000, else 100.
    limit: Option<usize>,
    /// Those behind this id: the `next` of the page before.
    after: Option<String>,
}

/// A part of a list.
#[derive(Debug)]
pub(in crate::http) struct Page {
    /// How many entries.
    pub limit: usize,
    /// They come behind this one.
    pub after: Option<Uid>,
}

impl Paging {
    /// The part as it was asked for by these words.
    pub(super) fn of(limit: Option<usize>, after: Option<String>) -> Self {
        Self { limit, after }
    }

    /// Checks it.
    pub(super) fn page(&self) -> Result<Page, Problem> {
        let limit = self.limit.unwrap_or(USUAL);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::invalid(format!("limit: has to be from 1 to {MOST}.")));
        }
        let after = self.after.as_deref().map(|after| {
            Uid::parse(after).ok_or_else(|| Problem::invalid("after: has to be the `next` of the page before."))
        });
        Ok(Page { limit, after: after.transpose()? })
    }
}

impl Page {
    /// How many entries to look for: one more than is shown says whether there are more.
    pub(super) const fn look_for(&self) -> usize {
        self.limit + 1
    }

    /// Cuts what was found to the page, and gives the cursor of the page behind it.
    pub(super) fn cut<T>(&self, entries: &mut Vec<T>, id: impl Fn(&T) -> String) -> Option<String> {
        let more = entries.len() > self.limit;
        entries.truncate(self.limit);
        entries.last().filter(|_| more).map(id)
    }
}
