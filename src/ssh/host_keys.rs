//! The key by which clients know this installation.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey};

use crate::error::{Error, Result};
use crate::model::fingerprint;
use crate::store::Store;

/// The host key that is in force.
pub struct HostKeys {
    current: ArcSwap<PrivateKey>,
}

impl fmt::Debug for HostKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKeys").finish_non_exhaustive()
    }
}

impl HostKeys {
    /// Reads the host key of this installation; the first Outpost makes it.
    ///
    /// # Errors
    /// The database does not answer, or has no key that can be read.
    pub async fn load(store: &Store) -> Result<Self> {
        let stored = match store.host_key("current").await? {
            Some(stored) => stored,
            None => {
                let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).map_err(Error::internal)?;
                let line = key.to_openssh(LineEnding::LF).map_err(Error::internal)?;
                store.add_host_key("current", &fingerprint(key.public_key()), &line).await?;
                let stored = store.host_key("current").await?;
                stored.ok_or_else(|| Error::internal("the host key is not there"))?
            }
        };
        let key = PrivateKey::from_openssh(&stored).map_err(|_| Error::internal("the host key cannot be read"))?;
        Ok(Self { current: ArcSwap::from_pointee(key) })
    }

    /// The key that new connections are shown.
    #[must_use]
    pub fn current(&self) -> Arc<PrivateKey> {
        self.current.load_full()
    }
}
