//! The connection to one hub's side: kept up, with all that is offered registered on it.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::backoff::Backoff;
use super::offers::{Offers, Refused};
use super::place::{Place, Target};
use super::ports::{Holder, Ports};
use super::session::Session;
use super::{Settings, Trouble};
use crate::metrics::{DialLabels, Metrics};
use crate::model::Uid;

/// The pause before a place that was refused is asked for again.
const AGAIN: Duration = Duration::from_secs(2);

/// How many requests may wait for their answers at once.
const AT_ONCE: usize = 32;

/// How many ports are tried for a server at a time.
const TRIES: usize = 64;

/// What keeps one connection.
pub(super) struct Link {
    pub hub: Arc<str>,
    pub settings: Settings,
    /// Where the API listens.
    pub api: Target,
    pub offers: Arc<Offers>,
    pub ports: Arc<Ports>,
    pub trouble: Arc<Mutex<Trouble>>,
    pub metrics: Arc<Metrics>,
    pub tracker: TaskTracker,
    pub stop: CancellationToken,
    /// Cancelled when this one has ended.
    pub ended: CancellationToken,
    /// The same of the one before.
    pub before: Option<CancellationToken>,
}

impl Link {
    /// Connects again and again until it is stopped.
    pub async fn run(self) {
        let _ended = self.ended.clone().drop_guard();
        if let Some(before) = &self.before {
            before.cancelled().await;
        }
        self.connected(false);
        tokio::select! {
            () = self.keep() => {}
            () = self.stop.cancelled() => {}
        }
        self.offers.note_disconnected();
        self.ports.free(&self.api_holder());
        self.metrics.dial_connected.remove(&self.labels());
    }

    fn api_holder(&self) -> Holder {
        Holder::Api(self.hub.clone())
    }

    fn labels(&self) -> DialLabels {
        DialLabels { hub: self.hub.to_string() }
    }

    async fn keep(&self) {
        let login = self.settings.login();
        let mut backoff = Backoff::default();
        loop {
            let trouble = match Session::connect(&login, &self.tracker).await {
                Ok(session) => {
                    let since = Instant::now();
                    self.connected(true);
                    tracing::info!(hub.name = ?self.hub, to = login.to, "connected to the hub's side");
                    let trouble = self.serve(&session).await;
                    self.offers.note_disconnected();
                    self.connected(false);
                    backoff.connected(since);
                    trouble
                }
                Err(trouble) => trouble,
            };
            if backoff.is_news(&trouble) {
                tracing::warn!(hub.name = ?self.hub, trouble, "there is no connection to the hub's side; trying again");
            }
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Trouble::Disconnected(trouble);
            let pause = backoff.pause();
            let least = pause.min(Duration::from_secs(1));
            tokio::time::sleep(least).await;
            // A server that is being started is worth a try.
            tokio::select! {
                () = tokio::time::sleep(pause - least) => {}
                () = self.offers.changed.notified() => {}
            }
        }
    }

    fn connected(&self, connected: bool) {
        self.metrics.dial_connected.get_or_create(&self.labels()).set(connected.into());
        if connected {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Trouble::None;
        }
    }

    /// Keeps what is offered registered, until the connection ends; gives why.
    async fn serve(&self, session: &Session) -> String {
        tokio::select! {
            Err(trouble) = self.keep_registered(session) => trouble,
            () = session.ended() => "the connection ended".to_owned(),
        }
    }

    async fn keep_registered(&self, session: &Session) -> Result<Infallible, String> {
        let mut registered = HashSet::new();
        let mut api = self.settings.api.as_deref().and_then(Place::parse);
        let mut said = false;
        loop {
            if let Some(place) = &api {
                // A server keeps its port: what hubs send to the API must never get to it, nor the other way round.
                let free = place.port().is_none_or(|port| self.ports.take(&self.settings.to, port, &self.api_holder()));
                if free && session.listen(place, self.api.clone()).await? {
                    tracing::info!(hub.name = ?self.hub, place = %place, "the API is offered to the hub");
                    api = None;
                } else if !std::mem::replace(&mut said, true) {
                    let why = if free { "the SSH server refuses to listen there" } else { "a server has that port" };
                    tracing::warn!(hub.name = ?self.hub, place = %place, why, "the API cannot be offered to the hub; trying again");
                }
            }
            let refused = self.pass(session, &mut registered).await?;
            if refused || api.is_some() {
                let _ = tokio::time::timeout(AGAIN, self.offers.changed.notified()).await;
            } else {
                self.offers.changed.notified().await;
            }
        }
    }

    /// Registers what is not, and takes back what is offered no more. Says whether something was refused.
    async fn pass(&self, session: &Session, registered: &mut HashSet<Place>) -> Result<bool, String> {
        let wanted = self.offers.registered();
        let gone: Vec<_> = registered.extract_if(|place| !wanted.contains(place)).collect();
        stream::iter(&gone).for_each_concurrent(AT_ONCE, |place| session.unlisten(place)).await;
        let missing = self.offers.unregistered();
        let answers = stream::iter(missing).map(|uid| async move { self.register(session, &uid).await });
        let mut answers = answers.buffer_unordered(AT_ONCE);
        let mut refused = false;
        while let Some(answer) = answers.next().await {
            match answer? {
                Some(place) => drop(registered.insert(place)),
                None => refused = true,
            }
        }
        Ok(refused)
    }

    /// Registers a server. `None`: it is refused for now.
    async fn register(&self, session: &Session, uid: &Uid) -> Result<Option<Place>, String> {
        let range = self.settings.range();
        for _ in 0..TRIES {
            let Some((place, target)) = self.offers.choose(uid, &range) else { break };
            if session.listen(&place, target).await? {
                // One that is offered no more is taken back by the next pass.
                self.offers.note_registered(uid, &place);
                return Ok(Some(place));
            }
            match self.offers.note_refused(uid) {
                Refused::TryAnother => {}
                Refused::First => {
                    tracing::warn!(hub.name = ?self.hub, server.uid = %uid, place = %place, "a server cannot be offered to the hub, since the SSH server refuses to listen there; trying again");
                    return Ok(None);
                }
                Refused::Again | Refused::Gone => return Ok(None),
            }
        }
        if self.offers.note_without(uid) {
            tracing::warn!(hub.name = ?self.hub, server.uid = %uid, ports = ?self.settings.ports, "a server cannot be offered to the hub, since no port of dial.ports could be had; trying again");
        }
        Ok(None)
    }
}
