//! The use cases: the only place that orders effects.
//!
//! *Write before you act*: the row exists before a backend is asked for anything and goes after the last of it is gone, so
//! that nothing that was started can be forgotten. *Memory answers*: polls and lists come from a view of the rows, which
//! every move updates and `tasks::refresh` keeps right when somebody else moves them.

mod definitions;
mod drive;
mod forward;
mod lifetime;
mod offer;
mod queue;
mod recover;
mod site;
mod start;
mod stop;
mod view;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::definitions::{
    Changed, Expected, InForce, Settings as FlavorSettings, change, in_force, read_entry, read_file, stored,
};
pub use self::forward::{Looks, Unreachable};
pub use self::queue::Queue;
pub use self::site::{ReloadRequest, Reloaded, Reloads};
pub use self::stop::Stopped;
pub use self::view::{Entry, Place, State, View};
use crate::auth::{Auth, SshKeys};
use crate::clock::Clock;
use crate::config::Config;
use crate::dial::Dials;
use crate::error::{Error, Result};
use crate::hub::Hubs;
use crate::metrics::Metrics;
use crate::model::{AuthState, Server, ServerId};
use crate::spawner::Registry;
use crate::store::Store;
use crate::tasks::flavor_updates::FlavorUpdates;
use crate::tasks::tunnels::Tunnels;

/// Everything that the use cases need. One for each process, shared by all edges and tasks.
#[derive(Debug)]
pub struct Outpost {
    /// The database.
    pub store: Store,
    /// The backends.
    pub spawners: Registry,
    /// The hubs and how they are called.
    pub hubs: Hubs,
    /// The hubs' passwords.
    pub auth: Auth,
    /// The hubs' SSH keys.
    pub ssh_keys: SshKeys,
    /// The connections to hubs' sides.
    pub dials: Dials,
    /// The configuration that is in force.
    pub config: ArcSwap<Config>,
    /// The flavors and credits that are in force.
    pub definitions: ArcSwap<InForce>,
    /// The rows, in memory.
    pub view: View,
    /// Starts that wait for a free place.
    pub queue: Queue,
    /// Flavor updates that are due.
    pub flavor_updates: FlavorUpdates,
    /// Whether hubs are to be asked for tunnels.
    pub tunnels: Tunnels,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Clock,
    /// The name of this Outpost in the rows that it drives.
    pub instance: Arc<str>,
    /// Whether the rows were read.
    pub loaded: watch::Sender<bool>,
    /// When rows that others moved were last read, in microseconds.
    pub refreshed: AtomicI64,
    /// When a server that was not known was last looked for.
    pub looks: Looks,
    /// Where the configuration file is asked to be read.
    pub reloads: Reloads,
    /// All background work, so that an end can wait for it.
    pub tracker: TaskTracker,
    /// Cancelled when the end was asked for: requests are still answered, and no new ones are to be sent here.
    pub ending: CancellationToken,
    /// Ends what is still running when the time for a gentle end is over.
    pub abort: CancellationToken,
}

/// The answer to a poll.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Polled {
    /// `None`: it runs, or nobody knows better. Else its exit code.
    pub status: Option<i32>,
    /// Its last log lines, if they were asked for.
    pub logs: Vec<String>,
}

/// How long a poll or a stop waits for log lines.
const LOG_TIMEOUT: Duration = Duration::from_secs(5);

/// How many log lines a hub gets.
const LOG_LINES: usize = 200;

impl Outpost {
    /// What is known about a server. A poll never fails: what cannot be known is "running".
    ///
    /// # Errors
    /// [`Error::NotFound`] only.
    pub async fn poll(self: &Arc<Self>, id: &ServerId, collect_logs: bool, auth_state: AuthState) -> Result<Polled> {
        let entry = match self.find(id).await {
            Ok(Some(entry)) => entry,
            Ok(None) => return Err(Error::NotFound),
            Err(error) => {
                tracing::warn!(error = %error, cause = error.cause(), "a poll was answered with \"running\", since the database does not answer");
                return Ok(Polled { status: None, logs: Vec::new() });
            }
        };
        entry.touch(self.clock.now());
        if !auth_state.is_empty() {
            entry.set_auth_state(auth_state);
        }
        // A code that nobody can know is 0 on the wire, as with the Python service.
        let status = entry.state().server.exit.as_ref().map(|exit| exit.code.unwrap_or(0));
        let logs = if collect_logs { self.logs(&entry).await } else { Vec::new() };
        Ok(Polled { status, logs })
    }

    /// All servers of a hub, the oldest first.
    ///
    /// # Errors
    /// [`Error::Unavailable`] while the rows were not read yet.
    pub fn list(&self, hub: &str) -> Result<Vec<Server>> {
        self.ensure_loaded()?;
        Ok(self.view.of_hub(hub))
    }

    /// When rows that others moved were last read.
    #[must_use]
    pub fn refreshed(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.refreshed.load(Ordering::Relaxed)).unwrap_or(DateTime::UNIX_EPOCH)
    }

    /// Notes that rows that others moved were read at `now`.
    pub fn set_refreshed(&self, now: DateTime<Utc>) {
        self.refreshed.store(now.timestamp_micros(), Ordering::Relaxed);
    }

    /// Why this Outpost cannot work just now; empty: it can.
    pub async fn unready(&self) -> Vec<String> {
        if self.ending.is_cancelled() {
            return vec!["it is ending".to_owned()];
        }
        let mut reasons = Vec::new();
        if let Err(error) = self.store.ping().await {
            reasons.push(format!("the database does not answer ({})", error.cause().unwrap_or_default()));
        } else if !*self.loaded.borrow() {
            reasons.push("the servers were not read from the database yet".to_owned());
        }
        if self.config.load().ssh.listen.is_some() && !self.tunnels.may_be_asked_for() {
            reasons.push("the SSH server does not accept connections yet: it waits for its host key".to_owned());
        }
        for (name, spawner) in self.spawners.all() {
            reasons.extend(spawner.trouble().map(|trouble| format!("spawners.{name}: {trouble}")));
        }
        if self.metrics.configuration_stale.get() != 0 {
            reasons.push(
                "the configuration, or a file that it names, has a mistake; the last good one is in force".to_owned(),
            );
        }
        reasons
    }

    /// A server by its identity: in memory, or in the database where another Outpost may have made it.
    async fn find(self: &Arc<Self>, id: &ServerId) -> Result<Option<Arc<Entry>>> {
        if let Some(entry) = self.view.get(id) {
            return Ok(Some(entry));
        }
        if *self.loaded.borrow() && !self.store.is_shared() {
            return Ok(None);
        }
        self.find_stored(id).await
    }

    /// A server by its identity, as the database has it. One that is ours and was not known goes on from where it is.
    async fn find_stored(self: &Arc<Self>, id: &ServerId) -> Result<Option<Arc<Entry>>> {
        let Some(server) = self.store.find_server(id).await? else { return Ok(None) };
        let uid = server.uid.clone();
        let known = self.view.by_uid(&uid).is_some();
        let server = if known { server } else { self.adopt(server).await? };
        let entry = self.view.merge(server);
        if !known && entry.uid == uid {
            self.resume(&entry);
        }
        Ok(Some(entry))
    }

    /// The last log lines; a log that cannot be read has none.
    async fn logs(&self, entry: &Entry) -> Vec<String> {
        let handle = entry.state().server.handle.clone();
        let Some(spawner) = self.spawners.get(&handle.spawner) else { return Vec::new() };
        let logs = tokio::time::timeout(LOG_TIMEOUT, spawner.logs(&entry.uid, &handle, LOG_LINES)).await;
        let logs = logs.unwrap_or_else(|_| Err(Error::internal("it took too long")));
        logs.unwrap_or_else(|error| {
            tracing::warn!(server.uid = %entry.uid, error = %error, cause = error.cause(), "the log of a server cannot be read");
            Vec::new()
        })
    }

    fn ensure_loaded(&self) -> Result<()> {
        if *self.loaded.borrow() {
            return Ok(());
        }
        Err(Error::Unavailable {
            message: "Outpost is starting and has not reached its database yet. Please try again in a minute.",
            cause: "the servers were not read yet".to_owned(),
        })
    }
}
