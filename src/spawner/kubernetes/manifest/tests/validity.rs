//! Whatever a hub sends: either a sentence, or objects that Kubernetes takes and that have no secret in plain sight.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::collection::btree_map;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{planned, with_certificates};
use crate::error::Error;
use crate::spawner::kubernetes::plan::Plan;
use crate::spawner::kubernetes::sample;

/// Names as people, hubs and attackers choose them.
fn name() -> impl Strategy<Value = String> + Clone {
    prop_oneof![
        "[a-z]{1,8}",
        "[a-zA-Z0-9._-]{0,80}",
        "[a-z-]{1,70}",
        "(outpost.jupyter.org|hub.jupyter.org|app.kubernetes.io|a b)/[a-z-]{0,10}",
        "\\{[a-z_]{0,20}\\}.{0,4}",
        "\\PC{0,90}",
    ]
}

fn words() -> impl Strategy<Value = Value> {
    btree_map(name(), name(), 0..4).prop_map(|words| json!(words))
}

/// An option of a hub.
fn option() -> impl Strategy<Value = (String, Value)> {
    let of_words = prop::sample::select(vec![
        "extra_labels",
        "extra_annotations",
        "node_selector",
        "storage_extra_labels",
        "storage_extra_annotations",
        "environment",
        "extra_resource_limits",
    ]);
    let of_text = prop::sample::select(vec![
        "image",
        "cmd",
        "args",
        "working_dir",
        "notebook_dir",
        "default_url",
        "service_account",
        "scheduler_name",
        "priority_class_name",
        "image_pull_policy",
        "image_pull_secrets",
        "mem_limit",
        "storage_class",
    ]);
    let of_numbers =
        prop::sample::select(vec!["port", "uid", "gid", "fs_gid", "cpu_limit", "mem_guarantee", "supplemental_gids"]);
    let of_objects = prop::sample::select(vec![
        "volumes",
        "volume_mounts",
        "init_containers",
        "extra_containers",
        "tolerations",
        "container_security_context",
        "pod_security_context",
        "extra_container_config",
        "lifecycle_hooks",
    ]);
    let object = (name(), name()).prop_map(|(key, value)| json!({"name": value, key: value}));
    prop_oneof![
        (of_words, words()),
        (of_text, name().prop_map(Value::String)),
        (of_numbers, any::<i64>().prop_map(Value::from)),
        (of_objects, prop_oneof![object.clone(), object.prop_map(|object| json!([object]))]),
    ]
    .prop_map(|(key, value)| (key.to_owned(), value))
}

/// A variable; the value of a secret one is nothing that could be elsewhere by chance.
fn variable() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        ("[A-Z_]{0,6}(TOKEN|SECRET|PASSWORD)[A-Z_]{0,6}", "s3cr3t-[a-z$(){}]{4}-[0-9]{12}"),
        ("[A-Z]{1,3}_KEY", "s3cr3t-[0-9]{12}"),
        (name(), name()),
    ]
}

fn is_part(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&text.len())
        && text.starts_with(ends)
        && text.ends_with(ends)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
}

fn is_dns(text: &str) -> bool {
    is_part(text) && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((domain, name)) => domain.len() <= 253 && domain.split('.').all(is_dns) && is_part(name),
        None => is_part(text),
    }
}

fn check_metadata(metadata: &ObjectMeta) {
    assert!(is_dns(metadata.name.as_deref().unwrap()), "{metadata:?}");
    assert!(is_dns(metadata.namespace.as_deref().unwrap()), "{metadata:?}");
    for (key, value) in metadata.labels.iter().flatten() {
        assert!(is_key(key) && (value.is_empty() || is_part(value)), "label {key:?} = {value:?}");
    }
    for key in metadata.annotations.iter().flatten().map(|(key, _)| key) {
        assert!(is_key(key), "annotation {key:?}");
    }
}

fn check(plan: &Plan, secrets: &BTreeMap<&str, &str>) {
    let parts = [&plan.pod.metadata, &plan.secret.metadata].into_iter();
    let others =
        plan.service.iter().map(|service| &service.metadata).chain(plan.claim.iter().map(|claim| &claim.metadata));
    parts.chain(others).for_each(check_metadata);

    let data = plan.secret.data.as_ref().unwrap();
    assert!(
        data.keys().all(|key| key.len() <= 253 && key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)))
    );
    let spec = plan.pod.spec.as_ref().unwrap();
    let container = &spec.containers[0];
    assert_eq!(container.name, "notebook");
    let mut names = BTreeSet::new();
    for variable in container.env.iter().flatten() {
        let name = variable.name.as_str();
        assert!(names.insert(name) && !name.starts_with(|c: char| c.is_ascii_digit() || c == '.'), "variable {name:?}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)), "variable {name:?}");
        let reference = variable.value_from.as_ref().and_then(|source| source.secret_key_ref.as_ref());
        assert!(reference.is_none_or(|reference| data.contains_key(&reference.key)), "{reference:?} leads nowhere");
    }
    assert!(
        spec.node_selector.iter().flatten().all(|(key, value)| is_key(key) && (value.is_empty() || is_part(value)))
    );
    let pod = serde_json::to_string(&plan.pod).unwrap();
    for (name, secret) in secrets {
        assert!(!pod.contains(secret), "{name} is in the pod");
        assert_eq!(data[*name].0, secret.as_bytes(), "{name}");
    }
}

proptest! {
    #[test]
    fn what_a_hub_sends_gives_sound_objects_or_a_sentence(
        (hub, user, server) in (name(), name(), name()),
        options in prop::collection::vec(option(), 0..3),
        variables in prop::collection::vec(variable(), 0..4),
        (claim, service, certificates) in any::<(bool, bool, bool)>(),
    ) {
        let mut launch = sample::launch(&hub, &user, &server);
        launch.options = options.into_iter().collect();
        launch.environment.0 = variables.into_iter().collect();
        // Those that an option of the hub itself replaces count no more.
        let replaced = launch.options.get("environment").and_then(Value::as_object).cloned().unwrap_or_default();
        let sent = launch.environment.0.clone();
        let is_secret = |value: &str| value.starts_with("s3cr3t-");
        let secrets = sent.iter().filter(|(name, value)| is_secret(value) && !replaced.contains_key(*name));
        let secrets = secrets.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        if certificates {
            launch = with_certificates(launch);
        }
        let site = json!({"storage_pvc_ensure": claim, "storage_capacity": "1Gi", "services_enabled": service});
        match planned(site, &launch) {
            Ok(plan) => check(&plan, &secrets),
            Err(Error::Refused(sentence)) => prop_assert!(sentence.contains(' ') && !sentence.contains("s3cr3t-"), "{sentence}"),
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
}
