//! Flavors and credits: every change is one version, the newest is in force.

use chrono::{DateTime, Utc};

use super::{Store, execute, on};
use crate::error::Result;

/// One version.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the columns, described in the migration")]
pub struct Version {
    pub version: i64,
    /// JSON; empty in a list of versions.
    pub document: String,
    pub author: String,
    pub summary: String,
    pub digest: Option<String>,
    pub changed_at: DateTime<Utc>,
}

/// A version to be.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns, described in the migration")]
pub struct NewVersion<'a> {
    pub kind: &'a str,
    /// The version that it replaces; 0: there is none.
    pub replaces: i64,
    pub document: &'a str,
    pub author: &'a str,
    pub summary: &'a str,
    pub digest: Option<&'a str>,
}

impl Store {
    /// The newest version; `None`: nothing was ever defined.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn definitions(&self, kind: &str) -> Result<Option<Version>> {
        const SQL: &str = "SELECT version, document, author, summary, digest, changed_at FROM definitions WHERE kind = $1 \
             ORDER BY version DESC LIMIT 1";
        self.timed("definitions", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(kind).fetch_optional(pool).await?))
        })
        .await
    }

    /// One version.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn definitions_at(&self, kind: &str, version: i64) -> Result<Option<Version>> {
        const SQL: &str = "SELECT version, document, author, summary, digest, changed_at FROM definitions WHERE kind = $1 \
             AND version = $2";
        self.timed("definitions_at", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(kind).bind(version).fetch_optional(pool).await?))
        })
        .await
    }

    /// All versions without their documents, the newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn definition_versions(&self, kind: &str) -> Result<Vec<Version>> {
        const SQL: &str = "SELECT version, '' AS document, author, summary, digest, changed_at FROM definitions \
             WHERE kind = $1 ORDER BY version DESC";
        self.timed("definition_versions", async {
            on!(&self.db, |pool| Ok(sqlx::query_as(SQL).bind(kind).fetch_all(pool).await?))
        })
        .await
    }

    /// The number of the newest version of each kind.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn newest_definitions(&self) -> Result<Vec<(String, i64)>> {
        const SQL: &str = "SELECT kind, MAX(version) FROM definitions GROUP BY kind";
        self.timed("newest_definitions", async { on!(&self.db, |pool| Ok(sqlx::query_as(SQL).fetch_all(pool).await?)) })
            .await
    }

    /// The digest of the file that was applied last.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn applied_digest(&self, kind: &str) -> Result<Option<String>> {
        const SQL: &str =
            "SELECT digest FROM definitions WHERE kind = $1 AND digest IS NOT NULL ORDER BY version DESC LIMIT 1";
        self.timed("applied_digest", async {
            on!(&self.db, |pool| Ok(sqlx::query_scalar(SQL).bind(kind).fetch_optional(pool).await?))
        })
        .await
    }

    /// Adds a version. `false`: the newest is not the one that it replaces, somebody was faster.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn add_definitions(&self, new: &NewVersion<'_>) -> Result<bool> {
        const SQL: &str = "INSERT INTO definitions (kind, version, document, author, summary, digest, changed_at) \
             SELECT $1, $2, $3, $4, $5, $6, $7 \
             WHERE COALESCE((SELECT MAX(version) FROM definitions WHERE kind = $1), 0) = $2 - 1 \
             ON CONFLICT (kind, version) DO NOTHING";
        let now = self.clock.now();
        self.timed("add_definitions", async {
            let rows = execute!(self, SQL, |query| query
                .bind(new.kind)
                .bind(new.replaces + 1)
                .bind(new.document)
                .bind(new.author)
                .bind(new.summary)
                .bind(new.digest)
                .bind(now))?;
            Ok(rows == 1)
        })
        .await
    }
}
