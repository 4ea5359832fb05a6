//! What is said where there is no place.

use std::collections::BTreeMap;

use super::allowed::Denial;
use super::requests::Amounts;
use super::{NoPlace, lacking};
use crate::model::Counted;

/// `open` are the nodes that a pod may run on: what they have, and what is free.
pub fn no_place(wanted: &Amounts, denied: &BTreeMap<Denial, usize>, open: &[(Amounts, Amounts)]) -> NoPlace {
    let mut reasons: Vec<_> = denied.iter().map(|(denial, nodes)| format!("{nodes} {}", why(denial))).collect();
    let mut short = BTreeMap::<&str, usize>::new();
    for (_, free) in open {
        for resource in lacking(wanted, free) {
            *short.entry(resource).or_default() += 1;
        }
    }
    reasons.extend(short.iter().map(|(resource, nodes)| format!("{nodes} Insufficient {resource}")));
    let all = open.len() + denied.values().sum::<usize>();
    let nodes = match all {
        0 => "the cluster has no nodes".to_owned(),
        _ => format!("0 of {all} nodes have a place for it: {}", reasons.join(", ")),
    };
    let (reason, advice) = sentences(wanted, open, short.keys().copied().collect());
    NoPlace { reason, advice, nodes }
}

fn why(denial: &Denial) -> String {
    match denial {
        Denial::Name => "other than the one that it names".to_owned(),
        Denial::Selector => "without the labels of its node_selector".to_owned(),
        Denial::Affinity => "outside its node affinity".to_owned(),
        Denial::Taint(key) => format!("with the taint {key}"),
    }
}

/// What is the matter, and what to do.
fn sentences(wanted: &Amounts, open: &[(Amounts, Amounts)], short: Vec<&str>) -> (String, &'static str) {
    if open.is_empty() {
        let reason = "No machine of this system is open to this server.".to_owned();
        return (reason, "Please choose another profile or flavor, or ask the administrators of the system.");
    }
    let possible = open.iter().any(|(allocatable, _)| lacking(wanted, allocatable).is_empty());
    let room = |node: &(Amounts, Amounts), resource: &str| {
        let amounts = if possible { &node.1 } else { &node.0 };
        amounts.get(resource).copied().unwrap_or_default().max(0.0)
    };
    let most = |resource: &str| open.iter().map(|node| room(node, resource)).fold(0.0, f64::max);
    // Of others there is enough, though not on the same machine.
    let scarce = |resource: &&str| *resource != "pods" && wanted[*resource] > most(resource);
    let scarce: Vec<_> = short.into_iter().filter(scarce).collect();
    let list = |amount: &dyn Fn(&str) -> f64| {
        scarce.iter().map(|resource| in_words(resource, amount(resource))).collect::<Vec<_>>().join(", ")
    };
    let (needed, most) = (list(&|resource| wanted[resource]), list(&most));
    let (what, advice) = if possible {
        ("The machines of this system that this server may run on are in use", "Please try again later or choose less.")
    } else {
        (
            "No machine of this system is large enough for this server",
            "Please choose less, or ask the administrators of the system.",
        )
    };
    let reason = match (needed.is_empty(), possible) {
        (true, _) => format!("{what}."),
        (false, true) => format!("{what}: it needs {needed}, and the most that is free on one of them is {most}."),
        (false, false) => format!("{what}: it needs {needed}, and the most that one of them has for it is {most}."),
    };
    (reason, advice)
}

/// An amount for people: `2 CPUs`, `4 GiB of memory`, `1 nvidia.com/gpu`.
fn in_words(resource: &str, amount: f64) -> String {
    match resource {
        "cpu" => Counted::Cpu.in_words((amount * 1000.0).round() as i64),
        "memory" => format!("{} of memory", Counted::Memory.in_words(amount as i64)),
        "ephemeral-storage" => format!("{} of local disk", Counted::Memory.in_words(amount as i64)),
        other => format!("{amount} {other}"),
    }
}
