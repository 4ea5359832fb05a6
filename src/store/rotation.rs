//! Keys are replaced while Outposts run.

use secrecy::{ExposeSecret as _, SecretString};

use super::{Store, on};
use crate::error::{Error, Result};

impl Store {
    /// Encrypts everything with the newest key; says how many rows were changed. Running Outposts are not disturbed as
    /// long as they have both keys.
    ///
    /// # Errors
    /// The database does not answer, or a value cannot be read with any key; what was done until then stays.
    pub async fn rotate_keys(&self) -> Result<u64> {
        const SELECT: &str = "SELECT uid, request, handle FROM servers WHERE phase <> 'gone'";
        const UPDATE: &str = "UPDATE servers SET request = $2, handle = $3 WHERE uid = $1 AND request = $4";
        const META: &str = "UPDATE meta SET value = $1 WHERE key = 'key_check'";
        let rows: Vec<(String, String, String)> =
            on!(&self.db, |pool| sqlx::query_as(SELECT).fetch_all(pool).await).map_err(Error::from)?;
        let mut changed = 0;
        for (uid, request, handle) in rows {
            if self.ring.is_current(&request) && self.ring.is_current(&handle) {
                continue;
            }
            let new_request = self.ring.encrypt(&self.ring.decrypt(&request)?);
            let new_handle = self.ring.encrypt(&self.ring.decrypt(&handle)?);
            changed += on!(&self.db, |pool| {
                let query = sqlx::query(UPDATE).bind(&uid).bind(&new_request).bind(&new_handle).bind(&request);
                query.execute(pool).await.map(|done| done.rows_affected())
            })?;
        }
        changed += self.rotate_host_keys().await?;
        let check = self.ring.encrypt("outpost");
        on!(&self.db, |pool| sqlx::query(META).bind(&check).execute(pool).await.map(drop))?;
        Ok(changed)
    }

    /// The same for the SSH server's keys.
    async fn rotate_host_keys(&self) -> Result<u64> {
        const SELECT: &str = "SELECT private_key FROM ssh_host_keys";
        // By its value, which moves to another state when a rotation of host keys ends.
        const UPDATE: &str = "UPDATE ssh_host_keys SET private_key = $2 WHERE private_key = $1";
        let tokens: Vec<String> =
            on!(&self.db, |pool| sqlx::query_scalar(SELECT).fetch_all(pool).await).map_err(Error::from)?;
        let mut changed = 0;
        for old in tokens.into_iter().filter(|token| !self.ring.is_current(token)) {
            let new = self.ring.encrypt(SecretString::from(self.ring.decrypt(&old)?).expose_secret());
            changed += on!(&self.db, |pool| {
                let query = sqlx::query(UPDATE).bind(&old).bind(&new);
                query.execute(pool).await.map(|done| done.rows_affected())
            })?;
        }
        Ok(changed)
    }
}
