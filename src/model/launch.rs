//! What a backend gets: the launch, the handle it answers with, and templates over names that nobody may trust.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::{Environment, ServerId, Uid};
use crate::error::{Error, Result};

/// `auth-state-<key>` headers of the hub: in memory only, never stored, never logged.
pub type AuthState = BTreeMap<String, SecretString>;

/// PEM texts for `internal_ssl`. They live in memory and in files of the server that only it can read.
#[derive(Clone, Debug, Default)]
pub struct Certificates {
    /// The server's private key.
    pub keyfile: SecretString,
    /// The server's certificate.
    pub certfile: SecretString,
    /// The authority that the server trusts.
    pub cafile: SecretString,
    /// More authorities by name (`hub-ca`, `proxy-client-ca`, …), to be trusted as well.
    pub trust_bundles: BTreeMap<String, SecretString>,
}

/// Everything that a backend needs to start one server.
#[derive(Clone, Debug)]
pub struct Launch {
    /// Outpost's identifier: safe in names, labels and paths.
    pub uid: Uid,
    /// The hub's identifier: not safe anywhere.
    pub id: ServerId,
    /// JupyterHub's name of the user: not safe either.
    pub user: Arc<str>,
    /// JupyterHub's number of the user.
    pub user_id: i64,
    /// The environment that the hub sent, values as text.
    pub environment: Environment,
    /// The options of the hub (`misc`) that admission let through.
    pub options: Map<String, Value>,
    /// What the user chose on the hub.
    pub user_options: Map<String, Value>,
    /// The user's groups.
    pub groups: Vec<String>,
    /// Present with `internal_ssl`.
    pub certificates: Option<Certificates>,
    /// The hub's authentication state of the user.
    pub auth_state: AuthState,
}

/// Where a backend keeps a server. Known before the first side effect and stored with the row, so that whatever happens
/// in between can be found again. It names its backend, so that rows outlive a reconfiguration.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Handle {
    /// The backend's name in the configuration.
    pub spawner: Arc<str>,
    /// What else that backend has to know; only it reads this.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub state: Value,
}

/// Text with fields in braces: `{username}`. `{{` and `}}` stand for braces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Template {
    text: String,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
enum Part {
    Text(String),
    Field(String),
}

/// The values of a template's fields.
pub type TemplateContext<'a> = BTreeMap<&'a str, String>;

impl Template {
    /// Reads a template that may use `fields` and no others.
    ///
    /// # Errors
    /// A sentence that names the unknown field or the open brace.
    pub fn parse(text: &str, fields: &[&str]) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(at);
            literal.push_str(before);
            if let Some(after) = from.strip_prefix("{{").or_else(|| from.strip_prefix("}}")) {
                literal.push_str(&from[..1]);
                rest = after;
            } else if let Some((field, after)) = from.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
                if !fields.contains(&field) {
                    // The text may be a secret: nothing of it is repeated that could not be meant as a field.
                    let could_be_one = field.len() <= 24 && field.bytes().all(|c| c.is_ascii_lowercase() || c == b'_');
                    let what = if could_be_one { format!("`{{{field}}}`") } else { "what is in braces".to_owned() };
                    return Err(format!("{what} is no field here; there are {}", list_of(fields)));
                }
                parts.extend([Part::Text(std::mem::take(&mut literal)), Part::Field(field.to_owned())]);
                rest = after;
            } else {
                return Err("a brace has no partner; write `{{` or `}}` for a brace itself".to_owned());
            }
        }
        literal.push_str(rest);
        parts.push(Part::Text(literal));
        parts.retain(|part| *part != Part::Text(String::new()));
        Ok(Self { text: text.to_owned(), parts })
    }

    /// Fills in the fields; one without a value is an internal error, since [`Template::parse`] knew the list.
    ///
    /// # Errors
    /// [`Error::Internal`] for a field without a value.
    pub fn render(&self, context: &TemplateContext<'_>) -> Result<String> {
        self.parts.iter().try_fold(String::new(), |mut out, part| {
            out.push_str(match part {
                Part::Text(text) => text,
                Part::Field(field) => context
                    .get(field.as_str())
                    .ok_or_else(|| Error::internal(format!("template `{}`: no value for `{field}`", self.text)))?,
            });
            Ok(out)
        })
    }

    /// Whether the template uses `field`.
    #[must_use]
    pub fn uses(&self, field: &str) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Field(name) if name == field))
    }

    /// The text that it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

fn list_of(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("`{{{field}}}`")).collect::<Vec<_>>().join(", ")
}

/// Any text as one segment of a path: `[A-Za-z0-9_@+-]` and a dot that is not the first stay, all else becomes `%XX`.
/// Different texts give different segments; a long one ends in a hash, so that it fits into a file name.
#[must_use]
pub fn path_segment(text: &str) -> String {
    const LONGEST: usize = 120;
    let mut out = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'@' | b'+' | b'-' => out.push(byte.into()),
            b'.' if at > 0 => out.push('.'),
            _ => write!(out, "%{byte:02X}").unwrap_or_default(),
        }
    }
    if out.is_empty() {
        "%".clone_into(&mut out);
    }
    if out.len() > LONGEST {
        let hash = Sha256::digest(text.as_bytes());
        out.truncate(LONGEST);
        out.push_str("%-");
        for byte in &hash[..8] {
            write!(out, "{byte:02x}").unwrap_or_default();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn templates_know_their_fields() {
        let template = Template::parse("{host}:{port} {{raw}}", &["host", "port"]).unwrap();
        let context = [("host", "a".to_owned()), ("port", "1".to_owned())].into();
        assert_eq!(template.render(&context).unwrap(), "a:1 {raw}");
        assert!(template.uses("port") && !template.uses("raw"));
        assert_eq!(Template::parse("", &[]).unwrap().render(&context).unwrap(), "");
        assert!(Template::parse("{hots}", &["host"]).unwrap_err().contains("`{hots}` is no field here"));
        assert!(Template::parse("{host", &["host"]).unwrap_err().contains("no partner"));
        for secret in ["hunter2{x", "hunter2}", "{hunter2}", "x{hunter2}x"] {
            assert!(!Template::parse(secret, &["host"]).unwrap_err().contains("hunter"), "{secret}");
        }
        assert!(Template::parse("host}", &["host"]).unwrap_err().contains("no partner"));
    }

    proptest! {
        #[test]
        fn a_segment_is_never_a_path(text in "\\PC*") {
            let segment = path_segment(&text);
            prop_assert!(!segment.is_empty() && segment.len() < 200);
            prop_assert!(!segment.starts_with('.') && !segment.contains(['/', '\0', '\\', '\n']));
        }

        #[test]
        fn segments_differ_where_names_do(one in "\\PC{0,40}", other in "\\PC{0,40}") {
            prop_assert_eq!(path_segment(&one) == path_segment(&other), one == other);
        }
    }
}
