//! The keys by which SSH clients know this installation.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::{Admin, Error, Result};
use crate::config::Config;
use crate::model::{HostKey, HostKeyState};
use crate::store::{Store, StoredHostKey};

/// A host key of this installation, without its private half.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct HostKeySummary {
    /// `current`, or `next`: the one that takes its place when the rotation is finished.
    pub state: String,
    /// `SHA256:…`, as SSH clients show it.
    pub fingerprint: String,
    /// `ssh-ed25519`
    #[serde(rename = "type")]
    pub kind: String,
    /// As in a file that ends in `.pub`.
    pub public_key: String,
    /// The line for a hub's `known_hosts`, if it is configured how hubs reach this machine.
    pub known_hosts: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl HostKeySummary {
    fn of(state: HostKeyState, stored: &StoredHostKey, config: &Config) -> Self {
        let public_key = stored.key.public_line();
        Self {
            state: state.as_str().to_owned(),
            fingerprint: stored.key.fingerprint(),
            kind: stored.key.public().algorithm().to_string(),
            known_hosts: config.ssh.known_as().map(|name| format!("{name} {public_key}")),
            public_key,
            created_at: stored.created_at,
        }
    }
}

/// The host keys: none before the SSH server's first start, the current one, and the next one during a rotation.
///
/// # Errors
/// The database does not answer.
pub async fn host_keys(store: &Store, config: &Config) -> Result<Vec<HostKeySummary>> {
    let mut keys = Vec::new();
    for state in [HostKeyState::Current, HostKeyState::Next] {
        let stored = store.host_key(state).await?;
        keys.extend(stored.map(|stored| HostKeySummary::of(state, &stored, config)));
    }
    Ok(keys)
}

impl Admin<'_> {
    /// Makes the next host key, which hubs are to trust before [`Self::finish_host_key_rotation`].
    ///
    /// # Errors
    /// There is no host key yet, or there is a next one already.
    pub async fn rotate_host_key(&self) -> Result<()> {
        self.store.host_key(HostKeyState::Current).await?.ok_or_else(none)?;
        let next = HostKey::generate().map_err(crate::error::Error::internal)?;
        self.audited("ssh.rotate", "", json!({ "fingerprint": next.fingerprint() }), async {
            let added = self.store.add_host_key(HostKeyState::Next, &next).await?;
            added.then_some(()).ok_or_else(|| {
                let text = "a rotation is under way: `outpost ssh fingerprint` shows both keys, `outpost ssh rotate --finish` ends it";
                Error::Conflict(text.to_owned())
            })
        })
        .await
    }

    /// Puts the next host key in the current one's place, which is forgotten. Open connections go on.
    ///
    /// # Errors
    /// There is no next one.
    pub async fn finish_host_key_rotation(&self) -> Result<()> {
        let none = || Error::Conflict("there is no next host key; `outpost ssh rotate` makes one".to_owned());
        let next = self.store.host_key(HostKeyState::Next).await?.ok_or_else(none)?;
        self.audited("ssh.rotate_finish", "", json!({ "fingerprint": next.key.fingerprint() }), async {
            self.store.promote_host_key().await?.then_some(()).ok_or_else(none)
        })
        .await
    }
}

fn none() -> Error {
    Error::Missing("there is no host key yet; it is made when Outpost starts with `[ssh] listen`".to_owned())
}
