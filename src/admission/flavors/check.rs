//! Whether a flavor may be started.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::document::Document;
use super::flavor::Flavor;
use super::sets::{Set, Sets};
use crate::model::{Counted, Quota, Scope};

/// What a start of a flavor comes to.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// The set of the user or the hub.
    pub set: &'a Set,
    /// The flavor, if it is one of the set, or the sentence that refuses it; neither where an undefined one is allowed.
    pub flavor: Result<Option<Arc<Flavor>>, String>,
    /// The limit of undefined flavors.
    pub quota: Option<Quota>,
}

/// Looks a flavor up for a hub and a user.
pub fn check<'a>(
    document: &'a Document,
    hub: &str,
    authentication: &Map<String, Value>,
    flavor: Option<&str>,
) -> Chosen<'a> {
    let sets = document.sets();
    let set = sets.choose(hub, authentication);
    let chosen = |flavor, quota| Chosen { set, flavor, quota };
    if let Some(found) = set.flavors.iter().find(|found| Some(&*found.name) == flavor) {
        return chosen(Ok(Some(found.clone())), None);
    }
    let is_defined = sets.all.flavors.iter().any(|defined| Some(&*defined.name) == flavor);
    if set.forbidden || is_defined {
        return chosen(Err(refusal(set, sets, flavor)), None);
    }
    match undefined_max(sets, set, hub) {
        Some((-1, _)) => chosen(Ok(None), None),
        Some((limit @ 1.., source)) => {
            let scope =
                Scope { hub: Some(hub.into()), flavor: Some(flavor.unwrap_or_default().into()), ..Scope::default() };
            chosen(Ok(None), Some(Quota { scope, counted: Counted::Servers, limit, source: source.into() }))
        }
        _ => chosen(Err(refusal(set, sets, flavor)), None),
    }
}

/// The most servers of a flavor that is defined nowhere, and where that is written. Without any definition, there is no limit.
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
