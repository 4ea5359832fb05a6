//! Local processes.
use crate::model::*;
use crate::spawner::*;
use serde::Deserialize;
use std::path::PathBuf;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// `type = "process"`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The command.
    pub cmd: Vec<String>,
}
impl Settings {
    pub fn check(&self) -> Result<(), String> {
        Ok(())
    }
}
#[derive(Clone)]
pub struct Context {
    pub state_dir: PathBuf,
    pub instance: String,
    pub changes: Changes,
    pub tracker: TaskTracker,
    pub shutdown: CancellationToken,
    pub supervisor: PathBuf,
}
pub struct Process;
impl Process {
    pub fn new(_n: &str, _s: Settings, _c: Context) -> Result<Arc<dyn Spawner>, String> {
        Err("stub".into())
    }
}
pub mod supervisor {
    pub fn main() -> std::process::ExitCode {
        std::process::ExitCode::SUCCESS
    }
}
