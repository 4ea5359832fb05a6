//! What servers use now, and what they used, for accounting.

use super::admission::{Used, count};
use super::{Store, on};
use crate::error::Result;
use crate::model::{Quota, Run, UsageFilter};

impl Store {
    /// How much of each limit is used now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn used(&self, quotas: &[Quota]) -> Result<Vec<i64>> {
        self.timed("used", async {
            on!(&self.db, |pool| {
                let mut used = Vec::with_capacity(quotas.len());
                for quota in quotas {
                    let row: Used = count(&quota.scope).build_query_as().fetch_one(pool).await?;
                    used.push(row.of(quota.counted));
                }
                Ok(used)
            })
        })
        .await
    }

    /// At most `limit` servers that ran in the period, in the order of their ids, of those behind the id `after`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn runs(&self, filter: &UsageFilter, after: &str, limit: i64) -> Result<Vec<Run>> {
        const SQL: &str = "SELECT uid AS id, hub, username AS user_name, user_id, name, flavor, cpu_millis, memory_bytes, gpus, \
             running_at AS began, COALESCE(ended_at, CASE WHEN phase = 'gone' THEN changed_at END) AS ended, \
             COALESCE(outcome, phase) AS outcome FROM servers \
             WHERE uid > $1 AND running_at IS NOT NULL AND ($2 IS NULL OR running_at < $2) \
             AND ($3 IS NULL OR COALESCE(ended_at, CASE WHEN phase = 'gone' THEN changed_at END) IS NULL \
             OR COALESCE(ended_at, changed_at) > $3) \
             AND ($4 IS NULL OR hub = $4) AND ($5 IS NULL OR username = $5) ORDER BY uid LIMIT $6";
        self.timed("runs", async {
            on!(&self.db, |pool| {
                let query = sqlx::query_as(SQL).bind(after).bind(filter.to).bind(filter.from);
                let query = query.bind(filter.hub.as_deref()).bind(filter.user.as_deref()).bind(limit);
                Ok(query.fetch_all(pool).await?)
            })
        })
        .await
    }
}
