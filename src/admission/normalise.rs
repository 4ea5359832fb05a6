//! `[flavors.authentication]`: what is done to a user's attributes before anything is matched with them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};
use serde_json::{Map, Value};

use super::expression::{Expression, Purpose, Variables};

/// What is done to what a hub tells about a user, in this order: lower case, no domain, the expression.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Normalise {
    /// Attributes whose texts become lower case.
    pub lowercase: Vec<String>,
    /// Attributes whose texts end before their last `@`.
    pub strip_domain: Vec<String>,
    /// A CEL expression over `hub` and `authentication` that gives all attributes.
    pub expression: Option<Attributes>,
}

/// A CEL expression that gives a map.
#[derive(Clone, Debug, PartialEq)]
pub struct Attributes(Expression);

impl Normalise {
    /// The attributes as they are matched.
    ///
    /// # Errors
    /// The expression fails: the cause, for the log.
    pub fn apply(&self, hub: &str, mut authentication: Map<String, Value>) -> Result<Map<String, Value>, String> {
        if authentication.is_empty() {
            return Ok(authentication);
        }
        for key in &self.lowercase {
            each_text(authentication.get_mut(key), &|text| *text = text.to_lowercase());
        }
        for key in &self.strip_domain {
            each_text(authentication.get_mut(key), &|text| text.truncate(text.rfind('@').unwrap_or(text.len())));
        }
        match &self.expression {
            None => Ok(authentication),
            Some(Attributes(expression)) => {
                let mut variables = Variables::default();
                variables.set("hub", &Value::from(hub));
                variables.set("authentication", &Value::Object(authentication));
                let attributes = expression.attributes(&variables);
                attributes.map_err(|cause| format!("[flavors.authentication] expression: {cause}"))
            }
        }
    }
}

/// Changes a text, or all texts of a list.
fn each_text(value: Option<&mut Value>, change: &impl Fn(&mut String)) {
    match value {
        Some(Value::String(text)) => change(text),
        Some(Value::Array(elements)) => elements.iter_mut().for_each(|element| each_text(Some(element), change)),
        _ => {}
    }
}

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AttributesVisitor;

        impl Visitor<'_> for AttributesVisitor {
            type Value = Attributes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CEL expression that gives a map")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Attributes, E> {
                Expression::parse(text, Purpose::Attributes).map(Attributes).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(AttributesVisitor)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("lowercase = ['name']", json!({"name": "Ada@SITE", "x": "X"}), json!({"name": "ada@site", "x": "X"}))]
    #[case("strip_domain = ['name', 'ids']", json!({"name": "ada@site", "ids": ["a@b", 1, "c"]}),
        json!({"name": "ada", "ids": ["a", 1, "c"]}))]
    #[case("expression = \"{'name': authentication.name + '@' + hub}\"\nlowercase = ['name']", json!({"name": "Ada"}),
        json!({"name": "ada@hub1"}))]
    #[case("lowercase = ['nothing']", json!({"name": 5}), json!({"name": 5}))]
    #[case("expression = \"{'always': true}\"", json!({}), json!({}))]
    fn attributes(#[case] toml: &str, #[case] sent: Value, #[case] expected: Value) {
        let normalise: Normalise = toml::from_str(toml).unwrap();
        let result = normalise.apply("hub1", sent.as_object().unwrap().clone()).unwrap();
        assert_eq!(Value::Object(result), expected);
    }

    #[test]
    fn a_failure_is_told_without_values() {
        let normalise: Normalise = toml::from_str("expression = \"{'name': authentication.no}\"").unwrap();
        let error = normalise.apply("hub1", json!({"name": "s3cret"}).as_object().unwrap().clone()).unwrap_err();
        assert!(error.contains("is not there") && !error.contains("s3cret"), "{error}");
    }

    #[rstest]
    #[case("expression = \"'x'\"", "no map")]
    #[case("expression = 'nope'", "no variable nope")]
    #[case("expression = 5", "a CEL expression that gives a map")]
    #[case("lowercase = 'name'", "expected a sequence")]
    #[case("lower = []", "unknown field `lower`")]
    fn mistakes(#[case] toml: &str, #[case] expected: &str) {
        let error = toml::from_str::<Normalise>(toml).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("line 1"), "{error}");
    }
}
