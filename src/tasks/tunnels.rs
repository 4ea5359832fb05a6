//! Asks hubs for the tunnels to their running servers, after this Outpost or its SSH server was restarted.
//!
//! What is to be asked is in the rows: tunnels that may be lost are `due` until a hub has made them or refuses to. One Outpost at a
//! time asks, as long as it renews its lease; whoever takes the lease after it goes on with what is still due.

mod asking;
mod pace;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use self::asking::Asking;
use crate::admission::WantedTunnels;
use crate::clock::Clock;
use crate::error::Result;
use crate::hub::{Hub, RecreateBy, Settings};
use crate::metrics::TunnelLabels;
use crate::model::{Phase, Tunnel, TunnelState};
use crate::outpost::Outpost;

/// How often it is looked whether something is due that nobody asks for.
const LOOK: Duration = Duration::from_secs(5);
/// How often whoever asks renews its lease, and looks for hubs with more that is due.
const RENEW: Duration = Duration::from_secs(2);
/// How long the lease of an Outpost lasts that does not renew it.
const LEASE: TimeDelta = TimeDelta::seconds(15);
/// The lease's name.
const NAME: &str = "tunnels";
/// How often a hub that connects again and again can lose its tunnels by that.
const AGAIN: Duration = Duration::from_secs(60);
/// The hub makes the tunnel to a server by itself when it was started, within this time.
const FRESH: TimeDelta = TimeDelta::seconds(60);
/// How often the log says how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

/// Knows since when tunnels may be lost.
#[derive(Debug)]
pub struct Tunnels {
    lost: watch::Sender<Option<DateTime<Utc>>>,
    /// The hubs that came without having another connection, and when, until that is written down.
    come: Mutex<BTreeMap<Arc<str>, DateTime<Utc>>>,
    began: DateTime<Utc>,
    clock: Clock,
}

impl Tunnels {
    /// Those of an Outpost that begins now: whatever was made before is lost.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { lost: watch::Sender::new(None), come: Mutex::default(), began: clock.now(), clock }
    }

    /// Whether hubs can connect.
    #[must_use]
    pub fn may_be_asked_for(&self) -> bool {
        self.lost.borrow().is_some()
    }

    /// Hubs can connect, for the first time or again after nobody could: they are asked for the tunnels that were made before. Where
    /// there is an SSH server, nobody is asked before it says so.
    pub fn due(&self) {
        self.lost.send_modify(|lost| *lost = Some(if lost.is_none() { self.began } else { self.clock.now() }));
    }

    /// A hub has connected that had no connection: it is asked for the tunnels that were made before. A hub's side may take up to
    /// a minute to notice that a connection is lost, and says until then that it has made tunnels in it.
    pub fn due_for(&self, hub: &Arc<str>) {
        let now = self.clock.now();
        self.come.lock().unwrap_or_else(PoisonError::into_inner).insert(hub.clone(), now);
    }

    fn come(&self) -> BTreeMap<Arc<str>, DateTime<Utc>> {
        self.come.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was known at `at` is written down.
    fn written_down(&self, hub: &str, at: DateTime<Utc>) {
        let mut come = self.come.lock().unwrap_or_else(PoisonError::into_inner);
        if come.get(hub) == Some(&at) {
            come.remove(hub);
        }
    }
}

/// Marks what is due, and asks for it if no other Outpost does, until `shutdown` is cancelled.
pub(super) async fn run(outpost: Arc<Outpost>, shutdown: CancellationToken) {
    if outpost.config.load().ssh.listen.is_none() {
        outpost.tunnels.due();
    }
    let mut task = Task {
        lost: outpost.tunnels.lost.subscribe(),
        marked: None,
        renewed: HashMap::new(),
        counted: BTreeSet::new(),
        outpost,
    };
    let mut loaded = task.outpost.loaded.subscribe();
    tokio::select! {
        () = shutdown.cancelled() => return,
        Ok(_) = loaded.wait_for(|loaded| *loaded) => {}
    }
    tokio::select! {
        () = shutdown.cancelled() => return,
        Ok(_) = task.lost.wait_for(Option::is_some) => {}
    }
    loop {
        if let Err(error) = task.run_once(&shutdown).await {
            tracing::warn!(error = %error, cause = error.cause(), "hubs cannot be asked for tunnels yet; trying again");
        }
        let pause = LOOK.mul_f64(0.9 + 0.2 * rand::random::<f64>());
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = task.lost.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

struct Task {
    outpost: Arc<Outpost>,
    lost: watch::Receiver<Option<DateTime<Utc>>>,
    /// The loss that was marked last.
    marked: Option<DateTime<Utc>>,
    /// When hubs' connections last made their tunnels due.
    renewed: HashMap<Arc<str>, Instant>,
    /// The hubs that are in the metrics.
    counted: BTreeSet<Arc<str>>,
}

impl Task {
    async fn run_once(&mut self, shutdown: &CancellationToken) -> Result<()> {
        self.mark().await?;
        self.count();
        if self.outpost.store.hubs_with_due_tunnels().await?.is_empty() || !self.lease(LEASE).await? {
            return Ok(());
        }
        let asked = self.ask(shutdown).await;
        // Others need not wait until it runs out.
        self.lease(TimeDelta::zero()).await?;
        asked
    }

    async fn lease(&self, time: TimeDelta) -> Result<bool> {
        self.outpost.store.lease(NAME, &self.outpost.instance, time).await
    }

    /// Writes down which tunnels may be lost, unless that is done.
    async fn mark(&mut self) -> Result<()> {
        let lost = *self.lost.borrow_and_update();
        if let Some(lost) = lost
            && self.marked != Some(lost)
        {
            self.mark_all(lost).await?;
            self.marked = Some(lost);
        }
        self.renewed.retain(|_, at| at.elapsed() < AGAIN);
        for (hub, at) in self.outpost.tunnels.come() {
            if self.renewed.contains_key(&hub) {
                continue;
            }
            if wanted(&self.outpost, &hub).is_ok() {
                let due = self.mark_hub(&hub, at, at - FRESH).await?;
                tracing::info!(hub.name = ?hub, due, "a hub has connected anew: it is asked for the tunnels that were made before");
                self.renewed.insert(hub.clone(), Instant::now());
            }
            self.outpost.tunnels.written_down(&hub, at);
        }
        Ok(())
    }

    async fn mark_all(&self, lost: DateTime<Utc>) -> Result<()> {
        let running = self.outpost.view.in_phase(Phase::Running);
        let hubs: BTreeSet<Arc<str>> = running.iter().map(|entry| entry.id.hub.clone()).collect();
        let mut due = 0;
        for name in &hubs {
            if let Err(reason) = wanted(&self.outpost, name) {
                tracing::info!(hub.name = ?name, reason, "a hub is not asked for tunnels");
                continue;
            }
            due += self.mark_hub(name, lost, lost).await?;
        }
        tracing::info!(due, "tunnels to running servers that hubs are to be asked for");
        Ok(())
    }

    /// Gives how many tunnels of the hub are due now that were asked for before `lost`, or not at all and run since before `unasked`.
    async fn mark_hub(&self, hub: &str, lost: DateTime<Utc>, unasked: DateTime<Utc>) -> Result<usize> {
        let now = self.outpost.clock.now();
        let uids = self.outpost.store.mark_tunnels(hub, lost, unasked, now).await?;
        let tunnel = Tunnel { state: TunnelState::Due, at: Some(now) };
        for entry in uids.iter().filter_map(|uid| self.outpost.view.by_uid(uid)) {
            entry.set_tunnel(tunnel);
        }
        Ok(uids.len())
    }

    /// Asks for all that is due, as long as the lease is held.
    async fn ask(&mut self, shutdown: &CancellationToken) -> Result<()> {
        let stop = shutdown.child_token();
        let _guard = stop.clone().drop_guard();
        let most = self.outpost.config.load().tasks.concurrent_tunnels;
        let shared = Arc::new(Semaphore::new(most));
        let mut asking = BTreeMap::new();
        let (begun, mut told) = (Instant::now(), Instant::now());
        tracing::info!("asking hubs for tunnels");
        loop {
            for hub in self.outpost.store.hubs_with_due_tunnels().await? {
                asking.entry(hub).or_insert_with_key(|hub| {
                    let work = Asking::new(self.outpost.clone(), hub, shared.clone(), most);
                    self.outpost.tracker.spawn(work.run(stop.clone()))
                });
            }
            let Counts { due, made, refused } = self.count();
            if asking.is_empty() {
                let duration_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(due, made, refused, duration_ms, "all hubs were asked for tunnels");
                return Ok(());
            }
            if told.elapsed() >= PROGRESS {
                told = Instant::now();
                tracing::info!(due, made, refused, "asking hubs for tunnels goes on");
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = self.lost.changed() => {}
                () = tokio::time::sleep(RENEW) => {}
            }
            if !self.lease(LEASE).await? {
                tracing::warn!("another Outpost goes on with asking hubs for tunnels");
                return Ok(());
            }
            self.mark().await?;
            asking.retain(|_, work| !work.is_finished());
        }
    }

    /// Counts the tunnels to running servers, for the metrics too.
    fn count(&mut self) -> Counts {
        let mut hubs: BTreeMap<Arc<str>, Counts> =
            std::mem::take(&mut self.counted).into_iter().map(|hub| (hub, Counts::default())).collect();
        for entry in self.outpost.view.in_phase(Phase::Running) {
            let state = entry.state().server.tunnel.state;
            let counts = hubs.entry(entry.id.hub.clone()).or_default();
            match state {
                TunnelState::Unasked => {}
                TunnelState::Due => counts.due += 1,
                TunnelState::Made => counts.made += 1,
                TunnelState::Refused(_) => counts.refused += 1,
            }
        }
        let mut all = Counts::default();
        for (hub, Counts { due, made, refused }) in &hubs {
            for (state, count) in [("due", *due), ("made", *made), ("refused", *refused)] {
                let labels = TunnelLabels { hub: hub.to_string(), state };
                self.outpost.metrics.tunnels.get_or_create(&labels).set(count);
            }
            (all.due, all.made, all.refused) = (all.due + due, all.made + made, all.refused + refused);
        }
        self.counted = hubs.into_keys().collect();
        all
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    due: i64,
    made: i64,
    refused: i64,
}

/// The hub with the servers that it is asked for tunnels to.
///
/// # Errors
/// Why it is not asked at all.
fn wanted(outpost: &Outpost, name: &str) -> Result<(Arc<Hub>, WantedTunnels), String> {
    if !outpost.auth.knows(name) {
        return Err("it is not known any more".to_owned());
    }
    let hub = outpost.hubs.get(name)?;
    let wanted = match &hub.settings.ssh_recreate_at_start {
        Some(setting) => WantedTunnels::parse(setting)?,
        // Another would take the question for a broken tunnel, and stop the server.
        None => {
            let Settings { setup_tunnel, ssh_recreate, .. } = &hub.settings;
            let tunnels = *setup_tunnel || *ssh_recreate == RecreateBy::Hub || outpost.ssh_keys.has(name);
            WantedTunnels::Always(tunnels)
        }
    };
    if wanted == WantedTunnels::Always(false) {
        return Err("nothing says that it tunnels, or its settings say that it is not to be asked".to_owned());
    }
    if hub.api_url().is_none() {
        return Err("where its API is, is not known yet".to_owned());
    }
    Ok((hub, wanted))
}
