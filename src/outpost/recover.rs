//! Recover: after a start of Outpost, and whenever somebody else moved a row.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::{Entry, Outpost};
use crate::error::{Error, Result};
use crate::hub::Callbacks;
use crate::model::{Launch, Phase, Server, Uid};
use crate::spawner::Status;
use crate::store::{Advance, Outcome};

/// A start that nobody drives for this long was left behind.
const LEFT_ALONE: TimeDelta = TimeDelta::seconds(60);

/// A start that is older than this when Outpost comes back is not begun any more: its hub has given it up.
const STALE: TimeDelta = TimeDelta::minutes(10);

/// The pause before a backend that cannot tell yet is asked again.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// How long to wait for a database that does not answer.
const RETRY: Duration = Duration::from_secs(2);

impl Outpost {
    /// Reads all rows and goes on with what was under way. Nothing is started twice: backends find what is there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn load(self: &Arc<Self>) -> Result<()> {
        let seen = self.store.last_seen().await?;
        self.spawners.begin(&self.store.installation().await?);
        self.store.heartbeat(&self.instance).await?;
        self.auth.update(self.store.passwords().await?);
        self.ssh_keys.update(self.store.ssh_keys().await?);
        for hub in self.store.hubs().await? {
            match self.hubs.get(&hub.name) {
                Ok(known) => known.pin(hub.api_url.as_deref()),
                Err(mistake) => tracing::error!(hub.name = ?hub.name, mistake, "this hub cannot be called"),
            }
        }
        self.set_refreshed(self.clock.now());
        let mut entries = Vec::new();
        for server in self.store.servers().await? {
            let owner = server.owner.clone();
            let server = self.adopt(server).await?;
            let ours = server.owner == self.instance;
            let entry = self.view.merge(server);
            if ours {
                self.give_up(&entry, seen.get(&*owner).copied());
            }
            entries.push(entry);
        }
        // Before any start goes on, which must not get the place of one that runs.
        self.offer_all_again();
        let mut newest = HashMap::new();
        for entry in entries {
            self.resume(&entry);
            // Where its hub wants to be told of flavors, as its newest server says.
            newest.insert(entry.id.hub.clone(), entry);
        }
        for entry in newest.values() {
            if let Some((hub, callbacks)) = self.callbacks(entry).await {
                self.flavor_updates.due(self, &hub, &callbacks);
            }
        }
        self.metrics.servers.set(i64::try_from(self.view.len()).unwrap_or(i64::MAX));
        self.loaded.send_replace(true);
        tracing::info!(servers = self.view.len(), "the servers were read from the database");
        Ok(())
    }

    /// In a database that belongs to this machine every row is this Outpost's.
    pub(super) async fn adopt(&self, mut server: Server) -> Result<Server> {
        if !self.store.is_shared() && server.owner != self.instance {
            let owner = Advance::Owner(&self.instance);
            if let Some(generation) = self.store.advance(&server.uid, server.generation, &owner).await? {
                server.owner = self.instance.clone();
                server.generation = generation;
            }
        }
        Ok(server)
    }

    /// Takes over rows that somebody else moved: the command line, or another Outpost.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn refresh(self: &Arc<Self>, since: chrono::DateTime<chrono::Utc>) -> Result<()> {
        let (moved, left) = self.store.changes(since).await?;
        for uid in left {
            let Some(entry) = self.view.by_uid(&uid) else { continue };
            // Whoever drives it here is about to take it out.
            if entry.driving.try_lock().is_ok() {
                if let Some(ended) = self.store.ended(&uid).await?.filter(|ended| ended.outcome == "failed") {
                    let reason = ended.reason.unwrap_or_else(|| "The server could not be started.".to_owned());
                    entry.change(|state| state.failure = Some(Error::failed(reason)));
                }
                self.view.remove(&entry);
                self.flavor_updates.due_for(self, [&*entry.id.hub]);
                continue;
            }
            let phase = entry.state().server.phase;
            if phase == Phase::Queued {
                // But for a start that waits here while another Outpost had it: that is taken out the next time.
                entry.cancel.cancel();
            } else if phase == Phase::Starting && entry.move_to(Phase::Stopping, |_| ()) {
                // And for one that another Outpost stopped: what is being created here is to go as well.
                self.tracker.spawn(self.clone().finish_stop(entry, Outcome::of_stop(phase)));
            }
        }
        self.take_in(moved).await
    }

    /// Compares all rows with what is known: what changed while nobody could look is found here.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn compare(self: &Arc<Self>) -> Result<()> {
        // A row that is inserted from now on may be missing in what is read.
        let before: Vec<_> = self.view.all().into_iter().filter(|entry| entry.state().stored).collect();
        let rows = self.store.servers().await?;
        let there: HashSet<Uid> = rows.iter().map(|row| row.uid.clone()).collect();
        self.take_in(rows).await?;
        for entry in before {
            let (phase, since) = {
                let state = entry.state();
                (state.server.phase, state.server.start_date)
            };
            // Whoever drives it holds this.
            if entry.driving.try_lock().is_err() {
                continue;
            }
            if !there.contains(&entry.uid) {
                self.view.remove(&entry);
            } else if phase == Phase::Stopping && self.drives(&entry) {
                self.tracker.spawn(self.clone().finish_stop(entry, Outcome::of_stop(Phase::Running)));
            } else if phase <= Phase::Starting && self.clock.now() - since > LEFT_ALONE {
                self.resume(&entry);
            }
        }
        Ok(())
    }

    async fn take_in(self: &Arc<Self>, moved: Vec<Server>) -> Result<()> {
        for server in moved {
            let before = self.view.by_uid(&server.uid).map(|entry| entry.state().server.phase);
            // A row that was read before its own removal is not to come back.
            if before.is_none() && self.store.ended(&server.uid).await?.is_some() {
                continue;
            }
            let stopping = server.phase == Phase::Stopping;
            let counts_otherwise = before.is_none_or(|before| before.counts() != server.phase.counts());
            let server = if before.is_none() { self.adopt(server).await? } else { server };
            let uid = server.uid.clone();
            let entry = self.view.merge(server);
            if counts_otherwise {
                self.flavor_updates.due_for(self, [&*entry.id.hub]);
            }
            if before.is_none() && entry.uid == uid {
                self.resume(&entry);
            }
            if stopping && before.is_some_and(|phase| phase != Phase::Stopping) && self.drives(&entry) {
                let outcome = Outcome::of_stop(before.unwrap_or(Phase::Running));
                self.tracker.spawn(self.clone().finish_stop(entry, outcome));
            }
        }
        Ok(())
    }

    /// Takes over the servers of Outposts that are gone, where the backend can be driven from here.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take_over(self: &Arc<Self>) -> Result<()> {
        let foreign: Vec<_> =
            self.view.all().into_iter().filter(|entry| entry.state().server.owner != self.instance).collect();
        if foreign.is_empty() {
            return Ok(());
        }
        let alive = self.store.alive().await?;
        let seen = self.store.last_seen().await?;
        for entry in foreign {
            let server = entry.state().server.clone();
            let shared = self.spawners.get(&server.handle.spawner).is_some_and(|spawner| spawner.shared());
            // One that had no turn is in no backend yet.
            let movable = shared || !entry.state().begun;
            if !movable || alive.iter().any(|instance| **instance == *server.owner) {
                continue;
            }
            let owner = Advance::Owner(&self.instance);
            if let Some(generation) = self.store.advance(&server.uid, server.generation, &owner).await? {
                tracing::info!(server.uid = %server.uid, from = ?server.owner, "taking over a server of an Outpost that is gone");
                entry.change(|state| {
                    state.server.owner = self.instance.clone();
                    state.server.generation = generation;
                });
                self.give_up(&entry, seen.get(&*server.owner).copied());
                self.resume(&entry);
            }
        }
        Ok(())
    }

    /// Goes on with a server from wherever it is.
    pub(super) fn resume(self: &Arc<Self>, entry: &Arc<Entry>) {
        let server = entry.state().server.clone();
        if server.owner != self.instance {
            return;
        }
        let (this, entry) = (self.clone(), entry.clone());
        match server.phase {
            Phase::Queued | Phase::Starting => {
                drop(self.tracker.spawn(async move { this.resume_start(entry, server).await }))
            }
            Phase::Stopping => drop(self.tracker.spawn(this.finish_stop(entry, Outcome::of_stop(Phase::Running)))),
            Phase::Running => {
                self.offer_again(&entry);
                drop(self.tracker.spawn(async move { this.look_at(&entry).await }));
            }
            Phase::Ended => {}
        }
    }

    async fn resume_start(self: Arc<Self>, entry: Arc<Entry>, server: Server) {
        let hub = match self.hubs.get(&server.id.hub) {
            Ok(hub) => hub,
            Err(mistake) => return tracing::error!(hub.name = ?server.id.hub, mistake, "a start cannot go on"),
        };
        let request = loop {
            match self.store.stored_request(&server.uid).await {
                Ok(Some(request)) => break request,
                Ok(None) => return,
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(server.uid = %server.uid, cause = error.cause(), "a start cannot go on yet; trying again");
                    tokio::select! {
                        () = self.abort.cancelled() => return,
                        () = entry.gone() => return,
                        () = tokio::time::sleep(RETRY) => {}
                    }
                }
                Err(error) => return self.fail(&entry, hub, Callbacks::default(), error).await,
            }
        };
        tracing::info!(server.uid = %server.uid, hub.name = ?server.id.hub, server.name = ?server.id.name, "going on with a start that was under way");
        let queued = server.phase == Phase::Queued;
        let stale = !queued && self.clock.now() - server.start_date > STALE;
        let absent = if stale || request.had_certificates {
            let Some(absent) = self.is_absent(&entry, &server).await else { return };
            absent
        } else {
            false
        };
        if stale && absent {
            let error = Error::failed(
                "Outpost was not running while this server should have been started. Please start it again.",
            );
            let callbacks = hub.callbacks(&request.env, None);
            return self.fail(&entry, hub, callbacks, error).await;
        }
        if request.had_certificates && absent {
            let error = Error::failed(
                "Outpost was restarted while this server was starting. Its certificates are kept in memory only, so please \
                 start it again.",
            );
            let callbacks = hub.callbacks(&request.env, None);
            return self.fail(&entry, hub, callbacks, error).await;
        }
        let launch = Launch {
            uid: server.uid,
            id: server.id,
            user: server.user,
            user_id: server.user_id,
            environment: request.env,
            options: request.options,
            user_options: request.user_options,
            groups: request.groups,
            certificates: None,
            auth_state: [].into(),
        };
        self.drive(entry, hub, launch, Vec::new()).await;
    }

    /// Whether a backend has nothing of a server, as soon as it can tell; `None`: that does not matter any more.
    async fn is_absent(&self, entry: &Entry, server: &Server) -> Option<bool> {
        let Some(spawner) = self.spawners.get(&server.handle.spawner) else { return Some(false) };
        loop {
            match spawner.status(&server.uid, &server.handle).await {
                Ok(Status::Absent) => return Some(true),
                Ok(Status::Starting | Status::Running | Status::Exited(_)) => return Some(false),
                Ok(Status::Unknown) | Err(_) => {}
            }
            tokio::select! {
                () = self.abort.cancelled() => return None,
                () = entry.cancel.cancelled() => return None,
                () = entry.gone() => return None,
                () = tokio::time::sleep(LOOK_AGAIN) => {}
            }
        }
    }
}
