//! How servers leave, and the rows that stay of them: history, without secrets.

use chrono::{DateTime, Utc};

use super::servers::storable;
use super::{Store, execute, on};
use crate::error::Result;
use crate::model::{Phase, Server, Uid};

/// Why a server left.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outcome {
    /// `stopped`, `failed` (it never ran), `cancelled` (stopped while it started), `expired` (its time was over) or `lost`
    /// (nobody knows).
    pub kind: &'static str,
    /// A sentence, without secrets.
    pub reason: Option<String>,
}

impl Outcome {
    /// Of a stop that somebody asked for, in this phase.
    #[must_use]
    pub fn of_stop(before: Phase) -> Self {
        Self { kind: if before <= Phase::Starting { "cancelled" } else { "stopped" }, reason: None }
    }
}

/// A row of the history.
#[derive(Clone, Debug, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, described in the migration")]
pub struct Ended {
    pub uid: String,
    pub hub: String,
    pub name: String,
    pub start_id: String,
    pub username: String,
    pub outcome: String,
    pub exit_code: Option<i64>,
    pub reason: Option<String>,
    pub start_date: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
}

/// The columns of [`Ended`].
macro_rules! select_ended {
    ($rest:literal) => {
        concat!(
            "SELECT uid, hub, name, start_id, username, outcome, exit_code, exit_reason AS reason, start_date, \
             changed_at AS ended_at FROM servers WHERE phase = 'gone' ",
            $rest
        )
    };
}

impl Store {
    /// A server has left: its row becomes history, without secrets. One that has left already is fine.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_server(&self, uid: &Uid, outcome: &Outcome) -> Result<()> {
        const SQL: &str = "UPDATE servers SET phase = 'gone', outcome = $2, exit_reason = COALESCE($3, exit_reason), \
             request = '', handle = '', ended_at = COALESCE(ended_at, $4), generation = generation + 1, changed_at = $4 \
             WHERE uid = $1 AND phase <> 'gone'";
        let now = self.clock.now();
        self.timed("remove_server", async {
            let reason = outcome.reason.as_deref().map(storable);
            execute!(self, SQL, |query| query.bind(uid.as_str()).bind(outcome.kind).bind(reason).bind(now))?;
            Ok(())
        })
        .await
    }

    /// Makes sure that a server whose insertion has an unknown result never comes up: if its row is there it leaves, and if
    /// it is still to come it finds its place taken.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn bury(&self, server: &Server, outcome: &Outcome) -> Result<()> {
        const SQL: &str = "INSERT INTO servers (uid, hub, name, start_id, username, user_id, flavor, phase, generation, owner, \
             handle, request, asynchronous, address, outcome, exit_reason, start_date, last_update, changed_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, 'gone', 0, $8, '', '', $9, '', $10, $11, $12, $12, $13) \
             ON CONFLICT (uid) DO UPDATE SET phase = 'gone', request = '', handle = '', outcome = excluded.outcome, \
             exit_reason = excluded.exit_reason, changed_at = excluded.changed_at";
        let now = self.clock.now();
        self.timed("bury", async {
            execute!(self, SQL, |query| query
                .bind(server.uid.as_str())
                .bind(&*server.id.hub)
                .bind(&*server.id.name)
                .bind(&*server.id.start_id)
                .bind(&*server.user)
                .bind(server.user_id)
                .bind(server.flavor.as_deref())
                .bind(&*server.owner)
                .bind(server.asynchronous)
                .bind(outcome.kind)
                .bind(outcome.reason.as_deref().map(storable))
                .bind(server.start_date)
                .bind(now))?;
            Ok(())
        })
        .await
    }

    /// The last servers that ended, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn history(&self, limit: i64) -> Result<Vec<Ended>> {
        const SQL: &str = select_ended!("ORDER BY changed_at DESC, uid DESC LIMIT $1");
        self.timed("history", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(limit).fetch_all(pool).await?))
        })
        .await
    }

    /// How one server left; `None` if it did not.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn ended(&self, uid: &Uid) -> Result<Option<Ended>> {
        const SQL: &str = select_ended!("AND uid = $1");
        self.timed("ended", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(uid.as_str()).fetch_optional(pool).await?))
        })
        .await
    }

    /// Forgets the history before `before`; says how many rows went.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn prune_history(&self, before: DateTime<Utc>) -> Result<u64> {
        const SQL: &str = "DELETE FROM servers WHERE phase = 'gone' AND changed_at < $1";
        self.timed("prune_history", async {
            on!(&self.db, |pool| Ok(sqlx::query(SQL).bind(before).execute(pool).await?.rows_affected()))
        })
        .await
    }
}
