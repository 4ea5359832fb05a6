//! The roles of the chart give what Outpost says it needs, and no more.

use std::collections::{BTreeMap, BTreeSet};

use outpost::spawner::kubernetes::rights::{Scope, rules};
use serde_json::Value;

use super::{NAMESPACE, backends, name};
use crate::support::helm::{Helm, Rendered, rendered_examples};

/// A namespace, or nothing for the whole cluster; group, resource and verb.
type Right = (String, String, String, String);

fn needed(config: &str) -> BTreeSet<Right> {
    let mut needed = BTreeSet::new();
    for rule in backends(config, NAMESPACE).iter().flat_map(|(_, settings)| rules(settings)) {
        let places = match rule.scope {
            Scope::Cluster => BTreeSet::from([String::new()]),
            Scope::Namespaces(namespaces) => namespaces,
        };
        for place in places {
            let right = |verb: &&str| (place.clone(), rule.group.clone(), rule.resource.clone(), (*verb).to_owned());
            needed.extend(rule.verbs.iter().map(right));
        }
    }
    needed
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

/// What the account of Outpost's pod is bound to.
fn given(rendered: &Rendered) -> BTreeSet<Right> {
    let pod = &rendered.only("Deployment")["spec"]["template"]["spec"];
    let account = pod["serviceAccountName"].as_str().unwrap();
    let mut roles: BTreeMap<_, _> = ["Role", "ClusterRole"]
        .iter()
        .flat_map(|kind| rendered.of_kind(kind))
        .map(|role| ((name(role), role["metadata"]["namespace"].as_str().unwrap_or_default()), role))
        .collect();
    let mut given = BTreeSet::new();
    for binding in ["RoleBinding", "ClusterRoleBinding"].iter().flat_map(|kind| rendered.of_kind(kind)) {
        let subjects = binding["subjects"].as_array().unwrap();
        assert_eq!(subjects.len(), 1, "{binding}");
        let subject = ["kind", "name", "namespace"].map(|key| subjects[0][key].as_str().unwrap());
        assert_eq!(subject, ["ServiceAccount", account, NAMESPACE]);
        let namespace = binding["metadata"]["namespace"].as_str().unwrap_or_default();
        let role = &binding["roleRef"];
        let role = format!("{}/{}", role["kind"].as_str().unwrap(), role["name"].as_str().unwrap());
        let role = roles.remove(&(role, namespace)).unwrap_or_else(|| panic!("{binding} binds nothing"));
        for rule in role["rules"].as_array().unwrap() {
            let [groups, resources, verbs] = ["apiGroups", "resources", "verbs"].map(|key| texts(&rule[key]));
            for group in groups {
                for resource in &resources {
                    let right = |verb: &String| (namespace.to_owned(), group.clone(), resource.clone(), verb.clone());
                    given.extend(verbs.iter().map(right));
                }
            }
        }
    }
    assert!(roles.is_empty(), "nobody has these roles: {roles:?}");
    given
}

#[test]
fn roles_give_exactly_what_is_needed_in_every_example() {
    let Some(helm) = Helm::engine() else { return };
    for (example, rendered) in rendered_examples(&helm) {
        let needed = needed(rendered.config());
        assert_eq!(given(&rendered), needed, "{example}");
        assert!(needed.iter().any(|(namespace, ..)| !namespace.is_empty()), "{example}: a pod is made somewhere");
    }
}

const SWITCHES: [(&str, &str); 12] = [
    ("no claims", "singleuser: {storage: {type: none}}"),
    ("claims in one profile", "
singleuser:
  storage: {type: none}
  profileList: [{display_name: x, kubespawner_override: {storage_pvc_ensure: true, storage_capacity: 1Gi}}]"),
    ("retention", "config: {spawners: {kubernetes: {storage_retention: 30d}}}"),
    ("objects", "
config:
  spawners:
    kubernetes:
      object_kinds: [v1/ConfigMap, networking.k8s.io/v1/NetworkPolicy, networking.k8s.io/v1/Ingress, v1/Secret, example.org/v1/Proxy]"),
    ("capacity", "config: {spawners: {kubernetes: {capacity_check: warn}}}"),
    ("a namespace for each user", "config: {spawners: {kubernetes: {enable_user_namespaces: true}}}"),
    ("namespaces for users of one profile", "
singleuser: {profileList: [{display_name: x, kubespawner_override: {enable_user_namespaces: true}}]}"),
    ("elsewhere", "singleuser: {namespace: servers, namespaces: [more, less]}"),
    ("profiles with namespaces", "
singleuser:
  profileList:
    - {display_name: x, kubespawner_override: {namespace: of-x}}
    - display_name: of many
      profile_options:
        where:
          display_name: Where
          choices:
            a: {display_name: A, kubespawner_override: {namespace: of-a}}
            b: {display_name: B, default: true, kubespawner_override: {namespace: of-b}}
          unlisted_choice: {enabled: true, display_name: Other, kubespawner_override: {image: '{value}'}}"),
    ("two backends in one namespace", "
config:
  spawner: kubernetes
  spawners:
    kubernetes: {storage_retention: 30d}
    other: {type: kubernetes, object_kinds: [v1/Pod], namespaces: [more]}"),
    ("another cluster", "
config:
  spawner: kubernetes
  spawners: {other: {type: kubernetes, namespace: far, kubeconfig: /mnt/far/kubeconfig}}"),
    ("all at once", "
singleuser: {namespace: servers, namespaces: [more]}
config:
  spawners:
    kubernetes: {capacity_check: fail, storage_retention: 60d, enable_user_namespaces: true, object_kinds: [v1/Service]}"),
];

#[test]
fn roles_follow_every_switch() {
    let Some(helm) = Helm::engine() else { return };
    let rendered = helm.try_render(SWITCHES.iter().map(|(_, values)| *values));
    let mut wrong = Vec::new();
    for ((name, values), rendered) in SWITCHES.iter().zip(rendered) {
        let rendered = rendered.unwrap_or_else(|error| panic!("{name}: {error}\n{values}"));
        let (given, needed) = (given(&rendered), needed(rendered.config()));
        for right in needed.difference(&given) {
            wrong.push(format!("{name}: {right:?} is needed and not given"));
        }
        for right in given.difference(&needed) {
            wrong.push(format!("{name}: {right:?} is given and not needed"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_roles_are_made_where_somebody_else_makes_them() {
    let Some(helm) = Helm::engine() else { return };
    let rendered = helm.render("rbac: {create: false}");
    for kind in ["Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"] {
        assert_eq!(rendered.of_kind(kind).count(), 0, "{kind}");
    }
}
