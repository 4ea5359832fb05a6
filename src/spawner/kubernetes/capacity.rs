//! Whether a pod has a place in the cluster: what the scheduler would say of each node, before it is asked.
//!
//! Looked at are names, labels and taints of nodes, and what is free on them. What is not looked at (affinity between
//! pods, spreading, volumes that belong to a zone) lets a pod through that has no place after all: the scheduler says so.

mod allowed;
mod look;
mod requests;
mod sentences;

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint};
use k8s_openapi::api::scheduling::v1::PriorityClass;

use self::allowed::Denial;
pub use self::look::Capacity;
use self::requests::{Amounts, amounts, requests};

/// The nodes of a cluster and what is asked of them.
#[derive(Debug, Default)]
pub struct Nodes {
    nodes: BTreeMap<String, Place>,
    priorities: Priorities,
}

/// One node.
#[derive(Debug, Default)]
struct Place {
    labels: BTreeMap<String, String>,
    taints: Vec<Taint>,
    allocatable: Amounts,
    /// What its pods ask for, by their priority.
    requested: BTreeMap<i32, Amounts>,
}

/// The classes of priority, for pods that were not created yet.
#[derive(Debug, Default)]
struct Priorities {
    classes: BTreeMap<String, Priority>,
    /// Of pods that name no class.
    default: Priority,
}

#[derive(Clone, Copy, Debug, Default)]
struct Priority {
    value: i32,
    /// Whether pods with less priority have to make room. They do not by themselves.
    waits: bool,
}

/// Why there is no place for a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NoPlace {
    /// For the user: what is the matter.
    pub reason: String,
    /// For the user: what to do.
    pub advice: &'static str,
    /// For administrators: how many nodes are out of the question, and why.
    pub nodes: String,
}

impl Nodes {
    /// Adds a node.
    pub fn add_node(&mut self, node: Node) {
        let spec = node.spec.unwrap_or_default();
        let mut taints = spec.taints.unwrap_or_default();
        if spec.unschedulable == Some(true) {
            // Who tolerates this may be scheduled there.
            let key = "node.kubernetes.io/unschedulable".to_owned();
            taints.push(Taint { effect: "NoSchedule".to_owned(), key, ..Taint::default() });
        }
        let allocatable = node.status.and_then(|status| status.allocatable).unwrap_or_default();
        let place = self.nodes.entry(node.metadata.name.unwrap_or_default()).or_default();
        place.labels = node.metadata.labels.unwrap_or_default();
        place.taints = taints;
        place.allocatable = amounts(&allocatable);
    }

    /// Adds what a pod asks for to its node, which has to be there. One that has ended, or that is about to go, takes up
    /// nothing.
    pub fn add_pod(&mut self, pod: &Pod) {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let over = matches!(phase, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some();
        let Some(spec) = pod.spec.as_ref().filter(|_| !over) else { return };
        let Some(node) = spec.node_name.as_ref().and_then(|name| self.nodes.get_mut(name)) else { return };
        node.take(spec.priority.unwrap_or_default(), requests(spec));
    }

    /// Adds a class of priority.
    pub fn add_priority(&mut self, class: PriorityClass) {
        let waits = class.preemption_policy.as_deref() == Some("Never");
        let priority = Priority { value: class.value.unwrap_or_default(), waits };
        if class.global_default == Some(true) {
            self.priorities.default = priority;
        }
        self.priorities.classes.insert(class.metadata.name.unwrap_or_default(), priority);
    }

    /// Whether a pod that is still to be created has a place now. Pods with less priority are no obstacle, as far as the
    /// scheduler would end them. The place counts as taken from now on.
    ///
    /// # Errors
    /// Why it has none.
    pub fn place(&mut self, pod: &PodSpec) -> Result<(), NoPlace> {
        let wanted = requests(pod);
        let priority = self.priorities.of(pod);
        let (mut denied, mut open) = (BTreeMap::<Denial, usize>::new(), Vec::new());
        for (name, node) in &mut self.nodes {
            match allowed::on(pod, name, &node.labels, &node.taints) {
                Err(denial) => *denied.entry(denial).or_default() += 1,
                Ok(()) => {
                    let free = node.free(priority);
                    if lacking(&wanted, &free).is_empty() {
                        node.take(priority.value, wanted);
                        return Ok(());
                    }
                    open.push((node.allocatable.clone(), free));
                }
            }
        }
        Err(sentences::no_place(&wanted, &denied, &open))
    }
}

impl Priorities {
    fn of(&self, pod: &PodSpec) -> Priority {
        let named = pod.priority_class_name.as_ref().map(|name| match (name.as_str(), self.classes.get(name)) {
            (_, Some(priority)) => *priority,
            // Classes that every cluster has, above all others.
            ("system-cluster-critical" | "system-node-critical", None) => Priority { value: i32::MAX, waits: false },
            (_, None) => self.default,
        });
        let priority = named.unwrap_or(self.default);
        Priority { waits: priority.waits || pod.preemption_policy.as_deref() == Some("Never"), ..priority }
    }
}

impl Place {
    fn take(&mut self, priority: i32, amounts: Amounts) {
        let taken = self.requested.entry(priority).or_default();
        for (resource, amount) in amounts {
            *taken.entry(resource).or_default() += amount;
        }
    }

    /// What is free for a pod of this priority.
    fn free(&self, priority: Priority) -> Amounts {
        let mut free = self.allocatable.clone();
        for (_, taken) in self.requested.iter().filter(|(value, _)| priority.waits || **value >= priority.value) {
            for (resource, amount) in taken {
                *free.entry(resource.clone()).or_default() -= amount;
            }
        }
        free
    }
}

/// What there is too little of.
fn lacking<'a>(wanted: &'a Amounts, free: &Amounts) -> Vec<&'a str> {
    // Sums of thousandths are not exact.
    const TOLERANCE: f64 = 1e-6;
    let short = |resource: &str, amount: f64| amount > free.get(resource).copied().unwrap_or_default() + TOLERANCE;
    wanted
        .iter()
        .filter(|(resource, amount)| short(resource, **amount))
        .map(|(resource, _)| resource.as_str())
        .collect()
}

#[cfg(test)]
mod tests;
