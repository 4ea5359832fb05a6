//! What the site's administrators ask of this Outpost itself.

use std::sync::Arc;

use chrono::TimeDelta;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::Outpost;
use crate::error::{Error, Result};
use crate::model::Server;

/// Rows that were written this long ago are read again: clocks differ, and transactions end late.
const OVERLAP: TimeDelta = TimeDelta::seconds(5);

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// The sections of the configuration that are other ones now.
    pub changed: Vec<String>,
    /// Those of which a change takes effect when Outpost is restarted.
    pub at_restart: Vec<String>,
}

/// Somebody who waits for a reload: what has changed, or the mistake.
pub type ReloadRequest = oneshot::Sender<Result<Reloaded, String>>;

/// Where a reload is asked for.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<ReloadRequest>);

impl Reloads {
    /// A sender, and the receiver for whoever reads the configuration.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (sender, receiver) = mpsc::channel(1);
        (Self(sender), receiver)
    }
}

impl Outpost {
    /// Reads the configuration file now. The inner error is the mistake in it, which changes nothing.
    ///
    /// # Errors
    /// Outpost is ending.
    pub async fn reload(&self) -> Result<Result<Reloaded, String>> {
        let ending = |_| Error::Unavailable {
            message: "Outpost is ending. Please try again in a minute.",
            cause: "nobody reads the configuration any more".to_owned(),
        };
        let (answer, answered) = oneshot::channel();
        self.reloads.0.send(answer).await.map_err(|_| ending(()))?;
        answered.await.map_err(|_| ending(()))
    }

    /// Takes over at once what was just changed in the database, instead of at the next look. Where that fails, the next look
    /// does it: the change is made.
    pub async fn take_up(self: &Arc<Self>) {
        if let Err(error) = self.try_to_take_up().await {
            tracing::warn!(error = %error, cause = error.cause(), "a change is taken over a little later");
        }
    }

    async fn try_to_take_up(self: &Arc<Self>) -> Result<()> {
        if !*self.loaded.borrow() {
            return Ok(());
        }
        self.auth.update(self.store.passwords().await?);
        self.ssh_keys.update(self.store.ssh_keys().await?);
        self.refresh_definitions().await?;
        self.refresh(self.clock.now() - OVERLAP).await
    }

    /// All servers of all hubs, in no order.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the rows were not read yet.
    pub fn all_servers(&self) -> Result<Vec<Server>> {
        self.ensure_loaded()?;
        Ok(self.view.all().iter().map(|entry| entry.server()).collect())
    }
}
