//! Names, labels and annotations of the objects. What Outpost finds its objects by wins over all that options say.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::Blueprint;
use crate::spawner::kubernetes::names::{self, HUB, INSTALLATION, SERVER, SERVERNAME, SPAWNER, USERNAME};

/// The two names of the label that says what part of a hub an object is.
const COMPONENT: [&str; 2] = ["app.kubernetes.io/component", "component"];

type Labels = BTreeMap<String, String>;
type Marks = Vec<(&'static str, String)>;

/// The pod's.
pub fn of_pod(blueprint: &Blueprint<'_>) -> ObjectMeta {
    let component = blueprint.options.component_label.clone();
    let mut marks: Marks = COMPONENT.map(|name| (name, component.clone())).into();
    marks.push((SERVERNAME, names::label_slug(&blueprint.launch.id.name)));
    marks.extend(marks_of_server(blueprint));
    metadata(
        blueprint,
        &blueprint.place.pod,
        &blueprint.options.extra_labels,
        marks,
        &blueprint.options.extra_annotations,
    )
}

/// Those of what goes with the pod: the service and the secret.
pub fn of_part(blueprint: &Blueprint<'_>, name: &str) -> ObjectMeta {
    let options = blueprint.options;
    metadata(blueprint, name, &options.extra_labels, marks_of_server(blueprint), &options.extra_annotations)
}

/// Those of a claim, which outlives servers.
pub fn of_claim(blueprint: &Blueprint<'_>, name: &str) -> ObjectMeta {
    let options = blueprint.options;
    let [long, short] = COMPONENT;
    let mut marks = vec![(long, options.component_label.clone()), (short, "singleuser-storage".to_owned())];
    marks.extend(marks_of_user(blueprint));
    metadata(blueprint, name, &options.storage_extra_labels, marks, &options.storage_extra_annotations)
}

/// Labels of what several hubs' servers may share.
pub fn shared_marks(blueprint: &Blueprint<'_>) -> Marks {
    vec![
        ("app.kubernetes.io/managed-by", "outpost".to_owned()),
        (INSTALLATION, blueprint.identity.installation.to_owned()),
        (SPAWNER, names::safe_slug(blueprint.identity.spawner)),
    ]
}

fn marks_of_user(blueprint: &Blueprint<'_>) -> Marks {
    let mut marks = shared_marks(blueprint);
    marks.push((HUB, names::safe_slug(&blueprint.launch.id.hub)));
    marks.push((USERNAME, names::label_slug(&blueprint.launch.user)));
    marks
}

fn marks_of_server(blueprint: &Blueprint<'_>) -> Marks {
    let mut marks = marks_of_user(blueprint);
    marks.push((SERVER, blueprint.launch.uid.to_string()));
    marks
}

/// Labels with values that Kubernetes takes; later ones win: `extra`, the site's `common_labels`, `marks`.
pub fn labels(blueprint: &Blueprint<'_>, extra: &Labels, marks: Marks) -> Labels {
    let chosen = extra.iter().chain(&blueprint.options.common_labels);
    let mut labels: Labels = chosen.map(|(name, value)| (name.clone(), label_value(value))).collect();
    labels.extend(marks.into_iter().map(|(name, value)| (name.to_owned(), label_value(&value))));
    labels
}

fn metadata(blueprint: &Blueprint<'_>, name: &str, extra: &Labels, marks: Marks, annotations: &Labels) -> ObjectMeta {
    let mut annotations = annotations.clone();
    annotations.insert(USERNAME.to_owned(), blueprint.launch.user.to_string());
    if !blueprint.launch.id.name.is_empty() {
        annotations.insert(SERVERNAME.to_owned(), blueprint.launch.id.name.to_string());
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(blueprint.place.namespace.clone()),
        labels: Some(labels(blueprint, extra, marks)),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

/// The text itself where it can be the value of a label, else a readable part of it and a hash.
fn label_value(text: &str) -> String {
    if names::is_label(text) { text.to_owned() } else { names::label_slug(text) }
}
