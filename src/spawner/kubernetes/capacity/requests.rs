//! How much of a node a pod asks for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::model::kubernetes_quantity;

/// Resources in their units: processors, bytes, devices, pods.
pub type Amounts = BTreeMap<String, f64>;

/// Reads amounts of the API; what is none counts as nothing.
pub fn amounts(quantities: &BTreeMap<String, Quantity>) -> Amounts {
    let read = |(resource, Quantity(text)): (&String, &Quantity)| Some((resource.clone(), kubernetes_quantity(text)?));
    quantities.iter().filter_map(read).collect()
}

/// What a pod asks of its node: its containers together, or the init container that asks for most while it runs, each
/// beside the sidecars that were started before it.
pub fn requests(pod: &PodSpec) -> Amounts {
    let mut running = Amounts::new();
    for container in &pod.containers {
        add(&mut running, &of_container(container));
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in pod.init_containers.iter().flatten() {
        let mut now = of_container(container);
        if container.restart_policy.as_deref() == Some("Always") {
            add(&mut sidecars, &now);
            now.clone_from(&sidecars);
        } else {
            add(&mut now, &sidecars);
        }
        raise(&mut most, &now);
    }
    add(&mut running, &sidecars);
    raise(&mut running, &most);
    // What is written for the pod as a whole.
    if let Some(resources) = &pod.resources {
        running.extend(written(resources.requests.as_ref(), resources.limits.as_ref()));
    }
    add(&mut running, &pod.overhead.as_ref().map(amounts).unwrap_or_default());
    running.retain(|_, amount| *amount > 0.0);
    running.insert("pods".to_owned(), 1.0);
    running
}

fn of_container(container: &Container) -> Amounts {
    container
        .resources
        .as_ref()
        .map(|resources| written(resources.requests.as_ref(), resources.limits.as_ref()))
        .unwrap_or_default()
}

/// What is requested; where only a limit is written, that much.
fn written(requests: Option<&BTreeMap<String, Quantity>>, limits: Option<&BTreeMap<String, Quantity>>) -> Amounts {
    let mut written = limits.map(amounts).unwrap_or_default();
    written.extend(requests.map(amounts).unwrap_or_default());
    written
}

fn add(sum: &mut Amounts, more: &Amounts) {
    for (resource, amount) in more {
        *sum.entry(resource.clone()).or_default() += amount;
    }
}

fn raise(most: &mut Amounts, other: &Amounts) {
    for (resource, amount) in other {
        let entry = most.entry(resource.clone()).or_default();
        *entry = entry.max(*amount);
    }
}
