//! Limits are counted in the transaction that makes a server count: when its row is inserted, or when its turn comes.
//!
//! Such a transaction first touches the rows of the hubs that it is about, and for limits over all hubs one more row. So two
//! of them that could spend the same slot run one after the other, on both databases. What frees a slot waits for nobody.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{Database, Encode, QueryBuilder, Type};

use super::servers::{INSERT, insert};
use super::{BeginWrite as _, Store, on};
use crate::error::{Error, Result};
use crate::model::{Need, OfFlavor, Quota, Scope, Server, StoredRequest};

/// Starts that wait for an Outpost which was not seen for this long hold up nobody.
const ABSENT_AFTER: TimeDelta = TimeDelta::seconds(30);

/// At most this many of a user's servers are named in a refusal.
const NAMED: i64 = 10;

/// A start that has limits.
#[derive(Clone, Debug)]
pub struct Claim<'a> {
    /// The row, in the phase `Starting`.
    pub server: &'a Server,
    /// What is kept of its request.
    pub request: &'a StoredRequest,
    /// Its limits.
    pub quotas: &'a [Quota],
    /// The groups of its user that some limit counts.
    pub groups: &'a [Arc<str>],
    /// Whether its flavor has a queue.
    pub queue: bool,
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
    /// How many starts wait for the same flavor.
    pub waiting: i64,
    /// The user's own servers, as name and flavor, the oldest first.
    pub own: Vec<(String, Option<String>)>,
}

/// A start that waits, with the limits that it has now.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// Its row.
    pub server: Server,
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
    pub(super) fn of(self, quota: &Quota) -> i64 {
        let Self { servers, cpu_millis, memory_bytes, gpus } = self;
        match quota.counted {
            crate::model::Counted::Servers => servers,
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
        query.push(" AND uid IN (SELECT uid FROM server_groups WHERE name = ").push_bind(group.to_string()).push(")");
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

/// What is used now in the scope of each limit, in their order.
macro_rules! used {
    ($write:expr, $quotas:expr) => {{
        let mut counted: Vec<(&Scope, Used)> = Vec::new();
        let mut used = Vec::with_capacity($quotas.len());
        for quota in $quotas {
            let known = counted.iter().find(|(scope, _)| *scope == &quota.scope).map(|(_, used)| *used);
            let now = match known {
                Some(now) => now,
                None => {
                    let now = count(&quota.scope).build_query_as::<Used>().fetch_one(&mut *$write).await?;
                    counted.push((&quota.scope, now));
                    now
                }
            };
            used.push(now);
        }
        used
    }};
}

/// How many starts wait for the same flavor, of the same hub or, where a limit is over all hubs, of all.
macro_rules! waiting {
    ($store:expr, $write:expr, $server:expr, $quotas:expr) => {{
        const WAITING: &str = "SELECT COUNT(*) FROM servers WHERE phase = 'queued' AND flavor = $1 AND (hub = $2 OR $3) \
             AND owner IN (SELECT id FROM instances WHERE seen_at >= $4)";
        let over_all = $quotas.iter().any(|quota| quota.scope.hub.is_none());
        let query = sqlx::query_scalar(WAITING).bind($server.flavor.as_deref()).bind(&*$server.id.hub);
        let query = query.bind(over_all).bind($store.alive_since());
        let waiting: i64 = query.fetch_one(&mut *$write).await?;
        waiting
    }};
}

/// The servers of the same user that count.
macro_rules! own {
    ($write:expr, $server:expr) => {{
        const OWN: &str = "SELECT name, flavor FROM servers WHERE phase IN ('starting', 'running') AND hub = $1 \
             AND user_id = $2 ORDER BY start_date, uid LIMIT $3";
        let query = sqlx::query_as(OWN).bind(&*$server.id.hub).bind($server.user_id).bind(NAMED);
        let own: Vec<(String, Option<String>)> = query.fetch_all(&mut *$write).await?;
        own
    }};
}

impl Store {
    /// Inserts the row of a server if its limits leave a place; puts it into the queue, or inserts nothing, if they do not.
    ///
    /// # Errors
    /// The database does not answer; [`Error::Refused`]: the hub was removed.
    pub async fn claim(&self, claim: &Claim<'_>) -> Result<Claimed> {
        const EXISTS: &str =
            "SELECT uid FROM servers WHERE hub = $1 AND name = $2 AND start_id = $3 AND phase <> 'gone'";
        const GROUP: &str = "INSERT INTO server_groups (uid, name) VALUES ($1, $2)";
        let Claim { server, request, quotas, groups, queue } = *claim;
        if quotas.is_empty() && groups.is_empty() && !queue {
            let inserted = self.insert_server(server, request).await?;
            return Ok(if inserted { Claimed::Starting } else { Claimed::Exists });
        }
        let (handle, request) = self.sealed(server, request)?;
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
                let used = used!(write, quotas);
                let exceeded: Vec<_> = quotas
                    .iter()
                    .zip(used)
                    .map(|(quota, used)| (quota, used.of(quota)))
                    .filter(|(quota, used)| used + quota.counted.of(&server.need) > quota.limit)
                    .map(|(quota, used)| (quota.clone(), used))
                    .collect();
                let waiting = if queue { waiting!(self, write, server, quotas) } else { 0 };
                // What not even an empty system could hold never gets its turn.
                let hopeless = quotas.iter().any(|quota| quota.counted.of(&server.need) > quota.limit);
                let free = exceeded.is_empty() && waiting == 0;
                if !free && (!queue || !server.asynchronous || hopeless) {
                    let own = own!(write, server);
                    return Ok(Claimed::Full(Full { exceeded, waiting, own }));
                }
                let row = if free {
                    server.clone()
                } else {
                    Server { phase: crate::model::Phase::Queued, end_date: None, ..server.clone() }
                };
                let done = insert!(sqlx::query(INSERT), row, &handle, &request, now).execute(&mut *write).await?;
                if done.rows_affected() == 0 {
                    return Ok(Claimed::Exists);
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
        const QUEUED: &str = "SELECT generation FROM servers WHERE uid = $1 AND phase = 'queued'";
        const START: &str = "UPDATE servers SET phase = 'starting', start_date = $2, end_date = $3, changed_at = $2, \
             generation = generation + 1 WHERE uid = $1 AND phase = 'queued'";
        let now = self.clock.now();
        let hubs: BTreeSet<&str> = waiting.iter().map(|one| &*one.server.id.hub).collect();
        self.timed("take_turns", async {
            on!(&self.db, |pool| {
                let mut write = pool.begin_write().await?;
                // (A hub that was removed had no servers then.)
                lock!(write, &hubs, waiting.iter().flat_map(|one| &one.quotas));
                let mut turns = Vec::with_capacity(waiting.len());
                // What those before take up, where it is not in the database: others' turns, and limits that are waited for.
                let mut reserved: Vec<&Waiting> = Vec::new();
                let mut blocked: Vec<&Quota> = Vec::new();
                for (at, one) in waiting.iter().enumerate() {
                    let uid = one.server.uid.as_str();
                    let row: Option<i64> = sqlx::query_scalar(QUEUED).bind(uid).fetch_optional(&mut *write).await?;
                    let Some(generation) = row else {
                        turns.push(Turn::Gone);
                        continue;
                    };
                    let mut exceeded = Vec::new();
                    for (quota, mut used) in one.quotas.iter().zip(used!(write, &one.quotas)) {
                        for other in reserved.iter().filter(|other| other.is_in(&quota.scope)) {
                            used.add(&other.server.need);
                        }
                        let used = used.of(quota);
                        if used + quota.counted.of(&one.server.need) > quota.limit {
                            exceeded.push((quota.clone(), used));
                        }
                    }
                    let held_up = one.quotas.iter().any(|quota| {
                        blocked.iter().any(|other| (&other.scope, other.counted) == (&quota.scope, quota.counted))
                    });
                    if exceeded.is_empty() && !held_up {
                        if one.ours {
                            let end_date = end_of(&one.server, now);
                            sqlx::query(START).bind(uid).bind(now).bind(end_date).execute(&mut *write).await?;
                            turns.push(Turn::Starts { generation: generation + 1, start_date: now, end_date });
                            continue;
                        }
                        reserved.push(one);
                    }
                    if exceeded.iter().all(|(quota, _)| !quota.scope.is_personal()) {
                        let shared =
                            one.quotas.iter().filter(|quota| exceeded.iter().any(|(other, _)| other == *quota));
                        blocked.extend(shared);
                    }
                    let before = waiting[..at].iter().zip(&turns).filter(|(other, turn)| {
                        matches!(turn, Turn::Waits { .. })
                            && (&other.server.id.hub, &other.server.flavor) == (&one.server.id.hub, &one.server.flavor)
                    });
                    turns.push(Turn::Waits { position: before.count() as u64 + 1, exceeded });
                }
                write.commit().await?;
                Ok(turns)
            })
        })
        .await
    }

    /// The Outposts that are there to start what they have in the queue.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn alive(&self) -> Result<Vec<String>> {
        self.instances(self.alive_since()).await
    }

    fn alive_since(&self) -> DateTime<Utc> {
        self.clock.now() - ABSENT_AFTER
    }
}

impl Waiting {
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
