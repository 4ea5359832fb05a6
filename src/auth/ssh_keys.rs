//! SSH public keys to hubs.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

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
    /// Told once, not whenever rows are read.
    told: Mutex<HashSet<Unusable>>,
}

/// A row that cannot be used, and why.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Unusable {
    hub: String,
    fingerprint: String,
    mistake: String,
}

impl Default for SshKeys {
    fn default() -> Self {
        Self { known: watch::Sender::new(Arc::default()), told: Mutex::default() }
    }
}

impl SshKeys {
    /// Takes over the rows of the database; those who watch are woken if something changed.
    pub fn update(&self, rows: Vec<SshKeyRow>) {
        let (mut new, mut unusable) = (KnownKeys::new(), HashSet::new());
        for SshKeyRow { hub, fingerprint, line, .. } in rows {
            match AuthorizedKey::parse(&line) {
                Ok(key) => drop(new.insert(fingerprint, Arc::new(HubKey { hub: hub.into(), key }))),
                Err(mistake) => drop(unusable.insert(Unusable { hub, fingerprint, mistake })),
            }
        }
        for Unusable { hub, fingerprint, mistake } in self.untold(unusable) {
            tracing::error!(hub.name = ?hub, key = fingerprint, mistake, "an SSH key of a hub cannot be used");
        }
        self.known.send_if_modified(|known| {
            let changed = **known != new;
            if changed {
                *known = Arc::new(new);
            }
            changed
        });
    }

    /// Those that were not there the last time.
    fn untold(&self, unusable: HashSet<Unusable>) -> Vec<Unusable> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let new = unusable.difference(&told).cloned().collect();
        *told = unusable;
        new
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_cannot_be_used_is_told_once() {
        let of = |mistakes: &[&str]| {
            let unusable = |mistake: &&str| Unusable {
                hub: "hub1".to_owned(),
                fingerprint: "SHA256:x".to_owned(),
                mistake: (*mistake).to_owned(),
            };
            mistakes.iter().map(unusable).collect::<HashSet<_>>()
        };
        let keys = SshKeys::default();
        assert_eq!(keys.untold(of(&["one"])).len(), 1);
        assert_eq!(keys.untold(of(&["one"])), []);
        let two = keys.untold(of(&["one", "two"]));
        assert_eq!(two.iter().map(|new| new.mistake.as_str()).collect::<Vec<_>>(), ["two"]);
        assert_eq!(keys.untold(of(&[])), []);
        assert_eq!(keys.untold(of(&["one"])).len(), 1, "it is back");
    }
}
