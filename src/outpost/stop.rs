//! Stop: a stop wins over everything, in every phase.

use std::sync::Arc;
use std::time::Duration;

use super::{Entry, Outpost};
use crate::error::{Error, Result};
use crate::model::{AuthState, Phase, ServerId};
use crate::store::Outcome;

/// How long a synchronous stop waits; the stop itself goes on until it is done.
const PATIENCE: Duration = Duration::from_secs(90);

/// The pause between tries to tell another Outpost of a stop.
const AGAIN: Duration = Duration::from_secs(2);

/// The answer to a stop.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stopped {
    /// The last log lines, if they were asked for; `None` if another request was stopping the server already.
    pub logs: Option<Vec<String>>,
}

impl Outpost {
    /// Stops a server. Asynchronously: returns when the row says so. Synchronously: when nothing is left of it.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Unavailable`] if it takes longer than a caller can wait.
    pub async fn stop(
        self: &Arc<Self>,
        id: &ServerId,
        asynchronous: bool,
        collect_logs: bool,
        auth_state: AuthState,
    ) -> Result<Stopped> {
        let entry = self.find(id).await?.ok_or(Error::NotFound)?;
        if !auth_state.is_empty() {
            entry.set_auth_state(auth_state);
        }
        let logs = if collect_logs && !matches!(entry.state().server.phase, Phase::Queued | Phase::Stopping) {
            self.logs(&entry).await
        } else {
            Vec::new()
        };
        let before = entry.state().server.phase;
        let first = entry.move_to(Phase::Stopping, |_| ());
        if first {
            let (this, entry) = (self.clone(), entry.clone());
            self.tracker.spawn(async move { this.finish_stop(entry, Outcome::of_stop(before)).await });
        }
        if asynchronous {
            // An answer is a promise that has to outlive this process. (The same once more in the background changes nothing.)
            if entry.stored().await.is_ok()
                && let Err(error) = self.store.request_stop(&entry.uid).await
            {
                if !self.drives(&entry) {
                    return Err(error);
                }
                tracing::warn!(server.uid = %entry.uid, cause = error.cause(), "the database cannot be told of a stop; stopping all the same");
            }
        } else {
            let waiting = tokio::time::timeout(PATIENCE, entry.gone());
            waiting.await.map_err(|_| Error::Unavailable {
                message: "The server is still being stopped. Outpost goes on until it is gone.",
                cause: format!("server {} is not gone after {PATIENCE:?}", entry.uid),
            })?;
        }
        Ok(Stopped { logs: first.then_some(logs) })
    }

    /// Ends a server whose phase is `Stopping` in memory and removes its row.
    pub(super) async fn finish_stop(self: Arc<Self>, entry: Arc<Entry>, outcome: Outcome) {
        tracing::info!(server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, "a server is being stopped");
        if self.drives(&entry) {
            entry.cancel.cancel();
        }
        let _ = entry.stored().await;
        // The row first. If the database is down the server is stopped all the same: its hub wants it gone, and the row is
        // removed as soon as that is possible.
        if let Err(error) = self.store.request_stop(&entry.uid).await {
            tracing::warn!(server.uid = %entry.uid, cause = error.cause(), "the database cannot be told of a stop; stopping all the same");
        }
        let callbacks = match self.flavor_updates.target(&entry.id.hub) {
            Some(target) => Some(target),
            None => self.callbacks(&entry).await,
        };
        if let Some((hub, callbacks)) = &callbacks {
            self.flavor_updates.due(&self, hub, callbacks);
        }
        if !self.drives(&entry) {
            // Its own Outpost sees the row and ends it.
            while let Err(error) = self.store.request_stop(&entry.uid).await {
                tracing::warn!(server.uid = %entry.uid, cause = error.cause(), "another Outpost cannot be told of a stop yet; trying again");
                tokio::select! {
                    () = self.abort.cancelled() => return,
                    () = entry.gone() => return,
                    () = tokio::time::sleep(AGAIN) => {}
                }
            }
            return;
        }
        let driving = entry.driving.lock().await;
        if entry.state().gone {
            return;
        }
        self.remove(&entry, &outcome, None).await;
        drop(driving);
        if let Some((hub, callbacks)) = &callbacks {
            self.flavor_updates.due(&self, hub, callbacks);
        }
    }

    /// Whether this Outpost is the one that talks to the backend about a server.
    pub(super) fn drives(&self, entry: &Entry) -> bool {
        let state = entry.state();
        state.server.owner == self.instance
            || self.spawners.get(&state.server.handle.spawner).is_some_and(|spawner| spawner.shared())
    }
}
