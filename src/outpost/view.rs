//! The rows in memory: what polls and lists are answered from, and where requests wait for a start or a stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::hub::Callbacks;
use crate::model::{AuthState, Phase, Server, ServerId, Tunnel, Uid};

/// One server.
#[derive(Debug)]
pub struct Entry {
    /// Outpost's identifier.
    pub uid: Uid,
    /// The hub's identifier.
    pub id: ServerId,
    /// Cancels the start.
    pub cancel: CancellationToken,
    /// Held by whoever talks to the backend about this server: one at a time.
    pub driving: tokio::sync::Mutex<()>,
    state: watch::Sender<State>,
    auth_state: Mutex<AuthState>,
    /// With `internal_ssl` a hub can be called with certificates only, and those are in memory only.
    callbacks: Mutex<Option<Box<Callbacks>>>,
    /// When the hub last asked, in microseconds; 0: not since the last time that was written down.
    asked: AtomicI64,
    /// The end that the user was warned of.
    warned_of: Mutex<Option<DateTime<Utc>>>,
}

/// What is known about a server.
#[derive(Clone, Debug)]
pub struct State {
    /// The row.
    pub server: Server,
    /// Whether the row is in the database.
    pub stored: bool,
    /// Another Outpost stored a server with this identity first.
    pub superseded: bool,
    /// Why its start failed.
    pub failure: Option<Error>,
    /// How its waiting for a turn goes.
    pub place: Option<Place>,
    /// Whether its backend may know of it: not before it had its turn.
    pub begun: bool,
    /// Nothing of it is left.
    pub gone: bool,
}

/// The place of a server that waits for its turn.
#[derive(Clone, Debug)]
pub enum Place {
    /// It waits, with a sentence for the user.
    Waits(Arc<str>),
    /// It has no place any more: its flavor was taken away.
    Lost(Error),
}

impl Entry {
    /// A server; `stored`: its row is in the database.
    #[must_use]
    pub fn new(server: Server, stored: bool) -> Self {
        Self {
            uid: server.uid.clone(),
            id: server.id.clone(),
            cancel: CancellationToken::new(),
            driving: tokio::sync::Mutex::new(()),
            state: watch::Sender::new(State {
                begun: server.phase != Phase::Queued,
                server,
                stored,
                superseded: false,
                failure: None,
                place: None,
                gone: false,
            }),
            auth_state: Mutex::default(),
            callbacks: Mutex::default(),
            asked: AtomicI64::new(0),
            warned_of: Mutex::default(),
        }
    }

    /// What is known now.
    pub fn state(&self) -> watch::Ref<'_, State> {
        self.state.borrow()
    }

    /// To be woken whenever what is known changes.
    pub fn subscribe(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Changes what is known and wakes everybody who waits for it.
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    /// Moves to `phase` unless that is no legal move from where the server is. Says whether it moved.
    pub fn move_to(&self, phase: Phase, change: impl FnOnce(&mut Server)) -> bool {
        self.state.send_if_modified(|state| {
            let legal = state.server.phase.may_become(phase) && !state.gone;
            if legal {
                state.server.phase = phase;
                change(&mut state.server);
            }
            legal
        })
    }

    /// Takes over when the server has to end.
    pub fn set_end(&self, end_date: Option<DateTime<Utc>>, runtime: Option<Duration>) {
        self.state.send_if_modified(|state| {
            (state.server.end_date, state.server.runtime) = (end_date, runtime);
            false
        });
    }

    /// Takes over what became of the question for the tunnel, unless something newer is known.
    pub fn set_tunnel(&self, tunnel: Tunnel) {
        self.state.send_if_modified(|state| {
            state.server.tunnel = state.server.tunnel.newest(tunnel);
            false
        });
    }

    /// Waits until a row with this identity is in the database, ours or one that was faster.
    ///
    /// # Errors
    /// Why it could not be stored.
    pub async fn stored(&self) -> Result<()> {
        let state = self.wait(|state| state.stored || state.superseded || state.failure.is_some() || state.gone).await;
        if state.stored || state.superseded { Ok(()) } else { Err(state.failure.unwrap_or(Error::Cancelled)) }
    }

    /// Waits until the start is decided and gives the address.
    ///
    /// # Errors
    /// Why the start failed.
    pub async fn started(&self) -> Result<Arc<str>> {
        // One that is being removed is decided when it is gone: only then its reason is known for sure.
        let state = self
            .wait(|state| {
                state.failure.is_some() || state.gone || matches!(state.server.phase, Phase::Running | Phase::Ended)
            })
            .await;
        match state {
            State { failure: Some(failure), .. } => Err(failure),
            State { gone: false, server: Server { phase: Phase::Running, address, .. }, .. } => Ok(address),
            State { gone: false, server: Server { phase: Phase::Ended, exit, .. }, .. } => Err(Error::failed(format!(
                "This server has ended already{} Please start it again.",
                exit.map(|exit| format!(": {}", exit.reason)).unwrap_or_else(|| ".".to_owned())
            ))),
            _ => Err(Error::Cancelled),
        }
    }

    /// Whether it is being removed.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        let state = self.state();
        state.server.phase == Phase::Stopping && !state.gone
    }

    /// Waits until nothing of the server is left.
    pub async fn gone(&self) {
        self.wait(|state| state.gone).await;
    }

    async fn wait(&self, until: impl FnMut(&State) -> bool) -> State {
        let mut receiver = self.state.subscribe();
        // The sender lives as long as this entry, so that waiting cannot fail.
        match receiver.wait_for(until).await {
            Ok(state) => state.clone(),
            Err(_) => self.state.borrow().clone(),
        }
    }

    /// Notes that the hub asked.
    pub fn touch(&self, now: DateTime<Utc>) {
        self.asked.store(now.timestamp_micros(), Ordering::Relaxed);
    }

    /// When the hub last asked, if that was not written down yet; it counts as written down from now on.
    pub fn take_touched(&self) -> Option<DateTime<Utc>> {
        let asked = DateTime::from_timestamp_micros(self.asked.swap(0, Ordering::Relaxed))
            .filter(|at| at.timestamp_micros() != 0)?;
        self.state.send_if_modified(|state| {
            state.server.last_update = asked;
            false
        });
        Some(asked)
    }

    /// Renews the hub's authentication state of the user.
    pub fn set_auth_state(&self, auth_state: AuthState) {
        *self.auth_state.lock().unwrap_or_else(PoisonError::into_inner) = auth_state;
    }

    /// Keeps the callbacks of a start for the time after it.
    pub fn keep_callbacks(&self, callbacks: Callbacks) {
        *self.callbacks.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(callbacks));
    }

    /// The callbacks that were kept.
    #[must_use]
    pub fn callbacks(&self) -> Option<Callbacks> {
        self.callbacks.lock().unwrap_or_else(PoisonError::into_inner).as_deref().cloned()
    }

    /// The end that the user was warned of.
    #[must_use]
    pub fn warned_of(&self) -> Option<DateTime<Utc>> {
        *self.warned_of.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes the end that the user was warned of.
    pub fn set_warned_of(&self, end: DateTime<Utc>) {
        *self.warned_of.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
    }

    /// The row, with the last question of the hub.
    #[must_use]
    pub fn server(&self) -> Server {
        let mut server = self.state.borrow().server.clone();
        let asked = self.asked.load(Ordering::Relaxed);
        if let Some(asked) = DateTime::from_timestamp_micros(asked).filter(|_| asked != 0) {
            server.last_update = asked;
        }
        server
    }
}

/// All servers.
#[derive(Debug, Default)]
pub struct View {
    servers: RwLock<Maps>,
}

#[derive(Debug, Default)]
struct Maps {
    by_id: HashMap<ServerId, Arc<Entry>>,
    by_uid: HashMap<Uid, Arc<Entry>>,
}

impl View {
    /// The server with this identity.
    #[must_use]
    pub fn get(&self, id: &ServerId) -> Option<Arc<Entry>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).by_id.get(id).cloned()
    }

    /// The server with this identifier.
    #[must_use]
    pub fn by_uid(&self, uid: &Uid) -> Option<Arc<Entry>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).by_uid.get(uid).cloned()
    }

    /// Puts a server in unless there is one with its identity, which is the error.
    ///
    /// # Errors
    /// The server that is there.
    pub fn reserve(&self, entry: Arc<Entry>) -> Result<(), Arc<Entry>> {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(existing) = servers.by_id.get(&entry.id) {
            return Err(existing.clone());
        }
        servers.by_uid.insert(entry.uid.clone(), entry.clone());
        servers.by_id.insert(entry.id.clone(), entry);
        Ok(())
    }

    /// Takes a server out; those who wait for its end wake up.
    pub fn remove(&self, entry: &Entry) {
        let mut servers = self.servers.write().unwrap_or_else(PoisonError::into_inner);
        if servers.by_uid.remove(&entry.uid).is_some() {
            servers.by_id.remove(&entry.id);
        }
        drop(servers);
        entry.change(|state| state.gone = true);
    }

    /// Takes over a row of the database where it is newer than what is known, and gives the entry.
    pub fn merge(&self, server: Server) -> Arc<Entry> {
        let entry = Arc::new(Entry::new(server.clone(), true));
        match self.reserve(entry.clone()) {
            Ok(()) => entry,
            Err(existing) if existing.uid == server.uid => {
                // A tunnel and a new end are no moves. (What was read before the newest move is old.)
                existing.set_tunnel(server.tunnel);
                if existing.state().server.generation <= server.generation {
                    existing.set_end(server.end_date, server.runtime);
                }
                if existing.state().server.generation < server.generation {
                    existing.change(|state| {
                        // What is known here may be further than what could be written down: nothing goes back.
                        // (It may have made several moves since it was last read.)
                        let further = state.server.phase <= server.phase;
                        // From the queue straight to a stop is one move: more of them, and it had its turn.
                        state.begun |= matches!(server.phase, Phase::Starting | Phase::Running | Phase::Ended)
                            || server.generation > state.server.generation + 1;
                        let before = std::mem::replace(&mut state.server, server);
                        state.server.tunnel = before.tunnel;
                        if !further {
                            state.server.phase = before.phase;
                            state.server.address = before.address;
                            state.server.target = before.target;
                            state.server.exit = before.exit;
                        }
                    });
                }
                existing
            }
            // The one before left without our notice: another Outpost removed it.
            // (Identifiers are ordered in time.)
            Err(existing) if existing.state().stored && existing.uid < server.uid => {
                self.remove(&existing);
                self.merge(server)
            }
            Err(existing) => existing,
        }
    }

    /// All servers of a hub, the oldest first.
    #[must_use]
    pub fn of_hub(&self, hub: &str) -> Vec<Server> {
        let mut servers: Vec<Server> =
            self.all().iter().filter(|entry| &*entry.id.hub == hub).map(|entry| entry.server()).collect();
        servers.sort_by(|a, b| (a.start_date, &a.uid).cmp(&(b.start_date, &b.uid)));
        servers
    }

    /// The servers in a phase, in no order.
    #[must_use]
    pub fn in_phase(&self, phase: Phase) -> Vec<Arc<Entry>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.by_uid.values().filter(|entry| entry.state().server.phase == phase).cloned().collect()
    }

    /// How many servers of each flavor of a hub count.
    #[must_use]
    pub fn use_of_flavors(&self, hub: &str) -> HashMap<Arc<str>, i64> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        let mut counts = HashMap::new();
        for entry in servers.by_uid.values().filter(|entry| &*entry.id.hub == hub) {
            let state = entry.state();
            if state.stored
                && state.server.phase.counts()
                && let Some(flavor) = &state.server.flavor
            {
                *counts.entry(flavor.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// All servers, in no order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Entry>> {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).by_uid.values().cloned().collect()
    }

    /// A server that `fits`.
    #[must_use]
    pub fn find(&self, fits: impl Fn(&Entry) -> bool) -> Option<Arc<Entry>> {
        let servers = self.servers.read().unwrap_or_else(PoisonError::into_inner);
        servers.by_uid.values().find(|entry| fits(entry)).cloned()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.servers.read().unwrap_or_else(PoisonError::into_inner).by_uid.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::model::{Exit, Handle, Need, TunnelState};

    fn server(phase: Phase, generation: i64) -> Server {
        let start_date = DateTime::UNIX_EPOCH;
        Server {
            uid: Uid::parse("01ARZ3NDEKTSV4RRFFQ69G5FAV").unwrap(),
            id: ServerId::new("hub", "name", "0"),
            user_id: 1,
            user: "user".into(),
            flavor: None,
            need: Need::default(),
            runtime: None,
            phase,
            generation,
            owner: "me".into(),
            handle: Handle { spawner: "local".into(), state: Value::Null },
            asynchronous: true,
            address: phase.as_str().into(),
            target: phase.as_str().into(),
            tunnel: Tunnel::default(),
            exit: (phase == Phase::Ended).then(|| Exit { code: Some(3), early: false, reason: "x".to_owned() }),
            start_date,
            end_date: None,
            last_update: start_date,
        }
    }

    /// A row that was read again may have made several moves; what is known may be further than the row.
    #[test]
    fn a_row_never_goes_back_and_catches_up_at_once() {
        let phases = [Phase::Queued, Phase::Starting, Phase::Running, Phase::Ended, Phase::Stopping];
        for known in phases {
            for read in phases {
                let view = View::default();
                view.merge(server(known, 1));
                let entry = view.merge(server(read, 3));
                let expected = if read > known { read } else { known };
                let state = entry.state();
                assert_eq!(state.server.phase, expected, "{known:?} and then {read:?}");
                assert_eq!([&*state.server.address, &*state.server.target], [expected.as_str(); 2]);
                assert_eq!(state.server.exit.is_some(), expected == Phase::Ended);
                assert!(state.begun || (known, read) == (Phase::Queued, Phase::Queued), "{known:?}, {read:?}");
            }
        }
        let view = View::default();
        view.merge(server(Phase::Queued, 0));
        assert!(!view.merge(server(Phase::Stopping, 1)).state().begun, "it never had its turn");
    }
    /// A row that was read before an answer of the hub was written is not to hide that answer, whatever else it says.
    #[test]
    fn the_newest_tunnel_counts() {
        let tunnel = |state, seconds| Tunnel { state, at: DateTime::from_timestamp_secs(seconds) };
        let (due, made) = (tunnel(TunnelState::Due, 1), tunnel(TunnelState::Made, 2));
        let view = View::default();
        let entry = view.merge(Server { tunnel: due, ..server(Phase::Running, 1) });
        entry.set_tunnel(made);
        view.merge(Server { tunnel: due, ..server(Phase::Running, 1) });
        assert_eq!(view.merge(Server { tunnel: due, ..server(Phase::Ended, 2) }).state().server.tunnel, made);
        let again = tunnel(TunnelState::Due, 3);
        assert_eq!(view.merge(Server { tunnel: again, ..server(Phase::Running, 1) }).state().server.tunnel, again);
    }
}
