//! When servers have to end. What is written here is no move of a row: no generation changes.

use chrono::{DateTime, Utc};

use super::{Store, execute, on};
use crate::error::Result;
use crate::model::Uid;

impl Store {
    /// Sets when a server has to end, where that was `from` until now; `None`: it has no end. `false`: somebody else was
    /// faster, or there is no such server, or it waits for its turn
    /// still.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn extend_server(
        &self,
        uid: &Uid,
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
    ) -> Result<bool> {
        const SQL: &str = "UPDATE servers SET end_date = $3, runtime_seconds = NULL, changed_at = $4 WHERE uid = $1 \
             AND end_date IS NOT DISTINCT FROM $2 AND phase IN ('starting', 'running')";
        let now = self.clock.now();
        self.timed("extend_server", async {
            Ok(execute!(self, SQL, |query| query.bind(uid.as_str()).bind(from).bind(to).bind(now))? == 1)
        })
        .await
    }

    /// Moves a server whose time is over to `stopping`. `false`: somebody gave it more time, or it is leaving already.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn expire_server(&self, uid: &Uid) -> Result<bool> {
        const SQL: &str = "UPDATE servers SET phase = 'stopping', generation = generation + 1, changed_at = $2 \
             WHERE uid = $1 AND phase = 'running' AND end_date <= $2";
        let now = self.clock.now();
        self.timed("expire_server", async { Ok(execute!(self, SQL, |query| query.bind(uid.as_str()).bind(now))? == 1) })
            .await
    }

    /// The end that a server's user was told of.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn warned_of(&self, uid: &Uid) -> Result<Option<DateTime<Utc>>> {
        const SQL: &str = "SELECT warned_of FROM servers WHERE uid = $1";
        self.timed("warned_of", async {
            let warned: Option<Option<DateTime<Utc>>> =
                on!(&self.db, |pool| sqlx::query_scalar(SQL).bind(uid.as_str()).fetch_optional(pool).await?);
            Ok(warned.flatten())
        })
        .await
    }

    /// Notes the end that a server's user was told of.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn note_warning(&self, uid: &Uid, end_date: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE servers SET warned_of = $2 WHERE uid = $1";
        self.timed("note_warning", async {
            execute!(self, SQL, |query| query.bind(uid.as_str()).bind(end_date))?;
            Ok(())
        })
        .await
    }
}
