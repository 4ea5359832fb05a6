//! The body of a start request, read strictly where it matters to us and leniently where clients differ.

use std::collections::BTreeMap;
use std::fmt;

use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Certificates;
use crate::error::{Error, Result};

/// The longest server name and start id, in bytes: both have to fit into a URL.
const LONGEST_NAME: usize = 1024;

/// The most attributes of a user, and values of one of them.
const MOST_VALUES: usize = 2000;

/// An environment that holds secrets (the server's API token): its `Debug` shows names only.
#[derive(Clone, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Environment(pub BTreeMap<String, String>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Environment {
    /// A variable that is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// A start request as the hub sent it. Nothing in a body can set what is ours (dates, phase, pids): only the keys below
/// are read, the others are ignored.
#[derive(Clone, Debug)]
pub struct StartRequest {
    /// The server's name; empty for the default server.
    pub name: String,
    /// `user_options.start_id`, taken out of the options; `"0"` if there is none.
    pub start_id: String,
    /// `env` (or `environment`), values as text the way Python's `str()` writes them.
    pub env: Environment,
    /// `user_options` without `start_id`.
    pub user_options: Map<String, Value>,
    /// `misc`: options for the backend.
    pub misc: Map<String, Value>,
    /// `flavor`, at the top or in the user options.
    pub flavor: Option<String>,
    /// `env.JUPYTERHUB_USER_ID`; 0 if there is none.
    pub user_id: i64,
    /// `certs` and `internal_trust_bundles`, if `certs` is not empty.
    pub certificates: Option<Certificates>,
    /// `authentication`: what the hub tells about the user, for flavors.
    pub authentication: Map<String, Value>,
}

/// The part of a request that is kept, encrypted, as long as the server exists. Certificates are not in it.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct StoredRequest {
    /// The environment of the hub.
    pub env: Environment,
    /// The options that admission let through.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// The user's options on the hub.
    #[serde(default)]
    pub user_options: Map<String, Value>,
    /// The user's groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// What the hub told about the user, kept only while the server waits for its turn: its limits may change meanwhile. No
    /// token is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authentication: Option<Map<String, Value>>,
    /// Whether the hub sent certificates. They are not stored, so that such a start cannot be begun again.
    #[serde(default)]
    pub had_certificates: bool,
}

impl StartRequest {
    /// Reads a body.
    ///
    /// # Errors
    /// [`Error::Invalid`] with the path of the first field that is not what it has to be. No value of the body is ever
    /// repeated: it may be a secret.
    pub fn parse(body: &[u8]) -> Result<Self> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            Error::invalid("body", format!("is no valid JSON (line {}, column {})", error.line(), error.column()))
        })?;
        let Value::Object(mut body) = value else {
            return Err(Error::invalid("body", "has to be a JSON object"));
        };
        let name = match body.remove("name") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(Error::invalid("body.name", "has to be a string")),
            None => {
                return Err(Error::invalid(
                    "body.name",
                    "is required: the server's name, empty for the default server",
                ));
            }
        };
        check_name("body.name", &name)?;

        let mut user_options = object(&mut body, "user_options")?;
        let start_id = match user_options.remove("start_id") {
            None | Some(Value::Null) => "0".to_owned(),
            Some(Value::String(start_id)) => start_id,
            Some(_) => return Err(Error::invalid("body.user_options.start_id", "has to be a string")),
        };
        check_name("body.user_options.start_id", &start_id)?;

        let env_key = if body.contains_key("env") { "env" } else { "environment" };
        let env = environment(env_key, object(&mut body, env_key)?)?;
        let user_id = match env.get("JUPYTERHUB_USER_ID") {
            None => 0,
            Some(text) => text.trim().parse().map_err(|_| {
                Error::invalid(format!("body.{env_key}.JUPYTERHUB_USER_ID"), "has to be a whole number")
            })?,
        };
        check_name(&format!("body.{env_key}.JUPYTERHUB_USER"), env.get("JUPYTERHUB_USER").unwrap_or_default())?;
        let flavor = match body.remove("flavor") {
            Some(Value::Null) | None => match user_options.get("flavor") {
                Some(Value::Null) | None => None,
                Some(Value::String(flavor)) => Some(flavor.clone()),
                Some(_) => return Err(Error::invalid("body.user_options.flavor", "has to be a string")),
            },
            Some(Value::String(flavor)) => Some(flavor),
            Some(_) => return Err(Error::invalid("body.flavor", "has to be a string")),
        };
        // An empty name is none: two names for the same thing would be counted apart.
        let flavor = flavor.filter(|flavor| !flavor.is_empty());
        check_name("body.flavor", flavor.as_deref().unwrap_or_default())?;
        let authentication = object(&mut body, "authentication")?;
        check_authentication("body.authentication", &authentication)?;
        Ok(Self {
            misc: object(&mut body, "misc")?,
            certificates: certificates(object(&mut body, "certs")?, object(&mut body, "internal_trust_bundles")?)?,
            authentication,
            name,
            start_id,
            env,
            user_options,
            flavor,
            user_id,
        })
    }

    /// The user's name on the hub.
    #[must_use]
    pub fn user(&self) -> &str {
        self.env.get("JUPYTERHUB_USER").unwrap_or_default()
    }
}

/// Checks what a hub tells about a user: each value is matched with every pattern of the site.
///
/// # Errors
/// [`Error::Invalid`] for more than 2,000 attributes, or values of one.
pub fn check_authentication(field: &str, authentication: &Map<String, Value>) -> Result<()> {
    let too_many = |field: String| Error::invalid(field, format!("has to have at most {MOST_VALUES} values"));
    if authentication.len() > MOST_VALUES {
        return Err(too_many(field.to_owned()));
    }
    let unfit = |text: &str| text.contains('\0') || text.len() > LONGEST_NAME;
    let texts = |value: &Value| match value {
        Value::Array(values) => values.iter().filter_map(Value::as_str).any(unfit),
        _ => false,
    };
    if let Some((key, _)) = authentication.iter().find(|(_, value)| texts(value)) {
        let expected = format!("has to have texts without NUL and of at most {LONGEST_NAME} bytes");
        return Err(Error::invalid(format!("{field}.{key}"), expected));
    }
    match authentication.iter().find(|(_, value)| value.as_array().is_some_and(|values| values.len() > MOST_VALUES)) {
        Some((key, _)) => Err(too_many(format!("{field}.{key}"))),
        None => Ok(()),
    }
}

fn check_name(field: &str, name: &str) -> Result<()> {
    if name.len() > LONGEST_NAME {
        return Err(Error::invalid(field, format!("has to have at most {LONGEST_NAME} bytes")));
    }
    if name.contains('\0') {
        return Err(Error::invalid(field, "must not contain a NUL character"));
    }
    Ok(())
}

/// An object of the body; absent and `null` are the empty object.
fn object(body: &mut Map<String, Value>, key: &str) -> Result<Map<String, Value>> {
    match body.remove(key) {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(object)) => Ok(object),
        Some(_) => Err(Error::invalid(format!("body.{key}"), "has to be an object")),
    }
}

fn environment(key: &str, object: Map<String, Value>) -> Result<Environment> {
    let mut env = BTreeMap::new();
    for (name, value) in object {
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(Error::invalid(
                format!("body.{key}"),
                "has a variable whose name is empty or has `=` or NUL in it",
            ));
        }
        let value = python_str(value);
        if value.contains('\0') {
            return Err(Error::invalid(format!("body.{key}.{name}"), "must not contain a NUL character"));
        }
        env.insert(name, value);
    }
    Ok(Environment(env))
}

/// Text as Python's `str()` writes it, which is what the servers of the Python service got.
fn python_str(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Null => "None".to_owned(),
        other => other.to_string(),
    }
}

fn certificates(mut certs: Map<String, Value>, bundles: Map<String, Value>) -> Result<Option<Certificates>> {
    if certs.is_empty() {
        return Ok(None);
    }
    let mut pem = |key: &str| match certs.remove(key) {
        Some(Value::String(text)) => Ok(SecretString::from(text)),
        _ => Err(Error::invalid(format!("body.certs.{key}"), "has to be a PEM text")),
    };
    Ok(Some(Certificates {
        keyfile: pem("keyfile")?,
        certfile: pem("certfile")?,
        cafile: pem("cafile")?,
        trust_bundles: bundles
            .into_iter()
            .map(|(name, value)| match value {
                Value::String(text) => Ok((name, SecretString::from(text))),
                _ => Err(Error::invalid("body.internal_trust_bundles", "has to hold PEM texts")),
            })
            .collect::<Result<_>>()?,
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn parse(body: &Value) -> Result<StartRequest> {
        StartRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn the_smallest_body_is_a_name() {
        let request = parse(&json!({"name": ""})).unwrap();
        assert_eq!((request.name.as_str(), request.start_id.as_str(), request.user_id), ("", "0", 0));
        assert!(request.certificates.is_none() && request.flavor.is_none());
    }

    #[test]
    fn values_become_text_as_python_writes_it() {
        let env = json!({"A": 5, "B": true, "C": null, "D": "x", "E": 1.5});
        let request = parse(&json!({"name": "n", "env": env})).unwrap();
        let values: Vec<_> = request.env.0.values().map(String::as_str).collect();
        assert_eq!(values, ["5", "True", "None", "x", "1.5"]);
    }

    #[test]
    fn null_is_absent_and_the_start_id_is_taken_out() {
        let body = json!({"name": "n", "env": null, "misc": null, "certs": null, "flavor": null,
            "user_options": {"start_id": "abc", "flavor": "big"}});
        let request = parse(&body).unwrap();
        assert_eq!((request.start_id.as_str(), request.flavor.as_deref()), ("abc", Some("big")));
        assert_eq!(parse(&json!({"name": "n", "user_options": {"flavor": ""}})).unwrap().flavor, None);
        assert!(!request.user_options.contains_key("start_id"));
    }

    #[rstest]
    #[case::no_json(r#"{"name""#, "body")]
    #[case::no_object("[]", "body")]
    #[case::empty("", "body")]
    #[case::no_name("{}", "body.name")]
    #[case::number(r#"{"name": 1}"#, "body.name")]
    #[case::nul(r#"{"name": "a\u0000"}"#, "body.name")]
    #[case::start_id(r#"{"name": "n", "user_options": {"start_id": 1}}"#, "body.user_options.start_id")]
    #[case::options(r#"{"name": "n", "user_options": []}"#, "body.user_options")]
    #[case::env(r#"{"name": "n", "env": "x"}"#, "body.env")]
    #[case::misc(r#"{"name": "n", "misc": [1]}"#, "body.misc")]
    #[case::user_id(r#"{"name": "n", "env": {"JUPYTERHUB_USER_ID": "x"}}"#, "body.env.JUPYTERHUB_USER_ID")]
    #[case::certs(r#"{"name": "n", "certs": {"keyfile": 1}}"#, "body.certs.keyfile")]
    #[case::groups(&many_groups(), "body.authentication.groups")]
    #[case::variable(r#"{"name": "n", "env": {"A=B": "1"}}"#, "body.env")]
    fn a_mistake_is_named(#[case] body: &str, #[case] field: &str) {
        match StartRequest::parse(body.as_bytes()) {
            Err(Error::Invalid { field: found, .. }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }

    fn many_groups() -> String {
        json!({"name": "n", "authentication": {"groups": (0..2001).collect::<Vec<_>>()}}).to_string()
    }

    #[test]
    fn secrets_do_not_show() {
        let body = json!({"name": "n", "env": {"JUPYTERHUB_API_TOKEN": "s3cret"},
            "certs": {"keyfile": "s3cret", "certfile": "s3cret", "cafile": "s3cret"}});
        assert!(!format!("{:?}", parse(&body).unwrap()).contains("s3cret"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = StartRequest::parse(&body);
        }

        #[test]
        fn any_name_comes_through(name in "\\PC{0,60}", start_id in "\\PC{1,40}") {
            let request = parse(&json!({"name": name, "user_options": {"start_id": start_id}})).unwrap();
            prop_assert_eq!((request.name, request.start_id), (name, start_id));
        }
    }
}
