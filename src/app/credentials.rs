//! Puts the passwords of the configuration and of the environment into the database, as hashes, and the SSH keys.

mod ssh_keys;

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

use super::Contents;
use crate::auth::{generate_password, hash_password, verify_password};
use crate::config::{Config, Environment};
use crate::error::{Error, Result};
use crate::store::{PasswordRow, Source, Store};

/// The hub that is made where there is none.
pub const FIRST_HUB: &str = "jupyterhub";

/// A credential that was made because there was none. It is shown once and kept as a hash only.
#[derive(Debug)]
pub struct Generated {
    /// The hub's name.
    pub hub: String,
    /// Its password.
    pub password: SecretString,
}

/// What of the configuration and of the variables is to be in the database.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) config: &'a Config,
    pub(super) contents: &'a Contents,
    /// What this Outpost read before: what has not changed since then is left as it is, since another Outpost may have a
    /// newer configuration. `None`: all is made as it is here.
    pub(super) before: Option<&'a Contents>,
    /// The variables, at the start only: they are as old as the process.
    pub(super) environment: Option<&'a Environment>,
}

impl Wanted<'_> {
    /// Whether the passwords of a hub that come from `source` are to be made as they are here.
    fn decides(&self, hub: &str, source: &str) -> bool {
        match source {
            source if source == Source::Config.as_str() => {
                self.before.is_none_or(|before| !self.contents.has_passwords_of(before, hub))
            }
            source if source == Source::Env.as_str() => self.environment.is_some(),
            _ => false,
        }
    }
}

/// Makes the database agree with what is wanted; what the command line made stays.
pub(super) async fn apply(store: &Store, wanted: Wanted<'_>) -> Result<()> {
    let mut passwords: Vec<(String, Source, SecretString)> = Vec::new();
    for (hub, of_hub) in wanted.contents.passwords() {
        if wanted.decides(hub, Source::Config.as_str()) {
            store.add_hub(hub).await?;
            passwords.extend(of_hub.iter().map(|password| (hub.clone(), Source::Config, password.clone())));
        }
    }
    let variables = wanted.environment.map(Environment::credentials).transpose().map_err(Error::internal)?;
    for credential in variables.into_iter().flatten() {
        store.add_hub(&credential.hub).await?;
        passwords.push((credential.hub, Source::Env, credential.password));
    }

    let rows = store.passwords().await?;
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for (hub, source, password) in passwords {
        let candidates: Vec<PasswordRow> =
            rows.iter().filter(|row| row.hub == hub && row.source == source.as_str()).cloned().collect();
        let (known, hash) = blocking(move || {
            let known = candidates.into_iter().find(|row| verify_password(&row.hash, password.expose_secret()));
            let hash = if known.is_none() { Some(hash_password(password.expose_secret())) } else { None };
            (known, hash)
        })
        .await?;
        kept.extend(known.map(|row| row.id));
        if let Some(hash) = hash {
            store.add_password(&hub, source, &hash?, usize::MAX).await?;
        }
    }
    for row in rows.iter().filter(|row| wanted.decides(&row.hub, &row.source) && !kept.contains(&row.id)) {
        store.remove_password(&row.id).await?;
    }
    if wanted.before.is_some_and(|before| wanted.contents.has_ssh_keys_of(before)) {
        return Ok(());
    }
    ssh_keys::apply(store, wanted.config).await
}

/// Makes a credential if there is no hub at all. Whoever calls this has to show it.
pub(super) async fn first(store: &Store, config: &Config) -> Result<Option<Generated>> {
    // (A hub without a password is what a first try that was cut off left behind.)
    let hubs = store.hubs().await?;
    let unfinished = hubs.iter().all(|hub| hub.name == FIRST_HUB) && store.passwords().await?.is_empty();
    if !config.hubs.is_empty() || !unfinished {
        return Ok(None);
    }
    let password = generate_password();
    let hash = blocking({
        let password = password.clone();
        move || hash_password(&password)
    })
    .await??;
    store.add_hub(FIRST_HUB).await?;
    store.add_password(FIRST_HUB, Source::Cli, &hash, 1).await?;
    ssh_keys::apply(store, config).await?;
    Ok(Some(Generated { hub: FIRST_HUB.to_owned(), password: password.into() }))
}

/// Hashing takes some tens of milliseconds of a processor.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}
