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
mod normalise;
mod overrides;
mod sentences;
mod tunnels;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::explain::{Asked, Deciding, Explanation, Verdict};
use self::flavors::{Chosen, Person};
pub use self::flavors::{Definitions, Document, Entry, Flavor, Format, Kind, Selection};
pub use self::normalise::Normalise;
pub use self::overrides::Rules;
use self::overrides::{Facts, Rule, Scales, Weighed};
pub use self::sentences::{OwnServer, refusal, waiting};
pub use self::tunnels::WantedTunnels;
use crate::error::{Error, Result};
use crate::model::{Need, Quota, merge, without_nulls};
use crate::spawner::{Choice, Offer, OptionTable, SiteOffer};

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
#[derive(Clone, Copy)]
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
    /// What the site's settings of the backend have for it.
    pub site: &'a SiteOffer<'a>,
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
    /// The user's groups.
    pub groups: Vec<String>,
    /// Those of them that some limit counts.
    pub counted_groups: Vec<Arc<str>>,
    /// What the user is told as progress: options that were dropped.
    pub messages: Vec<String>,
}

/// What a user reads where an expression of the site fails, be it because of the request or of the expression.
const UNDECIDED: &str = "The rules of this system cannot be applied to what this JupyterHub asks for, so the server does not \
     start. Please choose other options or ask the administrators of the system.";

/// The most groups of a user whose servers are counted: each is a question to the database.
const MOST_GROUPS: usize = 100;

/// Decides about a request.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user; why an expression of the site fails is for the log only.
pub fn decide(policy: &Policy<'_>, ask: &Ask<'_>) -> Result<Admitted> {
    let decision = Decision::make(policy, ask);
    if let Some(cause) = &decision.fault {
        tracing::warn!(hub.name = ?ask.hub, cause, "a start is refused, since an expression of the configuration fails");
        return Err(Error::Refused(UNDECIDED.to_owned()));
    }
    if let Some(sentence) = decision.refusal() {
        return Err(Error::Refused(sentence.clone()));
    }
    let Decision { groups, chosen, weighed, options, need, .. } = decision;
    Ok(Admitted {
        options,
        flavor: chosen.flavor,
        quotas: chosen.quotas,
        need,
        groups,
        counted_groups: chosen.groups,
        messages: weighed.messages,
    })
}

/// Tells how a request is decided.
#[must_use]
pub fn explain(policy: &Policy<'_>, ask: &Ask<'_>) -> Explanation {
    let decision = Decision::make(policy, ask);
    let refusal = match &decision.fault {
        Some(_) => Some(UNDECIDED.to_owned()),
        None => decision.refusal().cloned(),
    };
    let Decision { rule, chosen, weighed, options, need, fault, .. } = decision;
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
        fault,
    }
}

/// All that is found out about a request.
#[derive(Default)]
struct Decision<'a> {
    rule: Option<(usize, &'a Rule)>,
    groups: Vec<String>,
    /// Why the backend has nothing for this request.
    unavailable: Option<String>,
    chosen: Chosen,
    weighed: Weighed,
    options: Map<String, Value>,
    need: Need,
    /// Why an expression of the site fails, for the log: what comes after it is not found out.
    fault: Option<String>,
}

impl<'a> Decision<'a> {
    fn make(policy: &Policy<'a>, ask: &Ask<'_>) -> Self {
        let mut decision = Self::default();
        decision.fault = decision.find_out(policy, ask).err();
        decision
    }

    /// Fails only where an expression of the site does, with the cause for the log.
    fn find_out(&mut self, policy: &Policy<'a>, ask: &Ask<'_>) -> Result<(), String> {
        let authentication = policy.normalise.apply(ask.hub, ask.authentication.clone())?;
        let groups = overrides::texts(&authentication, "groups");
        let person = Person { hub: ask.hub, user_id: ask.user_id, groups: &groups };
        if let Some(document) = &policy.definitions.flavors {
            self.chosen = flavors::choose(document, &person, &authentication, ask.flavor);
            if self.chosen.groups.len() > MOST_GROUPS {
                self.chosen.refusal = Some(format!(
                    "You are in {} groups that have limits on this system, and at most {MOST_GROUPS} can be counted. Please ask \
                     the administrators of the system.",
                    self.chosen.groups.len()
                ));
            }
        }
        let given = self.chosen.flavor.as_ref().map(|flavor| flavor.resources.options().clone()).unwrap_or_default();

        self.groups = groups.iter().map(|&group| group.to_owned()).collect();
        let choice = Choice { hub: ask.hub, user: ask.user, groups: &groups, user_options: ask.user_options };
        let Offer { resources: site, profile } = (ask.site)(&choice).unwrap_or_else(|sentence| {
            self.unavailable = Some(sentence);
            Offer::default()
        });

        self.rule = policy.rules.find(&Facts::new(ask, &groups, profile.as_deref()))?;
        let scales = Scales { rule: self.rule.map(|(_, rule)| rule), table: ask.table, flavor: &given, site: &site };
        self.weighed = overrides::weigh(ask.misc, &scales);
        self.options = given;
        merge(&mut self.options, std::mem::take(&mut self.weighed.options));
        without_nulls(&mut self.options);
        self.need = Need::of(&self.options, &site);
        Ok(())
    }

    /// The sentence that refuses the start: first what cannot be had at all, then what cannot be overridden.
    fn refusal(&self) -> Option<&String> {
        self.chosen.refusal.as_ref().or(self.unavailable.as_ref()).or(self.weighed.refusal.as_ref())
    }
}

#[cfg(test)]
mod tests;
