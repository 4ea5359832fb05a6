//! SSH public keys to hubs.

use std::collections::HashMap;
use std::sync::Arc;

use russh::keys::PublicKey;
use tokio::sync::watch;

use crate::model::{AuthorizedKey, fingerprint};
use crate::store::SshKeyRow;

/// The hubs' public keys of one moment, by fingerprint.
pub type KnownKeys = HashMap<String, Arc<HubKey>>;

/// A public key and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct HubKey {
    /// The hub's name.
    pub hub: Arc<str>,
    /// The key and what it may be used for.
    pub key: AuthorizedKey,
}

/// Knows the hubs' SSH public keys.
#[derive(Debug)]
pub struct SshKeys {
    known: watch::Sender<Arc<KnownKeys>>,
}

impl Default for SshKeys {
    fn default() -> Self {
        Self { known: watch::Sender::new(Arc::default()) }
    }
}

impl SshKeys {
    /// Takes over the rows of the database; those who watch are woken if something changed.
    pub fn update(&self, rows: Vec<SshKeyRow>) {
        let read = |row: SshKeyRow| match AuthorizedKey::parse(&row.line) {
            Ok(key) => Some((row.fingerprint, Arc::new(HubKey { hub: row.hub.into(), key }))),
            Err(mistake) => {
                tracing::error!(hub.name = ?row.hub, key = row.fingerprint, mistake, "an SSH key of a hub cannot be used");
                None
            }
        };
        let new: KnownKeys = rows.into_iter().filter_map(read).collect();
        self.known.send_if_modified(|known| {
            let changed = **known != new;
            if changed {
                *known = Arc::new(new);
            }
            changed
        });
    }

    /// Whose key this is.
    #[must_use]
    pub fn find(&self, key: &PublicKey) -> Option<Arc<HubKey>> {
        // A fingerprint is a hash, so that nothing can be learned from how long the search takes.
        self.known.borrow().get(&fingerprint(key)).cloned()
    }

    /// Whether a hub has any key.
    #[must_use]
    pub fn has(&self, hub: &str) -> bool {
        self.known.borrow().values().any(|known| &*known.hub == hub)
    }

    /// To be woken whenever keys change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<KnownKeys>> {
        self.known.subscribe()
    }
}
