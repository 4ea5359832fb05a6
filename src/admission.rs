//! What a hub may ask for. Pure functions of values: rules, definitions, caller and request in, options and limits or a
//! refusal out.
//!
//! - [`Rules`] (`[[overrides]]`) say which options a hub may set; the first rule that fits a request decides.
//! - [`Definitions`] (flavors and credits, a [`Document`] each) say which flavors a hub and a user have, what a flavor
//!   gives and how often it can be had.
//! - [`decide`] weighs one request against both; [`explain()`] tells how.

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

pub use self::explain::{Asked, Deciding, Explanation, Verdict};
use self::flavors::{Chosen, Person};
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

/// What a user reads where an expression of the site fails, be it because of the request or of the expression.
const UNDECIDED: &str = "The rules of this system cannot be applied to what this JupyterHub asks for, so the server does not \
     start. Please choose other options or ask the administrators of the system.";

/// Decides about a request.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user; why an expression of the site fails is for the log only.
pub fn decide(policy: &Policy<'_>, ask: &Ask<'_>) -> Result<Admitted> {
    let decision = Decision::make(policy, ask).map_err(|cause| {
        tracing::warn!(hub.name = ?ask.hub, cause, "a start is refused, since an expression of the configuration fails");
        Error::Refused(UNDECIDED.to_owned())
    })?;
    if let Some(sentence) = decision.refusal() {
        return Err(Error::Refused(sentence.clone()));
    }
    let Decision { chosen, weighed, options, need, .. } = decision;
    Ok(Admitted {
        options,
        flavor: chosen.flavor,
        quotas: chosen.quotas,
        need,
        groups: chosen.groups,
        messages: weighed.messages,
    })
}

/// Tells how a request is decided.
#[must_use]
pub fn explain(policy: &Policy<'_>, ask: &Ask<'_>) -> Explanation {
    let decision = match Decision::make(policy, ask) {
        Ok(decision) => decision,
        Err(cause) => return Explanation { refusal: Some(cause), ..Explanation::default() },
    };
    let refusal = decision.refusal().cloned();
    let Decision { rule, chosen, weighed, options, need } = decision;
    Explanation {
        rule: rule.map(|(number, rule)| Deciding { number, text: rule.to_string() }),
        asked: weighed.asked,
        set: chosen.set,
        flavors: chosen.flavors,
        flavor: chosen.flavor.map(|flavor| flavor.name.clone()),
        quotas: chosen.quotas,
        options,
        need,
        messages: weighed.messages,
        refusal,
    }
}

/// All that is found out about a request.
struct Decision<'a> {
    rule: Option<(usize, &'a Rule)>,
    chosen: Chosen,
    weighed: Weighed,
    options: Map<String, Value>,
    need: Need,
}

impl<'a> Decision<'a> {
    /// Fails only where an expression of the site does, with the cause for the log.
    fn make(policy: &Policy<'a>, ask: &Ask<'_>) -> Result<Self, String> {
        let authentication = policy.normalise.apply(ask.hub, ask.authentication.clone())?;
        let groups = overrides::texts(&authentication, "groups");
        let person = Person { hub: ask.hub, user_id: ask.user_id, groups: &groups };
        let chosen = match &policy.definitions.flavors {
            Some(document) => flavors::choose(document, &person, &authentication, ask.flavor),
            None => Chosen::default(),
        };
        let given = chosen.flavor.as_ref().map(|flavor| flavor.resources.options().clone()).unwrap_or_default();

        let rule = policy.rules.find(&Facts::new(ask, &groups))?;
        let scales = Scales { rule: rule.map(|(_, rule)| rule), table: ask.table, flavor: &given, site: ask.site };
        let mut weighed = overrides::weigh(ask.misc, &scales);
        let mut options = given;
        merge::merge(&mut options, std::mem::take(&mut weighed.options));
        merge::without_nulls(&mut options);
        Ok(Self { rule, chosen, weighed, need: Need::of(&options, ask.site), options })
    }

    /// The sentence that refuses the start: first what cannot be had at all, then what cannot be overridden.
    fn refusal(&self) -> Option<&String> {
        self.chosen.refusal.as_ref().or(self.weighed.refusal.as_ref())
    }
}

#[cfg(test)]
mod tests;
