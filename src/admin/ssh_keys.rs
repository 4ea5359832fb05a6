//! The hubs' SSH keys.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::{Admin, Error, Result};
use crate::model::AuthorizedKey;
use crate::store::{Source, SshKeyRow, Store};

/// An SSH public key of a hub.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct SshKeySummary {
    /// The hub's name.
    pub hub: String,
    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    pub fingerprint: String,
    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, … or `ssh-rsa`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its length.
    pub bits: usize,
    /// What may be done with it, as in `authorized_keys`; empty: any forward.
    pub options: String,
    /// What is written after the key.
    pub comment: String,
    /// Who manages it: `config`, the configuration file, or `cli`, the command line and this API.
    pub source: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
    /// Why nobody can log in with it just now.
    pub problem: Option<String>,
}

impl SshKeySummary {
    fn of(row: SshKeyRow, now: DateTime<Utc>) -> Self {
        let read = AuthorizedKey::parse(&row.line);
        let key = read.as_ref().ok();
        let expires_at = key.and_then(AuthorizedKey::expires);
        let problem = match &read {
            Err(mistake) => Some(format!("this version cannot use it: it {mistake}")),
            Ok(key) => key.idle(now).map(str::to_owned),
        };
        Self {
            kind: key.map(AuthorizedKey::kind).unwrap_or_default(),
            bits: key.map(AuthorizedKey::bits).unwrap_or_default(),
            options: key.map(|key| key.options().to_owned()).unwrap_or_default(),
            comment: key.map(|key| key.comment().to_owned()).unwrap_or_default(),
            hub: row.hub,
            fingerprint: row.fingerprint,
            source: row.source,
            created_at: row.created_at,
            expires_at,
            problem,
        }
    }
}

/// The SSH keys of one hub or of all, by hub, the oldest first.
///
/// # Errors
/// There is no such hub.
pub async fn ssh_keys(store: &Store, hub: Option<&str>) -> Result<Vec<SshKeySummary>> {
    if let Some(hub) = hub
        && !store.hubs().await?.iter().any(|known| known.name == hub)
    {
        return Err(Error::Missing(format!("there is no hub {hub:?}")));
    }
    let rows = store.ssh_keys().await?.into_iter().filter(|row| hub.is_none_or(|hub| row.hub == hub));
    Ok(rows.map(|row| SshKeySummary::of(row, store.clock().now())).collect())
}

impl Admin<'_> {
    /// Gives a hub an SSH key. One that it has already gets the options of this line.
    ///
    /// # Errors
    /// There is no such hub, the key is another hub's, or it is managed by the configuration.
    pub async fn add_ssh_key(&self, hub: &str, key: &AuthorizedKey) -> Result<SshKeySummary> {
        self.known(hub).await?;
        let fingerprint = key.fingerprint();
        let rows = self.store.ssh_keys().await?;
        let known = rows.into_iter().find(|row| row.fingerprint == fingerprint);
        if let Some(row) = &known {
            if row.hub != hub {
                let text = format!("this is a key of hub {:?} already; a key belongs to one hub", row.hub);
                return Err(Error::Conflict(text));
            }
            if row.line == key.line() {
                return Ok(SshKeySummary::of(row.clone(), self.store.clock().now()));
            }
            self.check_source(row, "change")?;
        }
        let detail = json!({
            "fingerprint": fingerprint,
            "type": key.kind(),
            "options": key.options(),
            "comment": key.comment(),
        });
        self.audited("hub.ssh_key.add", hub, detail, async {
            let done = match &known {
                Some(row) => self.store.replace_ssh_key(&row.id, Source::Cli, key).await?,
                None => self.store.add_ssh_key(hub, Source::Cli, key).await?,
            };
            done.then_some(()).ok_or_else(|| Error::Conflict("somebody else has just changed this key".to_owned()))
        })
        .await?;
        let keys = ssh_keys(self.store, Some(hub)).await?;
        keys.into_iter().find(|key| key.fingerprint == fingerprint).ok_or_else(|| missing(hub, &fingerprint))
    }

    /// Takes an SSH key from a hub, by its fingerprint or by its comment; its connections end. Gives the fingerprint.
    ///
    /// # Errors
    /// The hub has no such key, or several, or the configuration would bring it back.
    pub async fn remove_ssh_key(&self, hub: &str, name: &str) -> Result<String> {
        self.known(hub).await?;
        let rows: Vec<_> = self.store.ssh_keys().await?.into_iter().filter(|row| row.hub == hub).collect();
        let has_comment = |row: &&SshKeyRow| {
            !name.is_empty() && AuthorizedKey::parse(&row.line).is_ok_and(|key| key.comment() == name)
        };
        let mut fitting = match rows.iter().find(|row| row.fingerprint == name) {
            Some(row) => vec![row],
            None => rows.iter().filter(has_comment).collect(),
        };
        let row = fitting.pop().ok_or_else(|| missing(hub, name))?;
        if !fitting.is_empty() {
            let text = format!("hub {hub:?} has several keys with the comment {name:?}; name one by its fingerprint");
            return Err(Error::Conflict(text));
        }
        self.check_source(row, "remove")?;
        self.audited("hub.ssh_key.remove", hub, json!({ "fingerprint": row.fingerprint }), async {
            let removed = self.store.remove_ssh_key(&row.id).await?;
            removed.then_some(()).ok_or_else(|| missing(hub, name))
        })
        .await?;
        Ok(row.fingerprint.clone())
    }

    fn check_source(&self, row: &SshKeyRow, verb: &str) -> Result<()> {
        if row.source == Source::Config.as_str() {
            let text = format!(
                "this key is in the configuration; {verb} it there, in [hubs.{:?}] ssh_keys or [ssh] authorized_keys",
                row.hub
            );
            return Err(Error::Conflict(text));
        }
        Ok(())
    }
}

fn missing(hub: &str, name: &str) -> Error {
    Error::Missing(format!("hub {hub:?} has no SSH key with the fingerprint or the comment {name:?}"))
}
