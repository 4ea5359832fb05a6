//! Servers of all hubs.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::json;

use super::{Admin, Error, Result, after};
use crate::model::{Phase, Server, TunnelState, Uid};
use crate::store::{Search, Store};

/// How often somebody else may be faster.
const ROUNDS: usize = 20;

/// A server that exists.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ServerSummary {
    /// Outpost's identifier.
    pub id: String,
    /// The hub's name.
    pub hub: String,
    /// The server's name on the hub; empty for the default server.
    pub name: String,
    /// One start of that server.
    pub start_id: String,
    /// JupyterHub's name of the user.
    pub user: String,
    /// JupyterHub's number of the user.
    pub user_id: i64,
    /// Where it is in its life: `queued`, `starting`, `running`, `ended` (by itself, and its hub has not seen it yet), `stopping`.
    pub phase: String,
    /// `host:port`, or empty while that is not known.
    pub address: String,
    /// Whether its hub was asked for the tunnel to it since the last restart: `due` (it is to be asked), `made`, `refused <HTTP
    /// status>` (it does not know the server any more); `null`: nobody asked.
    pub tunnel: Option<String>,
    /// The backend's name.
    pub spawner: String,
    /// The flavor that was asked for.
    pub flavor: Option<String>,
    /// When its start was asked for.
    pub start_date: DateTime<Utc>,
    /// When its time is over; `null`: no end.
    pub end_date: Option<DateTime<Utc>>,
    /// When the hub last asked about it.
    pub last_update: DateTime<Utc>,
    /// Its exit code, once it ended by itself.
    pub exit_code: Option<i32>,
    /// How it ended, as a sentence.
    pub reason: Option<String>,
}

impl From<&Server> for ServerSummary {
    fn from(server: &Server) -> Self {
        Self {
            id: server.uid.to_string(),
            hub: server.id.hub.to_string(),
            name: server.id.name.to_string(),
            start_id: server.id.start_id.to_string(),
            user: server.user.to_string(),
            user_id: server.user_id,
            phase: server.phase.as_str().to_owned(),
            address: server.address.to_string(),
            tunnel: Some(server.tunnel.state)
                .filter(|state| *state != TunnelState::Unasked)
                .map(|state| state.to_string()),
            spawner: server.handle.spawner.to_string(),
            flavor: server.flavor.as_deref().map(str::to_owned),
            start_date: server.start_date,
            end_date: server.end_date,
            last_update: server.last_update,
            exit_code: server.exit.as_ref().and_then(|exit| exit.code),
            reason: server.exit.as_ref().map(|exit| exit.reason.clone()),
        }
    }
}

/// Which of the servers that exist are looked for: those to which all that is given applies.
#[derive(Clone, Debug, Default)]
pub struct ServerSearch {
    /// Of this hub, user and flavor.
    pub search: Search,
    /// In this phase.
    pub phase: Option<Phase>,
    /// In this backend.
    pub spawner: Option<String>,
}

impl ServerSearch {
    /// At most `limit` of the `servers`, the newest first, of those before the server `after`.
    #[must_use]
    pub fn page(&self, servers: Vec<Server>, after: Option<&Uid>, limit: usize) -> Vec<Server> {
        let wanted = |asked: &Option<String>, is: &str| asked.as_deref().is_none_or(|asked| asked == is);
        let fits = |server: &Server| {
            after.is_none_or(|after| server.uid < *after)
                && wanted(&self.search.hub, &server.id.hub)
                && wanted(&self.search.user, &server.user)
                && self.search.flavor.as_deref().is_none_or(|flavor| server.flavor.as_deref() == Some(flavor))
                && wanted(&self.spawner, &server.handle.spawner)
                && self.phase.is_none_or(|phase| server.phase == phase)
        };
        let mut found: Vec<Server> = servers.into_iter().filter(fits).collect();
        found.sort_by(|a, b| b.uid.cmp(&a.uid));
        found.truncate(limit);
        found
    }
}

/// Until when a server may run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Until {
    /// So much longer than now agreed; than now, if that is over or there is no end.
    By(TimeDelta),
    /// Until then.
    Date(DateTime<Utc>),
    /// Without an end.
    Open,
}

impl Until {
    fn date(self, end: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        match self {
            Self::By(length) => after(end.unwrap_or(now).max(now), length).map(Some),
            Self::Date(date) if date <= now => {
                Err(Error::Invalid("the end has to be in the future; to stop a server, stop it".to_owned()))
            }
            Self::Date(date) => Ok(Some(date)),
            Self::Open => Ok(None),
        }
    }
}

impl Admin<'_> {
    /// Has a server stopped by the Outpost that drives it. One that is being stopped already is fine.
    ///
    /// # Errors
    /// It has left.
    pub async fn stop_server(&self, server: &Server) -> Result<()> {
        if server.phase == Phase::Stopping {
            return Ok(());
        }
        let uid = &server.uid;
        self.audited("service.stop", uid.as_str(), names(server), async {
            let moved = self.store.request_stop(uid).await?;
            moved.then_some(()).ok_or_else(|| missing(uid))
        })
        .await
    }

    /// Changes when a server's time is over, and says when that is. Whoever is not the first tries again from what is the end
    /// then.
    ///
    /// # Errors
    /// There is no such server, it has ended, or the date is past.
    pub async fn extend_server(&self, uid: &Uid, until: Until) -> Result<Option<DateTime<Utc>>> {
        for _ in 0..ROUNDS {
            let server = server(self.store, uid).await?;
            if !matches!(server.phase, Phase::Starting | Phase::Running) {
                let text = format!("server {uid} has ended, is being stopped, or waits for its turn still");
                return Err(Error::Conflict(text));
            }
            let (from, to) = (server.end_date, until.date(server.end_date, self.store.clock().now())?);
            let mut detail = names(&server);
            detail["from"] = json!(from);
            detail["to"] = json!(to);
            let change = async { Ok(self.store.extend_server(uid, from, to).await?) };
            let told = detail.clone();
            if self.audited_as("service.extend", uid.as_str(), detail, change, |made| made.then_some(told)).await? {
                return Ok(to);
            }
        }
        Err(Error::Conflict(format!("somebody else changes the end of server {uid} at the same time; try again")))
    }
}

/// A server that exists.
///
/// # Errors
/// There is none with this id.
pub async fn server(store: &Store, uid: &Uid) -> Result<Server> {
    store.servers().await?.into_iter().find(|server| server.uid == *uid).ok_or_else(|| missing(uid))
}

fn missing(uid: &Uid) -> Error {
    Error::Missing(format!("there is no server {uid}"))
}

fn names(server: &Server) -> serde_json::Value {
    json!({ "hub": &*server.id.hub, "user": &*server.user, "name": &*server.id.name })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_moves_on_from_where_it_is() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(1000);
        let (hour, later) = (TimeDelta::hours(1), now + TimeDelta::hours(5));
        let by = Until::By(hour);
        assert_eq!(by.date(Some(later), now).unwrap(), Some(later + hour));
        assert_eq!(by.date(Some(now - hour * 3), now).unwrap(), Some(now + hour));
        assert_eq!(by.date(None, now).unwrap(), Some(now + hour));
        assert_eq!(Until::Date(later).date(None, now).unwrap(), Some(later));
        assert_eq!(Until::Open.date(Some(later), now).unwrap(), None);
        assert!(Until::Date(now).date(None, now).is_err());
    }
}
