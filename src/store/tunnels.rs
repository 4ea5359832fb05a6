//! The tunnels that hubs are asked for. What is written here is no move of a row: no generation changes.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;

use super::servers::parse;
use super::{BeginWrite as _, Store, on};
use crate::error::{Error, Result};
use crate::model::{StoredRequest, Tunnel, Uid};

/// A tunnel that a hub is to be asked for.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct DueTunnel {
    uid: String,
    /// Since when it is due.
    #[sqlx(rename = "tunnel_at")]
    pub since: DateTime<Utc>,
}

impl DueTunnel {
    /// The server's identifier; `None`: the row cannot be read.
    #[must_use]
    pub fn uid(&self) -> Option<Uid> {
        Uid::parse(&self.uid)
    }
}

impl Store {
    /// The tunnels to all running servers of a hub are due that became due, or were asked for, before `lost`, or were never asked
    /// for and run since before `unasked`; but for those of servers that are reached without. Gives the servers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn mark_tunnels(
        &self,
        hub: &str,
        lost: DateTime<Utc>,
        unasked: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Uid>> {
        const SQL: &str = "UPDATE servers SET tunnel = 'due', tunnel_at = $3, changed_at = $3 \
             WHERE hub = $1 AND phase = 'running' AND address <> '' AND target = '' AND (tunnel_at < $2 \
             OR (tunnel_at IS NULL AND COALESCE(running_at, start_date) < $4)) RETURNING uid";
        self.timed("mark_tunnels", async {
            let uids: Vec<String> = on!(&self.db, |pool| {
                sqlx::query_scalar(SQL).bind(hub).bind(lost).bind(now).bind(unasked).fetch_all(pool).await?
            });
            Ok(uids.iter().filter_map(|uid| Uid::parse(uid)).collect())
        })
        .await
    }

    /// The hubs that are to be asked for tunnels to running servers.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn hubs_with_due_tunnels(&self) -> Result<Vec<String>> {
        const SQL: &str = "SELECT DISTINCT hub FROM servers WHERE tunnel = 'due' AND phase = 'running' \
             AND tunnel_at IS NOT NULL ORDER BY hub";
        self.timed("hubs_with_due_tunnels", async {
            on!(&self.db, |pool| Ok(sqlx::query_scalar(SQL).fetch_all(pool).await?))
        })
        .await
    }

    /// The tunnels to running servers of a hub that it is to be asked for, the oldest server first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn due_tunnels(&self, hub: &str) -> Result<Vec<DueTunnel>> {
        const SQL: &str = "SELECT uid, tunnel_at FROM servers WHERE hub = $1 AND tunnel = 'due' AND phase = 'running' \
             AND tunnel_at IS NOT NULL ORDER BY uid";
        self.timed("due_tunnels", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(hub).fetch_all(pool).await?))
        })
        .await
    }

    /// The requests that servers were started with; those that cannot be read, or have left, are not among them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn stored_requests(&self, uids: &[Uid]) -> Result<HashMap<Uid, StoredRequest>> {
        const SQL: &str = "SELECT uid, request FROM servers WHERE phase <> 'gone' AND uid IN (";
        let rows: Vec<(String, String)> = self
            .timed("stored_requests", async {
                on!(&self.db, |pool| {
                    let mut query = QueryBuilder::new(SQL);
                    let mut list = query.separated(", ");
                    for uid in uids {
                        list.push_bind(uid.as_str());
                    }
                    list.push_unseparated(")");
                    Ok(query.build_query_as().fetch_all(pool).await?)
                })
            })
            .await?;
        let read = |(uid, token): (String, String)| -> Result<(Uid, StoredRequest)> {
            let known = Uid::parse(&uid).ok_or_else(|| Error::internal(format!("{uid} is no identifier")))?;
            Ok((known, parse(&self.ring.decrypt(&token)?)?))
        };
        let told = |error: &Error| tracing::error!(cause = error.cause(), "the request of a server cannot be read");
        Ok(rows.into_iter().filter_map(|row| read(row).inspect_err(told).ok()).collect())
    }

    /// Notes what became of questions: for each server, since when its tunnel was due as the question was asked, and what it is
    /// now. One that became due anew since then stays due. Gives those that were noted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn settle_tunnels(&self, answers: &[(Uid, DateTime<Utc>, Tunnel)]) -> Result<Vec<(Uid, Tunnel)>> {
        const SQL: &str = "UPDATE servers SET tunnel = $3, tunnel_at = $4, changed_at = $5 \
             WHERE uid = $1 AND tunnel = 'due' AND tunnel_at = $2 AND phase <> 'gone'";
        let now = self.clock.now();
        // In short transactions and in one order, so that two Outposts do not wait for each other.
        let mut answers: Vec<_> = answers.iter().collect();
        answers.sort_unstable_by(|(one, ..), (other, ..)| one.cmp(other));
        let mut noted = Vec::with_capacity(answers.len());
        for some in answers.chunks(500) {
            self.timed("settle_tunnels", async {
                on!(&self.db, |pool| {
                    let mut write = pool.begin_write().await?;
                    for (uid, since, tunnel) in some {
                        let query = sqlx::query(SQL).bind(uid.as_str()).bind(since).bind(tunnel.state.to_string());
                        let done = query.bind(tunnel.at).bind(now).execute(&mut *write).await?;
                        if done.rows_affected() == 1 {
                            noted.push((uid.clone(), *tunnel));
                        }
                    }
                    Ok(write.commit().await?)
                })
            })
            .await?;
        }
        Ok(noted)
    }
}
