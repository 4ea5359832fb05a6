//! Puts the passwords of the configuration and of the environment into the database, as hashes, and the SSH keys.

mod ssh_keys;

use std::collections::BTreeSet;

use secrecy::{ExposeSecret as _, SecretString};

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

/// Makes the database agree with the configuration and the environment; what the command line made stays.
pub(super) async fn apply(store: &Store, config: &Config, environment: &Environment) -> Result<()> {
    let mut wanted: Vec<(String, Source, SecretString)> = Vec::new();
    for (hub, settings) in &config.hubs {
        store.add_hub(hub).await?;
        for secret in &settings.passwords {
            let password =
                secret.read().map_err(|error| Error::internal(format!("hubs.{hub:?}.passwords: {error}")))?;
            wanted.push((hub.clone(), Source::Config, password));
        }
    }
    for credential in environment.credentials().map_err(Error::internal)? {
        store.add_hub(&credential.hub).await?;
        wanted.push((credential.hub, Source::Env, credential.password));
    }

    let rows = store.passwords().await?;
    let mut kept: BTreeSet<String> = BTreeSet::new();
    for (hub, source, password) in wanted {
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
    for row in rows.iter().filter(|row| row.source != Source::Cli.as_str() && !kept.contains(&row.id)) {
        store.remove_password(&row.id).await?;
    }
    ssh_keys::apply(store, config).await
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
