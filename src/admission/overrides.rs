//! `[[overrides]]`: which options hubs may set.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::spawner::options::PROTOCOL;

/// All rules, in order. Without any, what hands over the host or the cluster is refused.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Rules(Vec<Rule>);

impl Rules {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn admit(
        &self,
        hub: &str,
        misc: Map<String, Value>,
        sensitive: &[(&str, &str)],
    ) -> Result<Map<String, Value>> {
        admit(&self.0, hub, misc, sensitive)
    }
}

/// `[[overrides]]`: what some hubs may override. The first rule that fits the hub decides.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The hubs' names; globs are allowed.
    pub hubs: Vec<String>,
    /// What they may override.
    pub allow: Allow,
}

/// What a rule allows.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "expected \"all\", \"none\" or a table of keys and what each may be")]
pub enum Allow {
    /// Every key or none.
    Every(Every),
    /// The keys that are named, if their value fits.
    Keys(BTreeMap<String, Constraint>),
}

/// `"all"` or `"none"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Every {
    /// Every key, the sensitive ones too.
    All,
    /// Only the keys of the protocol.
    None,
}

/// What the value of a key may be.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged, expecting = "expected \"any\" or a list of values")]
pub enum Constraint {
    /// Any value.
    Any(Any),
    /// One of these; a text may be a glob.
    OneOf(Vec<Value>),
}

/// `"any"`.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Any {
    /// Any value.
    Any,
}

impl Rule {
    fn fits(&self, hub: &str) -> bool {
        self.hubs.iter().any(|glob| matches(glob, hub))
    }
}

fn matcher(glob: &str) -> Result<GlobMatcher, String> {
    Glob::new(glob).map(|glob| glob.compile_matcher()).map_err(|error| format!("`{glob}` is no glob: {}", error.kind()))
}

fn matches(glob: &str, text: &str) -> bool {
    glob == text || matcher(glob).is_ok_and(|matcher| matcher.is_match(text))
}

/// Decides about the options of a request. `sensitive` are the keys of the backend that hand over the host, with the
/// reason: without a rule they are refused.
///
/// # Errors
/// [`Error::Refused`] with a sentence that names the key and what is allowed.
pub fn admit(
    rules: &[Rule],
    hub: &str,
    misc: Map<String, Value>,
    sensitive: &[(&str, &str)],
) -> Result<Map<String, Value>> {
    let rule = rules.iter().find(|rule| rule.fits(hub));
    for (key, value) in &misc {
        let refusal = match rule.map(|rule| &rule.allow) {
            Some(Allow::Every(Every::All)) => None,
            Some(Allow::Keys(keys)) if keys.contains_key(key) => match &keys[key] {
                Constraint::Any(_) => None,
                Constraint::OneOf(values) if values.iter().any(|allowed| fits(allowed, value)) => None,
                Constraint::OneOf(values) => {
                    let values: Vec<_> = values.iter().map(ToString::to_string).collect();
                    Some(format!("it may only be {}", values.join(" or ")))
                }
            },
            _ if PROTOCOL.contains(&key.as_str()) => None,
            Some(_) => Some("it is not among those that are".to_owned()),
            None => sensitive.iter().find(|(name, _)| name == key).map(|(_, reason)| (*reason).to_owned()),
        };
        if let Some(refusal) = refusal {
            return Err(Error::Refused(format!(
                "The option {key:?} is not allowed for this JupyterHub on this system: {refusal}. \
                 Please choose another option or ask the administrators of the system."
            )));
        }
    }
    Ok(misc)
}

fn fits(allowed: &Value, value: &Value) -> bool {
    match (allowed, value) {
        (Value::String(glob), Value::String(text)) => matches(glob, text),
        _ => allowed == value,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const SENSITIVE: &[(&str, &str)] = &[("cmd", "it runs any program")];

    fn decide(rules: &str, hub: &str, misc: &Value) -> Result<Map<String, Value>> {
        #[derive(Deserialize)]
        struct Rules {
            #[serde(default)]
            overrides: Vec<Rule>,
        }
        let rules: Rules = toml::from_str(rules).unwrap();
        admit(&rules.overrides, hub, misc.as_object().unwrap().clone(), SENSITIVE)
    }

    #[test]
    fn without_rules_only_what_hands_over_the_host_is_refused() {
        assert!(decide("", "h", &json!({"image": "x", "port": 1, "anything": {}})).is_ok());
        let error = decide("", "h", &json!({"cmd": ["sh"]})).unwrap_err().to_string();
        assert!(error.contains("\"cmd\"") && error.contains("it runs any program"), "{error}");
    }

    #[test]
    fn the_first_rule_that_fits_decides() {
        let rules = "
            [[overrides]]
            hubs = ['trusted']
            allow = 'all'
            [[overrides]]
            hubs = ['*']
            allow = { image = ['allowed_1', 'site/*'], cpu_limit = [1, 2], cmd = 'any' }";
        assert!(decide(rules, "trusted", &json!({"cmd": "x", "image": "any"})).is_ok());
        assert!(decide(rules, "other", &json!({"cmd": "x", "image": "site/lab", "cpu_limit": 2, "port": 1})).is_ok());
        let error = decide(rules, "other", &json!({"image": "evil"})).unwrap_err().to_string();
        assert!(error.contains("\"allowed_1\" or \"site/*\""), "{error}");
        assert!(decide(rules, "other", &json!({"environment": {}})).is_err());
    }

    #[test]
    fn none_means_the_protocol_only() {
        let rules = "[[overrides]]\nhubs = ['h*']\nallow = 'none'";
        assert!(decide(rules, "hub", &json!({"port": 1, "extra_labels": {}})).is_ok());
        assert!(decide(rules, "hub", &json!({"image": "x"})).is_err());
        assert!(decide(rules, "other", &json!({"image": "x"})).is_ok());
    }

    #[test]
    fn an_option_is_quoted_in_the_refusal() {
        let error = decide("[[overrides]]\nhubs=['*']\nallow='none'", "h", &json!({"<b>\n": 1})).unwrap_err();
        assert!(error.to_string().contains(r#""<b>\n""#), "{error}");
    }
}
