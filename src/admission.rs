//! What a hub may ask for. Pure functions of values: rules, definitions, caller and request in, options and limits or a
//! refusal out.
//!
//! - [`Rules`] (`[[overrides]]`) say which options a hub may set; the first rule that fits a request decides.
//! - [`Definitions`] (flavors and credits, a [`Document`] each) say which flavors a hub and a user have, what a flavor
//!   gives and how often it can be had.
//! - [`decide`] weighs one request against both; [`explain`] tells how.

mod explain;
mod expression;
mod flavors;
mod matching;
mod merge;
mod normalise;
mod overrides;
mod sentences;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::explain::{Asked, Explanation, Verdict};
use self::flavors::Person;
pub use self::flavors::{Definitions, Document, Entry, Flavor, Format, Kind, Selection};
pub use self::normalise::Normalise;
pub use self::overrides::Rules;
use self::overrides::{Facts, Rule, Scales, Weighed};
pub use self::sentences::{OwnServer, amount, refusal, waiting};
use crate::error::{Error, Result};
use crate::model::{Need, Quota};
use crate::spawner::OptionTable;

/// What requests are weighed against.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Which options hubs may set.
    pub rules: &'a Rules,
    /// Which flavors there are, and for whom.
    pub definitions: &'a Definitions,
    /// What is done to the user's attributes before anything is matched with them.
    pub normalise: &'a Normalise,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The JupyterHub.
    pub hub: &'a str,
    /// Its name of the user.
    pub user: &'a str,
    /// Its number of the user.
    pub user_id: i64,
    /// The options for the backend.
    pub misc: &'a Map<String, Value>,
    /// What the user chose on the hub.
    pub user_options: &'a Map<String, Value>,
    /// The flavor.
    pub flavor: Option<&'a str>,
    /// What the hub tells about the user.
    pub authentication: &'a Map<String, Value>,
    /// The backend's name.
    pub spawner: &'a str,
    /// The backend's options.
    pub table: OptionTable,
    /// The site's own settings of resource options of the backend.
    pub site: &'a Map<String, Value>,
}

/// A request that may start, if its quotas allow.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// The effective options: the flavor's resources with what the hub may override merged over.
    pub options: Map<String, Value>,
    /// The flavor, if it is defined.
    pub flavor: Option<Arc<Flavor>>,
    /// The limits, in the order in which they are told.
    pub quotas: Vec<Quota>,
    /// What the server takes up.
    pub need: Need,
    /// The user's groups that some limit counts.
    pub groups: Vec<Arc<str>>,
    /// What the user is told as progress: options that were dropped.
    pub messages: Vec<String>,
}

/// Decides about a request.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user, or [`Error::Internal`] where an expression of the site fails.
pub fn decide(policy: &Policy<'_>, ask: &Ask<'_>) -> Result<Admitted> {
    let decision = Decision::make(policy, ask).map_err(Error::internal)?;
    match decision.refusal {
        Some(sentence) => Err(Error::Refused(sentence)),
        None => Ok(decision.admitted),
    }
}

/// Tells how a request is decided.
#[must_use]
pub fn explain(policy: &Policy<'_>, ask: &Ask<'_>) -> Explanation {
    match Decision::make(policy, ask) {
        Ok(decision) => decision.explained(),
        Err(cause) => Explanation { refusal: Some(cause), ..Explanation::default() },
    }
}

/// All that is found out about a request.
struct Decision<'a> {
    rule: Option<(usize, &'a Rule)>,
    asked: Vec<Asked>,
    set: Option<Arc<str>>,
    flavors: Vec<Arc<str>>,
    admitted: Admitted,
    refusal: Option<String>,
}

impl<'a> Decision<'a> {
    /// Fails only where an expression of the site does, with the cause for the log.
    fn make(policy: &Policy<'a>, ask: &Ask<'_>) -> Result<Self, String> {
        let authentication = policy.normalise.apply(ask.hub, ask.authentication.clone())?;
        let groups = overrides::texts(&authentication, "groups");
        let rule = policy.rules.find(&Facts::new(ask, &groups))?;

        let document = policy.definitions.flavors.as_deref();
        let chosen = document.map(|document| flavors::check(document, ask.hub, &authentication, ask.flavor));
        let (flavor, refused_flavor) = match chosen.as_ref().map(|chosen| chosen.flavor.clone()) {
            Some(Ok(flavor)) => (flavor, None),
            Some(Err(sentence)) => (None, Some(sentence)),
            None => (None, None),
        };

        let mut options = flavor.as_ref().map(|flavor| flavor.resources.options().clone()).unwrap_or_default();
        let scales = Scales { rule: rule.map(|(_, rule)| rule), table: ask.table, flavor: &options, site: ask.site };
        let Weighed { options: overrides, asked, messages, refusal } = overrides::weigh(ask.misc, &scales);
        merge::merge(&mut options, overrides);
        merge::without_nulls(&mut options);

        let person = Person { hub: ask.hub, user_id: ask.user_id, groups: &groups };
        let mut quotas =
            document.map(|document| flavors::quotas(document, flavor.as_deref(), &person)).unwrap_or_default();
        let chosen = chosen.map(|chosen| (chosen.set, chosen.quota));
        quotas.splice(..0, chosen.iter().filter_map(|(_, quota)| quota.clone()));
        let set = chosen.map(|(set, _)| set);
        Ok(Self {
            rule,
            asked,
            set: set.and_then(|set| set.source.clone()),
            flavors: set.map(|set| set.flavors.iter().map(|flavor| flavor.name.clone()).collect()).unwrap_or_default(),
            admitted: Admitted {
                need: Need::of(&options, ask.site),
                options,
                flavor,
                quotas,
                groups: document.map(|document| flavors::counted_groups(document, &groups)).unwrap_or_default(),
                messages,
            },
            refusal: refused_flavor.or(refusal),
        })
    }

    fn explained(self) -> Explanation {
        Explanation {
            rule: self.rule.map(|(number, rule)| (number, rule.to_string())),
            asked: self.asked,
            set: self.set,
            flavors: self.flavors,
            flavor: self.admitted.flavor.map(|flavor| flavor.name.clone()),
            quotas: self.admitted.quotas,
            options: self.admitted.options,
            need: self.admitted.need,
            messages: self.admitted.messages,
            refusal: self.refusal,
        }
    }
}

#[cfg(test)]
mod tests;
