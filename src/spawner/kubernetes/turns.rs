//! Who changes a server: one at a time. And what this process knows of what it created.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

use crate::model::Uid;

/// The right to change a server. Requests that are under way hold it, also where nobody waits for them any more.
pub type Turn = OwnedMutexGuard<()>;

/// The cluster's identifiers of objects that this process created.
#[derive(Clone, Debug, Default)]
pub struct Ids {
    /// Of the pod.
    pub pod: Option<String>,
    /// Of the secret.
    pub secret: Option<String>,
    /// Of the service.
    pub service: Option<String>,
}

/// The turns of all servers, and their objects' identifiers.
#[derive(Debug, Default)]
pub struct Turns {
    turns: Mutex<HashMap<Uid, Weak<tokio::sync::Mutex<()>>>>,
    ids: Mutex<HashMap<Uid, Ids>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// Waits until nobody else changes the server.
    pub async fn take(&self, uid: &Uid) -> Turn {
        let mutex = {
            let mut turns = lock(&self.turns);
            match turns.get(uid).and_then(Weak::upgrade) {
                Some(mutex) => mutex,
                None => {
                    turns.retain(|_, mutex| mutex.strong_count() > 0);
                    let mutex = Arc::default();
                    turns.insert(uid.clone(), Arc::downgrade(&mutex));
                    mutex
                }
            }
        };
        mutex.lock_owned().await
    }

    /// What is known of a server's objects.
    #[must_use]
    pub fn ids(&self, uid: &Uid) -> Ids {
        lock(&self.ids).get(uid).cloned().unwrap_or_default()
    }

    /// Notes an object of a server.
    pub fn note(&self, uid: &Uid, note: impl FnOnce(&mut Ids)) {
        note(lock(&self.ids).entry(uid.clone()).or_default());
    }

    /// Forgets the objects of all servers but these. Those that are not known are looked for.
    pub fn keep(&self, is_kept: impl Fn(&Uid) -> bool) {
        lock(&self.ids).retain(|uid, _| is_kept(uid));
    }

    /// Nothing is left of a server.
    pub fn forget(&self, uid: &Uid) {
        lock(&self.ids).remove(uid);
    }
}
