//! The hubs' SSH keys, and leases.

use chrono::{DateTime, Utc};

use super::{Source, Store, execute, on};
use crate::error::{Error, Result};
use crate::model::{AuthorizedKey, Uid};

/// A public key of a hub.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct SshKeyRow {
    /// The row's id.
    pub id: String,
    /// The hub's name.
    pub hub: String,
    /// Who manages it; see [`Source`].
    pub source: String,
    /// `SHA256:…`
    pub fingerprint: String,
    /// The line of `authorized_keys`.
    pub line: String,
    /// When it was added.
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// All public keys of hubs, by hub, the oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ssh_keys(&self) -> Result<Vec<SshKeyRow>> {
        const SQL: &str =
            "SELECT id, hub, source, fingerprint, line, created_at FROM hub_ssh_keys ORDER BY hub, created_at, id";
        self.timed("ssh_keys", async { on!(&self.db, |pool| Ok(sqlx::query_as(SQL).fetch_all(pool).await?)) }).await
    }

    /// Gives a hub, which has to be known, one more public key. `false`: that key is some hub's already.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_ssh_key(&self, hub: &str, source: Source, key: &AuthorizedKey) -> Result<bool> {
        const SQL: &str = "INSERT INTO hub_ssh_keys (id, hub, source, fingerprint, line, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (fingerprint) DO NOTHING";
        let (id, now) = (Uid::generate(), self.clock.now());
        self.timed("add_ssh_key", async {
            let rows = execute!(self, SQL, |query| query
                .bind(id.as_str())
                .bind(hub)
                .bind(source.as_str())
                .bind(key.fingerprint())
                .bind(key.line())
                .bind(now))?;
            Ok(rows == 1)
        })
        .await
    }

    /// Replaces the line of a public key, and who manages it. `false`: there is none with this id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn replace_ssh_key(&self, id: &str, source: Source, key: &AuthorizedKey) -> Result<bool> {
        const SQL: &str = "UPDATE hub_ssh_keys SET source = $2, line = $3 WHERE id = $1";
        self.timed("replace_ssh_key", async {
            Ok(execute!(self, SQL, |query| query.bind(id).bind(source.as_str()).bind(key.line()))? == 1)
        })
        .await
    }

    /// Removes a public key by its row's id. `false`: there is none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_ssh_key(&self, id: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM hub_ssh_keys WHERE id = $1";
        self.timed("remove_ssh_key", async { Ok(execute!(self, SQL, |query| query.bind(id))? == 1) }).await
    }

    /// Takes a lease, or renews it if `holder` has it: `true` as long as nobody else holds it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn lease(&self, name: &str, holder: &str, time: chrono::TimeDelta) -> Result<bool> {
        const SQL: &str = "INSERT INTO leases (name, holder, until) VALUES ($1, $2, $4) ON CONFLICT (name) \
             DO UPDATE SET holder = $2, until = $4 WHERE leases.holder = $2 OR leases.until < $3";
        let now = self.clock.now();
        let until = now.checked_add_signed(time).ok_or_else(|| Error::internal("a lease without an end"))?;
        self.timed("lease", async {
            Ok(execute!(self, SQL, |query| query.bind(name).bind(holder).bind(now).bind(until))? == 1)
        })
        .await
    }
}
