//! Drive: the one code path of a first try, of a retry after a crash, and of a take-over.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::offer::Reached;
use super::{Entry, Outpost};
use crate::error::{Error, Result};
use crate::hub::{Callbacks, Hub, Report, Reporter};
use crate::model::{Exit, Launch, Phase, StoredRequest};
use crate::spawner::{Progress, Spawner, Status};
use crate::store::{Advance, Outcome, end_of};

/// The pauses between tries of something that has to succeed in the end.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// How many log lines a failure shows to the user.
const FAILURE_LINES: usize = 20;

impl Outpost {
    /// Brings a server whose row is stored to its end of starting: running, or gone with a reason. The user is told
    /// `messages` at its beginning.
    pub(super) async fn drive(
        self: &Arc<Self>,
        entry: Arc<Entry>,
        hub: Arc<Hub>,
        launch: Launch,
        messages: Vec<String>,
    ) {
        let handle = entry.state().server.handle.clone();
        let asynchronous = entry.state().server.asynchronous;
        let callbacks = hub.callbacks(&launch.environment, launch.certificates.as_ref());
        if launch.certificates.is_some() {
            entry.keep_callbacks(callbacks.clone());
        }
        let (progress, lines) = Progress::channel();
        let (last_word, last) = oneshot::channel();
        let reporter = Reporter { hub: hub.clone(), callbacks: callbacks.clone(), clock: self.clock.clone() };
        self.tracker.spawn(reporter.run(lines, last));
        progress.say(0, "Server requested");
        for message in messages {
            progress.say(0, message);
        }
        self.flavor_updates.due(self, &hub, &callbacks);

        let driving = entry.driving.lock().await;
        // Somebody else may have driven it while this waited.
        if entry.state().gone || entry.state().server.phase > Phase::Starting {
            return;
        }
        let mut turn = Ok(None);
        if entry.state().server.phase == Phase::Queued {
            // The row says "queued": the next Outpost goes on from there.
            let Some(waited) = self.wait_for_turn(&entry, &hub, &progress).await else { return };
            turn = waited;
            self.flavor_updates.due(self, &hub, &callbacks);
        }
        let begun = Instant::now();
        let result = match self.spawners.get(&handle.spawner) {
            _ if turn.is_err() => turn.map(|_| Reached::default()),
            None => Err(Error::internal(format!("the backend {:?} is not configured any more", handle.spawner))),
            Some(spawner) => tokio::select! {
                biased;
                () = entry.cancel.cancelled() => Err(Error::Cancelled),
                // The row says "starting": the next Outpost goes on from there.
                () = self.abort.cancelled() => return,
                result = async {
                    let address = self.start_in(&*spawner, &entry, &launch, &progress).await?;
                    self.offer(&entry, address).await
                } => result,
            },
        };
        let outcome = match &result {
            Ok(_) => "running",
            Err(Error::Cancelled) => "cancelled",
            Err(_) => "failed",
        };
        self.metrics.start(&handle.spawner, outcome, begun.elapsed());
        match result {
            Ok(reached) => {
                drop(driving);
                drop(progress);
                self.became_running(&entry, &reached).await;
                let address = reached.address;
                // What is offered on the hub's side needs no tunnel.
                let tunnelled = !address.is_empty() && reached.target.is_empty();
                if asynchronous && tunnelled && entry.state().server.phase == Phase::Running {
                    let (hub, callbacks) = (hub.clone(), callbacks.clone());
                    self.tracker.spawn(async move { hub.setup_tunnel(&callbacks, &address).await });
                }
            }
            Err(Error::Cancelled) => {
                progress.say(99, "The start was cancelled.");
            }
            Err(error) => {
                tracing::warn!(
                    server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name,
                    error = %error, cause = error.cause(), "a server could not be started"
                );
                self.start_failed(&entry, &error).await;
                drop(driving);
                drop(progress);
                let _ = last_word.send(failed(error, asynchronous));
            }
        }
        self.flavor_updates.due(self, &hub, &callbacks);
    }

    async fn start_in(
        &self,
        spawner: &dyn Spawner,
        entry: &Entry,
        launch: &Launch,
        progress: &Progress,
    ) -> Result<String> {
        let handle = entry.state().server.handle.clone();
        let started = spawner.start(&handle, launch, progress).await?;
        let address = spawner.start_response(launch, &started)?;
        // The hub splits it at its one colon, and its SSH forwarding puts it into a shell: nothing else may be in it.
        let sound = address.split_once(':').is_some_and(|(host, port)| {
            !host.is_empty()
                && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-')
                && port.parse::<u16>().is_ok()
        });
        if sound || address.is_empty() {
            return Ok(address);
        }
        Err(Error::internal(format!("start_response of {:?} gives {address:?}, which is no host:port", handle.spawner)))
    }

    /// The server runs: the caller may know even if the database cannot be told just now. The row says "starting" until
    /// then, from where a next Outpost finds the running server again.
    async fn became_running(self: &Arc<Self>, entry: &Arc<Entry>, reached: &Reached) {
        let Reached { address, target } = reached;
        let generation = entry.state().server.generation;
        let end_date = end_of(&entry.state().server, self.clock.now());
        let stored = self.store.advance(&entry.uid, generation, &Advance::Running { address, target, end_date }).await;
        let failed = stored.is_err();
        let moved = entry.move_to(Phase::Running, |server| {
            server.address = address.as_str().into();
            server.target = target.as_str().into();
            if server.runtime.is_some() {
                server.end_date = end_date;
            }
            if let Ok(Some(generation)) = stored {
                server.generation = server.generation.max(generation);
            }
        });
        tracing::info!(server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, address, "a server runs");
        if moved {
            // It may have ended before it counted as running.
            self.look_at(entry).await;
        }
        if failed && moved {
            let (this, entry, address, target) = (self.clone(), entry.clone(), address.clone(), target.clone());
            self.tracker.spawn(async move {
                this.persist(&entry, "running", || Advance::Running { address: &address, target: &target, end_date })
                    .await;
            });
        }
    }

    /// Ends a start that cannot go on, and tells the hub.
    pub(super) async fn fail(self: &Arc<Self>, entry: &Arc<Entry>, hub: Arc<Hub>, callbacks: Callbacks, error: Error) {
        {
            let _driving = entry.driving.lock().await;
            self.start_failed(entry, &error).await;
        }
        self.flavor_updates.due(self, &hub, &callbacks);
        let report = failed(error, entry.server().asynchronous);
        Reporter { hub, callbacks, clock: self.clock.clone() }.last_word(&report).await;
    }

    /// Removes what a failed start left behind, then its row; those who wait for the start get the reason.
    async fn start_failed(self: &Arc<Self>, entry: &Arc<Entry>, error: &Error) {
        // From here on it is this failure that removes the server; a stop that comes now waits for it.
        let ours = entry.move_to(Phase::Stopping, |_| ());
        if ours {
            // Should Outpost end before the row is gone, it must not be started again.
            let _ = self.store.request_stop(&entry.uid).await;
            let outcome = Outcome { kind: "failed", reason: Some(error.to_string()) };
            self.remove(entry, &outcome, Some(error)).await;
        }
        entry.change(|state| state.failure = Some(error.clone()));
    }

    /// Stops a server in its backend and removes its row, trying again until both are done. After the first try that
    /// failed, `failure` is told to those who wait for the start.
    pub(super) async fn remove(self: &Arc<Self>, entry: &Arc<Entry>, outcome: &Outcome, failure: Option<&Error>) {
        let mut pause = FIRST_PAUSE;
        let mut stopped = false;
        loop {
            let step = if stopped { Ok(()) } else { self.stop_in_backend(entry).await };
            stopped |= step.is_ok();
            let step = match step {
                Ok(()) => self.store.remove_server(&entry.uid, outcome).await,
                Err(error) => Err(error),
            };
            match step {
                Ok(()) => break,
                Err(error) => {
                    tracing::warn!(server.uid = %entry.uid, error = %error, cause = error.cause(), "a server cannot be removed yet; trying again");
                    if let Some(failure) = failure {
                        entry.change(|state| state.failure = Some(failure.clone()));
                    }
                }
            }
            tokio::select! {
                () = self.abort.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
        if let Some(failure) = failure {
            entry.change(|state| state.failure = Some(failure.clone()));
        }
        self.view.remove(entry);
        self.metrics.servers.set(i64::try_from(self.view.len()).unwrap_or(i64::MAX));
        tracing::info!(
            server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, outcome = outcome.kind,
            "a server is gone"
        );
    }

    async fn stop_in_backend(&self, entry: &Entry) -> Result<()> {
        if !entry.state().begun {
            return Ok(());
        }
        let handle = entry.state().server.handle.clone();
        let spawner = self.spawners.get(&handle.spawner).ok_or_else(|| {
            Error::internal(format!("the backend {:?} of a server is not configured any more", handle.spawner))
        })?;
        spawner.stop(&entry.uid, &handle).await
    }

    /// Writes a move that has happened already, trying again until the database takes it or somebody else moved the row:
    /// `false`.
    async fn persist<'a>(&self, entry: &Entry, what: &str, advance: impl Fn() -> Advance<'a>) -> bool {
        let mut pause = FIRST_PAUSE;
        loop {
            let generation = entry.state().server.generation;
            match self.store.advance(&entry.uid, generation, &advance()).await {
                Ok(Some(generation)) => {
                    entry.change(|state| state.server.generation = state.server.generation.max(generation));
                    return true;
                }
                Ok(None) => return false,
                Err(error) => {
                    tracing::warn!(server.uid = %entry.uid, what, cause = error.cause(), "the database cannot be told yet; trying again");
                }
            }
            tokio::select! {
                () = self.abort.cancelled() => return false,
                () = entry.gone() => return false,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
        }
    }

    /// Looks whether a running server still runs, and notes its end.
    pub async fn look_at(self: &Arc<Self>, entry: &Arc<Entry>) {
        let server = entry.state().server.clone();
        if server.phase != Phase::Running {
            return;
        }
        let Some(spawner) = self.spawners.get(&server.handle.spawner) else { return };
        if !spawner.shared() && server.owner != self.instance {
            return;
        }
        let exit = match spawner.status(&entry.uid, &server.handle).await {
            Ok(Status::Exited(exit)) => exit,
            Ok(Status::Absent) => Exit {
                code: None,
                early: false,
                reason: "The server is not there any more; how it ended is not known.".to_owned(),
            },
            Ok(Status::Starting | Status::Running | Status::Unknown) => return,
            Err(error) => {
                tracing::warn!(server.uid = %entry.uid, error = %error, cause = error.cause(), "the state of a server is not known");
                return;
            }
        };
        if !entry.move_to(Phase::Ended, |server| server.exit = Some(exit.clone())) {
            return;
        }
        tracing::info!(
            server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, exit.code, reason = ?exit.reason,
            "a server ended by itself"
        );
        // Where another Outpost was faster, or has stopped it, it is not this one's to tell.
        if self.persist(entry, "ended", || Advance::Ended(&exit)).await {
            self.report_end(entry, exit).await;
            self.settle(entry).await;
        }
    }

    /// Sees to it that a server whose end is noted does not begin again.
    pub async fn settle(&self, entry: &Entry) {
        let server = entry.state().server.clone();
        if server.phase != Phase::Ended || !self.drives(entry) {
            return;
        }
        let Some(spawner) = self.spawners.get(&server.handle.spawner) else { return };
        if let Err(error) = spawner.ended(&entry.uid, &server.handle).await {
            tracing::warn!(server.uid = %entry.uid, error = %error, cause = error.cause(), "a server that ended may begin again; trying again");
        }
    }

    /// Tells the hub that a server ended by itself. One that never listened fails the spawn that still waits for it.
    async fn report_end(self: &Arc<Self>, entry: &Arc<Entry>, exit: Exit) {
        let Ok(Some(StoredRequest { env, .. })) = self.store.stored_request(&entry.uid).await else { return };
        let Ok(hub) = self.hubs.get(&entry.id.hub) else { return };
        let callbacks = entry.callbacks().unwrap_or_else(|| hub.callbacks(&env, None));
        self.flavor_updates.due(self, &hub, &callbacks);
        if exit.code == Some(0) && !exit.early {
            return;
        }
        let mut logs = self.logs(entry).await;
        let logs = logs.split_off(logs.len().saturating_sub(FAILURE_LINES));
        let report = if exit.early {
            Report::Failed { message: exit.reason, logs, asynchronous: true }
        } else {
            Report::Ended { message: exit.reason, logs }
        };
        let reporter = Reporter { hub, callbacks, clock: self.clock.clone() };
        self.tracker.spawn(async move { reporter.last_word(&report).await });
    }

    /// Where a server's hub wants to be called; nothing where that cannot be read.
    pub(super) async fn callbacks(&self, entry: &Entry) -> Option<(Arc<Hub>, Callbacks)> {
        let hub = self.hubs.get(&entry.id.hub).ok()?;
        if let Some(callbacks) = entry.callbacks() {
            return Some((hub, callbacks));
        }
        let request = self.store.stored_request(&entry.uid).await.ok()??;
        let callbacks = hub.callbacks(&request.env, None);
        Some((hub, callbacks))
    }
}

fn failed(error: Error, asynchronous: bool) -> Report {
    let message = error.to_string();
    let logs = match error {
        Error::Failed { mut logs, .. } => logs.split_off(logs.len().saturating_sub(FAILURE_LINES)),
        _ => Vec::new(),
    };
    Report::Failed { message, logs, asynchronous }
}
