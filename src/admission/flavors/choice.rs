//! Whether a flavor may be started.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::document::Document;
use super::flavor::Flavor;
use super::limits::{Person, counted_groups, quotas};
use super::sets::{Set, Sets};
use crate::model::{Counted, OfFlavor, Quota, Scope};

/// What a start of a flavor comes to.
#[derive(Debug, Default)]
pub struct Chosen {
    /// The set of the user or the hub, if one fits.
    pub set: Option<Arc<str>>,
    /// The names of its flavors.
    pub flavors: Vec<Arc<str>>,
    /// The flavor, if it is one of them.
    pub flavor: Option<Arc<Flavor>>,
    /// The sentence that refuses it.
    pub refusal: Option<String>,
    /// The limits of the start, in the order in which they are told.
    pub quotas: Vec<Quota>,
    /// The user's groups that some limit counts.
    pub groups: Vec<Arc<str>>,
}

/// Looks a flavor up for a hub and a user.
pub fn choose(
    document: &Document,
    person: &Person<'_>,
    authentication: &Map<String, Value>,
    flavor: Option<&str>,
) -> Chosen {
    let sets = document.sets();
    let set = sets.choose(person.hub, authentication);
    let found = set.flavors.iter().find(|found| Some(&*found.name) == flavor);
    let undefined = if found.is_some() { Ok(None) } else { undefined(sets, set, person.hub, flavor) };
    let (undefined, refusal) = match undefined {
        Ok(quota) => (quota, None),
        Err(sentence) => (None, Some(sentence)),
    };
    Chosen {
        set: set.source.clone(),
        flavors: set.flavors.iter().map(|flavor| flavor.name.clone()).collect(),
        flavor: found.cloned(),
        refusal,
        quotas: undefined.into_iter().chain(quotas(sets, found.map(|flavor| &**flavor), person)).collect(),
        groups: counted_groups(sets, person.groups),
    }
}

/// The limit of all flavors that are defined nowhere, if there is one, or the sentence that refuses this one.
fn undefined(sets: &Sets, set: &Set, hub: &str, flavor: Option<&str>) -> Result<Option<Quota>, String> {
    let is_defined = sets.all.flavors.iter().any(|defined| Some(&*defined.name) == flavor);
    match undefined_max(sets, set, hub) {
        Some((-1, _)) if !set.forbidden && !is_defined => Ok(None),
        Some((limit @ 1.., source)) if !set.forbidden && !is_defined => {
            let undefined = OfFlavor::Undefined { defined: sets.defined.clone() };
            let scope = Scope { hub: Some(hub.into()), flavor: Some(undefined), ..Scope::default() };
            Ok(Some(Quota { scope, counted: Counted::Servers, limit, source: source.into() }))
        }
        _ => Err(refusal(set, sets, flavor)),
    }
}

/// The most servers of all flavors that are defined nowhere, and where that is written. Without any definition, there is no limit.
fn undefined_max(sets: &Sets, set: &Set, hub: &str) -> Option<(i64, String)> {
    let of_set = |set: &Set| {
        let source = set.source.as_deref().unwrap_or_default();
        set.undefined_max.map(|limit| (limit, format!("{source}.undefined_max")))
    };
    let top = || sets.undefined_max.map(|limit| (limit, "undefined_max".to_owned()));
    let nothing_defined = || sets.all.flavors.is_empty().then(|| (-1, String::new()));
    of_set(set).or_else(|| of_set(sets.of_hub(hub))).or_else(top).or_else(nothing_defined)
}

fn refusal(set: &Set, sets: &Sets, flavor: Option<&str>) -> String {
    let named = |name: &str| {
        let defined = sets.all.flavors.iter().find(|flavor| *flavor.name == *name);
        defined.map_or_else(|| shortened(name), |flavor| format!("{:?}", flavor.display_name()))
    };
    let asked =
        flavor.map_or_else(|| "Start without a flavor".to_owned(), |name| format!("Start with flavor {}", named(name)));
    let allowed: Vec<_> = set.flavors.iter().map(|flavor| format!("{:?}", flavor.display_name())).collect();
    match &*allowed {
        [] => format!(
            "{asked} not allowed. There is no flavor that you may use on this system. Please ask its administrators."
        ),
        _ => format!(
            "{asked} not allowed. Allowed values for user: [{}]. Please choose one of these.",
            allowed.join(", ")
        ),
    }
}

fn shortened(name: &str) -> String {
    let name: String = name.chars().take(80).collect();
    format!("{name:?}")
}
