//! How a request would be decided, without making it.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Error, Result};
use crate::admission::{self, Ask, Definitions, Explanation, Policy};
use crate::config::Config;

/// The request that is asked about.
#[derive(Clone, Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// The hub's name.
    pub hub: String,
    /// Its name of the user.
    pub user: String,
    /// Its number of the user.
    #[serde(default)]
    pub user_id: i64,
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

/// How a request would be decided with this configuration and these definitions.
///
/// # Errors
/// The hub has no backend.
pub fn explain(config: &Config, definitions: &Definitions, mut question: Question) -> Result<Explanation> {
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
        user_id: question.user_id,
        misc: &question.misc,
        user_options: &question.user_options,
        flavor: question.flavor.as_deref(),
        authentication: &question.authentication,
        spawner: name,
        table: settings.options(),
        site: &settings.resources(),
    };
    Ok(admission::explain(&policy, &ask))
}
