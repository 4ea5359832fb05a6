//! Servers that have left, found by filters and page by page.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Store, on};
use crate::error::Result;
use crate::model::Uid;

/// Which servers are looked for: those to which all that is given applies.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// Of this hub.
    pub hub: Option<String>,
    /// Of the user with this name.
    pub user: Option<String>,
    /// With this flavor.
    pub flavor: Option<String>,
}

/// A server that has left.
#[derive(Clone, Debug, PartialEq, Serialize, sqlx::FromRow, utoipa::ToSchema)]
pub struct PastServer {
    /// Outpost's identifier.
    #[sqlx(rename = "uid")]
    pub id: String,
    /// The hub's name.
    pub hub: String,
    /// The server's name on the hub; empty for the default server.
    pub name: String,
    /// One start of that server.
    pub start_id: String,
    /// JupyterHub's name of the user.
    #[sqlx(rename = "username")]
    pub user: String,
    /// JupyterHub's number of the user.
    pub user_id: i64,
    /// The flavor that was asked for.
    pub flavor: Option<String>,
    /// `stopped`, `failed` (it never ran), `cancelled` (stopped while it started), `expired` (its time was over) or `lost`
    /// (nobody knows).
    pub outcome: Option<String>,
    /// Its exit code, if it ended by itself.
    pub exit_code: Option<i64>,
    /// Why it left, as a sentence.
    pub reason: Option<String>,
    /// When its start was asked for.
    pub start_date: DateTime<Utc>,
    /// When it began to run.
    pub running_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: DateTime<Utc>,
}

/// The columns of [`PastServer`]; sqlx takes constants only, hence a macro.
macro_rules! select_past {
    ($rest:literal) => {
        concat!(
            "SELECT uid, hub, name, start_id, username, user_id, flavor, outcome, exit_code, exit_reason AS reason, \
             start_date, running_at, COALESCE(ended_at, changed_at) AS ended_at FROM servers WHERE phase = 'gone' ",
            $rest
        )
    };
}

impl Store {
    /// At most `limit` servers that have left, the newest first, of those before the server `after`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn past_servers(&self, search: &Search, after: Option<&Uid>, limit: i64) -> Result<Vec<PastServer>> {
        const SQL: &str = select_past!(
            "AND ($1 IS NULL OR uid < $1) AND ($2 IS NULL OR hub = $2) AND ($3 IS NULL OR username = $3) \
             AND ($4 IS NULL OR flavor = $4) ORDER BY uid DESC LIMIT $5"
        );
        self.timed("past_servers", async {
            on!(&self.db, |pool| {
                let query = sqlx::query_as(SQL).bind(after.map(Uid::as_str)).bind(search.hub.as_deref());
                let query = query.bind(search.user.as_deref()).bind(search.flavor.as_deref()).bind(limit);
                Ok(query.fetch_all(pool).await?)
            })
        })
        .await
    }

    /// One server that has left; `None`: it did not, or is not remembered.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn past_server(&self, uid: &Uid) -> Result<Option<PastServer>> {
        const SQL: &str = select_past!("AND uid = $1");
        self.timed("past_server", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(uid.as_str()).fetch_optional(pool).await?))
        })
        .await
    }
}
