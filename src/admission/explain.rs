//! How a request was decided, for administrators.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::{Need, Quota};

/// How a request was decided, step by step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// The rule that decided about the options: its number in the configuration from 1 on, and its text. `None`: no rule fits.
    pub rule: Option<(usize, String)>,
    /// What became of each option that the hub sent, in its order.
    pub options_asked: Vec<Asked>,
    /// The sets that were chosen (`hubs.<name>` or `users.<name>`), absent where all flavors are allowed.
    pub set: Option<Arc<str>>,
    /// The names of the flavors that are allowed.
    pub flavors: Vec<Arc<str>>,
    /// The limits that will be counted.
    pub quotas: Vec<Quota>,
    /// The effective options.
    pub options: Map<String, Value>,
    /// What the server takes up.
    pub need: Need,
    /// What the user is told as progress.
    pub messages: Vec<String>,
    /// The sentence that refuses the start.
    pub refusal: Option<String>,
}

/// One option that the hub sent.
#[derive(Clone, Debug, Serialize)]
pub struct Asked {
    /// Its name.
    pub key: String,
    /// What became of it.
    pub verdict: Verdict,
    /// Why.
    pub why: String,
}

/// What becomes of an option.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It is taken.
    Allowed,
    /// It is left out, and the user is told.
    Dropped,
    /// It refuses the start.
    Refused,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refusal {
            Some(refusal) => writeln!(f, "refused: {refusal}"),
            None => writeln!(f, "allowed"),
        }
    }
}
