//! The Outposts that share the database: which of them are there.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Store, execute, on};
use crate::error::Result;

/// An Outpost that was not seen for this long is gone: others go on with what it drove, and what waits for it holds up nobody.
const ABSENT_AFTER: TimeDelta = TimeDelta::seconds(30);

impl Store {
    /// Says that the Outpost `instance` lives.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn heartbeat(&self, instance: &str) -> Result<()> {
        const SQL: &str = "INSERT INTO instances (id, seen_at) VALUES ($1, $2) \
                           ON CONFLICT (id) DO UPDATE SET seen_at = excluded.seen_at";
        let now = self.clock.now();
        self.timed("heartbeat", async {
            execute!(self, SQL, |query| query.bind(instance).bind(now))?;
            Ok(())
        })
        .await
    }

    /// Says that the Outpost `instance` has ended: others need not wait until it is missed. When it was seen stays about right,
    /// since a start is given up if its Outpost was away for long.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn leave(&self, instance: &str) -> Result<()> {
        const SQL: &str = "UPDATE instances SET seen_at = $2 WHERE id = $1 AND seen_at > $2";
        let absent = self.alive_since() - TimeDelta::seconds(1);
        self.timed("leave", async {
            execute!(self, SQL, |query| query.bind(instance).bind(absent))?;
            Ok(())
        })
        .await
    }

    /// When each Outpost was last seen.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn last_seen(&self) -> Result<HashMap<String, DateTime<Utc>>> {
        const SQL: &str = "SELECT id, seen_at FROM instances";
        self.timed("last_seen", async {
            let rows: Vec<(String, DateTime<Utc>)> = on!(&self.db, |pool| sqlx::query_as(SQL).fetch_all(pool).await?);
            Ok(rows.into_iter().collect())
        })
        .await
    }

    /// The Outposts that are there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn alive(&self) -> Result<Vec<String>> {
        const SQL: &str = "SELECT id FROM instances WHERE seen_at >= $1";
        self.timed("alive", async {
            on!(&self.db, |pool| Ok(sqlx::query_scalar(SQL).bind(self.alive_since()).fetch_all(pool).await?))
        })
        .await
    }

    /// Forgets Outposts that were not seen since `before` and drive nothing: a pod that was replaced never comes back.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn prune_instances(&self, before: DateTime<Utc>) -> Result<u64> {
        const SQL: &str = "DELETE FROM instances WHERE seen_at < $1 AND NOT EXISTS \
                           (SELECT 1 FROM servers WHERE owner = instances.id AND phase <> 'gone')";
        self.timed("prune_instances", async { Ok(execute!(self, SQL, |query| query.bind(before))?) }).await
    }

    /// Since when an Outpost has to have been seen to be there.
    pub(super) fn alive_since(&self) -> DateTime<Utc> {
        self.clock.now() - ABSENT_AFTER
    }
}
