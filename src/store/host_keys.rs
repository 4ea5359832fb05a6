//! The keys by which SSH clients know this installation, encrypted.

use chrono::{DateTime, Utc};
use secrecy::{ExposeSecret as _, SecretString};

use super::{BeginWrite as _, Store, execute, on};
use crate::error::{Error, Result};
use crate::model::{HostKey, HostKeyState};

/// A host key as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredHostKey {
    /// The key.
    pub key: HostKey,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Store {
    /// The host key in a state.
    ///
    /// # Errors
    /// The database does not answer, or the encryption keys do not fit.
    pub async fn host_key(&self, state: HostKeyState) -> Result<Option<StoredHostKey>> {
        const SQL: &str = "SELECT private_key, created_at FROM ssh_host_keys WHERE state = $1";
        let row: Option<(String, DateTime<Utc>)> = self
            .timed("host_key", async {
                on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(state.as_str()).fetch_optional(pool).await?))
            })
            .await?;
        row.map(|(token, created_at)| {
            let text = SecretString::from(self.ring.decrypt(&token)?);
            let key = HostKey::from_openssh(text.expose_secret()).map_err(Error::internal)?;
            Ok(StoredHostKey { key, created_at })
        })
        .transpose()
    }

    /// The key of this installation, made when there is none. Of several Outposts that start at once, whichever comes first
    /// decides for all.
    ///
    /// # Errors
    /// The database does not answer, or the encryption keys do not fit.
    pub async fn current_host_key(&self) -> Result<StoredHostKey> {
        if let Some(stored) = self.host_key(HostKeyState::Current).await? {
            return Ok(stored);
        }
        let made = HostKey::generate().map_err(Error::internal)?;
        if self.add_host_key(HostKeyState::Current, &made).await? {
            tracing::info!(fingerprint = made.fingerprint(), "the SSH host key of this installation was made");
        }
        let stored = self.host_key(HostKeyState::Current).await?;
        stored.ok_or_else(|| Error::internal("a host key that was just written is not there"))
    }

    /// Keeps a host key. `false`: there is one in that state.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_host_key(&self, state: HostKeyState, key: &HostKey) -> Result<bool> {
        const SQL: &str = "INSERT INTO ssh_host_keys (state, fingerprint, private_key, created_at) \
             VALUES ($1, $2, $3, $4) ON CONFLICT (state) DO NOTHING";
        let token = self.ring.encrypt(key.to_openssh().map_err(Error::internal)?.expose_secret());
        let now = self.clock.now();
        self.timed("add_host_key", async {
            let rows =
                execute!(self, SQL, |query| query.bind(state.as_str()).bind(key.fingerprint()).bind(&token).bind(now))?;
            Ok(rows == 1)
        })
        .await
    }

    /// Puts the next host key in the current one's place, which is forgotten. `false`: there is no next one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn promote_host_key(&self) -> Result<bool> {
        const DELETE: &str = "DELETE FROM ssh_host_keys WHERE state = 'current' \
             AND EXISTS (SELECT 1 FROM ssh_host_keys WHERE state = 'next')";
        const UPDATE: &str = "UPDATE ssh_host_keys SET state = 'current' WHERE state = 'next'";
        self.timed("promote_host_key", async {
            on!(&self.db, |pool| {
                let mut write = pool.begin_write().await?;
                sqlx::query(DELETE).execute(&mut *write).await?;
                let moved = sqlx::query(UPDATE).execute(&mut *write).await?.rows_affected();
                write.commit().await?;
                Ok(moved == 1)
            })
        })
        .await
    }
}
