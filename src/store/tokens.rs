//! Tokens of the admin API (hashes only).

use chrono::{DateTime, Utc};

use super::{Store, execute, on};
use crate::error::Result;
use crate::model::Uid;

/// A token of the admin API.
#[derive(Clone, Debug, Eq, PartialEq, sqlx::FromRow)]
pub struct TokenRow {
    /// The id in the token's text.
    pub id: String,
    /// What its owner calls it; no two have the same name.
    pub name: String,
    /// `read` or `write`.
    pub scope: String,
    /// The SHA-256 of its secret, base64url.
    pub hash: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is not valid any more; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub used_at: Option<DateTime<Utc>>,
}

impl Store {
    /// Keeps a new token. `false`: there is one with its name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_token(&self, token: &TokenRow) -> Result<bool> {
        const SQL: &str = "INSERT INTO admin_tokens (id, name, scope, hash, created_at, expires_at) \
             VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT (name) DO NOTHING";
        self.timed("add_token", async {
            let rows = execute!(self, SQL, |query| query
                .bind(&token.id)
                .bind(&token.name)
                .bind(&token.scope)
                .bind(&token.hash)
                .bind(token.created_at)
                .bind(token.expires_at))?;
            Ok(rows == 1)
        })
        .await
    }

    /// All tokens, by name.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        const SQL: &str =
            "SELECT id, name, scope, hash, created_at, expires_at, used_at FROM admin_tokens ORDER BY name";
        self.timed("tokens", async { on!(&self.db, |pool| Ok(sqlx::query_as(SQL).fetch_all(pool).await?)) }).await
    }

    /// One token by its id.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn find_token(&self, id: &Uid) -> Result<Option<TokenRow>> {
        const SQL: &str =
            "SELECT id, name, scope, hash, created_at, expires_at, used_at FROM admin_tokens WHERE id = $1";
        self.timed("find_token", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(id.as_str()).fetch_optional(pool).await?))
        })
        .await
    }

    /// Notes that a token was used at `now`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn touch_token(&self, id: &Uid, now: DateTime<Utc>) -> Result<()> {
        const SQL: &str = "UPDATE admin_tokens SET used_at = $2 WHERE id = $1";
        self.timed("touch_token", async {
            execute!(self, SQL, |query| query.bind(id.as_str()).bind(now))?;
            Ok(())
        })
        .await
    }

    /// Forgets the token with this name. `false`: there is none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn remove_token(&self, name: &str) -> Result<bool> {
        const SQL: &str = "DELETE FROM admin_tokens WHERE name = $1";
        self.timed("remove_token", async { Ok(execute!(self, SQL, |query| query.bind(name))? == 1) }).await
    }
}
