//! All connections to hubs' sides.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::link::Link;
use super::offers::Offers;
use super::place::{Place, Reach, Target};
use super::ports::{Holder, Ports};
use super::{Settings, Trouble};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::Uid;

/// How long a start waits for a place at the hub's side.
const PATIENCE: Duration = Duration::from_secs(30);

/// The connections, by hub.
#[derive(Debug)]
pub struct Dials {
    dials: RwLock<HashMap<Arc<str>, Arc<Dial>>>,
    ports: Arc<Ports>,
    api: Target,
    metrics: Arc<Metrics>,
    tracker: TaskTracker,
    stop: CancellationToken,
}

/// The connection to one hub's side, and what is offered there.
#[derive(Debug)]
pub struct Dial {
    settings: Settings,
    offers: Arc<Offers>,
    trouble: Arc<Mutex<Trouble>>,
    stop: CancellationToken,
    ended: CancellationToken,
}

impl Dials {
    /// No connection yet. `api` is where the API listens; `stop` ends all connections.
    #[must_use]
    pub fn new(api: SocketAddr, metrics: Arc<Metrics>, tracker: TaskTracker, stop: CancellationToken) -> Self {
        let mut api = api;
        // What listens everywhere listens on loopback.
        match api {
            SocketAddr::V4(v4) if v4.ip().is_unspecified() => api.set_ip(Ipv4Addr::LOCALHOST.into()),
            SocketAddr::V6(v6) if v6.ip().is_unspecified() => api.set_ip(Ipv6Addr::LOCALHOST.into()),
            _ => {}
        }
        let api = Target { address: api.to_string(), reach: Reach::Named };
        Self { dials: RwLock::default(), ports: Arc::default(), api, metrics, tracker, stop }
    }

    /// Takes over the settings of all hubs that have any. A connection whose settings are the same goes on; what is offered on
    /// one whose settings changed is offered by the new one, at the same places.
    pub fn reconfigure<'a>(&self, settings: impl Iterator<Item = (&'a str, &'a Settings)>) {
        let wanted: BTreeMap<_, _> = settings.collect();
        let mut dials = self.dials.write().unwrap_or_else(PoisonError::into_inner);
        dials.retain(|hub, dial| {
            let kept = wanted.contains_key(&**hub);
            if !kept {
                dial.stop.cancel();
            }
            kept
        });
        for (hub, settings) in wanted {
            let before = dials.get(hub).cloned();
            if before.as_ref().is_some_and(|dial| dial.settings == *settings) {
                continue;
            }
            let before = before.inspect(|dial| dial.stop.cancel());
            let offers = before.as_ref().map(|dial| dial.offers.clone());
            let offers = offers.unwrap_or_else(|| Arc::new(Offers::new(self.ports.clone())));
            offers.hold(&settings.to);
            let dial = Dial {
                settings: settings.clone(),
                offers,
                trouble: Arc::new(Mutex::new(Trouble::Disconnected("it was not tried yet".to_owned()))),
                stop: self.stop.child_token(),
                ended: CancellationToken::new(),
            };
            let hub: Arc<str> = hub.into();
            let link = Link {
                hub: hub.clone(),
                settings: dial.settings.clone(),
                api: self.api.clone(),
                offers: dial.offers.clone(),
                ports: self.ports.clone(),
                trouble: dial.trouble.clone(),
                metrics: self.metrics.clone(),
                tracker: self.tracker.clone(),
                stop: dial.stop.clone(),
                ended: dial.ended.clone(),
                before: before.map(|dial| dial.ended.clone()),
            };
            self.tracker.spawn(link.run());
            dials.insert(hub, Arc::new(dial));
        }
    }

    /// The connection to a hub's side, if there is to be one.
    #[must_use]
    pub fn get(&self, hub: &str) -> Option<Arc<Dial>> {
        self.dials.read().unwrap_or_else(PoisonError::into_inner).get(hub).cloned()
    }

    /// Offers a server no more. Only now may its port be another's, also where its hub is not connected to any more.
    pub fn withdraw(&self, hub: &str, uid: &Uid) {
        if let Some(dial) = self.get(hub) {
            dial.offers.remove(uid);
        }
        self.ports.free(&Holder::Server(uid.clone()));
    }
}

impl Dial {
    /// The SSH server on the hub's side, as it is configured.
    #[must_use]
    pub fn to(&self) -> &str {
        &self.settings.to
    }

    /// Offers a server that listens at `target` and waits until it is reachable. Gives the address for the hub, which has
    /// none of the ports that were `told` for others.
    ///
    /// # Errors
    /// A sentence for the user: it took too long.
    pub async fn offer(&self, uid: &Uid, target: Target, told: HashSet<u16>) -> Result<String> {
        let place = self.settings.socket_of(uid);
        let mut registered = self.offers.add(uid, target, place, told);
        let waiting = tokio::time::timeout(PATIENCE, registered.wait_for(Option::is_some)).await;
        match waiting {
            Ok(Ok(place)) => Ok(self.settings.answer_for(uid, place.as_ref().and_then(Place::port))),
            _ => {
                let message = match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
                    Trouble::None => {
                        "This site cannot offer your server to your JupyterHub at the moment, since no port is free for it there. Please try again later."
                    }
                    Trouble::Disconnected(_) => {
                        "This site cannot reach your JupyterHub's network at the moment. Please try again in a few minutes."
                    }
                };
                Err(Error::failed(message))
            }
        }
    }

    /// Offers a server whose address the hub was told before.
    pub fn offer_again(&self, uid: &Uid, target: Target, address: &str) {
        match self.settings.place_of(uid, address) {
            Some(place) => self.offers.add_told(uid, target, place, &self.settings.to),
            None => tracing::warn!(
                server.uid = %uid, address, answer = self.settings.answer,
                "a server is not offered to its hub any more: dial.answer and dial.ports were others when the hub was told its address"
            ),
        }
    }

    /// Whether a server is offered.
    #[must_use]
    pub fn offers(&self, uid: &Uid) -> bool {
        self.offers.has(uid)
    }

    /// How the connection is.
    #[must_use]
    pub fn state(&self) -> super::State {
        let (offered, registered) = self.offers.count();
        let trouble = match &*self.trouble.lock().unwrap_or_else(PoisonError::into_inner) {
            Trouble::None => None,
            Trouble::Disconnected(trouble) => Some(trouble.clone()),
        };
        super::State { to: self.settings.to.clone(), connected: trouble.is_none(), trouble, offered, registered }
    }
}
