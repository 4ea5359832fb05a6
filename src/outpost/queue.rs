//! The queue: starts that wait for a free place of their flavor. The rows are the queue; a pass over them gives turns.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Map;
use tokio::sync::OwnedSemaphorePermit;

use super::view::Place;
use super::{Entry, Outpost};
use crate::admission::{self, Ask};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::model::{Phase, Quota, Server, StoredRequest, Uid};
use crate::spawner::Progress;
use crate::store::{Turn, Waiting};

/// How often the queue is looked at though nothing seems to have changed, in seconds.
const LOOK_AGAIN: i64 = 5;

/// A start that waited while its Outpost was away for this long has been given up by its hub.
const GIVEN_UP: TimeDelta = TimeDelta::minutes(10);

/// The least time between two lines of progress about a place in the queue.
const BETWEEN_LINES: Duration = Duration::from_secs(3);

/// What is known of those that wait.
#[derive(Debug, Default)]
pub struct Queue {
    /// What it was last looked at for: nothing changes before that does.
    state: AtomicU64,
    /// The limits of each start and its request, and the versions of what they follow from.
    limits: Mutex<HashMap<Uid, (Versions, Arc<Limits>)>>,
}

/// The versions of flavors and credits, and the address of the configuration.
type Versions = ([i64; 2], usize);

#[derive(Clone, Debug)]
struct Limits {
    request: StoredRequest,
    quotas: Vec<Quota>,
    groups: Vec<Arc<str>>,
}

impl Queue {
    fn limits(&self) -> MutexGuard<'_, HashMap<Uid, (Versions, Arc<Limits>)>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outpost {
    /// Gives turns to the starts that wait, first come first served.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take_turns(self: &Arc<Self>) -> Result<()> {
        let mut queued = self.view.in_phase(Phase::Queued);
        if queued.is_empty() {
            self.queue.limits().clear();
            return Ok(());
        }
        let state = self.state_of_queue();
        if self.queue.state.load(Ordering::Relaxed) == state {
            return Ok(());
        }
        queued.sort_by_cached_key(|entry| (entry.state().server.start_date, entry.uid.clone()));
        let alive = self.store.alive().await?;
        let mut waiting = Vec::with_capacity(queued.len());
        let mut entries = Vec::with_capacity(queued.len());
        for entry in queued {
            let server = entry.server();
            let ours = server.owner == self.instance;
            // One whose Outpost is gone is taken over soon; it holds up nobody meanwhile.
            if !ours && !alive.iter().any(|instance| **instance == *server.owner) {
                continue;
            }
            match self.limits_of(&server).await {
                Ok(Some(limits)) => {
                    let Limits { request, quotas, groups } = Limits::clone(&limits);
                    waiting.push(Waiting { server, request, quotas, groups, ours });
                    entries.push(entry);
                }
                Ok(None) => {}
                Err(error @ Error::Unavailable { .. }) => return Err(error),
                Err(error) if ours => entry.change(|state| state.place = Some(Place::Lost(error))),
                Err(_) => {}
            }
        }
        self.queue.limits().retain(|uid, _| entries.iter().any(|entry| entry.uid == *uid));
        let turns = self.store.take_turns(&waiting).await?;
        for ((entry, waiting), turn) in entries.iter().zip(&waiting).zip(turns) {
            self.turn(entry, waiting, turn);
        }
        self.queue.state.store(state, Ordering::Relaxed);
        Ok(())
    }

    /// Ends the waiting of a start if its Outpost, last seen at `seen`, was away for so long that its hub has given it up.
    pub(super) fn give_up(&self, entry: &Entry, seen: Option<DateTime<Utc>>) {
        let absent = seen.is_none_or(|seen| self.clock.now() - seen > GIVEN_UP);
        let lost =
            Error::failed("Outpost was not running while this server should have been started. Please start it again.");
        entry.change(|state| {
            if state.server.phase == Phase::Queued {
                state.place = absent.then_some(Place::Lost(lost));
            }
        });
    }

    fn turn(&self, entry: &Entry, waiting: &Waiting, turn: Turn) {
        match turn {
            Turn::Starts { generation, start_date, end_date } => {
                entry.move_to(Phase::Starting, |server| {
                    server.generation = server.generation.max(generation);
                    server.start_date = start_date;
                    server.end_date = end_date;
                });
                entry.change(|state| state.begun = true);
            }
            Turn::Hopeless(exceeded) if waiting.ours => {
                let flavor = waiting.server.flavor.as_deref();
                let sentence = admission::refusal(&exceeded, &waiting.server.need, &[], flavor);
                entry.change(|state| state.place = Some(Place::Lost(Error::Refused(sentence))));
            }
            Turn::Waits { position, exceeded } if waiting.ours => {
                let sentence: Arc<str> = admission::waiting(position, &exceeded).into();
                entry.change(|state| state.place = Some(Place::Waits(sentence)));
            }
            Turn::Waits { .. } | Turn::Hopeless(_) | Turn::Later | Turn::Gone => {}
        }
    }

    /// The limits that a start has now. `None`: it is not there any more.
    async fn limits_of(&self, server: &Server) -> Result<Option<Arc<Limits>>> {
        let (config, definitions) = (self.config.load(), self.definitions.load());
        let versions = (definitions.versions, Arc::as_ptr(&config).addr());
        let known = self.queue.limits().get(&server.uid).cloned();
        let request = match known {
            Some((then, limits)) if then == versions => return Ok(Some(limits)),
            Some((_, limits)) => limits.request.clone(),
            None => match self.store.stored_request(&server.uid).await? {
                Some(request) => request,
                None => return Ok(None),
            },
        };
        let Some(spawner) = self.spawners.get(&server.handle.spawner) else {
            return Err(Error::failed(
                "The system that this server should have been started on is not there any more. Please start it again.",
            ));
        };
        let admitted = admission::decide(
            &self.policy(&config, &definitions),
            &Ask {
                hub: &server.id.hub,
                user: &server.user,
                user_id: server.user_id,
                // They were decided about before.
                misc: &Map::new(),
                user_options: &request.user_options,
                flavor: server.flavor.as_deref(),
                authentication: request.authentication.as_ref().unwrap_or(&Map::new()),
                spawner: &server.handle.spawner,
                table: spawner.options(),
                site: &|choice| spawner.offer(choice),
            },
        )?;
        let limits = Arc::new(Limits { request, quotas: admitted.quotas, groups: admitted.counted_groups });
        self.queue.limits().insert(server.uid.clone(), (versions, limits.clone()));
        Ok(Some(limits))
    }

    /// A number that changes when anything changes that turns depend on.
    fn state_of_queue(&self) -> u64 {
        let mut servers: Vec<_> = self
            .view
            .all()
            .iter()
            .map(|entry| (entry.uid.clone(), entry.state().server.phase.as_str()))
            .filter(|(_, phase)| *phase != Phase::Ended.as_str())
            .collect();
        servers.sort_unstable();
        let mut hasher = DefaultHasher::new();
        servers.hash(&mut hasher);
        self.definitions.load().versions.hash(&mut hasher);
        // What others did to the database shows here a moment later; and once in a while without any sign.
        (self.clock.now().timestamp() / LOOK_AGAIN).hash(&mut hasher);
        hasher.finish()
    }

    /// Waits for the turn of a start, telling the user how long the queue is, then for the hub's leave to start one more.
    /// `None`: Outpost ends.
    pub(super) async fn wait_for_turn(
        &self,
        entry: &Entry,
        hub: &Hub,
        progress: &Progress,
    ) -> Option<Result<Option<OwnedSemaphorePermit>>> {
        let mut state = entry.subscribe();
        let mut told: Option<Arc<str>> = None;
        let mut told_at: Option<Instant> = None;
        loop {
            let (phase, place, owner) = {
                let state = state.borrow_and_update();
                (state.server.phase, state.place.clone(), state.server.owner.clone())
            };
            // It was taken over: the other one starts it.
            if owner != self.instance {
                return None;
            }
            let silent = told_at.is_none_or(|at| at.elapsed() >= BETWEEN_LINES);
            match (phase, place) {
                (Phase::Queued, Some(Place::Lost(error))) => return Some(Err(error)),
                (Phase::Queued, Some(Place::Waits(sentence))) if silent && told.as_ref() != Some(&sentence) => {
                    progress.say(1, &*sentence);
                    told = Some(sentence);
                    told_at = Some(Instant::now());
                }
                (Phase::Queued, _) => {}
                (Phase::Starting, _) => break,
                _ => return Some(Err(Error::Cancelled)),
            }
            tokio::select! {
                () = entry.cancel.cancelled() => return Some(Err(Error::Cancelled)),
                () = self.abort.cancelled() => return None,
                _ = state.changed() => {}
                () = tokio::time::sleep(BETWEEN_LINES) => {}
            }
        }
        progress.say(2, "A place is free: the server is being started.");
        tokio::select! {
            () = entry.cancel.cancelled() => Some(Err(Error::Cancelled)),
            () = self.abort.cancelled() => None,
            permit = hub.starts.clone().acquire_owned() => Some(Ok(permit.ok())),
        }
    }
}
