//! `kubespawner_override`: options that what was chosen sets.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value};

use crate::spawner::kubernetes::options;

/// Options that what was chosen sets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Override<'a> {
    /// The options, as they are written.
    pub options: &'a Map<String, Value>,
    /// What the user wrote, which `{value}` stands for.
    pub value: Option<&'a str>,
}

impl Override<'_> {
    /// The options with what the user wrote in place of `{value}`, in keys and in texts. It is never read as a template.
    #[must_use]
    pub fn filled(&self) -> Map<String, Value> {
        let Some(value) = self.value else { return self.options.clone() };
        let literal = value.replace('{', "{{").replace('}', "}}");
        let fill = |(key, inner): (&String, &Value)| {
            let value = if options::is_template(key) { &literal } else { value };
            (key.clone(), filled_value(inner, value))
        };
        self.options.iter().map(fill).collect()
    }
}

fn filled_value(inner: &Value, value: &str) -> Value {
    match inner {
        Value::String(text) => Value::String(text.replace("{value}", value)),
        Value::Array(list) => list.iter().map(|inner| filled_value(inner, value)).collect::<Vec<_>>().into(),
        Value::Object(object) => {
            let fill = |(key, inner): (&String, &Value)| (key.replace("{value}", value), filled_value(inner, value));
            object.iter().map(fill).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

/// What can be tried of the options of an unlisted choice: those in which any value is as good as another.
#[must_use]
pub fn sample(options: &Map<String, Value>) -> Map<String, Value> {
    let mut sample = Override { options, value: Some("1") }.filled();
    sample.retain(|key, value| options::is_template(key) || options.get(key) == Some(value));
    sample
}

/// Reads options that are options. `{ "$patch" = "delete" }` is `null`, which TOML does not have.
pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Map<String, Value>, D::Error> {
    let mut overrides = Map::<String, Value>::deserialize(deserializer)?;
    overrides.values_mut().for_each(read_deletions);
    match overrides.keys().find(|key| !options::is_option(key)) {
        Some(key) => Err(D::Error::custom(format!("`{key}` is no option that a profile can set"))),
        None => Ok(overrides),
    }
}

/// Only in tables: those are merged, and lists are replaced as a whole.
fn read_deletions(value: &mut Value) {
    match value {
        Value::Object(object) if object.len() == 1 && object.get("$patch").is_some_and(|patch| patch == "delete") => {
            *value = Value::Null;
        }
        Value::Object(object) => object.values_mut().for_each(read_deletions),
        _ => {}
    }
}
