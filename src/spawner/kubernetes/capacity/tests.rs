use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// Two nodes: a small one that is half full, a large one for GPUs.
fn nodes() -> Nodes {
    let mut nodes = Nodes::default();
    for node in [
        json!({"metadata": {"name": "small", "labels": {"pool": "user", "size": "4"}},
            "status": {"allocatable": {"cpu": "4", "memory": "8Gi", "pods": "110"}}}),
        json!({"metadata": {"name": "large", "labels": {"pool": "gpu", "size": "64"}},
            "spec": {"taints": [{"key": "gpu", "value": "yes", "effect": "NoSchedule"}]},
            "status": {"allocatable": {"cpu": "63900m", "memory": "263000000Ki", "nvidia.com/gpu": "4", "pods": "2"}}}),
        json!({"metadata": {"name": "closed", "labels": {"pool": "user", "size": "1000"}}, "spec": {"unschedulable": true},
            "status": {"allocatable": {"cpu": "1000", "memory": "1Ti", "pods": "110"}}}),
    ] {
        nodes.add_node(serde_json::from_value(node).unwrap());
    }
    nodes.add_priority(serde_json::from_value(json!({"metadata": {"name": "urgent"}, "value": 100})).unwrap());
    nodes.add_priority(
        serde_json::from_value(json!({"metadata": {"name": "polite"}, "value": 100, "preemptionPolicy": "Never"}))
            .unwrap(),
    );
    nodes.add_pod(&pod("small", 0, &json!({"cpu": "1500m", "memory": "3Gi"})));
    nodes.add_pod(&pod("small", -10, &json!({"cpu": "500m", "memory": "1Gi"})));
    nodes.add_pod(&pod("large", 0, &json!({"nvidia.com/gpu": "3"})));
    nodes
}

fn pod(node: &str, priority: i32, requests: &Value) -> Pod {
    let container = json!({"name": "c", "resources": {"requests": requests}});
    let pod = json!({"spec": {"nodeName": node, "priority": priority, "containers": [container]}});
    serde_json::from_value(pod).unwrap()
}

fn wanted(spec: Value, resources: &Value) -> PodSpec {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "notebook", "resources": {"requests": resources}}]);
    serde_json::from_value(spec).unwrap()
}

const GPU: &str = r#"{"tolerations": [{"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}]}"#;

fn gpu() -> Value {
    serde_json::from_str(GPU).unwrap()
}

#[rstest]
#[case::nothing_asked(json!({}), json!({}))]
#[case::beside_what_is_there(json!({}), json!({"cpu": "2500m", "memory": "5Gi"}))]
#[case::selected(json!({"nodeSelector": {"pool": "user"}}), json!({"cpu": 2.5}))]
#[case::tolerated(gpu(), json!({"nvidia.com/gpu": 1, "cpu": 60}))]
#[case::any_taint(json!({"tolerations": [{"operator": "Exists"}]}), json!({"cpu": 500}))]
#[case::closed_but_tolerated(
    json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}), json!({"cpu": 500}))]
#[case::nobody_else_has_priority(json!({"priorityClassName": "urgent"}), json!({"cpu": 4}))]
#[case::only_a_wish(json!({"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution":
    [{"weight": 1, "preference": {"matchExpressions": [{"key": "no", "operator": "Exists"}]}}]}}}), json!({}))]
fn a_pod_has_its_place(#[case] spec: Value, #[case] mut resources: Value) {
    as_texts(&mut resources);
    assert_eq!(nodes().place(&wanted(spec, &resources)), Ok(()));
}

fn as_texts(resources: &mut Value) {
    for amount in resources.as_object_mut().unwrap().values_mut().filter(|amount| amount.is_number()) {
        *amount = amount.to_string().into();
    }
}

#[rstest]
#[case::full(json!({}), json!({"cpu": "3"}),
    "The machines of this system that this server may run on are in use: it needs 3 CPUs, and the most that is free on one \
     of them is 2.5 CPUs. Please try again later or choose less.",
    "0 of 3 nodes have a place for it: 1 with the taint gpu, 1 with the taint node.kubernetes.io/unschedulable, 1 \
     Insufficient cpu")]
#[case::waiting(json!({"priorityClassName": "polite"}), json!({"cpu": "3"}),
    "The machines of this system that this server may run on are in use: it needs 3 CPUs, and the most that is free on one \
     of them is 2 CPUs. Please try again later or choose less.", "1 Insufficient cpu")]
#[case::gpus(gpu(), json!({"nvidia.com/gpu": "2", "memory": "10Gi"}),
    "The machines of this system that this server may run on are in use: it needs 2 nvidia.com/gpu, and the most that is \
     free on one of them is 1 nvidia.com/gpu. Please try again later or choose less.",
    "2 Insufficient nvidia.com/gpu")]
#[case::too_large(json!({}), json!({"memory": "16Gi", "cpu": "1"}),
    "No machine of this system is large enough for this server: it needs 16 GiB of memory, and the most that one of them has \
     for it is 8 GiB of memory. Please choose less, or ask the administrators of the system.",
    "1 Insufficient memory")]
#[case::never_together(gpu(), json!({"cpu": "10", "nvidia.com/gpu": "4", "memory": "251Gi"}),
    "No machine of this system is large enough for this server: it needs 251 GiB of memory, and the most that one of them has \
     for it is 250.816 GiB of memory. Please choose less, or ask the administrators of the system.",
    "1 Insufficient cpu, 2 Insufficient memory, 2 Insufficient nvidia.com/gpu")]
#[case::selector(json!({"nodeSelector": {"pool": "none"}}), json!({}),
    "No machine of this system is open to this server. Please choose another profile or flavor, or ask the administrators \
     of the system.", "0 of 3 nodes have a place for it: 3 without the labels of its node_selector")]
fn who_has_none_reads_why(#[case] spec: Value, #[case] resources: Value, #[case] said: &str, #[case] admin: &str) {
    let NoPlace { reason, advice, nodes } = nodes().place(&wanted(spec, &resources)).unwrap_err();
    assert_eq!(format!("{reason} {advice}"), said);
    assert!(nodes.ends_with(admin), "{nodes}");
}

#[test]
fn what_has_ended_or_goes_takes_up_nothing() {
    let mut nodes = nodes();
    let over =
        json!({"spec": {"nodeName": "small", "containers": [{"name": "c", "resources": {"requests": {"cpu": "4"}}}]}});
    for (key, value) in
        [("metadata", json!({"deletionTimestamp": "2026-11-01T00:00:00Z"})), ("status", json!({"phase": "Failed"}))]
    {
        let mut over = over.clone();
        over[key] = value;
        nodes.add_pod(&serde_json::from_value(over).unwrap());
    }
    nodes.add_pod(&pod("unknown", 0, &json!({"cpu": "4"})));
    assert_eq!(nodes.place(&wanted(json!({}), &json!({"cpu": "1"}))), Ok(()));
    nodes.add_pod(&serde_json::from_value(over).unwrap());
    assert!(nodes.place(&wanted(json!({}), &json!({"cpu": "1"}))).is_err());
}

#[test]
fn a_place_that_was_given_is_taken() {
    let mut nodes = nodes();
    let spec = wanted(json!({}), &json!({"cpu": "1"}));
    assert_eq!((nodes.place(&spec), nodes.place(&spec)), (Ok(()), Ok(())));
    assert!(nodes.place(&spec).is_err());
}

#[test]
fn a_node_has_room_for_so_many_pods() {
    let mut nodes = nodes();
    let spec = || {
        let mut large = gpu();
        large["nodeSelector"] = json!({"pool": "gpu"});
        wanted(large, &json!({"cpu": "1"}))
    };
    assert_eq!(nodes.place(&spec()), Ok(()));
    let no_place = nodes.place(&spec()).unwrap_err();
    assert!(no_place.nodes.contains("1 Insufficient pods"), "{}", no_place.nodes);
    assert_eq!(no_place.reason, "The machines of this system that this server may run on are in use.");
    assert_eq!(Nodes::default().place(&spec()).unwrap_err().nodes, "the cluster has no nodes");
}

#[rstest]
#[case("In", json!(["user", "x"]), true)]
#[case("In", json!(["x"]), false)]
#[case("NotIn", json!(["x"]), true)]
#[case("NotIn", json!(["user"]), false)]
#[case("Exists", json!([]), true)]
#[case("DoesNotExist", json!([]), false)]
#[case("Gt", json!(["3"]), false)]
#[case("Something", json!([]), false)]
fn affinity_has_operators(#[case] operator: &str, #[case] values: Value, #[case] fits: bool) {
    assert_eq!(affine(json!({"matchExpressions": [{"key": "pool", "operator": operator, "values": values}]})), fits);
}

#[rstest]
#[case(json!({"matchExpressions": [{"key": "size", "operator": "Gt", "values": ["3"]}]}), true)]
#[case(json!({"matchExpressions": [{"key": "size", "operator": "Lt", "values": ["4"]}]}), false)]
#[case(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["small"]}]}), true)]
#[case(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["large"]}]}), false)]
#[case(json!({}), false)]
fn affinity_looks_at_numbers_and_names(#[case] term: Value, #[case] fits: bool) {
    assert_eq!(affine(term), fits);
}

/// Whether `small`, the only node without a taint, fits.
fn affine(term: Value) -> bool {
    let required = json!({"nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["no"]}]}, term]});
    let spec = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}});
    nodes().place(&wanted(spec, &json!({}))).is_ok()
}

#[rstest]
#[case::limits_count_where_nothing_is_requested(
    json!({"containers": [{"name": "a", "resources": {"limits": {"cpu": "2", "memory": "1G"}, "requests": {"cpu": "500m"}}}]}),
    json!({"cpu": 0.5, "memory": 1e9, "pods": 1.0}))]
#[case::containers_add_up(
    json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}, {"name": "b", "resources": {"requests": {"cpu": "2"}}}],
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2"}}}], "overhead": {"memory": "1Ki"}}),
    json!({"cpu": 3.0, "memory": 1024.0, "pods": 1.0}))]
#[case::the_greatest_init_container(
    json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "5"}}}, {"name": "j", "resources": {"requests": {"cpu": "4"}}}]}),
    json!({"cpu": 5.0, "pods": 1.0}))]
#[case::sidecars_stay(
    json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [{"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "2"}}},
            {"name": "i", "resources": {"requests": {"cpu": "3"}}}]}),
    json!({"cpu": 5.0, "pods": 1.0}))]
#[case::the_pod_as_a_whole(
    json!({"resources": {"requests": {"cpu": "4"}}, "containers": [{"name": "a", "resources": {"requests": {"cpu": "1", "memory": "5"}}}]}),
    json!({"cpu": 4.0, "memory": 5.0, "pods": 1.0}))]
#[case::nothing(json!({"containers": [{"name": "a", "resources": {"requests": {"cpu": "0"}}}]}), json!({"pods": 1.0}))]
fn a_pod_asks_for(#[case] spec: Value, #[case] expected: Value) {
    assert_eq!(json!(requests(&serde_json::from_value(spec).unwrap())), expected);
}
