//! Who changed what by the admin API or the command line.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::{Store, execute, on};
use crate::error::Result;
use crate::model::{Actor, Uid};

/// Something that an administrator did.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Deed {
    /// The row's id; ids are ordered in time.
    pub id: String,
    /// When.
    pub at: DateTime<Utc>,
    /// `token:<name>`, `cli:<Unix user>`, or `hub:<name>` for what its SSH clients were refused.
    pub actor: String,
    /// What, for example `service.stop`.
    pub action: String,
    /// To what: a hub's or a token's name, or a server's id.
    pub subject: String,
    /// What else is to be known about it. Never a secret.
    #[schema(value_type = Object)]
    pub detail: Value,
}

impl Store {
    /// Writes down a deed and gives the row's id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn record(&self, actor: &Actor, action: &str, subject: &str, detail: &Value) -> Result<Uid> {
        const SQL: &str = "INSERT INTO audit (id, at, actor, action, subject, detail) VALUES ($1, $2, $3, $4, $5, $6)";
        let (id, now) = (Uid::generate(), self.clock.now());
        self.timed("record", async {
            execute!(self, SQL, |query| query
                .bind(id.as_str())
                .bind(now)
                .bind(actor.to_string())
                .bind(action)
                .bind(subject)
                .bind(detail.to_string()))?;
            Ok(())
        })
        .await?;
        Ok(id)
    }

    /// Changes what is to be known about a deed.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn amend(&self, deed: &Uid, detail: &Value) -> Result<()> {
        const SQL: &str = "UPDATE audit SET detail = $2 WHERE id = $1";
        self.timed("amend", async {
            execute!(self, SQL, |query| query.bind(deed.as_str()).bind(detail.to_string()))?;
            Ok(())
        })
        .await
    }

    /// Takes back a deed that was not done.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn take_back(&self, deed: &Uid) -> Result<()> {
        const SQL: &str = "DELETE FROM audit WHERE id = $1";
        self.timed("take_back", async {
            execute!(self, SQL, |query| query.bind(deed.as_str()))?;
            Ok(())
        })
        .await
    }

    /// At most `limit` deeds, the newest first, of those before the deed `after`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deeds(&self, after: Option<&Uid>, limit: i64) -> Result<Vec<Deed>> {
        const SQL: &str = "SELECT id, at, actor, action, subject, detail FROM audit \
             WHERE ($1 IS NULL OR id < $1) ORDER BY id DESC LIMIT $2";
        type Row = (String, DateTime<Utc>, String, String, String, String);
        let rows: Vec<Row> = self
            .timed("deeds", async {
                on!(&self.db, |pool| {
                    Ok(sqlx::query_as(SQL).bind(after.map(Uid::as_str)).bind(limit).fetch_all(pool).await?)
                })
            })
            .await?;
        let deed = |(id, at, actor, action, subject, detail): Row| {
            let detail = serde_json::from_str(&detail).unwrap_or(Value::String(detail));
            Deed { id, at, actor, action, subject, detail }
        };
        Ok(rows.into_iter().map(deed).collect())
    }
}
