//! Tokens of the admin API.

use chrono::{DateTime, TimeDelta, Utc};
use secrecy::SecretString;
use serde::Serialize;
use serde_json::json;

use super::{Admin, Error, Result, after};
use crate::auth::{TokenScope, generate_token, parse_bearer, verify_secret};
use crate::error::Error as Failure;
use crate::model::{Actor, Uid};
use crate::store::{Store, TokenRow};

/// How exactly it is known when a token was last used.
const USED: TimeDelta = TimeDelta::minutes(1);

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TokenSummary {
    /// What its owner calls it.
    pub name: String,
    /// `read` or `write`.
    pub scope: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is not valid any more; `None`: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it is not valid any more.
    pub expired: bool,
    /// When it was last used, to the minute.
    pub used_at: Option<DateTime<Utc>>,
}

/// All tokens, by name.
///
/// # Errors
/// The database does not answer.
pub async fn tokens(store: &Store) -> Result<Vec<TokenSummary>> {
    let now = store.clock().now();
    let summary = |row: TokenRow| TokenSummary {
        expired: has_expired(&row, now),
        name: row.name,
        scope: row.scope,
        created_at: row.created_at,
        expires_at: row.expires_at,
        used_at: row.used_at,
    };
    Ok(store.tokens().await?.into_iter().map(summary).collect())
}

fn has_expired(token: &TokenRow, now: DateTime<Utc>) -> bool {
    token.expires_at.is_some_and(|end| end <= now)
}

/// Who sends this `Authorization` header, and what they may do.
///
/// # Errors
/// [`Failure::Unauthorized`]; [`Failure::Unavailable`] if the database does not answer.
pub async fn authenticate(store: &Store, header: Option<&[u8]>) -> crate::error::Result<(Actor, TokenScope)> {
    let (id, secret) = header
        .and_then(parse_bearer)
        .ok_or(Failure::Unauthorized("A token is needed: `Authorization: Bearer …`. `outpost token add` makes one."))?;
    let now = store.clock().now();
    let row = store.find_token(&id).await?.filter(|row| verify_secret(&row.hash, secret) && !has_expired(row, now));
    let row = row.ok_or(Failure::Unauthorized("This token is unknown, revoked or expired."))?;
    let scope = TokenScope::parse(&row.scope)
        .ok_or_else(|| Failure::internal(format!("token {:?}: the database holds an unknown scope", row.name)))?;
    if row.used_at.is_none_or(|used| now - used >= USED)
        && let Err(error) = store.touch_token(&id, now).await
    {
        tracing::warn!(token.name = row.name, cause = error.cause(), "the use of a token cannot be noted");
    }
    Ok((Actor::Token(row.name.into()), scope))
}

impl Admin<'_> {
    /// Makes a token and gives its text, of which only a hash is kept.
    ///
    /// # Errors
    /// The name cannot be one, or is taken.
    pub async fn add_token(
        &self,
        name: &str,
        scope: TokenScope,
        valid_for: Option<TimeDelta>,
    ) -> Result<(SecretString, Option<DateTime<Utc>>)> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
        if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
            return Err(Error::Invalid(
                "a token's name has to have 1 to 100 letters, digits, dots, dashes, underscores and @".to_owned(),
            ));
        }
        let id = Uid::generate();
        let (token, hash) = generate_token(&id);
        let created_at = self.store.clock().now();
        let expires_at = valid_for.map(|length| after(created_at, length)).transpose()?;
        let row = TokenRow {
            id: id.to_string(),
            name: name.to_owned(),
            scope: scope.as_str().to_owned(),
            hash,
            created_at,
            expires_at,
            used_at: None,
        };
        let detail = json!({ "scope": scope.as_str(), "expires_at": expires_at });
        self.audited("token.add", name, detail, async {
            let added = self.store.add_token(&row).await?;
            added.then_some(()).ok_or_else(|| Error::Conflict(format!("there is a token {name:?} already")))
        })
        .await?;
        Ok((token, expires_at))
    }

    /// Ends a token at once.
    ///
    /// # Errors
    /// There is no such token.
    pub async fn revoke_token(&self, name: &str) -> Result<()> {
        self.audited("token.revoke", name, json!({}), async {
            let removed = self.store.remove_token(name).await?;
            removed.then_some(()).ok_or_else(|| Error::Missing(format!("there is no token {name:?}")))
        })
        .await
    }
}
