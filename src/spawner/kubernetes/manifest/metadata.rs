//! Names, labels and annotations of the objects. What Outpost finds its objects by, and whose they are, wins over all that
//! options say.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Blueprint;
use crate::spawner::kubernetes::names::slugs;
use crate::spawner::kubernetes::names::{SERVER, SERVERNAME, USERNAME, server_labels};

/// The two names of the label that says what part of a hub an object is.
const COMPONENT: [&str; 2] = ["app.kubernetes.io/component", "component"];

/// Labels or annotations.
type Words = BTreeMap<String, String>;

/// The pod's.
pub fn of_pod(blueprint: &Blueprint<'_>) -> ObjectMeta {
    let options = blueprint.options;
    let mut own = own_labels(blueprint);
    own.extend(COMPONENT.map(|name| (name.to_owned(), options.component_label.clone())));
    own.insert(SERVERNAME.to_owned(), slugs::label(&blueprint.launch.id.name));
    metadata(blueprint, &blueprint.place.pod, &options.extra_labels, own, &options.extra_annotations)
}

/// Those of what goes with the pod: the service and the secret.
pub fn of_part(blueprint: &Blueprint<'_>, name: &str) -> ObjectMeta {
    let options = blueprint.options;
    metadata(blueprint, name, &options.extra_labels, own_labels(blueprint), &options.extra_annotations)
}

/// Those of a claim, which outlives servers.
pub fn of_claim(blueprint: &Blueprint<'_>, name: &str) -> ObjectMeta {
    let options = blueprint.options;
    let mut own = own_labels(blueprint);
    own.remove(SERVER);
    // Both as `KubeSpawner` has them.
    let components = [options.component_label.clone(), "singleuser-storage".to_owned()];
    own.extend(COMPONENT.map(str::to_owned).into_iter().zip(components));
    metadata(blueprint, name, &options.storage_extra_labels, own, &options.storage_extra_annotations)
}

/// Those of a namespace, which the servers of one user share.
pub fn of_namespace(blueprint: &Blueprint<'_>) -> ObjectMeta {
    let (options, launch) = (blueprint.options, blueprint.launch);
    let mut own = server_labels(blueprint.identity, &launch.id.hub, &launch.uid);
    own.remove(SERVER);
    let mut annotations = options.user_namespace_annotations.clone();
    annotations.insert(USERNAME.to_owned(), launch.user.to_string());
    ObjectMeta {
        name: Some(blueprint.place.namespace.clone()),
        labels: Some(labels([&options.user_namespace_labels], own)),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// What no option changes.
fn own_labels(blueprint: &Blueprint<'_>) -> Words {
    let launch = blueprint.launch;
    let mut own = server_labels(blueprint.identity, &launch.id.hub, &launch.uid);
    own.insert(USERNAME.to_owned(), slugs::label(&launch.user));
    own
}

/// Labels with values that Kubernetes takes. Later ones win, our own over all.
fn labels<'a>(chosen: impl IntoIterator<Item = &'a Words>, own: Words) -> Words {
    let all = chosen.into_iter().flatten().map(|(name, value)| (name.clone(), value.clone())).chain(own);
    all.map(|(name, value)| (name, if slugs::is_label_value(&value) { value } else { slugs::label(&value) })).collect()
}

fn metadata(blueprint: &Blueprint<'_>, name: &str, extra: &Words, own: Words, annotations: &Words) -> ObjectMeta {
    let mut annotations = annotations.clone();
    annotations.insert(USERNAME.to_owned(), blueprint.launch.user.to_string());
    if !blueprint.launch.id.name.is_empty() {
        annotations.insert(SERVERNAME.to_owned(), blueprint.launch.id.name.to_string());
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(blueprint.place.namespace.clone()),
        labels: Some(labels([extra, &blueprint.options.common_labels], own)),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}
