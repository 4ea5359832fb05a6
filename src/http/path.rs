//! `/services/{name}/{start_id}`, where clients do not encode what they put in.
//!
//! OutpostSpawner puts the name in as it is: empty for the default server (`/services//{start_id}`), or with slashes in
//! it. So the last of three or more segments is the start id, and all before it is the name.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OriginalUri};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::App;
use super::error::HttpError;
use crate::error::Error;
use crate::model::ServerId;

/// The name and the start id of a URL.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ServicePath {
    name: String,
    start_id: String,
}

impl ServicePath {
    /// The server that `hub` means by it.
    pub(super) fn of(self, hub: &Arc<str>) -> ServerId {
        ServerId { hub: hub.clone(), name: self.name.into(), start_id: self.start_id.into() }
    }

    /// Reads what follows `/services/`. A slash at the end is no more than that.
    fn parse(rest: &str) -> Option<Self> {
        let segments: Vec<&str> = rest.split('/').collect();
        let (name, start_id) = match segments.as_slice() {
            [name] | [name, ""] => ((*name).to_owned(), "0"),
            [name, start_id] | [name, start_id, ""] => ((*name).to_owned(), *start_id),
            [name @ .., start_id, ""] | [name @ .., start_id] => (name.join("/"), *start_id),
            [] => return None,
        };
        Some(Self { name: decode(&name)?, start_id: decode(start_id)? })
    }
}

/// Decodes once; `None` if it is no UTF-8.
fn decode(text: &str) -> Option<String> {
    // No name holds a NUL, which PostgreSQL does not take.
    percent_decode_str(text).decode_utf8().ok().filter(|text| !text.contains('\0')).map(Into::into)
}

impl FromRequestParts<App> for ServicePath {
    type Rejection = HttpError;

    async fn from_request_parts(parts: &mut Parts, outpost: &App) -> Result<Self, HttpError> {
        let OriginalUri(uri) =
            OriginalUri::from_request_parts(parts, outpost).await.unwrap_or_else(|never| match never {});
        let config = outpost.config.load();
        let path = uri.path();
        let path = path
            .strip_prefix("/services/")
            .or_else(|| path.strip_prefix(config.http.base_path.trim_end_matches('/'))?.strip_prefix("/services/"));
        path.and_then(Self::parse).ok_or(HttpError(Error::NotFound))
    }
}

#[cfg(test)]
mod tests {
    use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_read_as_clients_write_them() {
        let cases = [
            ("lab/abc", "lab", "abc"),
            ("lab", "lab", "0"),
            ("lab/", "lab", "0"),
            ("lab/abc/", "lab", "abc"),
            ("/abc", "", "abc"),
            ("/abc/", "", "abc"),
            ("/", "", "0"),
            ("a/b/abc", "a/b", "abc"),
            ("a/b/c/abc/", "a/b/c", "abc"),
            ("a%2Fb/abc", "a/b", "abc"),
            ("a%252Fb/abc", "a%2Fb", "abc"),
            ("gr%C3%BC%C3%9Fe%20x/abc", "grüße x", "abc"),
            ("../abc", "..", "abc"),
        ];
        for (rest, name, start_id) in cases {
            let expected = ServicePath { name: name.to_owned(), start_id: start_id.to_owned() };
            assert_eq!(ServicePath::parse(rest), Some(expected), "{rest}");
        }
        assert_eq!(ServicePath::parse("%ff/abc"), None);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{0,30}", start_id in "\\PC{1,30}") {
            let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
            let path = format!("{}/{}", encode(&name), encode(&start_id));
            prop_assert_eq!(ServicePath::parse(&path), Some(ServicePath { name, start_id }));
        }

        #[test]
        fn no_path_makes_it_panic(rest in "\\PC*") {
            let _ = ServicePath::parse(&rest);
        }
    }
}
