//! How a request would be decided, without making it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Error, Result};
use crate::admission::{self, Ask, Definitions, Explanation, Policy};
use crate::config::Config;
use crate::hub::check_name;
use crate::model::Server;
use crate::store::Store;

/// The request that is asked about.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The hub's name.
    pub hub: String,
    /// Its name of the user.
    pub user: String,
    /// Its number of the user, for what is in use. Without one, that of the user's servers; a user without servers uses
    /// nothing.
    #[serde(default)]
    pub user_id: Option<i64>,
    /// The options for the backend.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub misc: Map<String, Value>,
    /// The flavor.
    #[serde(default)]
    pub flavor: Option<String>,
    /// The user's groups; short for `authentication.groups`.
    #[serde(default)]
    pub groups: Option<Vec<String>>,
    /// The profile; short for `user_options.profile`.
    #[serde(default)]
    pub profile: Option<String>,
    /// What the user chose on the hub.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub user_options: Map<String, Value>,
    /// What the hub tells about the user.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub authentication: Map<String, Value>,
}

/// How a request would be decided now.
#[derive(Clone, Debug, Serialize)]
pub struct Explained {
    /// The decision, step by step.
    #[serde(flatten)]
    pub explanation: Explanation,
    /// What is used now of each limit, in the order of the limits; nothing where no database is asked.
    pub used: Vec<i64>,
}

impl fmt::Display for Explained {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.explanation.fmt(f)?;
        for (quota, used) in self.explanation.quotas.iter().zip(&self.used) {
            writeln!(f, "in use of {}: {}", quota.source, quota.counted.in_words(*used))?;
        }
        Ok(())
    }
}

/// How a request would be decided with this configuration, these definitions, and what runs according to the database.
///
/// # Errors
/// There is no such hub according to the database, or it has no backend.
pub async fn explain(
    config: &Config,
    definitions: &Definitions,
    store: Option<&Store>,
    mut question: Question,
) -> Result<Explained> {
    check_name(&question.hub).map_err(Error::Invalid)?;
    let mut user_id = question.user_id;
    if let Some(store) = store {
        let hubs = store.hubs().await?;
        // A daemon that has run knows at least one.
        let known = hubs.is_empty() || hubs.iter().any(|hub| hub.name == question.hub);
        if !known && !config.hubs.contains_key(&question.hub) {
            return Err(Error::Invalid(format!("there is no hub {:?}", question.hub)));
        }
        if user_id.is_none() {
            let servers = store.servers().await?;
            let of_user = |server: &&Server| *server.id.hub == *question.hub && *server.user == *question.user;
            user_id = servers.iter().find(of_user).map(|server| server.user_id);
        }
    }
    let spawner = config.spawner_of(&question.hub).and_then(|name| Some((name, config.spawners.get(name)?)));
    let Some((name, settings)) = spawner else {
        return Err(Error::Invalid(format!("hub {:?} has no backend", question.hub)));
    };
    if let Some(groups) = question.groups {
        question.authentication.insert("groups".to_owned(), groups.into());
    }
    if let Some(profile) = question.profile {
        question.user_options.insert("profile".to_owned(), profile.into());
    }
    let policy = Policy { rules: &config.overrides, definitions, normalise: &config.flavors.authentication };
    let ask = Ask {
        hub: &question.hub,
        user: &question.user,
        user_id: user_id.unwrap_or_default(),
        misc: &question.misc,
        user_options: &question.user_options,
        flavor: question.flavor.as_deref(),
        authentication: &question.authentication,
        spawner: name,
        table: settings.options(),
        site: &|choice| settings.offer(choice),
    };
    let explanation = admission::explain(&policy, &ask);
    let used = match store {
        Some(store) => store.used(&explanation.quotas).await?,
        None => Vec::new(),
    };
    Ok(Explained { explanation, used })
}
