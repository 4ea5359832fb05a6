//! What administrators do, by the admin API and by the command line: the same code for both.
//!
//! Every change is one method of [`Admin`] and one row of the audit table. The row is written before the change is made,
//! so that no crash leaves a change that nobody finds, and taken back when the change was not made.

mod definitions;
mod explain;
mod host_keys;
mod hubs;
mod servers;
mod ssh_keys;
mod tokens;
mod usage;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

pub use self::definitions::{Definition, DefinitionVersion, definition, definition_versions};
pub use self::explain::{Explained, Question, explain};
pub use self::host_keys::{HostKeySummary, host_keys};
pub use self::hubs::{Credential, HubSummary, hubs};
pub use self::servers::{ServerSearch, ServerSummary, Until, server};
pub use self::ssh_keys::{SshKeySummary, ssh_keys};
pub use self::tokens::{TokenSummary, authenticate, tokens};
pub use self::usage::{Export, Format, Sum};
use crate::config::Config;
use crate::model::Actor;
use crate::outpost::Reloaded;
use crate::store::Store;

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What is asked for makes no sense, as a sentence.
    #[error("{0}")]
    Invalid(String),
    /// There is nothing of that name, as a sentence.
    #[error("{0}")]
    Missing(String),
    /// It does not go with what is there, as a sentence.
    #[error("{0}")]
    Conflict(String),
    /// Somebody else changed it first, as a sentence.
    #[error("{0}")]
    Outdated(String),
    /// Something does not work, the database most of all.
    #[error(transparent)]
    Failed(#[from] crate::error::Error),
}

/// Short for a result with an [`enum@Error`] of this module.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An administrator at work.
#[derive(Debug)]
pub struct Admin<'a> {
    /// The database.
    pub store: &'a Store,
    /// The configuration that is in force.
    pub config: &'a Config,
    /// Who it is.
    pub actor: Actor,
}

impl Admin<'_> {
    /// Makes a change that the audit table knows.
    async fn audited<T>(
        &self,
        action: &'static str,
        subject: &str,
        detail: Value,
        change: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.audited_as(action, subject, detail.clone(), change, |_| Some(detail)).await
    }

    /// Makes a change that the audit table knows, with the detail that is `told` when it is made; `None`: nothing was
    /// changed. Only what is certainly not done is taken back: a database that does not answer may have done it.
    async fn audited_as<T>(
        &self,
        action: &'static str,
        subject: &str,
        detail: Value,
        change: impl Future<Output = Result<T>>,
        told: impl FnOnce(&T) -> Option<Value>,
    ) -> Result<T> {
        let deed = self.store.record(&self.actor, action, subject, &detail).await?;
        let result = change.await;
        let written = match &result {
            Err(Error::Failed(crate::error::Error::Unavailable { .. })) => Ok(()),
            Err(_) => self.store.take_back(&deed).await,
            Ok(made) => match told(made) {
                None => self.store.take_back(&deed).await,
                Some(now) => {
                    tracing::info!(actor = %self.actor, action, subject = ?subject, detail = ?now.to_string(), "an administrator's change");
                    if now == detail { Ok(()) } else { self.store.amend(&deed, &now).await }
                }
            },
        };
        if let Err(error) = written {
            tracing::error!(deed = %deed, cause = error.cause(), "the audit table does not say what became of a change");
        }
        result
    }
}

impl Admin<'_> {
    /// Encrypts everything that is stored with the newest key; says how many rows were changed.
    ///
    /// # Errors
    /// Something cannot be read with any key; what was done until then stays.
    pub async fn rotate_keys(&self) -> Result<u64> {
        self.audited("keys.rotate", "", Value::Null, async { Ok(self.store.rotate_keys().await?) }).await
    }

    /// Has the configuration file read.
    ///
    /// # Errors
    /// The mistake in it, which changes nothing.
    pub async fn reload(
        &self,
        reload: impl Future<Output = crate::error::Result<Result<Reloaded, String>>>,
    ) -> Result<Reloaded> {
        self.audited("configuration.reload", "", Value::Null, async { reload.await?.map_err(Error::Invalid) }).await
    }
}

/// Reads a length of time as people write it: `90d`, `2h 30m`.
///
/// # Errors
/// A part of a sentence: what was expected.
pub fn parse_length(text: &str) -> Result<TimeDelta, String> {
    let length: Option<Duration> = humantime_serde::re::humantime::parse_duration(text).ok();
    let length = length.filter(|length| !length.is_zero()).and_then(|length| TimeDelta::from_std(length).ok());
    length.ok_or_else(|| "has to be a length of time like 30m, 2h or 90d".to_owned())
}

/// `length` after `now`, if calendars of databases go that far.
fn after(now: DateTime<Utc>, length: TimeDelta) -> Result<DateTime<Utc>> {
    let last = DateTime::from_timestamp_secs(253_370_764_800).unwrap_or(now);
    let then = now.checked_add_signed(length).filter(|then| *then < last);
    then.ok_or_else(|| Error::Invalid("that would be after the year 9998".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_read_as_people_write_them() {
        assert_eq!(parse_length("2h 30m").unwrap(), TimeDelta::minutes(150));
        for bad in ["", "0s", "2", "-1h", "soon", "1000000000000y"] {
            assert!(parse_length(bad).is_err(), "{bad}");
        }
        assert!(after(DateTime::UNIX_EPOCH, parse_length("9000y").unwrap()).is_err());
    }
}
