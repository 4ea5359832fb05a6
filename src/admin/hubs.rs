//! JupyterHubs and their credentials.

use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use serde_json::json;

use super::{Admin, Error, Result};
use crate::auth::{generate_password, hash_password};
use crate::config::SHARED;
use crate::hub::check_name;
use crate::store::{Source, Store};

/// A new password of a hub. It is kept as a hash only.
#[derive(Debug)]
pub struct Credential {
    /// The hub's name.
    pub hub: String,
    /// Its new password.
    pub password: SecretString,
    /// How many passwords of this hub are in the configuration or in the environment, and stay valid.
    pub others: usize,
}

/// A hub that is known.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct HubSummary {
    /// The user name of its credential.
    pub hub: String,
    /// How many passwords are valid.
    pub passwords: usize,
    /// How many SSH keys it has.
    pub ssh_keys: usize,
    /// How many servers it has, whatever their phase.
    pub servers: usize,
    /// Where its API was seen to be at its first start.
    pub api_url: Option<String>,
    /// How the connection to its side is, if Outpost is to make one. (The command line cannot know.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dial: Option<crate::dial::State>,
}

/// All hubs, by name.
///
/// # Errors
/// The database does not answer.
pub async fn hubs(store: &Store) -> Result<Vec<HubSummary>> {
    let (hubs, passwords, servers) = (store.hubs().await?, store.passwords().await?, store.servers().await?);
    let keys = store.ssh_keys().await?;
    let summary = |hub: crate::store::HubRow| HubSummary {
        passwords: passwords.iter().filter(|row| row.hub == hub.name).count(),
        ssh_keys: keys.iter().filter(|key| key.hub == hub.name).count(),
        servers: servers.iter().filter(|server| *server.id.hub == *hub.name).count(),
        hub: hub.name,
        api_url: hub.api_url,
        dial: None,
    };
    Ok(hubs.into_iter().map(summary).collect())
}

impl Admin<'_> {
    /// Makes a hub known and gives it a password.
    ///
    /// # Errors
    /// The name cannot be one, or the hub has a password.
    pub async fn add_hub(&self, name: &str) -> Result<Credential> {
        check_name(name).map_err(Error::Invalid)?;
        if self.store.passwords().await?.iter().any(|row| row.hub == name) {
            let text = format!("hub {name:?} has a password already; `outpost hub rotate` makes a new one");
            return Err(Error::Conflict(text));
        }
        let (password, hash) = new_password().await?;
        self.audited("hub.add", name, json!({}), async {
            self.store.add_hub(name).await?;
            Ok(self.store.add_password(name, Source::Cli, &hash, 2).await?)
        })
        .await?;
        Ok(Credential { hub: name.to_owned(), password, others: 0 })
    }

    /// Gives a hub a new password. The one before stays valid unless that is to end `now`; those before it do not.
    ///
    /// # Errors
    /// There is no such hub.
    pub async fn rotate_hub(&self, name: &str, now: bool) -> Result<Credential> {
        self.known(name).await?;
        let (password, hash) = new_password().await?;
        let keep = if now { 1 } else { 2 };
        self.audited("hub.rotate", name, json!({ "now": now }), async {
            Ok(self.store.add_password(name, Source::Cli, &hash, keep).await?)
        })
        .await?;
        let rows = self.store.passwords().await?;
        let others = rows.iter().filter(|row| row.hub == name && row.source != Source::Cli.as_str()).count();
        Ok(Credential { hub: name.to_owned(), password, others })
    }

    /// Forgets where a hub's API was seen, so that its next start tells anew.
    ///
    /// # Errors
    /// There is no such hub.
    pub async fn forget_api_url(&self, name: &str) -> Result<()> {
        self.known(name).await?;
        self.audited("hub.forget_api_url", name, json!({}), async { Ok(self.store.unpin_api_url(name).await?) }).await
    }

    /// Removes a hub, its passwords and its SSH keys.
    ///
    /// # Errors
    /// There is no such hub, it has servers, the configuration or the environment would bring it back, or a key of the
    /// configuration that names no hub is its own: with the hub it would be forgotten whose that is.
    pub async fn remove_hub(&self, name: &str) -> Result<()> {
        self.known(name).await?;
        if self.config.hubs.contains_key(name) {
            let text = format!("hub {name:?} is in the configuration; remove [hubs.{name}] there first");
            return Err(Error::Conflict(text));
        }
        if self.store.passwords().await?.iter().any(|row| row.hub == name && row.source == Source::Env.as_str()) {
            return Err(Error::Conflict(format!(
                "hub {name:?} is in the variables `usernames` and `passwords` of the daemon; take it out there first"
            )));
        }
        let servers = self.store.servers().await?.iter().filter(|server| *server.id.hub == *name).count();
        if servers > 0 {
            return Err(Error::Conflict(format!(
                "hub {name:?} has {servers} servers; stop them first: `outpost service stop --hub {name}`"
            )));
        }
        let shared = self.config.ssh_keys().map_err(Error::Invalid)?.into_iter().filter(|key| key.hub.is_none());
        let shared: Vec<_> = shared.map(|key| key.key.fingerprint()).collect();
        let rows = self.store.ssh_keys().await?;
        if rows.iter().any(|row| row.hub == name && shared.contains(&row.fingerprint)) {
            return Err(Error::Conflict(format!(
                "hub {name:?} has a key of {SHARED} in the configuration, which could become another hub's then; take it out \
                 there first, or write it to hubs.<name>.ssh_keys of the hub that is to have it"
            )));
        }
        self.audited("hub.remove", name, json!({}), async { Ok(self.store.remove_hub(name).await.map(drop)?) }).await
    }

    pub(super) async fn known(&self, name: &str) -> Result<()> {
        let known = self.store.hubs().await?.iter().any(|hub| hub.name == name);
        known.then_some(()).ok_or_else(|| Error::Missing(format!("there is no hub {name:?}")))
    }
}

/// A password and its hash, which takes some tens of milliseconds of a processor.
async fn new_password() -> Result<(SecretString, String)> {
    let password = SecretString::from(generate_password());
    let hashed = tokio::task::spawn_blocking({
        let password = password.clone();
        move || hash_password(password.expose_secret())
    });
    let hash = hashed.await.map_err(crate::error::Error::internal)??;
    Ok((password, hash))
}
