//! The servers that are offered to one hub: each at a place of its own, which stays the same as long as the server runs.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::place::{Place, Target};
use super::ports::{Holder, Ports};
use crate::model::Uid;

/// What is offered to one hub. Which of it is registered concerns one connection.
#[derive(Debug, Default)]
pub struct Offers {
    state: Mutex<State>,
    ports: Arc<Ports>,
    /// Wakes whoever registers them.
    pub changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    offers: BTreeMap<Uid, Offer>,
    /// The port that was given last: the one after it is next, so that one that was freed rests for long.
    last: Option<u16>,
}

#[derive(Debug)]
struct Offer {
    target: Target,
    place: Option<Place>,
    /// The ports that hubs were told for others, by this Outpost or another one.
    told: HashSet<u16>,
    /// Whether the hub knows the place, so that it has to stay.
    answered: bool,
    /// Where it is registered on the connection that there is.
    registered: watch::Sender<Option<Place>>,
    refused: bool,
}

/// Where servers may be offered.
#[derive(Clone, Debug)]
pub struct Range {
    /// The SSH server.
    pub to: String,
    /// The address there.
    pub host: String,
    /// The first and the last port.
    pub ports: (u16, u16),
}

impl Offers {
    /// Nothing yet. `ports` are those of all hubs.
    pub fn new(ports: Arc<Ports>) -> Self {
        Self { ports, ..Self::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Offers a server: at `place`, or at a port that is not among `told`. Gives where it is registered.
    pub fn add(
        &self,
        uid: &Uid,
        target: Target,
        place: Option<Place>,
        told: HashSet<u16>,
    ) -> watch::Receiver<Option<Place>> {
        self.insert(uid, target, place, told, false)
    }

    /// Offers a server whose hub was told the place. Its port at the SSH server `to` is nobody else's from now on.
    pub fn add_told(&self, uid: &Uid, target: Target, place: Place, to: &str) {
        let _ = self.insert(uid, target, Some(place), HashSet::new(), true);
        self.hold(to);
    }

    fn insert(
        &self,
        uid: &Uid,
        target: Target,
        place: Option<Place>,
        told: HashSet<u16>,
        answered: bool,
    ) -> watch::Receiver<Option<Place>> {
        let mut state = self.state();
        let offer = state.offers.entry(uid.clone()).or_insert_with(|| Offer {
            target: target.clone(),
            place,
            told: HashSet::new(),
            answered,
            registered: watch::Sender::new(None),
            refused: false,
        });
        (offer.target, offer.told) = (target, told);
        let registered = offer.registered.subscribe();
        drop(state);
        self.changed.notify_one();
        registered
    }

    /// Takes the ports that servers have at the SSH server `to`.
    pub fn hold(&self, to: &str) {
        for (uid, offer) in &self.state().offers {
            let port = offer.place.as_ref().and_then(Place::port);
            port.map(|port| self.ports.take(to, port, &Holder::Server(uid.clone())));
        }
    }

    /// Whether a server is offered.
    pub fn has(&self, uid: &Uid) -> bool {
        self.state().offers.contains_key(uid)
    }

    /// Offers a server no more.
    pub fn remove(&self, uid: &Uid) {
        if self.state().offers.remove(uid).is_some() {
            self.changed.notify_one();
        }
    }

    /// The servers that are not registered.
    pub fn unregistered(&self) -> Vec<Uid> {
        let state = self.state();
        let unregistered = state.offers.iter().filter(|(_, offer)| offer.registered.borrow().is_none());
        unregistered.map(|(uid, _)| uid.clone()).collect()
    }

    /// All places where servers are registered.
    pub fn registered(&self) -> HashSet<Place> {
        self.state().offers.values().filter_map(|offer| offer.registered.borrow().clone()).collect()
    }

    /// Where to register a server, with where that leads: the place that it has, or a free one of `range`, never one that
    /// anybody else has. `None`: it is offered no more, or there is no free port.
    pub fn choose(&self, uid: &Uid, range: &Range) -> Option<(Place, Target)> {
        let mut state = self.state();
        let offer = state.offers.get(uid)?;
        let holder = Holder::Server(uid.clone());
        let take = |port| self.ports.take(&range.to, port, &holder);
        if let Some(place) = &offer.place {
            let had = place.port().is_none_or(take);
            return had.then(|| (place.clone(), offer.target.clone()));
        }
        let (first, last) = range.ports;
        let next = state.last.filter(|port| (first..last).contains(port)).map_or(first, |port| port + 1);
        let port = (next..=last).chain(first..next).find(|port| !offer.told.contains(port) && take(*port))?;
        state.last = Some(port);
        let place = Place::Tcp { host: range.host.clone(), port };
        let offer = state.offers.get_mut(uid)?;
        offer.place = Some(place.clone());
        Some((place, offer.target.clone()))
    }

    /// Notes that a server is registered. `false`: it is offered no more.
    pub fn note_registered(&self, uid: &Uid, place: &Place) -> bool {
        let mut state = self.state();
        let Some(offer) = state.offers.get_mut(uid) else { return false };
        (offer.answered, offer.refused) = (true, false);
        offer.registered.send_replace(Some(place.clone()));
        true
    }

    /// Notes that the place of a server is refused. One that no hub knows gets another.
    pub fn note_refused(&self, uid: &Uid) -> Refused {
        let mut state = self.state();
        let Some(offer) = state.offers.get_mut(uid) else { return Refused::Gone };
        if !offer.answered && matches!(offer.place, Some(Place::Tcp { .. })) {
            offer.place = None;
            self.ports.free(&Holder::Server(uid.clone()));
            return Refused::TryAnother;
        }
        if std::mem::replace(&mut offer.refused, true) { Refused::Again } else { Refused::First }
    }

    /// Notes that there was no port for a server. Says whether that is new.
    pub fn note_without(&self, uid: &Uid) -> bool {
        self.state().offers.get_mut(uid).is_some_and(|offer| !std::mem::replace(&mut offer.refused, true))
    }

    /// Notes that there is no connection.
    pub fn note_disconnected(&self) {
        for offer in self.state().offers.values() {
            offer.registered.send_replace(None);
        }
    }

    /// How many servers are offered, and how many of them are registered.
    pub fn count(&self) -> (usize, usize) {
        let state = self.state();
        (state.offers.len(), state.offers.values().filter(|offer| offer.registered.borrow().is_some()).count())
    }
}

/// What a refusal of a place means.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// The server is offered no more.
    Gone,
    /// Another port may do.
    TryAnother,
    /// The place has to stay, and it was not refused before.
    First,
    /// The place has to stay.
    Again,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dial::place::Reach;

    fn target() -> Target {
        Target { address: "127.0.0.1:1".to_owned(), reach: Reach::Machine }
    }

    fn range() -> Range {
        Range { to: "hub:22".to_owned(), host: "127.0.0.1".to_owned(), ports: (42000, 42002) }
    }

    fn port(offers: &Offers, uid: &Uid) -> Option<u16> {
        offers.choose(uid, &range()).and_then(|(place, _)| place.port())
    }

    fn withdraw(offers: &Offers, uid: &Uid) {
        offers.remove(uid);
        offers.ports.free(&Holder::Server(uid.clone()));
    }

    #[test]
    fn hubs_at_one_ssh_server_share_its_ports() {
        let ports = Arc::new(Ports::default());
        let (one, two) = (Offers::new(ports.clone()), Offers::new(ports));
        let uids: Vec<_> = std::iter::repeat_with(Uid::generate).take(4).collect();
        one.add(&uids[0], target(), None, HashSet::new());
        // What another Outpost told.
        two.add(&uids[1], target(), None, HashSet::from([42001]));
        assert_eq!((port(&one, &uids[0]), port(&two, &uids[1])), (Some(42000), Some(42002)));
        // A lost connection frees nothing, nor does a refusal that is not about it.
        one.note_disconnected();
        two.add(&uids[2], target(), None, HashSet::from([42001]));
        assert_eq!(port(&two, &uids[2]), None);
        // Two that were told the same: the first one keeps it.
        two.add_told(&uids[3], target(), Place::parse("127.0.0.1:42000").unwrap(), "hub:22");
        assert_eq!((port(&one, &uids[0]), port(&two, &uids[3])), (Some(42000), None));
        // At another SSH server it is another port.
        let elsewhere = Range { to: "other:22".to_owned(), ..range() };
        assert!(two.choose(&uids[2], &elsewhere).is_some());
    }

    #[test]
    fn no_port_is_given_twice() {
        let offers = Offers::default();
        let uids: Vec<_> = std::iter::repeat_with(Uid::generate).take(4).collect();
        // What runs already comes first.
        offers.add_told(&uids[0], target(), Place::parse("127.0.0.1:42001").unwrap(), "hub:22");
        for uid in &uids[1..] {
            offers.add(uid, target(), None, HashSet::new());
        }
        let ports: Vec<_> = uids.iter().map(|uid| port(&offers, uid)).collect();
        assert_eq!(ports, [Some(42001), Some(42000), Some(42002), None]);
        assert_eq!(port(&offers, &uids[1]), Some(42000), "it stays");
        withdraw(&offers, &uids[1]);
        assert_eq!(port(&offers, &uids[3]), Some(42000));
        assert_eq!(port(&offers, &uids[1]), None, "it is offered no more");
    }

    #[test]
    fn a_port_that_was_freed_rests() {
        let offers = Offers::default();
        let mut ports = Vec::new();
        for _ in 0..4 {
            let uid = Uid::generate();
            offers.add(&uid, target(), None, HashSet::new());
            ports.extend(port(&offers, &uid));
            withdraw(&offers, &uid);
        }
        assert_eq!(ports, [42000, 42001, 42002, 42000]);
    }

    #[test]
    fn a_place_that_a_hub_knows_stays() {
        let offers = Offers::default();
        let (new, old) = (Uid::generate(), Uid::generate());
        let mut registered = offers.add(&new, target(), None, HashSet::new());
        offers.add_told(&old, target(), Place::parse("127.0.0.1:42001").unwrap(), "hub:22");
        assert_eq!(port(&offers, &new), Some(42000));
        assert_eq!(offers.note_refused(&new), Refused::TryAnother);
        assert_eq!(port(&offers, &new), Some(42002));
        assert!(offers.note_registered(&new, &Place::parse("127.0.0.1:42002").unwrap()));
        assert_eq!(registered.borrow_and_update().as_ref().and_then(Place::port), Some(42002));
        assert_eq!(offers.unregistered(), std::slice::from_ref(&old));

        offers.note_disconnected();
        assert_eq!(offers.count(), (2, 0));
        assert_eq!([offers.note_refused(&new), offers.note_refused(&new)], [Refused::First, Refused::Again]);
        assert_eq!(port(&offers, &new), Some(42002));
        assert_eq!(port(&offers, &old), Some(42001));
    }
}
