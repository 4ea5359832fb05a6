//! Whether a node is open to a pod: its name, its labels, its taints.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, PodSpec, Taint, Toleration};

/// Why a node is not.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Denial {
    /// It is not the one that the pod names.
    Name,
    /// Its labels are not those of the pod's node selector.
    Selector,
    /// Nor those of its required node affinity.
    Affinity,
    /// The pod does not tolerate this taint.
    Taint(String),
}

type Labels = BTreeMap<String, String>;

/// Whether the pod may be scheduled on this node, however full it is.
pub fn on(pod: &PodSpec, name: &str, labels: &Labels, taints: &[Taint]) -> Result<(), Denial> {
    if pod.node_name.as_ref().is_some_and(|wanted| wanted != name) {
        return Err(Denial::Name);
    }
    if pod.node_selector.iter().flatten().any(|(key, value)| labels.get(key) != Some(value)) {
        return Err(Denial::Selector);
    }
    let affinity = pod.affinity.as_ref().and_then(|affinity| affinity.node_affinity.as_ref());
    let required = affinity.and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    if required.is_some_and(|required| !required.node_selector_terms.iter().any(|term| fits(term, name, labels))) {
        return Err(Denial::Affinity);
    }
    let tolerations = pod.tolerations.as_deref().unwrap_or_default();
    let keeps_away = |taint: &&Taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute");
    match taints.iter().filter(keeps_away).find(|taint| !tolerations.iter().any(|one| tolerates(one, taint))) {
        Some(taint) => Err(Denial::Taint(taint.key.clone())),
        None => Ok(()),
    }
}

/// All of a term has to fit; one that requires nothing fits nowhere.
fn fits(term: &NodeSelectorTerm, name: &str, labels: &Labels) -> bool {
    let (labelled, named) = (term.match_expressions.as_deref(), term.match_fields.as_deref());
    let (labelled, named) = (labelled.unwrap_or_default(), named.unwrap_or_default());
    let is_name = |one: &NodeSelectorRequirement| one.key == "metadata.name" && holds(one, Some(name));
    !(labelled.is_empty() && named.is_empty())
        && labelled.iter().all(|one| holds(one, labels.get(&one.key).map(String::as_str)))
        && named.iter().all(is_name)
}

fn holds(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|one| one == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let both = || Some((number(value?)?, number(values.first()?)?));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => both().is_some_and(|(value, bound)| value > bound),
        "Lt" => both().is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let same_key = match (&given(&toleration.key), toleration.operator.as_deref()) {
        (Some(key), _) => *key == taint.key,
        // Without a key it has to be any taint.
        (None, operator) => operator == Some("Exists"),
    };
    let taken = given(&taint.value).unwrap_or_default();
    same_key
        && given(&toleration.effect).is_none_or(|effect| effect == taint.effect)
        && match toleration.operator.as_deref() {
            Some("Exists") => true,
            None | Some("" | "Equal") => given(&toleration.value).unwrap_or_default() == taken,
            // A newer operator; what is not known lets through.
            Some(_) => true,
        }
}
