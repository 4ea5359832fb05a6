//! How a request was decided, for administrators.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::model::{Counted, Need, OfFlavor, Quota, Scope};

/// How a request was decided, step by step.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Explanation {
    /// The rule that decided about the options. `None`: no rule fits.
    pub rule: Option<Deciding>,
    /// What became of each option that the hub sent, in its order.
    pub asked: Vec<Asked>,
    /// The set that was chosen (`hubs.<name>` or `users.<name>`), absent where all flavors are allowed.
    pub set: Option<Arc<str>>,
    /// The flavor, if it is one of those that are allowed.
    pub flavor: Option<Arc<str>>,
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
    /// The sentence that refuses the start, as the user reads it.
    pub refusal: Option<String>,
    /// Why an expression of the site fails, which refuses the start, as the log has it.
    pub fault: Option<String>,
}

/// The rule that decided.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Deciding {
    /// Its number in the configuration, from 1 on.
    pub number: usize,
    /// What it says.
    pub text: String,
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

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "allowed",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
        })
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            Some(Deciding { number, text }) => writeln!(f, "rule {number}: {text}")?,
            None => writeln!(f, "rule: none fits")?,
        }
        for Asked { key, verdict, why } in &self.asked {
            writeln!(f, "option {key:?}: {verdict}, {why}")?;
        }
        writeln!(f, "set: {}", self.set.as_deref().unwrap_or("none, everything that is defined"))?;
        writeln!(f, "flavors: {}", self.flavors.join(", "))?;
        writeln!(f, "flavor: {}", self.flavor.as_deref().unwrap_or("none"))?;
        for Quota { scope, counted, limit, source } in &self.quotas {
            let Scope { hub, user_id, group, flavor } = scope;
            let scope = [
                hub.as_ref().map(|hub| format!("hub {hub:?}")),
                user_id.map(|user_id| format!("user {user_id}")),
                group.as_ref().map(|group| format!("group {group:?}")),
                flavor.as_ref().map(|flavor| match flavor {
                    OfFlavor::Named(name) => format!("flavor {name:?}"),
                    OfFlavor::Undefined { .. } => "all undefined flavors".to_owned(),
                }),
            ];
            let scope: Vec<_> = scope.into_iter().flatten().collect();
            writeln!(f, "limit {source}: {} of {}", counted.in_words(*limit), scope.join(", "))?;
        }
        writeln!(f, "options: {}", Value::Object(self.options.clone()))?;
        let Need { cpu_millis, memory_bytes, gpus } = self.need;
        let need = [(Counted::Cpu, cpu_millis), (Counted::Memory, memory_bytes), (Counted::Gpus, gpus)];
        let need = need.map(|(counted, number)| counted.in_words(number));
        writeln!(f, "takes up: {}", need.join(", "))?;
        for message in &self.messages {
            writeln!(f, "progress: {message}")?;
        }
        if let Some(fault) = &self.fault {
            writeln!(f, "fault: {fault}")?;
        }
        match &self.refusal {
            Some(refusal) => writeln!(f, "result: refused. {refusal}"),
            None => writeln!(f, "result: allowed, if the limits are not reached"),
        }
    }
}
