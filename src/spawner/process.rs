//! Local processes.
use serde::Deserialize;

/// `type = "process"`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The command.
    pub cmd: Vec<String>,
}
