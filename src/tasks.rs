//! Background work. Each task is one idempotent pass without input; the driver adds the period and the jitter, and ends
//! with the application. A pass that fails is tried again by its period.

pub mod flavor_updates;
pub mod reconcile;
pub mod tunnels;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};
use crate::model::Uid;
use crate::outpost::Outpost;

/// `[tasks]`: background work.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// How often rows that others moved are read.
    #[serde(with = "humantime_serde")]
    pub refresh: Duration,
    /// How often all running servers are compared with their backends.
    #[serde(with = "humantime_serde")]
    pub reconcile: Duration,
    /// How long ended servers stay in the history.
    #[serde(with = "humantime_serde")]
    pub keep_history: Duration,
    /// How many questions for tunnels may be under way at once after a restart, over all hubs; each hub may have one in any
    /// case.
    pub concurrent_tunnels: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            refresh: Duration::from_secs(1),
            reconcile: Duration::from_secs(30),
            keep_history: Duration::from_secs(90 * 24 * 3600),
            concurrent_tunnels: 32,
        }
    }
}

impl Settings {
    /// Checks periods and numbers.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        for (key, period) in [("refresh", self.refresh), ("reconcile", self.reconcile)] {
            if period < Duration::from_millis(100) {
                return Err(format!("{key}: has to be at least 100ms"));
            }
        }
        if self.concurrent_tunnels == 0 {
            return Err("concurrent_tunnels: has to be at least 1".to_owned());
        }
        Ok(())
    }
}

/// How often other Outposts' and the command line's changes of flavors are looked for.
const DEFINITIONS: Duration = Duration::from_millis(500);
/// How often the queue is looked at: in memory, unless something changed.
const QUEUE: Duration = Duration::from_millis(250);
/// How often run times are looked at: in memory, unless one is over.
const EXPIRE: Duration = Duration::from_secs(1);
/// How often hubs' last questions are written down.
const TOUCH: Duration = Duration::from_secs(30);
/// How often an Outpost says that it lives, and looks for others that do not.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How often the history is cut.
const PRUNE: Duration = Duration::from_secs(3600);
/// Rows that were written this long before the last look are read again: clocks differ, and transactions end late.
const OVERLAP: TimeDelta = TimeDelta::seconds(20);

/// Starts all tasks on the tracker of `outpost`. They end when `shutdown` is cancelled, but for those that starts in flight
/// need, and those that nobody else does for this Outpost's servers while it says that it lives: these go on until the last
/// request was answered.
pub fn run_all(outpost: &Arc<Outpost>, changes: mpsc::UnboundedReceiver<Uid>, shutdown: &CancellationToken) {
    let settings = outpost.config.load().tasks.clone();
    let tracker = &outpost.tracker;
    let abort = &outpost.abort;
    tracker.spawn(every("refresh", settings.refresh, outpost.clone(), abort.clone(), refresh));
    tracker.spawn(every("heartbeat", HEARTBEAT, outpost.clone(), abort.clone(), heartbeat));
    tracker.spawn(watch_changes(outpost.clone(), changes, abort.clone()));
    tracker.spawn(every("reconcile", settings.reconcile, outpost.clone(), shutdown.clone(), reconcile::run_once));
    tracker.spawn(every("definitions", DEFINITIONS, outpost.clone(), abort.clone(), definitions));
    tracker.spawn(every("queue", QUEUE, outpost.clone(), abort.clone(), queue));
    tracker.spawn(every("expire", EXPIRE, outpost.clone(), abort.clone(), expire));
    tracker.spawn(every("touch", TOUCH, outpost.clone(), shutdown.clone(), touch));
    tracker.spawn(every("prune", PRUNE, outpost.clone(), shutdown.clone(), prune));
    tracker.spawn(tunnels::run(outpost.clone(), shutdown.clone()));
}

async fn every<F>(
    name: &'static str,
    period: Duration,
    outpost: Arc<Outpost>,
    shutdown: CancellationToken,
    run_once: impl Fn(Arc<Outpost>) -> F,
) where
    F: Future<Output = Result<()>> + Send + 'static,
{
    loop {
        let pause = period.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if !*outpost.loaded.borrow() {
            continue;
        }
        // A pass of its own task: one that panics is a pass that failed.
        let error = match outpost.tracker.spawn(run_once(outpost.clone())).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(panic) => Error::internal(panic),
        };
        tracing::warn!(task = name, error = %error, cause = error.cause(), "a background task failed; it is tried again");
    }
}

/// Backends report servers that ended; each is looked at.
async fn watch_changes(outpost: Arc<Outpost>, mut changes: mpsc::UnboundedReceiver<Uid>, shutdown: CancellationToken) {
    loop {
        let uid = tokio::select! {
            () = shutdown.cancelled() => return,
            uid = changes.recv() => uid,
        };
        let Some(uid) = uid else { return };
        if let Some(entry) = outpost.view.by_uid(&uid) {
            let outpost = outpost.clone();
            outpost.tracker.clone().spawn(async move { outpost.look_at(&entry).await });
        }
    }
}

async fn refresh(outpost: Arc<Outpost>) -> Result<()> {
    outpost.auth.update(outpost.store.passwords().await?);
    outpost.ssh_keys.update(outpost.store.ssh_keys().await?);
    if outpost.store.changed_elsewhere().await? {
        // The mark moves only when all before it was read.
        let (since, now) = (outpost.refreshed(), outpost.clock.now());
        outpost.refresh(since - OVERLAP).await?;
        outpost.set_refreshed(now);
        outpost.store.seen_elsewhere().await?;
    }
    Ok(())
}

async fn definitions(outpost: Arc<Outpost>) -> Result<()> {
    outpost.refresh_definitions().await
}

async fn queue(outpost: Arc<Outpost>) -> Result<()> {
    outpost.take_turns().await
}

async fn expire(outpost: Arc<Outpost>) -> Result<()> {
    outpost.expire().await
}

async fn heartbeat(outpost: Arc<Outpost>) -> Result<()> {
    outpost.store.heartbeat(&outpost.instance).await?;
    // What is left behind is for one that goes on.
    if outpost.ending.is_cancelled() { Ok(()) } else { outpost.take_over().await }
}

async fn touch(outpost: Arc<Outpost>) -> Result<()> {
    let seen: Vec<_> =
        outpost.view.all().iter().filter_map(|entry| Some((entry.uid.clone(), entry.take_touched()?))).collect();
    if seen.is_empty() { Ok(()) } else { outpost.store.touch(&seen).await }
}

async fn prune(outpost: Arc<Outpost>) -> Result<()> {
    let keep = TimeDelta::from_std(outpost.config.load().tasks.keep_history).unwrap_or(TimeDelta::MAX);
    let Some(before) = outpost.clock.now().checked_sub_signed(keep) else { return Ok(()) };
    outpost.store.prune_history(before).await?;
    outpost.store.prune_instances(before).await.map(drop)
}
