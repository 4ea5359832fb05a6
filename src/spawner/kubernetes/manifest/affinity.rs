//! Which nodes and which other pods the pod is drawn to.

use k8s_openapi::api::core::v1::{Affinity, NodeAffinity, NodeSelector, PodAffinity, PodAntiAffinity};

use super::some;
use crate::spawner::kubernetes::options::Options;

/// The six options as one value, if one of them is set.
pub fn affinity(options: &Options) -> Option<Affinity> {
    let nodes = NodeAffinity {
        preferred_during_scheduling_ignored_during_execution: some(options.node_affinity_preferred.clone()),
        required_during_scheduling_ignored_during_execution: some(options.node_affinity_required.clone())
            .map(|node_selector_terms| NodeSelector { node_selector_terms }),
    };
    let near = PodAffinity {
        preferred_during_scheduling_ignored_during_execution: some(options.pod_affinity_preferred.clone()),
        required_during_scheduling_ignored_during_execution: some(options.pod_affinity_required.clone()),
    };
    let away = PodAntiAffinity {
        preferred_during_scheduling_ignored_during_execution: some(options.pod_anti_affinity_preferred.clone()),
        required_during_scheduling_ignored_during_execution: some(options.pod_anti_affinity_required.clone()),
    };
    let affinity = Affinity {
        node_affinity: (nodes != NodeAffinity::default()).then_some(nodes),
        pod_affinity: (near != PodAffinity::default()).then_some(near),
        pod_anti_affinity: (away != PodAntiAffinity::default()).then_some(away),
    };
    (affinity != Affinity::default()).then_some(affinity)
}
