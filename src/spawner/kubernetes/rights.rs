//! The rights that the backend needs in its cluster, each with its reason: the one list that roles, `check-config` and the
//! documentation are held against.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::settings::{CapacityCheck, Settings};

/// A rule of a role, in the words of RBAC.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Rule {
    /// Where it has to apply.
    pub scope: Scope,
    /// The group of the API; empty for the core.
    pub group: String,
    /// The plural of the kind, with its subresource: `pods/log`.
    pub resource: String,
    /// What is done with it.
    pub verbs: Vec<&'static str>,
    /// What for.
    pub reason: &'static str,
}

/// Where a rule has to apply.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Scope {
    /// In each of these namespaces: by a Role there, or by a ClusterRole.
    Namespaces(BTreeSet<String>),
    /// In the whole cluster: by a ClusterRole.
    Cluster,
}

/// What Outpost does for these settings. Rules of the same kind are not merged: each has its own reason.
#[must_use]
pub fn rules(settings: &Settings) -> Vec<Rule> {
    let servers = settings.all_namespaces().map_or(Scope::Cluster, Scope::Namespaces);
    let mut rules = Vec::new();
    let mut rule = |scope: &Scope, group: &str, resource: &str, verbs: &[&'static str], reason| {
        let (scope, verbs) = (scope.clone(), verbs.to_vec());
        rules.push(Rule { scope, group: group.to_owned(), resource: resource.to_owned(), verbs, reason });
    };
    rule(&servers, "", "pods", &["create", "delete", "get", "list", "watch"], "a server is a pod, and watched");
    rule(&servers, "", "pods/log", &["get"], "the last lines of a server that failed, and `collect_logs`");
    rule(&servers, "", "events", &["list", "watch"], "progress of a start, and why it failed");
    rule(&servers, "", "secrets", &["create", "delete", "get"], "a server's API token, its certificates");
    rule(&servers, "", "services", &["create", "delete", "get"], "a server's name in the cluster's DNS");
    rule(&servers, "", "persistentvolumeclaims", &["get"], "whose the claim is that a pod mounts");
    if may_be_on(settings, "storage_pvc_ensure") {
        rule(&servers, "", "persistentvolumeclaims", &["create"], "`storage_pvc_ensure`: a claim for each user");
    }
    if settings.storage_retention.is_some() {
        let verbs = ["delete", "list", "patch"];
        rule(&servers, "", "persistentvolumeclaims", &verbs, "`storage_retention`: when a claim was last used");
    }
    for kind in &settings.object_kinds {
        let (resource, verbs) = (kind.resource(), ["create", "delete", "get", "patch"]);
        rule(
            &servers,
            &resource.group,
            &resource.plural,
            &verbs,
            "`object_kinds`: objects of `pre_start` and `post_stop`",
        );
    }
    if settings.all_namespaces().is_none() {
        rule(
            &Scope::Cluster,
            "",
            "namespaces",
            &["create", "get"],
            "`enable_user_namespaces`: a namespace for each user",
        );
    }
    if settings.capacity_check != CapacityCheck::Off {
        rule(&Scope::Cluster, "", "nodes", &["list"], "`capacity_check`: what nodes have");
        rule(&Scope::Cluster, "", "pods", &["list"], "`capacity_check`: what is in use of them");
        let classes = "priorityclasses";
        rule(&Scope::Cluster, "scheduling.k8s.io", classes, &["list"], "`capacity_check`: who makes room for whom");
    }
    rules
}

/// Whether a switch is on in the options, or in what a profile overrides.
fn may_be_on(settings: &Settings, switch: &str) -> bool {
    let is_on = |options: &Map<String, Value>| options.get(switch) == Some(&Value::Bool(true));
    is_on(&settings.options) || settings.profile_list.all().any(|(_, overrides)| overrides.iter().any(is_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(toml: &str) -> Vec<String> {
        let rules = rules(&toml::from_str(toml).unwrap());
        rules
            .iter()
            .map(|rule| {
                let place = match &rule.scope {
                    Scope::Cluster => "everywhere".to_owned(),
                    Scope::Namespaces(names) => names.iter().cloned().collect::<Vec<_>>().join(" and "),
                };
                format!("{} {} {place}", rule.verbs.join("+"), rule.resource)
            })
            .collect()
    }

    #[test]
    fn few_rights_do() {
        assert_eq!(
            written("namespace = 'a'"),
            [
                "create+delete+get+list+watch pods a",
                "get pods/log a",
                "list+watch events a",
                "create+delete+get secrets a",
                "create+delete+get services a",
                "get persistentvolumeclaims a"
            ]
        );
    }

    #[test]
    fn what_is_switched_on_needs_more() {
        let rules = written(
            "namespace = 'a'\nnamespaces = ['b']\nstorage_retention = '30d'\ncapacity_check = 'warn'\n\
             object_kinds = ['networking.k8s.io/v1/NetworkPolicy']\n\
             [[profile_list]]\ndisplay_name = 'x'\nkubespawner_override = { storage_pvc_ensure = true }",
        );
        for rule in [
            "get persistentvolumeclaims a and b",
            "create persistentvolumeclaims a and b",
            "delete+list+patch persistentvolumeclaims a and b",
            "create+delete+get+patch networkpolicies a and b",
            "list nodes everywhere",
            "list pods everywhere",
        ] {
            assert!(rules.iter().any(|one| one == rule), "{rule}: {rules:?}");
        }
    }
}
