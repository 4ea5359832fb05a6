//! Hubs and their passwords (hashes only).

use super::{BeginWrite as _, Store, on};
use crate::error::Result;
use crate::model::Uid;

/// Who manages a password.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Source {
    /// `outpost hub add|rotate`.
    Cli,
    /// `[hubs.<name>] passwords` of the configuration.
    Config,
    /// The variables `usernames` and `passwords`.
    Env,
}

impl Source {
    /// The source's name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cli => "cli",
            Self::Config => "config",
            Self::Env => "env",
        }
    }
}

/// A hub that is known.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct HubRow {
    /// The user name of its credential.
    pub name: String,
    /// Where its API was seen to be at its first start.
    pub api_url: Option<String>,
}

/// A password of a hub.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct PasswordRow {
    /// The row's id.
    pub id: String,
    /// The hub's name.
    pub hub: String,
    /// Who manages it; see [`Source`].
    pub source: String,
    /// The argon2id hash in PHC form.
    pub hash: String,
}

impl Store {
    /// All hubs, by name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn hubs(&self) -> Result<Vec<HubRow>> {
        const SQL: &str = "SELECT name, api_url FROM hubs ORDER BY name";
        self.timed("hubs", async { on!(&self.db, |pool| Ok(sqlx::query_as(SQL).fetch_all(pool).await?)) }).await
    }

    /// All passwords, by hub, the oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn passwords(&self) -> Result<Vec<PasswordRow>> {
        const SQL: &str = "SELECT id, hub, source, hash FROM hub_passwords ORDER BY hub, created_at, id";
        self.timed("passwords", async { on!(&self.db, |pool| Ok(sqlx::query_as(SQL).fetch_all(pool).await?)) }).await
    }

    /// Makes the hub known. `false`: it is already.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_hub(&self, name: &str) -> Result<bool> {
        const SQL: &str = "INSERT INTO hubs (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        let now = self.clock.now();
        self.timed("add_hub", async {
            on!(&self.db, |pool| Ok(sqlx::query(SQL).bind(name).bind(now).execute(pool).await?.rows_affected() == 1))
        })
        .await
    }

    /// Removes a hub and its passwords. `false`: it is not known.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_hub(&self, name: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM hubs WHERE name = $1";
        self.timed("remove_hub", async {
            on!(&self.db, |pool| Ok(sqlx::query(SQL).bind(name).execute(pool).await?.rows_affected() == 1))
        })
        .await
    }

    /// Pins where the hub's API is, unless that is known. Says what holds.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pin_api_url(&self, hub: &str, api_url: &str) -> Result<Option<String>> {
        const UPDATE: &str = "UPDATE hubs SET api_url = $2 WHERE name = $1 AND api_url IS NULL";
        const SELECT: &str = "SELECT api_url FROM hubs WHERE name = $1";
        self.timed("pin_api_url", async {
            on!(&self.db, |pool| {
                sqlx::query(UPDATE).bind(hub).bind(api_url).execute(pool).await?;
                let row: Option<Option<String>> = sqlx::query_scalar(SELECT).bind(hub).fetch_optional(pool).await?;
                Ok(row.flatten())
            })
        })
        .await
    }

    /// Forgets where the hub's API was, so that its next start pins it anew.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn unpin_api_url(&self, hub: &str) -> Result<()> {
        const SQL: &str = "UPDATE hubs SET api_url = NULL WHERE name = $1";
        self.timed("unpin_api_url", async {
            on!(&self.db, |pool| Ok(sqlx::query(SQL).bind(hub).execute(pool).await.map(drop)?))
        })
        .await
    }

    /// Gives a hub, which has to be known, one more password of `source` and keeps the newest `keep` of that source.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_password(&self, hub: &str, source: Source, hash: &str, keep: usize) -> Result<()> {
        const INSERT: &str =
            "INSERT INTO hub_passwords (id, hub, source, hash, created_at) VALUES ($1, $2, $3, $4, $5)";
        const SELECT: &str =
            "SELECT id FROM hub_passwords WHERE hub = $1 AND source = $2 ORDER BY created_at DESC, id DESC";
        const DELETE: &str = "DELETE FROM hub_passwords WHERE id = $1";
        let now = self.clock.now();
        self.timed("add_password", async {
            on!(&self.db, |pool| {
                let mut write = pool.begin_write().await?;
                let id = Uid::generate();
                let insert = sqlx::query(INSERT).bind(id.as_str()).bind(hub).bind(source.as_str()).bind(hash).bind(now);
                insert.execute(&mut *write).await?;
                let select = sqlx::query_scalar(SELECT).bind(hub).bind(source.as_str());
                let ids: Vec<String> = select.fetch_all(&mut *write).await?;
                for old in ids.iter().filter(|old| old.as_str() != id.as_str()).skip(keep.saturating_sub(1)) {
                    sqlx::query(DELETE).bind(old).execute(&mut *write).await?;
                }
                Ok(write.commit().await?)
            })
        })
        .await
    }

    /// Removes one password.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_password(&self, id: &str) -> Result<()> {
        const SQL: &str = "DELETE FROM hub_passwords WHERE id = $1";
        self.timed("remove_password", async {
            on!(&self.db, |pool| Ok(sqlx::query(SQL).bind(id).execute(pool).await.map(drop)?))
        })
        .await
    }
}
