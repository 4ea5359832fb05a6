//! Tells hubs how their flavors are used: after starts, stops and failures, one call at a time for each hub. What happens
//! while a call is under way makes one more call, with the newest numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Notify;

use crate::hub::{Callbacks, Called, Hub};
use crate::outpost::Outpost;

/// The pauses after a call that failed as often as it was tried.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The hubs that want to know.
#[derive(Debug, Default)]
pub struct FlavorUpdates(Mutex<HashMap<Arc<str>, Target>>);

#[derive(Debug)]
struct Target {
    hub: Arc<Hub>,
    callbacks: Callbacks,
    state: Due,
    /// Ends the pause after a call that failed.
    again: Arc<Notify>,
}

impl Target {
    fn new(hub: &Arc<Hub>, callbacks: &Callbacks) -> Self {
        Self { hub: hub.clone(), callbacks: callbacks.clone(), state: Due::No, again: Arc::default() }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Due {
    No,
    Sending,
    SendingAndAgain,
}

impl FlavorUpdates {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, Target>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The use of a hub's flavors changed. A hub without a URL or a token for it is not told.
    pub fn due(&self, outpost: &Arc<Outpost>, hub: &Arc<Hub>, callbacks: &Callbacks) {
        let mut targets = self.lock();
        let target = targets.entry(hub.name.clone()).or_insert_with(|| Target::new(hub, callbacks));
        target.hub = hub.clone();
        // One server without a URL does not end the updates of the others.
        if callbacks.flavors.is_some() {
            target.callbacks.clone_from(callbacks);
        }
        match target.state {
            _ if callbacks.flavors.is_none() => {}
            Due::No => {
                target.state = Due::Sending;
                let (outpost, name) = (outpost.clone(), hub.name.clone());
                outpost.tracker.clone().spawn(async move { send(&outpost, &name).await });
            }
            Due::Sending | Due::SendingAndAgain => {
                target.state = Due::SendingAndAgain;
                target.again.notify_one();
            }
        }
    }

    /// Something changed that was not done here: these hubs are told, if it is known where.
    pub fn due_for<'a>(&self, outpost: &Arc<Outpost>, hubs: impl IntoIterator<Item = &'a str>) {
        for hub in hubs {
            if let Some((hub, callbacks)) = self.target(hub) {
                self.due(outpost, &hub, &callbacks);
            }
        }
    }

    /// Other flavors are in force: every hub that wants to know is told.
    pub fn all_due(&self, outpost: &Arc<Outpost>) {
        let hubs: Vec<_> = self.lock().keys().cloned().collect();
        self.due_for(outpost, hubs.iter().map(|hub| &**hub));
    }

    /// Where a hub was last told.
    #[must_use]
    pub fn target(&self, hub: &str) -> Option<(Arc<Hub>, Callbacks)> {
        self.lock().get(hub).map(|target| (target.hub.clone(), target.callbacks.clone()))
    }

    /// Whether another call is due now that one is done.
    fn next(&self, hub: &str) -> bool {
        let mut targets = self.lock();
        let Some(target) = targets.get_mut(hub) else { return false };
        let again = target.state == Due::SendingAndAgain;
        target.state = if again { Due::Sending } else { Due::No };
        again
    }
}

async fn send(outpost: &Arc<Outpost>, name: &str) {
    let mut pause = FIRST_PAUSE;
    loop {
        let Some((hub, callbacks)) = outpost.flavor_updates.target(name) else {
            return;
        };
        let flavors = Value::Object(outpost.flavors(name, &Map::new()));
        let called = tokio::select! {
            () = outpost.abort.cancelled() => return,
            called = hub.update_flavors(&callbacks, &flavors) => called,
        };
        if called == Called::Failed {
            if !outpost.auth.knows(name) {
                outpost.flavor_updates.lock().remove(name);
                return;
            }
            // The hub may be restarting: it has to know in the end.
            let again = outpost.flavor_updates.lock().get(name).map(|target| target.again.clone()).unwrap_or_default();
            tokio::select! {
                () = outpost.abort.cancelled() => return,
                () = again.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        } else if !outpost.flavor_updates.next(name) {
            return;
        }
    }
}
