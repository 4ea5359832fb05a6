//! The database: SQLite (embedded default) or PostgreSQL. Every query is written once and tested on both.
//!
//! A row is moved by compare and swap: `… WHERE uid = $1 AND generation = $2`. No row back means that somebody else
//! (another Outpost, the command line) moved it, which is no error.

mod admission;
mod audit;
mod batch;
mod definitions;
mod history;
mod host_keys;
mod hubs;
mod instances;
mod lifetime;
mod ring;
mod rotation;
mod search;
mod servers;
mod ssh;
mod tokens;
mod tunnels;
mod usage;

use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use serde::Deserialize;
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Database, Pool, Postgres, Sqlite, Transaction};

pub use self::admission::{Claim, Claimed, Full, Turn, Waiting, end_of};
pub use self::audit::Deed;
use self::batch::Batch;
pub use self::definitions::{NewVersion, Version};
pub use self::history::{Ended, Outcome};
pub use self::host_keys::StoredHostKey;
pub use self::hubs::{HubRow, PasswordRow, Source};
pub use self::ring::Ring;
pub use self::search::{PastServer, Search};
pub use self::servers::Advance;
pub use self::ssh::SshKeyRow;
pub use self::tokens::TokenRow;
pub use self::tunnels::DueTunnel;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::Uid;

/// `[store]`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `postgresql://user@host:port/database` or `sqlite:/path`; default: `outpost.sqlite` in the state directory.
    pub url: Option<String>,
    /// The password for the URL, so that the URL itself need not be secret.
    pub password: Option<crate::config::Secret>,
    /// Fernet keys: the first encrypts, all decrypt. Default: the file `keys` in the state directory, made when absent.
    pub keys: Vec<crate::config::Secret>,
    /// The most connections to PostgreSQL. SQLite always has one: it has one writer at a time anyway.
    pub max_connections: Option<u32>,
}

impl Settings {
    /// Checks what needs no database.
    ///
    /// # Errors
    /// A sentence that names the key; it does not repeat the URL.
    pub fn check(&self) -> Result<(), String> {
        if self.max_connections == Some(0) {
            return Err("max_connections: has to be at least 1".to_owned());
        }
        match &self.url {
            Some(url) if url.starts_with("sqlite:") && !url.trim_start_matches("sqlite:").starts_with('/') => {
                Err("url: has to be an absolute path after sqlite:, for example sqlite:/var/lib/outpost/outpost.sqlite"
                    .to_owned())
            }
            Some(url) if url.starts_with("sqlite:") => Ok(()),
            Some(url) => match url::Url::parse(url) {
                Ok(url) if !matches!(url.scheme(), "postgres" | "postgresql") => {
                    Err("url: has to begin with postgresql:// or sqlite:".to_owned())
                }
                Ok(url) if url.password().is_some() || url.query_pairs().any(|(key, _)| key == "password") => {
                    Err("url: must not hold the password; say where it is with store.password = { file = \"…\" }"
                        .to_owned())
                }
                Ok(_) => Ok(()),
                Err(error) => Err(format!("url: is no URL: {error}")),
            },
            None => Ok(()),
        }
    }
}

/// The longest wait for a free connection, and for one operation.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
const OPERATION_TIMEOUT: Duration = Duration::from_secs(15);

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

#[derive(Clone, Debug)]
enum Db {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

/// Runs one body on whichever pool there is; the body is compiled for each. A `?` in it leaves the enclosing function.
macro_rules! on {
    ($db:expr, |$pool:ident| $body:expr) => {
        match $db {
            $crate::store::Db::Postgres($pool) => $body,
            $crate::store::Db::Sqlite($pool) => $body,
        }
    };
}
use on;

/// Runs one statement that changes rows, and gives how many it changed.
macro_rules! execute {
    ($store:expr, $sql:expr, |$query:ident| $bound:expr) => {
        match &$store.db {
            $crate::store::Db::Postgres(pool) => {
                let $query = sqlx::query::<sqlx::Postgres>($sql);
                $bound.execute(pool).await.map(|done| done.rows_affected())
            }
            $crate::store::Db::Sqlite(pool) => {
                let $query = sqlx::query::<sqlx::Sqlite>($sql);
                $store.batch.execute(pool, $bound).await
            }
        }
    };
}
use execute;

/// A write transaction that holds the right to write from its beginning: SQLite refuses one that read first and wants to
/// write later while another writes.
trait BeginWrite {
    type Db: Database;
    fn begin_write(&self) -> impl Future<Output = sqlx::Result<Transaction<'static, Self::Db>>> + Send;
}

impl BeginWrite for Pool<Postgres> {
    type Db = Postgres;
    async fn begin_write(&self) -> sqlx::Result<Transaction<'static, Postgres>> {
        self.begin().await
    }
}

impl BeginWrite for Pool<Sqlite> {
    type Db = Sqlite;
    async fn begin_write(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.begin_with("BEGIN IMMEDIATE").await
    }
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    db: Db,
    ring: Arc<Ring>,
    clock: Clock,
    metrics: Arc<Metrics>,
    batch: Arc<Batch>,
    /// SQLite's count of other processes' commits, as last seen.
    data_version: Arc<AtomicI64>,
}

impl Store {
    /// Opens the database without asking it anything yet: a PostgreSQL that is down now may be up later. A SQLite file
    /// is made with mode 0600.
    ///
    /// # Errors
    /// A sentence: the URL is none of ours, or the SQLite file cannot be made.
    pub fn open(
        url: &str,
        password: Option<&str>,
        max_connections: Option<u32>,
        ring: Ring,
        clock: Clock,
        metrics: Arc<Metrics>,
    ) -> Result<Self, String> {
        let db = if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let mut options = PgConnectOptions::from_str(url)
                .map_err(|_| "store.url is no valid PostgreSQL URL: postgresql://user@host:port/database")?
                .application_name("outpost")
                // What an Outpost locks that hangs or has lost its network holds up the others for a moment only.
                .options([("lock_timeout", "5s"), ("idle_in_transaction_session_timeout", "15s")]);
            if let Some(password) = password {
                options = options.password(password);
            }
            let pool = PgPoolOptions::new()
                .max_connections(max_connections.unwrap_or(10))
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .connect_lazy_with(options);
            Db::Postgres(pool)
        } else if let Some(path) = url.strip_prefix("sqlite:") {
            let path = Path::new(path.strip_prefix("//").unwrap_or(path));
            create_private(path)
                .map_err(|error| format!("the SQLite file {} cannot be made: {error}", path.display()))?;
            let options = SqliteConnectOptions::new()
                .filename(path)
                .journal_mode(SqliteJournalMode::Wal)
                // Survives the end of Outpost at any point; a power cut, which ends the servers too, may cost the last moments.
                .synchronous(SqliteSynchronous::Normal)
                .foreign_keys(true)
                .busy_timeout(ACQUIRE_TIMEOUT)
                // In pages of 4 KiB: a checkpoint waits for the disk, so that it comes every 32 MiB.
                .pragma("wal_autocheckpoint", "8192");
            let pool = SqlitePoolOptions::new()
                .max_connections(1)
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .idle_timeout(None)
                .max_lifetime(None)
                // A file does not go away; asking first would double the work.
                .test_before_acquire(false)
                .connect_lazy_with(options);
            Db::Sqlite(pool)
        } else {
            return Err("store.url has to begin with postgresql:// or sqlite:".to_owned());
        };
        Ok(Self { db, ring: Arc::new(ring), clock, metrics, batch: Arc::default(), data_version: Arc::default() })
    }

    /// Brings the schema up to date and checks that the keys are those of the data. May be called at any time, by any
    /// number of Outposts at once.
    ///
    /// # Errors
    /// [`Error::Unavailable`] if the database does not answer; [`Error::Internal`] if its schema is newer than this
    /// program or its data was written with other keys.
    pub async fn migrate(&self) -> Result<()> {
        on!(&self.db, |pool| MIGRATIONS.run(pool).await).map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => Error::from(error),
            sqlx::migrate::MigrateError::VersionMissing(version) => Error::internal(format!(
                "the database has migration {version}, which this version of Outpost does not know: it is older than the \
                 one that wrote the database"
            )),
            other => Error::internal(format!("migration: {other}")),
        })?;
        let token = self.ring.encrypt("outpost");
        let stored = self.meta("key_check", &token).await?;
        self.ring.decrypt(&stored).map(drop).map_err(|_| {
            Error::internal(
                "the data was encrypted with other keys than the configured ones; set OUTPOST_CRYPT_KEY or store.keys to the \
                 keys that were used before (several are allowed)",
            )
        })
    }

    /// The id of this installation, made when the database was.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn installation(&self) -> Result<String> {
        self.meta("installation", Uid::generate().as_str()).await
    }

    /// The value of a fact; set to `default` if there is none yet.
    async fn meta(&self, key: &str, default: &str) -> Result<String> {
        const INSERT: &str = "INSERT INTO meta (key, value) VALUES ($1, $2) ON CONFLICT (key) DO NOTHING";
        const SELECT: &str = "SELECT value FROM meta WHERE key = $1";
        self.timed("meta", async {
            on!(&self.db, |pool| {
                sqlx::query(INSERT).bind(key).bind(default).execute(pool).await?;
                Ok(sqlx::query_scalar(SELECT).bind(key).fetch_one(pool).await?)
            })
        })
        .await
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn ping(&self) -> Result<()> {
        self.timed("ping", async {
            on!(&self.db, |pool| sqlx::query("SELECT 1").execute(pool).await.map(drop).map_err(Error::from))
        })
        .await
    }

    /// The clock that its rows are written by.
    #[must_use]
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Whether the database is shared by machines (PostgreSQL) or belongs to this one (SQLite).
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        matches!(self.db, Db::Postgres(_))
    }

    /// Closes all connections; what runs is finished first.
    pub async fn close(&self) {
        on!(&self.db, |pool| pool.close().await);
    }

    /// Bounds an operation in time and measures it: a database that hangs is a database that is down.
    async fn timed<T>(&self, operation: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begun = Instant::now();
        let result = tokio::time::timeout(OPERATION_TIMEOUT, work).await.unwrap_or_else(|_| {
            Err(Error::from(sqlx::Error::Protocol(format!("{operation} took longer than {OPERATION_TIMEOUT:?}"))))
        });
        self.metrics.store(operation, begun.elapsed(), result.is_err());
        result
    }
}

/// Makes a file that only its owner may read, if it is not there.
fn create_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(drop)
}
