//! Limits are counted in the transaction that makes a server count: when its row is inserted, or when its turn comes.
//!
//! Such a transaction first touches the rows of the hubs that it is about, and for limits over all hubs one more row. So two
//! of them that could spend the same slot run one after the other, on both databases. What frees a slot waits for nobody.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value};
use sqlx::{Database, Encode, QueryBuilder, Type};

use super::servers::{INSERT, insert};
use super::{BeginWrite as _, Store, on};
use crate::error::{Error, Result};
use crate::model::{Counted, Need, OfFlavor, Phase, Quota, Scope, Server, StoredRequest};

/// At most this many of a user's servers are named in a refusal.
const NAMED: i64 = 10;

/// The most starts that may wait, of a hub and of one of its users.
const LONGEST_QUEUE: i64 = 1000;
const LONGEST_OF_USER: i64 = 20;

/// The most turns that are given at once, since others wait for the database meanwhile.
const TURNS: usize = 50;

/// A start that has limits.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// The row, in the phase `Starting`.
    pub server: &'a Server,
    /// What is kept of its request.
    pub request: &'a StoredRequest,
    /// Its limits.
    pub quotas: &'a [Quota],
    /// The groups of its user that some limit counts.
    pub groups: &'a [Arc<str>],
    /// Of a start that may wait for its turn: what its limits follow from.
    pub queue: Option<&'a Map<String, Value>>,
}

/// What came of a claim.
#[derive(Clone, Debug, PartialEq)]
pub enum Claimed {
    /// The row is there, and the server may start.
    Starting,
    /// The row is there, and the server waits for its turn.
    Queued,
    /// There is a server with this identity already.
    Exists,
    /// There is no place for it.
    Full(Full),
}

/// Why there is no place.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Full {
    /// The limits that are reached, each with what is used of it.
    pub exceeded: Vec<(Quota, i64)>,
    /// How many starts wait for a limit that it shares with them.
    pub waiting: usize,
    /// It would have waited, but too many do: of its hub, or of its user.
    pub queue_is_full: bool,
    /// The user's own servers, as name and flavor, the oldest first.
    pub own: Vec<(String, Option<String>)>,
}

/// A start that waits, with the limits that it has now.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its row.
    pub server: Server,
    /// What is kept of its request.
    pub request: StoredRequest,
    /// Its limits.
    pub quotas: Vec<Quota>,
    /// The groups of its user that some limit counts.
    pub groups: Vec<Arc<str>>,
    /// Whether this Outpost starts it; the turns of others are left to them.
    pub ours: bool,
}

/// Whether it is a start's turn.
#[derive(Clone, Debug, PartialEq)]
pub enum Turn {
    /// Its row says `starting` now, in this generation.
    Starts {
        /// The row's generation.
        generation: i64,
        /// When it began.
        start_date: DateTime<Utc>,
        /// When it has to end, should it never run.
        end_date: Option<DateTime<Utc>>,
    },
    /// It waits.
    Waits {
        /// Its place among those that want the same flavor of the same hub; 1 is the next.
        position: u64,
        /// The limits that are reached, each with what is used of it; none: others are before it.
        exceeded: Vec<(Quota, i64)>,
    },
    /// It needs more than these limits ever allow.
    Hopeless(Vec<(Quota, i64)>),
    /// There were many turns: to be looked at again.
    Later,
    /// It does not wait any more.
    Gone,
}

/// What is used in one scope.
#[derive(Clone, Copy, Debug, Default, sqlx::FromRow)]
pub(super) struct Used {
    servers: i64,
    cpu_millis: i64,
    memory_bytes: i64,
    gpus: i64,
}

impl Used {
    pub(super) fn of(self, counted: Counted) -> i64 {
        let Self { servers, cpu_millis, memory_bytes, gpus } = self;
        match counted {
            Counted::Servers => servers,
            counted => counted.of(&Need { cpu_millis, memory_bytes, gpus }),
        }
    }

    fn add(&mut self, need: &Need) {
        self.servers += 1;
        self.cpu_millis += need.cpu_millis;
        self.memory_bytes += need.memory_bytes;
        self.gpus += need.gpus;
    }
}

/// What is used, each scope counted once.
type Ledger<'a> = HashMap<&'a Scope, Used>;

/// The limits that a server would exceed, each with what is used of it.
fn exceeded(quotas: &[Quota], need: &Need, ledger: &Ledger<'_>) -> Vec<(Quota, i64)> {
    quotas
        .iter()
        .map(|quota| (quota, ledger.get(&quota.scope).copied().unwrap_or_default().of(quota.counted)))
        .filter(|(quota, used)| used + quota.counted.of(need) > quota.limit)
        .map(|(quota, used)| (quota.clone(), used))
        .collect()
}

/// Of the limits that a server shares with others, those of which `which` is true, by a name that is the same for all.
fn shared(quotas: &[Quota], which: impl Fn(&Quota, &str) -> bool) -> BTreeSet<String> {
    let shared = quotas.iter().filter(|quota| !quota.scope.is_personal());
    shared
        .filter_map(|quota| {
            let name = serde_json::to_string(&(&quota.scope, quota.counted)).ok()?;
            which(quota, &name).then_some(name)
        })
        .collect()
}

/// The limits that a server holds others up for while it waits: none where its user's own limits are reached, too.
fn waits_for(quotas: &[Quota], exceeded: &[(Quota, i64)], held_up: &BTreeSet<String>) -> BTreeSet<String> {
    if exceeded.iter().any(|(quota, _)| quota.scope.is_personal()) {
        return BTreeSet::new();
    }
    shared(quotas, |quota, name| held_up.contains(name) || exceeded.iter().any(|(other, _)| other == quota))
}

fn lines(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}

/// The statement that counts a scope. Only what is given is in it, so that an index can serve it.
pub(super) fn count<'a, DB>(scope: &'a Scope) -> QueryBuilder<DB>
where
    DB: Database,
    &'a str: Encode<'a, DB> + Type<DB>,
    String: Encode<'a, DB> + Type<DB>,
    i64: Encode<'a, DB> + Type<DB>,
{
    let mut query = QueryBuilder::new(
        "SELECT COUNT(*) AS servers, CAST(COALESCE(SUM(cpu_millis), 0) AS BIGINT) AS cpu_millis, \
         CAST(COALESCE(SUM(memory_bytes), 0) AS BIGINT) AS memory_bytes, CAST(COALESCE(SUM(gpus), 0) AS BIGINT) AS gpus \
         FROM servers WHERE phase IN ('starting', 'running')",
    );
    if let Some(hub) = &scope.hub {
        query.push(" AND hub = ").push_bind(hub.to_string());
    }
    if let Some(user_id) = scope.user_id {
        query.push(" AND user_id = ").push_bind(user_id);
    }
    match &scope.flavor {
        None => {}
        Some(OfFlavor::Named(flavor)) => drop(query.push(" AND flavor = ").push_bind(flavor.to_string())),
        Some(OfFlavor::Undefined { defined }) if defined.is_empty() => {}
        Some(OfFlavor::Undefined { defined }) => {
            let mut names = query.push(" AND (flavor IS NULL OR flavor NOT IN (").separated(", ");
            for name in defined.iter() {
                names.push_bind(name.to_string());
            }
            query.push("))");
        }
    }
    if let Some(group) = &scope.group {
        query.push(" AND EXISTS (SELECT 1 FROM server_groups WHERE uid = servers.uid AND name = ");
        query.push_bind(group.to_string()).push(")");
    }
    query
}

/// Takes the right to decide about these hubs. `false`: one of them is not known any more.
macro_rules! lock {
    ($write:expr, $hubs:expr, $quotas:expr) => {{
        const HUB: &str = "UPDATE hubs SET created_at = created_at WHERE name = $1";
        const ALL: &str = "UPDATE meta SET value = value WHERE key = 'key_check'";
        let mut known = true;
        for hub in $hubs {
            known &= sqlx::query(HUB).bind(hub).execute(&mut *$write).await?.rows_affected() == 1;
        }
        if $quotas.into_iter().any(|quota: &Quota| quota.scope.hub.is_none()) {
            sqlx::query(ALL).execute(&mut *$write).await?;
        }
        known
    }};
}

/// Counts what is not in the ledger yet; `reserved` are servers that count though no row says so yet.
macro_rules! count_in {
    ($write:expr, $ledger:expr, $quotas:expr, $reserved:expr) => {
        for Quota { scope, .. } in $quotas {
            if !$ledger.contains_key(scope) {
                let mut used = count(scope).build_query_as::<Used>().fetch_one(&mut *$write).await?;
                let reserved: &[&Waiting] = $reserved;
                reserved.iter().filter(|one| one.is_in(scope)).for_each(|one| used.add(&one.server.need));
                $ledger.insert(scope, used);
            }
        }
    };
}

impl Store {
    /// Inserts the row of a server if its limits leave a place; puts it into the queue, or inserts nothing, if they do not.
    ///
    /// # Errors
    /// The database does not answer; [`Error::Refused`]: the hub was removed.
    pub async fn claim(&self, claim: &Claim<'_>) -> Result<Claimed> {
        const EXISTS: &str =
            "SELECT uid FROM servers WHERE hub = $1 AND name = $2 AND start_id = $3 AND phase <> 'gone'";
        const AHEAD: &str = "SELECT waits_for FROM servers WHERE phase = 'queued' AND waits_for <> '' \
             AND owner IN (SELECT id FROM instances WHERE seen_at >= $1)";
        const QUEUE: &str = "SELECT COUNT(*), CAST(COALESCE(SUM(CASE WHEN user_id = $2 THEN 1 ELSE 0 END), 0) AS BIGINT) \
             FROM servers WHERE phase = 'queued' AND hub = $1";
        const OWN: &str = "SELECT name, flavor FROM servers WHERE phase IN ('starting', 'running') AND hub = $1 \
             AND user_id = $2 ORDER BY start_date, uid LIMIT $3";
        const GROUP: &str = "INSERT INTO server_groups (uid, name) VALUES ($1, $2)";
        const WAITS: &str = "UPDATE servers SET waits_for = $2 WHERE uid = $1";
        let Claim { server, request, quotas, groups, queue } = *claim;
        if quotas.is_empty() && groups.is_empty() {
            let inserted = self.insert_server(server, request).await?;
            return Ok(if inserted { Claimed::Starting } else { Claimed::Exists });
        }
        let waiting_request = StoredRequest { authentication: queue.cloned(), ..request.clone() };
        let now = self.clock.now();
        self.timed("claim", async {
            on!(&self.db, |pool| {
                let mut write = pool.begin_write().await?;
                if !lock!(write, [&*server.id.hub], quotas) {
                    return Err(Error::Refused(
                        "This JupyterHub was removed from this system while the server was being started.".to_owned(),
                    ));
                }
                let exists =
                    sqlx::query(EXISTS).bind(&*server.id.hub).bind(&*server.id.name).bind(&*server.id.start_id);
                if exists.fetch_optional(&mut *write).await?.is_some() {
                    return Ok(Claimed::Exists);
                }
                let mut ledger = Ledger::new();
                count_in!(write, ledger, quotas, &[]);
                let exceeded = exceeded(quotas, &server.need, &ledger);
                // Who shares a limit with somebody that waits for it is behind him.
                let ahead: Vec<String> =
                    sqlx::query_scalar(AHEAD).bind(self.alive_since()).fetch_all(&mut *write).await?;
                let held_up =
                    shared(quotas, |_, name| ahead.iter().any(|names| names.lines().any(|line| line == name)));
                let free = exceeded.is_empty() && held_up.is_empty();
                let mut full = Full {
                    waiting: ahead.iter().filter(|names| names.lines().any(|line| held_up.contains(line))).count(),
                    exceeded,
                    ..Full::default()
                };
                let mut may_wait = queue.is_some() && server.asynchronous && !is_hopeless(quotas, &server.need);
                if !free && may_wait {
                    let lengths = sqlx::query_as(QUEUE).bind(&*server.id.hub).bind(server.user_id);
                    let (of_hub, of_user): (i64, i64) = lengths.fetch_one(&mut *write).await?;
                    full.queue_is_full = of_hub >= LONGEST_QUEUE || of_user >= LONGEST_OF_USER;
                    may_wait = !full.queue_is_full;
                }
                if !free && !may_wait {
                    let own = sqlx::query_as(OWN).bind(&*server.id.hub).bind(server.user_id).bind(NAMED);
                    full.own = own.fetch_all(&mut *write).await?;
                    return Ok(Claimed::Full(full));
                }
                let (row, request) = if free {
                    (server.clone(), request)
                } else {
                    (Server { phase: Phase::Queued, end_date: None, ..server.clone() }, &waiting_request)
                };
                let (handle, request) = self.sealed(server, request)?;
                let done = insert!(sqlx::query(INSERT), row, &handle, &request, now).execute(&mut *write).await?;
                if done.rows_affected() == 0 {
                    return Ok(Claimed::Exists);
                }
                if !free {
                    let waits = waits_for(quotas, &full.exceeded, &held_up);
                    sqlx::query(WAITS).bind(server.uid.as_str()).bind(lines(&waits)).execute(&mut *write).await?;
                }
                for group in groups {
                    sqlx::query(GROUP).bind(server.uid.as_str()).bind(&**group).execute(&mut *write).await?;
                }
                write.commit().await?;
                Ok(if free { Claimed::Starting } else { Claimed::Queued })
            })
        })
        .await
    }

    /// Gives those that wait their turns, first come first served, and says for each what came of it. All that wait have to be
    /// given, the oldest first.
    ///
    /// One that waits for a limit of its own user holds up nobody. One that waits for a limit it shares holds up those
    /// behind it that have the same limit, even if they need less: else it would never get its turn.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take_turns(&self, waiting: &[Waiting]) -> Result<Vec<Turn>> {
        const QUEUED: &str = "SELECT uid, waits_for FROM servers WHERE phase = 'queued'";
        const START: &str = "UPDATE servers SET phase = 'starting', start_date = $2, changed_at = $2, request = $4, \
             end_date = CASE WHEN runtime_seconds IS NULL THEN end_date ELSE $3 END, waits_for = '', \
             generation = generation + 1 WHERE uid = $1 AND phase = 'queued' AND owner = $5 RETURNING generation, end_date";
        const WAITS: &str = "UPDATE servers SET waits_for = $2 WHERE uid = $1 AND phase = 'queued'";
        // A limit of a group may be newer than the start that waits.
        const GROUP: &str = "INSERT INTO server_groups (uid, name) VALUES ($1, $2) ON CONFLICT (uid, name) DO NOTHING";
        let now = self.clock.now();
        let hubs: BTreeSet<&str> = waiting.iter().map(|one| &*one.server.id.hub).collect();
        self.timed("take_turns", async {
            on!(&self.db, |pool| {
                let mut write = pool.begin_write().await?;
                // (A hub that was removed had no servers then.)
                lock!(write, &hubs, waiting.iter().flat_map(|one| &one.quotas));
                let queued: Vec<(String, String)> = sqlx::query_as(QUEUED).fetch_all(&mut *write).await?;
                let queued: HashMap<String, String> = queued.into_iter().collect();
                let mut ledger = Ledger::new();
                let (mut turns, mut given) = (Vec::with_capacity(waiting.len()), 0);
                // The turns of other Outposts, and the limits that somebody waits for.
                let (mut reserved, mut blocked) = (Vec::new(), BTreeSet::new());
                let mut positions: HashMap<(&str, Option<&str>), u64> = HashMap::new();
                for one in waiting {
                    let Waiting { server, quotas, .. } = one;
                    let uid = server.uid.as_str();
                    let Some(waited_for) = queued.get(uid) else {
                        turns.push(Turn::Gone);
                        continue;
                    };
                    if given == TURNS {
                        turns.push(Turn::Later);
                        continue;
                    }
                    let held_up = shared(quotas, |_, name| blocked.contains(name));
                    let hopeless = is_hopeless(quotas, &server.need);
                    let mut over = Vec::new();
                    // Who is held up is not counted: with a long queue that is nearly everybody.
                    if held_up.is_empty() || hopeless {
                        count_in!(write, ledger, quotas, &reserved);
                        over = exceeded(quotas, &server.need, &ledger);
                    }
                    if hopeless {
                        turns.push(Turn::Hopeless(over));
                        continue;
                    }
                    if held_up.is_empty() && over.is_empty() {
                        if one.ours {
                            let request = StoredRequest { authentication: None, ..one.request.clone() };
                            let (_, request) = self.sealed(server, &request)?;
                            let start = sqlx::query_as(START).bind(uid).bind(now).bind(end_of(server, now));
                            let start = start.bind(request).bind(&*server.owner).fetch_optional(&mut *write).await?;
                            // It was stopped, or taken over, in this moment.
                            let Some((generation, end_date)) = start else {
                                turns.push(Turn::Gone);
                                continue;
                            };
                            for group in &one.groups {
                                sqlx::query(GROUP).bind(uid).bind(&**group).execute(&mut *write).await?;
                            }
                            one.add_to(&mut ledger);
                            turns.push(Turn::Starts { generation, start_date: now, end_date });
                            given += 1;
                            continue;
                        }
                        one.add_to(&mut ledger);
                        reserved.push(one);
                    }
                    let waits = waits_for(quotas, &over, &held_up);
                    let names = lines(&waits);
                    if one.ours && *waited_for != names {
                        sqlx::query(WAITS).bind(uid).bind(&names).execute(&mut *write).await?;
                    }
                    blocked.extend(waits);
                    let position = positions.entry((&*server.id.hub, server.flavor.as_deref())).or_default();
                    *position += 1;
                    turns.push(Turn::Waits { position: *position, exceeded: over });
                }
                write.commit().await?;
                Ok(turns)
            })
        })
        .await
    }
}

/// Whether not even an empty system could hold it: its turn would never come.
fn is_hopeless(quotas: &[Quota], need: &Need) -> bool {
    quotas.iter().any(|quota| quota.counted.of(need) > quota.limit)
}

impl Waiting {
    /// It takes a place in all that was counted.
    fn add_to(&self, ledger: &mut Ledger<'_>) {
        ledger.iter_mut().filter(|(scope, _)| self.is_in(scope)).for_each(|(_, used)| used.add(&self.server.need));
    }

    fn is_in(&self, scope: &Scope) -> bool {
        let server = &self.server;
        scope.hub.as_ref().is_none_or(|hub| *hub == server.id.hub)
            && scope.user_id.is_none_or(|user_id| user_id == server.user_id)
            && scope.flavor.as_ref().is_none_or(|flavor| flavor.counts(server.flavor.as_deref()))
            && scope.group.as_ref().is_none_or(|group| self.groups.contains(group))
    }
}

/// When a server that begins to run now has to end.
#[must_use]
pub fn end_of(server: &Server, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    now.checked_add_signed(TimeDelta::from_std(server.runtime?).ok()?)
}
