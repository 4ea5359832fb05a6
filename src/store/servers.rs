//! Servers and their history.

use std::sync::atomic::Ordering;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{BeginWrite as _, Db, Store, execute, on};
use crate::error::{Error, Result};
use crate::model::{Exit, Handle, Need, Phase, Server, ServerId, StoredRequest, Tunnel, TunnelState, Uid};

/// A move of a row, from the generation that the caller knows.
#[derive(Clone, Debug)]
pub enum Advance<'a> {
    /// The start is done.
    Running {
        /// `host:port`, or empty.
        address: &'a str,
        /// Where the server itself listens, if that is another address; else empty.
        target: &'a str,
        /// When a server with a limited run-time has to end.
        end_date: Option<DateTime<Utc>>,
    },
    /// The server ended by itself.
    Ended(&'a Exit),
    /// Another Outpost takes the row over in the phase that it is in.
    Owner(&'a str),
}

#[derive(sqlx::FromRow)]
struct Row {
    uid: String,
    hub: String,
    name: String,
    start_id: String,
    username: String,
    user_id: i64,
    flavor: Option<String>,
    cpu_millis: i64,
    memory_bytes: i64,
    gpus: i64,
    runtime_seconds: Option<i64>,
    phase: String,
    generation: i64,
    owner: String,
    handle: String,
    asynchronous: bool,
    address: String,
    target: String,
    tunnel: String,
    tunnel_at: Option<DateTime<Utc>>,
    exit_code: Option<i64>,
    exit_reason: Option<String>,
    start_date: DateTime<Utc>,
    end_date: Option<DateTime<Utc>>,
    last_update: DateTime<Utc>,
}

/// The columns of [`Row`]; sqlx takes constants only, hence a macro.
macro_rules! select_servers {
    ($rest:literal) => {
        concat!(
            "SELECT uid, hub, name, start_id, username, user_id, flavor, cpu_millis, memory_bytes, gpus, runtime_seconds, phase, \
             generation, owner, handle, asynchronous, address, target, tunnel, tunnel_at, exit_code, exit_reason, start_date, \
             end_date, last_update FROM servers ",
            $rest
        )
    };
}

/// Inserts a row; [`insert!`] binds its values.
pub(super) const INSERT: &str = "INSERT INTO servers (uid, hub, name, start_id, username, user_id, flavor, phase, generation, \
     owner, handle, request, asynchronous, address, start_date, end_date, last_update, changed_at, cpu_millis, memory_bytes, \
     gpus, runtime_seconds) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22) \
     ON CONFLICT (hub, name, start_id) WHERE phase <> 'gone' DO NOTHING";

macro_rules! insert {
    ($query:expr, $server:expr, $handle:expr, $request:expr, $now:expr) => {
        $query
            .bind($server.uid.as_str())
            .bind(&*$server.id.hub)
            .bind(&*$server.id.name)
            .bind(&*$server.id.start_id)
            .bind(&*$server.user)
            .bind($server.user_id)
            .bind($server.flavor.as_deref())
            .bind($server.phase.as_str())
            .bind($server.generation)
            .bind(&*$server.owner)
            .bind($handle)
            .bind($request)
            .bind($server.asynchronous)
            .bind(&*$server.address)
            .bind($server.start_date)
            .bind($server.end_date)
            .bind($server.last_update)
            .bind($now)
            .bind($server.need.cpu_millis)
            .bind($server.need.memory_bytes)
            .bind($server.need.gpus)
            .bind($server.runtime.and_then(|runtime| i64::try_from(runtime.as_secs()).ok()))
    };
}
pub(super) use insert;

impl Store {
    /// Inserts the row of a server that is about to start and has no limits. `false`: there is one with this identity already.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn insert_server(&self, server: &Server, request: &StoredRequest) -> Result<bool> {
        let (handle, request) = self.sealed(server, request)?;
        let now = self.clock.now();
        self.timed("insert_server", async {
            let inserted = execute!(self, INSERT, |query| insert!(query, server, &handle, &request, now))?;
            Ok(inserted == 1)
        })
        .await
    }

    /// What of a row is encrypted: its handle and its request.
    pub(super) fn sealed(&self, server: &Server, request: &StoredRequest) -> Result<(String, String)> {
        Ok((self.ring.encrypt(&json(&server.handle)?), self.ring.encrypt(&json(request)?)))
    }

    /// Moves a row. `None`: it is not in that generation any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn advance(&self, uid: &Uid, generation: i64, to: &Advance<'_>) -> Result<Option<i64>> {
        const RUNNING: &str = "UPDATE servers SET phase = 'running', address = $4, target = $6, running_at = $3, \
             end_date = CASE WHEN runtime_seconds IS NULL THEN end_date ELSE $5 END, generation = generation + 1, \
             changed_at = $3 WHERE uid = $1 AND generation = $2 AND phase = 'starting'";
        const ENDED: &str = "UPDATE servers SET phase = 'ended', exit_code = $4, exit_reason = $5, ended_at = $3, \
             generation = generation + 1, changed_at = $3 WHERE uid = $1 AND generation = $2 \
             AND phase IN ('starting', 'running')";
        const OWNER: &str = "UPDATE servers SET owner = $4, generation = generation + 1, changed_at = $3 \
             WHERE uid = $1 AND generation = $2 AND phase <> 'gone'";
        let now = self.clock.now();
        self.timed("advance", async {
            let moved = match to {
                Advance::Running { address, target, end_date } => execute!(self, RUNNING, |query| query
                    .bind(uid.as_str())
                    .bind(generation)
                    .bind(now)
                    .bind(*address)
                    .bind(*end_date)
                    .bind(*target)),
                Advance::Owner(owner) => {
                    execute!(self, OWNER, |query| query.bind(uid.as_str()).bind(generation).bind(now).bind(*owner))
                }
                Advance::Ended(exit) => execute!(self, ENDED, |query| query
                    .bind(uid.as_str())
                    .bind(generation)
                    .bind(now)
                    .bind(exit.code.map(i64::from))
                    .bind(storable(&exit.reason))),
            }?;
            Ok((moved == 1).then_some(generation + 1))
        })
        .await
    }

    /// Moves a row to `stopping`, whatever its generation: what the command line does. `false`: there is no such row.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn request_stop(&self, uid: &Uid) -> Result<bool> {
        const SQL: &str = "UPDATE servers SET phase = 'stopping', generation = generation + 1, changed_at = $2 \
             WHERE uid = $1 AND phase NOT IN ('stopping', 'gone')";
        let now = self.clock.now();
        self.timed("request_stop", async {
            let rows = execute!(self, SQL, |query| query.bind(uid.as_str()).bind(now))?;
            Ok(rows == 1)
        })
        .await
    }

    /// All servers that have not left, oldest first.
    ///
    /// # Errors
    /// The database does not answer, or holds something that cannot be read.
    pub async fn servers(&self) -> Result<Vec<Server>> {
        const SQL: &str = select_servers!("WHERE phase <> 'gone' ORDER BY start_date, uid");
        let rows: Vec<Row> = self
            .timed("servers", async { on!(&self.db, |pool| Ok(sqlx::query_as(SQL).fetch_all(pool).await?)) })
            .await?;
        Ok(self.readable(rows))
    }

    /// One row by its identity.
    ///
    /// # Errors
    /// The database does not answer, or holds something that cannot be read.
    pub async fn find_server(&self, id: &ServerId) -> Result<Option<Server>> {
        const SQL: &str = select_servers!("WHERE hub = $1 AND name = $2 AND start_id = $3 AND phase <> 'gone'");
        let row: Option<Row> = self
            .timed("find_server", async {
                on!(&self.db, |pool| {
                    let query = sqlx::query_as(SQL).bind(&*id.hub).bind(&*id.name).bind(&*id.start_id);
                    Ok(query.fetch_optional(pool).await?)
                })
            })
            .await?;
        row.map(|row| self.server(row)).transpose()
    }

    /// The rows that moved since `since`, and the servers that left since then.
    ///
    /// # Errors
    /// The database does not answer, or holds something that cannot be read.
    pub async fn changes(&self, since: DateTime<Utc>) -> Result<(Vec<Server>, Vec<Uid>)> {
        const CHANGED: &str = select_servers!("WHERE changed_at >= $1 AND phase <> 'gone'");
        const LEFT: &str = "SELECT uid FROM servers WHERE changed_at >= $1 AND phase = 'gone'";
        let (rows, left): (Vec<Row>, Vec<String>) = self
            .timed("changes", async {
                on!(&self.db, |pool| {
                    let rows = sqlx::query_as(CHANGED).bind(since).fetch_all(pool).await?;
                    Ok((rows, sqlx::query_scalar(LEFT).bind(since).fetch_all(pool).await?))
                })
            })
            .await?;
        Ok((self.readable(rows), left.iter().filter_map(|uid| Uid::parse(uid)).collect()))
    }

    /// Whether another process may have written since the last call.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn changed_elsewhere(&self) -> Result<bool> {
        let Db::Sqlite(pool) = &self.db else { return Ok(true) };
        // Counts the commits of other connections only, and there is one connection here.
        let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(pool).await?;
        Ok(self.data_version.load(Ordering::Relaxed) != version)
    }

    /// What [`Store::changed_elsewhere`] told was taken care of.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn seen_elsewhere(&self) -> Result<()> {
        if let Db::Sqlite(pool) = &self.db {
            let version: i64 = sqlx::query_scalar("PRAGMA data_version").fetch_one(pool).await?;
            self.data_version.store(version, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The request that a server was started with.
    ///
    /// # Errors
    /// The database does not answer, or the keys do not fit.
    pub async fn stored_request(&self, uid: &Uid) -> Result<Option<StoredRequest>> {
        const SQL: &str = "SELECT request FROM servers WHERE uid = $1 AND phase <> 'gone'";
        let token: Option<String> = self
            .timed("stored_request", async {
                on!(&self.db, |pool| Ok(sqlx::query_scalar(SQL).bind(uid.as_str()).fetch_optional(pool).await?))
            })
            .await?;
        token.map(|token| parse(&self.ring.decrypt(&token)?)).transpose()
    }

    /// Notes when hubs last asked about servers. Not a move: no generation changes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn touch(&self, seen: &[(Uid, DateTime<Utc>)]) -> Result<()> {
        const SQL: &str = "UPDATE servers SET last_update = $2 WHERE uid = $1";
        // In short transactions and in one order, so that two Outposts do not wait for each other.
        let mut seen: Vec<_> = seen.iter().collect();
        seen.sort_unstable();
        for some in seen.chunks(500) {
            self.timed("touch", async {
                on!(&self.db, |pool| {
                    let mut write = pool.begin_write().await?;
                    for (uid, at) in some {
                        sqlx::query(SQL).bind(uid.as_str()).bind(at).execute(&mut *write).await?;
                    }
                    Ok(write.commit().await?)
                })
            })
            .await?;
        }
        Ok(())
    }

    /// The rows that can be read. One that cannot must not hold up the others.
    fn readable(&self, rows: Vec<Row>) -> Vec<Server> {
        let read = |row: Row| {
            let uid = row.uid.clone();
            self.server(row)
                .inspect_err(|error| {
                    tracing::error!(server.uid = uid, cause = error.cause(), "a row cannot be read; it is left alone")
                })
                .ok()
        };
        rows.into_iter().filter_map(read).collect()
    }

    fn server(&self, row: Row) -> Result<Server> {
        let unreadable =
            |what: &str| Error::internal(format!("server {}: the database holds an unknown {what}", row.uid));
        let phase = Phase::parse(&row.phase).ok_or_else(|| unreadable("phase"))?;
        Ok(Server {
            uid: Uid::parse(&row.uid).ok_or_else(|| unreadable("uid"))?,
            id: ServerId::new(&row.hub, &row.name, &row.start_id),
            user_id: row.user_id,
            user: row.username.into(),
            flavor: row.flavor.map(Into::into),
            need: Need { cpu_millis: row.cpu_millis, memory_bytes: row.memory_bytes, gpus: row.gpus },
            runtime: row.runtime_seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
            phase,
            generation: row.generation,
            owner: row.owner.into(),
            handle: parse::<Handle>(&self.ring.decrypt(&row.handle)?)?,
            asynchronous: row.asynchronous,
            address: row.address.into(),
            target: row.target.into(),
            tunnel: Tunnel {
                // It is no reason to hide a server that runs.
                state: TunnelState::parse(&row.tunnel).unwrap_or_else(|| {
                    tracing::warn!(
                        server.uid = row.uid,
                        tunnel = row.tunnel,
                        "the database holds an unknown state of a tunnel"
                    );
                    TunnelState::Unasked
                }),
                at: row.tunnel_at,
            },
            exit: row.exit_reason.map(|reason| Exit {
                code: row.exit_code.and_then(|code| i32::try_from(code).ok()),
                early: false,
                reason,
            }),
            start_date: row.start_date,
            end_date: row.end_date,
            last_update: row.last_update,
        })
    }
}

/// Text without NUL, which PostgreSQL does not take.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', " ")
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(Error::internal)
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    // The text is decrypted: an error must not repeat it.
    let value: Value = serde_json::from_str(text).map_err(|_| Error::internal("a stored value is no JSON"))?;
    serde_json::from_value(value).map_err(|_| Error::internal("a stored value has an unknown form"))
}
