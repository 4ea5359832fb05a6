//! Servers that exist in memory only: the backend of tests and benchmarks. It keeps the trait's rules like any other,
//! and fails on demand.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::Value;

use super::options::KUBESPAWNER_OPTIONS;
use super::{Changes, Choice, Found, Offer, OptionTable, Progress, Spawner, SpawnerSettings, Started, Status};
use crate::error::{Error, Result};
use crate::model::{Exit, Handle, Launch, Uid};

/// The options of this backend.
pub const OPTIONS: OptionTable = OptionTable {
    known: KUBESPAWNER_OPTIONS,
    sensitive: &[("cmd", "it chooses the program that runs")],
    check: |_, _| Ok(()),
};

/// `type = "memory"`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How long a start takes.
    #[serde(with = "humantime_serde")]
    pub start_delay: Duration,
    /// The sentence that every start fails with.
    pub fail: Option<String>,
}

/// The backend.
#[derive(Debug)]
pub struct Memory {
    name: String,
    settings: Mutex<Settings>,
    servers: Mutex<HashMap<Uid, Option<Exit>>>,
    changes: Changes,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Memory {
    /// An empty backend.
    #[must_use]
    pub fn new(name: &str, settings: Settings, changes: Changes) -> Self {
        Self { name: name.to_owned(), settings: Mutex::new(settings), servers: Mutex::default(), changes }
    }

    /// Ends a server from outside, as a crash would.
    pub fn end(&self, uid: &Uid, exit: Exit) {
        if let Some(state) = lock(&self.servers).get_mut(uid) {
            *state = Some(exit);
        }
        self.changes.report(uid.clone());
    }

    fn handle(&self) -> Handle {
        Handle { spawner: self.name.as_str().into(), state: Value::Null }
    }
}

#[async_trait]
impl Spawner for Memory {
    fn prepare(&self, _launch: &Launch) -> Result<Handle> {
        Ok(self.handle())
    }

    async fn start(&self, _handle: &Handle, launch: &Launch, progress: &Progress) -> Result<Started> {
        let settings = lock(&self.settings).clone();
        progress.say(50, "Starting a server in memory.");
        if !settings.start_delay.is_zero() {
            tokio::time::sleep(settings.start_delay).await;
        }
        if let Some(message) = settings.fail {
            return Err(Error::Failed { message, logs: vec!["a log line".to_owned()] });
        }
        lock(&self.servers).entry(launch.uid.clone()).or_insert(None);
        Ok(Started { host: "127.0.0.1".to_owned(), port: 8888 })
    }

    async fn status(&self, uid: &Uid, _handle: &Handle) -> Result<Status> {
        Ok(match lock(&self.servers).get(uid) {
            Some(None) => Status::Running,
            Some(Some(exit)) => Status::Exited(exit.clone()),
            None => Status::Absent,
        })
    }

    async fn stop(&self, uid: &Uid, _handle: &Handle) -> Result<()> {
        lock(&self.servers).remove(uid);
        Ok(())
    }

    async fn logs(&self, uid: &Uid, _handle: &Handle, _lines: usize) -> Result<Vec<String>> {
        Ok(lock(&self.servers).get(uid).map(|_| "a log line".to_owned()).into_iter().collect())
    }

    async fn list(&self) -> Result<Vec<Found>> {
        Ok(lock(&self.servers).keys().map(|uid| Found { uid: uid.clone(), handle: self.handle() }).collect())
    }

    fn shared(&self) -> bool {
        false
    }

    fn options(&self) -> OptionTable {
        OPTIONS
    }

    fn offer(&self, _choice: &Choice<'_>) -> Result<Offer, String> {
        Ok(Offer::default())
    }

    fn start_response(&self, _launch: &Launch, started: &Started) -> Result<String> {
        Ok(format!("{}:{}", started.host, started.port))
    }

    fn reconfigure(&self, settings: &SpawnerSettings) -> Result<(), String> {
        match settings {
            SpawnerSettings::Memory(settings) => *lock(&self.settings) = settings.clone(),
            other => return Err(other.change_of_kind("memory")),
        }
        Ok(())
    }
}
