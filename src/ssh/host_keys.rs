//! The key by which hubs' SSH clients know this installation: all Outposts of one database have the same.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use russh::keys::PrivateKey;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::model::{HostKey, HostKeyState};
use crate::store::Store;

/// How often it is looked for another key, after a rotation that any Outpost or the command line finished.
const LOOK: Duration = Duration::from_secs(1);

/// The longest pause before a database that does not answer is asked again.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The host key that is in force.
#[derive(Debug)]
pub struct HostKeys {
    current: ArcSwap<HostKey>,
}

impl HostKeys {
    /// Reads the key; the first Outpost of an installation makes it.
    ///
    /// # Errors
    /// The database does not answer, or the encryption keys do not fit.
    pub async fn load(store: &Store) -> Result<Self> {
        Ok(Self { current: ArcSwap::from_pointee(store.current_host_key().await?.key) })
    }

    /// [`Self::load`], tried until it works. `None`: `shutdown` came first.
    pub async fn load_when_possible(store: &Store, shutdown: &CancellationToken) -> Option<Self> {
        let mut pause = Duration::from_millis(250);
        loop {
            match Self::load(store).await {
                Ok(keys) => return Some(keys),
                Err(error) => tracing::warn!(
                    error = %error,
                    cause = error.cause(),
                    "the SSH server has no host key yet and accepts nobody; it is tried again"
                ),
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// The key for a new connection. One that is open keeps the key that it began with, or its client would end it when it
    /// exchanges keys anew.
    #[must_use]
    pub fn current(&self) -> Arc<PrivateKey> {
        self.current.load().private()
    }

    /// Takes over another key that is in force by now. `true`: it is another one.
    ///
    /// # Errors
    /// The database does not answer, or the encryption keys do not fit; the key stays as it was.
    pub async fn refresh(&self, store: &Store) -> Result<bool> {
        let Some(stored) = store.host_key(HostKeyState::Current).await? else { return Ok(false) };
        let changed = **self.current.load() != stored.key;
        if changed {
            tracing::info!(fingerprint = stored.key.fingerprint(), "new SSH connections get another host key");
            self.current.store(Arc::new(stored.key));
        }
        Ok(changed)
    }

    /// Refreshes until `shutdown`. A database that does not answer changes nothing.
    pub async fn watch(&self, store: &Store, shutdown: &CancellationToken) {
        while shutdown.run_until_cancelled(tokio::time::sleep(LOOK)).await.is_some() {
            if let Err(error) = self.refresh(store).await {
                tracing::debug!(error = %error, cause = error.cause(), "the host key is looked for again in a moment");
            }
        }
    }
}
