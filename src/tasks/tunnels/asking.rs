//! Asks one hub for the tunnels that are due: until it has made them or refuses to, the servers end, or it is not to be asked any
//! more.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::pace::{Pace, Pause, pause};
use super::wanted;
use crate::admission::WantedTunnels;
use crate::error::Result;
use crate::hub::{Asked, Callbacks, Hub, RecreateBy};
use crate::metrics::HubLabels;
use crate::model::{Phase, Tunnel, TunnelState, Uid};
use crate::outpost::{Entry, Outpost};

/// How often answers are written down, and pauses are looked at.
const TICK: Duration = Duration::from_millis(100);
/// How often it is looked what is due: others mark it, too.
const RESCAN: Duration = Duration::from_secs(2);
/// How many requests are read at once, which is a matter of a few milliseconds.
const PAGE: usize = 64;

/// One hub that is asked.
pub(super) struct Asking {
    outpost: Arc<Outpost>,
    name: Arc<str>,
    hub: Option<(Arc<Hub>, WantedTunnels)>,
    /// The questions of all hubs.
    shared: Arc<Semaphore>,
    /// The one question that this hub may be asked whatever others are.
    own: Arc<Semaphore>,
    pace: Pace,
    /// The status of the failure that the log told last.
    told: Option<u16>,
    /// What is due, whether it is being asked for or not.
    due: HashMap<Uid, Due>,
    /// Those to be asked for next.
    next: VecDeque<Uid>,
    /// Those whose requests were read.
    ready: VecDeque<Question>,
    /// Those that are asked for after a pause.
    later: BinaryHeap<Reverse<(Instant, Uid)>>,
    /// What is not written down yet.
    answers: Vec<(Uid, DateTime<Utc>, Tunnel)>,
}

struct Due {
    since: DateTime<Utc>,
    failures: u32,
    /// Whether its question is ready, or under way.
    in_turn: bool,
}

struct Question {
    entry: Arc<Entry>,
    since: DateTime<Utc>,
    hub: Arc<Hub>,
    callbacks: Callbacks,
}

/// What came of a question.
struct Answer {
    uid: Uid,
    since: DateTime<Utc>,
    at: DateTime<Utc>,
    took: Duration,
    /// `None`: the server does not run any more.
    asked: Option<Asked>,
}

impl Asking {
    pub(super) fn new(outpost: Arc<Outpost>, hub: &str, shared: Arc<Semaphore>, most: usize) -> Self {
        Self {
            outpost,
            name: hub.into(),
            hub: None,
            shared,
            own: Arc::new(Semaphore::new(1)),
            pace: Pace::new(most),
            told: None,
            due: HashMap::new(),
            next: VecDeque::new(),
            ready: VecDeque::new(),
            later: BinaryHeap::new(),
            answers: Vec::new(),
        }
    }

    /// Asks until nothing is due any more, or `stop` is cancelled.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        let done = self.ask_all(&stop).await;
        // What is not written down is asked again by whoever goes on.
        if let Err(error) = done.and(self.write_down().await) {
            tracing::warn!(hub.name = ?self.name, error = %error, cause = error.cause(), "a hub cannot be asked for tunnels now");
        }
    }

    async fn ask_all(&mut self, stop: &CancellationToken) -> Result<()> {
        let mut under_way = FuturesUnordered::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut scanned: Option<Instant> = None;
        loop {
            if scanned.is_none_or(|scanned| scanned.elapsed() >= RESCAN) {
                self.scan().await?;
                scanned = Some(Instant::now());
                if self.due.is_empty() {
                    return Ok(());
                }
            }
            match &self.hub {
                Some((hub, _)) if hub.settings.ssh_recreate == RecreateBy::Hub => {
                    let hub = hub.clone();
                    tokio::select! {
                        () = stop.cancelled() => return Ok(()),
                        done = self.ask_for_all(&hub) => done?,
                    }
                }
                Some(_) => {
                    self.prepare().await?;
                    while self.pace.allows(under_way.len(), Instant::now())
                        && let Some(question) = self.ready.pop_front()
                    {
                        under_way.push(self.ask(question));
                    }
                }
                None => {}
            }
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(answer) = under_way.next() => self.take(answer),
                _ = ticks.tick() => {
                    self.write_down().await?;
                    let now = Instant::now();
                    while self.later.peek().is_some_and(|Reverse((at, _))| *at <= now) {
                        self.next.extend(self.later.pop().map(|Reverse((_, uid))| uid));
                    }
                }
            }
        }
    }

    /// Looks what is due now, and whether the hub is still to be asked.
    async fn scan(&mut self) -> Result<()> {
        self.write_down().await?;
        let rows = self.outpost.store.due_tunnels(&self.name).await?;
        let rows: BTreeMap<Uid, DateTime<Utc>> =
            rows.into_iter().filter_map(|row| Some((row.uid()?, row.since))).collect();
        match wanted(&self.outpost, &self.name) {
            Ok(hub) => self.hub = Some(hub),
            Err(reason) => {
                tracing::info!(hub.name = ?self.name, reason, "a hub is not asked for tunnels any more");
                self.hub = None;
                self.due.clear();
                let at = self.outpost.clock.now();
                self.answers.extend(rows.into_iter().map(|(uid, since)| answer(uid, since, TunnelState::Unasked, at)));
                return self.write_down().await;
            }
        }
        self.due.retain(|uid, _| rows.contains_key(uid));
        for (uid, since) in rows {
            // Another Outpost's server may not be known yet: it is the next time.
            if let Some(due) = self.due.get_mut(&uid) {
                due.since = since;
            } else if self.outpost.view.by_uid(&uid).is_some() {
                self.due.insert(uid.clone(), Due { since, failures: 0, in_turn: false });
                self.next.push_back(uid);
            }
        }
        Ok(())
    }

    /// Reads the requests of the next servers, if few are ready.
    async fn prepare(&mut self) -> Result<()> {
        if self.ready.len() >= PAGE || self.next.is_empty() {
            return Ok(());
        }
        let Some((hub, wanted)) = self.hub.clone() else { return Ok(()) };
        let page: Vec<Uid> = self.next.drain(..self.next.len().min(PAGE)).collect();
        let mut requests = self.outpost.store.stored_requests(&page).await?;
        for uid in page {
            let (Some(due), Some(entry)) = (self.due.get_mut(&uid), self.outpost.view.by_uid(&uid)) else { continue };
            if std::mem::replace(&mut due.in_turn, true) {
                continue;
            }
            let since = due.since;
            let question = requests.remove(&uid).and_then(|request| {
                let server = entry.state().server.clone();
                // It is reached without a tunnel of the hub's.
                if !server.target.is_empty() {
                    return None;
                }
                let wanted = wanted.has(&server, &request.groups).unwrap_or_else(|cause| {
                    tracing::warn!(server.uid = %uid, hub.name = ?self.name, cause, "ssh_recreate_at_start fails for a server: its hub is not asked for the tunnel");
                    false
                });
                let callbacks = entry.callbacks().unwrap_or_else(|| hub.callbacks(&request.env, None));
                (wanted && callbacks.tunnel.is_some()).then(|| Question { entry, since, hub: hub.clone(), callbacks })
            });
            match question {
                Some(question) => self.ready.push_back(question),
                None => self.answers.push(answer(uid, since, TunnelState::Unasked, self.outpost.clock.now())),
            }
        }
        Ok(())
    }

    /// Asks one question, when it is its turn.
    fn ask(&self, question: Question) -> impl Future<Output = Answer> + use<> {
        let (own, shared, clock) = (self.own.clone(), self.shared.clone(), self.outpost.clock.clone());
        async move {
            let _turn = tokio::select! {
                biased;
                turn = own.acquire_owned() => turn,
                turn = shared.acquire_owned() => turn,
            };
            let Question { entry, since, hub, callbacks } = question;
            let (at, begun) = (clock.now(), Instant::now());
            let address = {
                let state = entry.state();
                let runs = state.server.phase == Phase::Running && !state.gone;
                runs.then(|| state.server.address.clone())
            };
            let asked = match address {
                Some(address) => hub.ask_for_tunnel(&callbacks, &address).await,
                None => None,
            };
            Answer { uid: entry.uid.clone(), since, at, took: begun.elapsed(), asked }
        }
    }

    /// Asks the hub once for all.
    async fn ask_for_all(&mut self, hub: &Hub) -> Result<()> {
        if self.due.is_empty() || !self.pace.allows(0, Instant::now()) {
            return Ok(());
        }
        let (at, begun) = (self.outpost.clock.now(), Instant::now());
        let state = match hub.ask_for_all_tunnels().await {
            Some(Asked::Made) => {
                self.made(begun.elapsed());
                TunnelState::Made
            }
            Some(Asked::Refused(status)) => {
                tracing::error!(hub.name = ?self.name, status, "a hub refuses to make the tunnels of this site anew: its ssh_recreate_token or ssh_recreate_system does not fit");
                TunnelState::Refused(status)
            }
            Some(Asked::Failed(status)) => {
                self.failed(status);
                return Ok(());
            }
            Some(Asked::Silent(status)) => {
                self.silent(status);
                return Ok(());
            }
            // The log says why.
            None => {
                self.count_failure();
                self.pace.silent(Instant::now());
                return Ok(());
            }
        };
        let uids = std::mem::take(&mut self.due);
        self.next.clear();
        self.answers.extend(uids.into_iter().map(|(uid, due)| answer(uid, due.since, state, at)));
        self.write_down().await
    }

    fn take(&mut self, Answer { uid, since, at, took, asked }: Answer) {
        let state = match asked {
            // Should its row still say that it runs, that is looked at again.
            None => {
                self.due.remove(&uid);
                return;
            }
            Some(Asked::Made) => {
                self.made(took);
                TunnelState::Made
            }
            Some(Asked::Refused(status)) => {
                let why =
                    if status == 404 { "does not know a server any more" } else { "refuses the token of a server" };
                tracing::info!(server.uid = %uid, hub.name = ?self.name, status, "a hub {why} that runs here");
                TunnelState::Refused(status)
            }
            Some(Asked::Failed(status)) => {
                self.failed(status);
                return self.ask_later(uid);
            }
            Some(Asked::Silent(status)) => {
                self.silent(status);
                return self.ask_later(uid);
            }
        };
        self.answers.push(answer(uid, since, state, at));
    }

    fn ask_later(&mut self, uid: Uid) {
        if let Some(due) = self.due.get_mut(&uid) {
            due.failures = due.failures.saturating_add(1);
            due.in_turn = false;
            self.later.push(Reverse((Instant::now() + pause(due.failures), uid)));
        }
    }

    fn made(&mut self, took: Duration) {
        self.pace.made(took);
        self.told = None;
    }

    fn failed(&mut self, status: u16) {
        self.count_failure();
        let Some(Pause { time, unable }) = self.pace.failed(Instant::now()) else { return };
        let pause_s = seconds(time);
        if unable {
            tracing::error!(
                hub.name = ?self.name, status, pause_s,
                "a hub cannot make its tunnels, and may stop the servers that it is asked for: its log says why; look at the host key \
                 that it trusts, at its SSH key here (removed, expired, from elsewhere) and at what is between it and the SSH \
                 server. It is asked for one tunnel at a time until it makes one"
            );
        } else if self.told.replace(status) != Some(status) {
            tracing::warn!(hub.name = ?self.name, status, pause_s, "a hub could not make a tunnel; it is asked again");
        }
    }

    fn silent(&mut self, status: Option<u16>) {
        self.count_failure();
        if let Some(Pause { time, .. }) = self.pace.silent(Instant::now()) {
            tracing::warn!(
                hub.name = ?self.name, status, pause_s = seconds(time),
                "a hub does not answer the question for tunnels; it is asked again"
            );
        }
    }

    fn count_failure(&self) {
        self.outpost.metrics.tunnel_failures.get_or_create(&HubLabels { hub: self.name.to_string() }).inc();
    }

    /// Writes down what was answered.
    async fn write_down(&mut self) -> Result<()> {
        if self.answers.is_empty() {
            return Ok(());
        }
        let answers = std::mem::take(&mut self.answers);
        for (uid, tunnel) in self.outpost.store.settle_tunnels(&answers).await? {
            if let Some(entry) = self.outpost.view.by_uid(&uid) {
                entry.set_tunnel(tunnel);
            }
        }
        // One that became due anew meanwhile is found again.
        for (uid, ..) in &answers {
            self.due.remove(uid);
        }
        Ok(())
    }
}

/// A pause for the log, in seconds.
fn seconds(pause: Duration) -> u64 {
    pause.as_secs().max(1)
}

/// An answer is newer than what it answers, whatever other Outposts' clocks say.
fn answer(uid: Uid, since: DateTime<Utc>, state: TunnelState, at: DateTime<Utc>) -> (Uid, DateTime<Utc>, Tunnel) {
    (uid, since, Tunnel { state, at: Some(at.max(since + TimeDelta::microseconds(1))) })
}
