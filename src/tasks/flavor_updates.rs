//! Tells hubs how their flavors are used: after starts, stops and failures, one call at a time for each hub. What happens
//! while a call is under way makes one more call, with the newest numbers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value};

use crate::hub::{Callbacks, Hub};
use crate::outpost::Outpost;

/// The hubs that want to know.
#[derive(Debug, Default)]
pub struct FlavorUpdates(Mutex<HashMap<Arc<str>, Target>>);

#[derive(Debug)]
struct Target {
    hub: Arc<Hub>,
    callbacks: Callbacks,
    state: Due,
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
        let target = targets.entry(hub.name.clone()).or_insert_with(|| Target {
            hub: hub.clone(),
            callbacks: callbacks.clone(),
            state: Due::No,
        });
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
            Due::Sending | Due::SendingAndAgain => target.state = Due::SendingAndAgain,
        }
    }

    /// Other flavors are in force: every hub that wants to know is told.
    pub fn all_due(&self, outpost: &Arc<Outpost>) {
        let targets: Vec<_> =
            self.lock().values().map(|target| (target.hub.clone(), target.callbacks.clone())).collect();
        for (hub, callbacks) in targets {
            self.due(outpost, &hub, &callbacks);
        }
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
    loop {
        let Some((hub, callbacks)) = outpost.flavor_updates.target(name) else {
            return;
        };
        let flavors = Value::Object(outpost.flavors(name, &Map::new()));
        tokio::select! {
            () = outpost.abort.cancelled() => return,
            _ = hub.update_flavors(&callbacks, &flavors) => {}
        }
        if !outpost.flavor_updates.next(name) {
            return;
        }
    }
}
