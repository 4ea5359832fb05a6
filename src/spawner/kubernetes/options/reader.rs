//! One option after the other out of a map, each with what it has to be.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{EnvVar, LocalObjectReference};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::{DEFAULTS, kinds};
use crate::model::{Template, quantity};
use crate::spawner::kubernetes::names::{self, slugs};

/// The longest period of an option: nobody waits for longer.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);

/// The options of which one after the other is read.
pub struct Reader<'a> {
    options: &'a Map<String, Value>,
}

/// A value that is not what it has to be: the option, and what was expected.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mistake {
    /// The option.
    pub key: &'static str,
    /// What it has to be, and where inside it something is wrong; no value is repeated.
    pub expected: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "`{}` has to be {}", self.key, self.expected)
    }
}

type Read<T> = Result<T, Mistake>;

impl<'a> Reader<'a> {
    /// Reads these options; those that are not there, or null, are the defaults.
    pub const fn new(options: &'a Map<String, Value>) -> Self {
        Self { options }
    }

    fn get(&self, key: &str) -> Option<&'a Value> {
        let there = |map: &'a Map<String, Value>| map.get(key).filter(|value| !value.is_null());
        there(self.options).or_else(|| there(&DEFAULTS))
    }

    /// What `read` makes of the option, if it is there.
    fn as_what<T>(
        &self,
        key: &'static str,
        expected: &str,
        read: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Read<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| Mistake { key, expected: expected.to_owned() })
    }

    /// A text; an empty one is absent.
    pub fn text(&self, key: &'static str) -> Read<Option<String>> {
        Ok(self.any_text(key)?.filter(|text| !text.is_empty()))
    }

    /// A text.
    pub fn any_text(&self, key: &'static str) -> Read<Option<String>> {
        self.as_what(key, "a text", sound_text)
    }

    /// A template of these fields.
    pub fn template(&self, key: &'static str, fields: &[&str]) -> Read<Template> {
        let text = self.any_text(key)?.unwrap_or_default();
        Template::parse(&text, fields).map_err(|why| Mistake { key, expected: format!("a template, but {why}") })
    }

    /// One of some words.
    pub fn one_of(&self, key: &'static str, words: &[&str]) -> Read<Option<String>> {
        let expected = format!("one of {}", words.join(", "));
        self.as_what(key, &expected, |value| {
            sound_text(value).filter(|text| text.is_empty() || words.contains(&text.as_str()))
        })
        .map(|text| text.filter(|text| !text.is_empty()))
    }

    /// Whether.
    pub fn flag(&self, key: &'static str) -> Read<Option<bool>> {
        self.as_what(key, "true or false", Value::as_bool)
    }

    /// Whether, or `null` for neither.
    pub fn explicit_flag(&self, key: &'static str) -> Read<Option<bool>> {
        match self.options.get(key) {
            Some(Value::Null) => Ok(None),
            _ => self.flag(key),
        }
    }

    /// A list of texts.
    pub fn texts(&self, key: &'static str) -> Read<Vec<String>> {
        self.as_what(key, "a list of texts", texts).map(Option::unwrap_or_default)
    }

    /// A text or a list of texts.
    pub fn command(&self, key: &'static str) -> Read<Option<Vec<String>>> {
        self.as_what(key, "a text or a list of texts", |value| match value {
            Value::String(_) => sound_text(value).map(|text| if text.is_empty() { Vec::new() } else { vec![text] }),
            value => texts(value),
        })
    }

    /// Processors or bytes.
    pub fn amount(&self, key: &'static str) -> Read<Option<f64>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let amount = quantity(key, value);
        amount.map(Some).map_err(|expected| Mistake { key, expected: without_verb(&expected) })
    }

    /// An amount of storage.
    pub fn storage(&self, key: &'static str) -> Read<Option<Quantity>> {
        self.as_what(key, "a quantity like \"10Gi\"", amount)
    }

    /// Amounts of resources.
    pub fn resources(&self, key: &'static str) -> Read<BTreeMap<String, Quantity>> {
        self.as_what(key, "resources and how much of each", |value| {
            let amounts = value.as_object()?.iter().filter(|(_, amount)| !amount.is_null());
            amounts.map(|(name, value)| Some((name.clone(), amount(value)?))).collect()
        })
        .map(Option::unwrap_or_default)
    }

    /// The number of a Unix user or group.
    pub fn id(&self, key: &'static str) -> Read<Option<i64>> {
        self.as_what(key, "a number of a Unix user or group", unix_id)
    }

    /// Numbers of Unix groups.
    pub fn ids(&self, key: &'static str) -> Read<Vec<i64>> {
        self.as_what(key, "a list of numbers of Unix groups", |value| {
            value.as_array()?.iter().map(unix_id).collect::<Option<_>>()
        })
        .map(Option::unwrap_or_default)
    }

    /// A whole number.
    pub fn whole(&self, key: &'static str) -> Read<u32> {
        self.as_what(key, "a whole number", |value| value.as_u64()?.try_into().ok()).map(Option::unwrap_or_default)
    }

    /// A port; 0 and nothing are 8888.
    pub fn port(&self, key: &'static str) -> Read<u16> {
        let port: Option<u16> = self.as_what(key, "a port number", |value| value.as_u64()?.try_into().ok())?;
        Ok(port.filter(|port| *port > 0).unwrap_or(8888))
    }

    /// A period that somebody waits.
    pub fn period(&self, key: &'static str) -> Read<Duration> {
        let expected = "a period like \"60s\" or a number of seconds, and 7 days at most";
        let read = |value: &Value| kinds::period(value).filter(|period| *period <= LONGEST);
        self.as_what(key, expected, read).map(Option::unwrap_or_default)
    }

    /// The path of a directory, with a slash at its end.
    pub fn directory(&self, key: &'static str) -> Read<String> {
        let path = self.as_what(key, "the absolute path of a directory", |value| {
            sound_text(value).filter(|path| path.starts_with('/'))
        })?;
        let path = path.unwrap_or_default();
        Ok(if path.ends_with('/') { path } else { format!("{path}/") })
    }

    /// Labels or annotations.
    pub fn labels(&self, key: &'static str) -> Read<BTreeMap<String, String>> {
        let labels: Read<Option<BTreeMap<_, _>>> =
            self.as_what(key, "names like \"example.org/name\" and their values, all texts", |value| {
                let labels = value.as_object()?.iter().filter(|(_, value)| !value.is_null());
                labels.map(|(name, value)| Some((qualified(name)?, sound_text(value)?))).collect()
            });
        match labels?.unwrap_or_default() {
            labels if labels.keys().any(|name| name.starts_with(names::PREFIX)) => {
                let expected = format!("names and their values, of which none begins with `{}`", names::PREFIX);
                Err(Mistake { key, expected })
            }
            labels => Ok(labels),
        }
    }

    /// Labels as they are, not as what others make of them: their values are sound, too.
    pub fn exact_labels(&self, key: &'static str) -> Read<BTreeMap<String, String>> {
        let labels = self.labels(key)?;
        if labels.values().all(|value| slugs::is_label_value(value)) {
            return Ok(labels);
        }
        Err(Mistake { key, expected: "labels, whose values consist of letters, digits, `-`, `_` and `.`".to_owned() })
    }

    /// Variables: texts, or objects with `valueFrom`.
    pub fn variables(&self, key: &'static str) -> Read<BTreeMap<String, EnvVar>> {
        let expected = "variables whose values are texts or have `valueFrom`";
        let Some(value) = self.get(key) else { return Ok(BTreeMap::new()) };
        let mistake = |why: Option<String>| Mistake {
            key,
            expected: why.map_or_else(|| expected.to_owned(), |why| format!("{expected}, but {why}")),
        };
        let variables = value.as_object().ok_or_else(|| mistake(None))?.iter().filter(|(_, value)| !value.is_null());
        variables
            .map(|(name, value)| {
                let variable = match value {
                    Value::Object(variable) => {
                        let mut variable = variable.clone();
                        variable.entry("name").or_insert_with(|| json!(name));
                        kinds::typed(&Value::Object(variable)).map_err(|why| mistake(Some(why)))?
                    }
                    value => EnvVar {
                        name: name.clone(),
                        value: Some(plain(value).ok_or_else(|| mistake(None))?),
                        value_from: None,
                    },
                };
                Ok((name.clone(), variable))
            })
            .collect()
    }

    /// Names of objects, as texts or as objects with a `name`, or one name alone.
    pub fn references(&self, key: &'static str) -> Read<Vec<LocalObjectReference>> {
        self.as_what(key, "a list of names", |value| {
            let names = if value.is_string() { vec![value] } else { in_order(value)? };
            names
                .into_iter()
                .map(|value| {
                    let name = value.as_str().or_else(|| value.get("name")?.as_str())?;
                    Some(LocalObjectReference { name: name.to_owned() })
                })
                .collect()
        })
        .map(Option::unwrap_or_default)
    }

    /// Objects of the API, as a list or as a table.
    pub fn list<T: DeserializeOwned + Serialize>(&self, key: &'static str) -> Read<Vec<T>> {
        let Some(value) = self.get(key) else { return Ok(Vec::new()) };
        let expected = "a list or a table of objects of Kubernetes";
        let list = in_order(value).ok_or_else(|| Mistake { key, expected: expected.to_owned() })?;
        let list = Value::Array(list.into_iter().cloned().collect());
        kinds::typed(&list).map_err(|why| Mistake { key, expected: format!("{expected}, but {why}") })
    }

    /// One object of the API; an empty one is absent.
    pub fn object<T: DeserializeOwned + Serialize>(&self, key: &'static str) -> Read<Option<T>> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(object)) if object.is_empty() => Ok(None),
            Some(value) => kinds::typed(value).map(Some).map_err(|why| of_kubernetes(key, &why)),
        }
    }

    /// A part of an object of the API.
    pub fn part<T: DeserializeOwned + Serialize>(&self, key: &'static str) -> Read<Map<String, Value>> {
        let Some(value) = self.get(key) else { return Ok(Map::new()) };
        kinds::part::<T>(value).map_err(|why| of_kubernetes(key, &why))
    }
}

fn of_kubernetes(key: &'static str, why: &str) -> Mistake {
    Mistake { key, expected: format!("an object of Kubernetes, but {why}") }
}

fn without_verb(expected: &str) -> String {
    expected.trim_start_matches("expected ").to_owned()
}

fn sound_text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.contains('\0')).map(str::to_owned)
}

fn qualified(name: &str) -> Option<String> {
    slugs::is_label_name(name).then(|| name.to_owned())
}

fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(sound_text).collect()
}

fn amount(value: &Value) -> Option<Quantity> {
    quantity("", value).ok()?;
    Some(Quantity(match value {
        Value::String(text) => text.clone(),
        number => number.to_string(),
    }))
}

fn unix_id(value: &Value) -> Option<i64> {
    value.as_i64().filter(|id| (0..=i64::from(i32::MAX)).contains(id))
}

/// A value of a variable, as Python's `str()` writes it.
pub fn plain(value: &Value) -> Option<String> {
    match value {
        Value::String(_) => sound_text(value),
        Value::Bool(true) => Some("True".to_owned()),
        Value::Bool(false) => Some("False".to_owned()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Variables of a hub: plain values only, since what they could refer to is the site's. `null` takes one away.
///
/// # Errors
/// What was expected.
pub fn plain_variables(variables: &Map<String, Value>) -> Read<BTreeMap<String, Option<String>>> {
    let expected = "an object of variables whose values are texts, numbers, booleans or null";
    variables
        .iter()
        .map(|(name, value)| {
            let value = if value.is_null() { Some(None) } else { plain(value).map(Some) };
            let value = value.filter(|_| !name.is_empty() && !name.contains(['=', '\0']));
            Ok((name.clone(), value.ok_or_else(|| Mistake { key: "environment", expected: expected.to_owned() })?))
        })
        .collect()
}

/// The elements of a list, or the values of a table in the order of their keys.
pub fn in_order(value: &Value) -> Option<Vec<&Value>> {
    match value {
        Value::Array(list) => Some(list.iter().collect()),
        Value::Object(table) => {
            let mut entries: Vec<_> = table.iter().filter(|(_, value)| !value.is_null()).collect();
            entries.sort_by_key(|(key, _)| *key);
            Some(entries.into_iter().map(|(_, value)| value).collect())
        }
        _ => None,
    }
}
