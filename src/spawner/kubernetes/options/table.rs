//! Which options there are, and who may set them.

use serde_json::{Map, Value};

use super::{Mistake, Options, plain_variables};
use crate::spawner::OptionTable;

/// The options that a hub can set. Names of objects, profiles and what runs with Outpost's own rights are the site's.
pub const OPTIONS: OptionTable = OptionTable {
    known: &[
        "allow_privilege_escalation",
        "args",
        "automount_service_account_token",
        "cmd",
        "container_security_context",
        "cpu_guarantee",
        "cpu_limit",
        "debug",
        "default_url",
        "delete_grace_period",
        "disable_user_config",
        "environment",
        "extra_annotations",
        "extra_container_config",
        "extra_containers",
        "extra_labels",
        "extra_pod_config",
        "extra_resource_guarantees",
        "extra_resource_limits",
        "fs_gid",
        "gid",
        "image",
        "image_pull_policy",
        "image_pull_secrets",
        "init_containers",
        "lifecycle_hooks",
        "mem_guarantee",
        "mem_limit",
        "namespace",
        "node_affinity_preferred",
        "node_affinity_required",
        "node_selector",
        "notebook_dir",
        "pod_affinity_preferred",
        "pod_affinity_required",
        "pod_anti_affinity_preferred",
        "pod_anti_affinity_required",
        "pod_security_context",
        "port",
        "priority_class_name",
        "privileged",
        "scheduler_name",
        "service_account",
        "services_enabled",
        "start_timeout",
        "storage_access_modes",
        "storage_capacity",
        "storage_class",
        "storage_extra_annotations",
        "storage_extra_labels",
        "storage_pvc_ensure",
        "storage_selector",
        "supplemental_gids",
        "tolerations",
        "uid",
        "volume_mounts",
        "volumes",
        "working_dir",
    ],
    sensitive: &[
        ("allow_privilege_escalation", "it lets programs gain rights of other users in the container"),
        ("automount_service_account_token", "it hands over rights on the cluster"),
        ("container_security_context", "it can hand over a node of the cluster"),
        ("extra_annotations", "it can switch off what protects nodes from containers"),
        ("extra_container_config", "it can hand over a node of the cluster"),
        ("extra_containers", "it runs any program beside the server"),
        ("extra_pod_config", "it can hand over a node of the cluster"),
        ("fs_gid", "it can read files of other users on shared volumes"),
        ("gid", "it can read files of other users on shared volumes"),
        ("image_pull_policy", "it can use images that others pulled"),
        ("image_pull_secrets", "it uses credentials of the namespace"),
        ("init_containers", "it runs any program before the server"),
        ("lifecycle_hooks", "it runs any program in the container"),
        ("namespace", "it leaves the namespace that the site chose"),
        ("node_affinity_preferred", "it can choose nodes that are kept for others"),
        ("node_affinity_required", "it can choose nodes that are kept for others"),
        ("node_selector", "it can choose nodes that are kept for others"),
        ("pod_affinity_preferred", "it can choose nodes that are kept for others"),
        ("pod_affinity_required", "it can choose nodes that are kept for others"),
        ("pod_anti_affinity_preferred", "it can keep other pods away from nodes"),
        ("pod_anti_affinity_required", "it can keep other pods away from nodes"),
        ("pod_security_context", "it can change the rights of all containers"),
        ("priority_class_name", "it can displace other pods"),
        ("privileged", "it hands over a node of the cluster"),
        ("scheduler_name", "it goes around the site's scheduler"),
        ("service_account", "it hands over rights on the cluster"),
        ("start_timeout", "it decides how long a start takes up the site's resources"),
        ("storage_access_modes", "it decides who else can use the storage"),
        ("storage_capacity", "it decides how much storage the site gives"),
        ("storage_class", "it decides which storage the site gives"),
        ("storage_extra_annotations", "it can change how storage is made"),
        ("storage_extra_labels", "it can change how storage is made"),
        ("storage_pvc_ensure", "it decides whether the site gives storage"),
        ("storage_selector", "it can claim volumes of other users"),
        ("supplemental_gids", "it can read files of other users on shared volumes"),
        ("tolerations", "it can choose nodes that are kept for others"),
        ("uid", "it can read files of other users on shared volumes"),
        ("volume_mounts", "it can show directories of other users on shared volumes"),
        ("volumes", "it can mount secrets, claims of other users and directories of nodes"),
    ],
    check: |key, value| {
        let alone = Map::from_iter([(key.to_owned(), value.clone())]);
        let read = match (key, value) {
            ("environment", Value::Object(variables)) => plain_variables(variables).map(drop),
            _ => Options::read(&alone).and_then(|options| match options.delete_grace_period {
                0 => {
                    Err(Mistake { key: "delete_grace_period", expected: "a number of seconds, at least 1".to_owned() })
                }
                _ => Ok(()),
            }),
        };
        read.map_err(|mistake| mistake.expected)
    },
};

/// The options that only a site can set, in a profile, too.
const OF_SITE: &[&str] = &[
    "common_labels",
    "component_label",
    "dns_name_template",
    "enable_user_namespaces",
    "events_enabled",
    "ip",
    "pod_connect_ip",
    "pod_name_template",
    "pvc_name_template",
    "secret_mount_path",
    "secret_name_template",
    "slow_spawn_message",
    "slow_spawn_message_frequency",
    "slow_spawn_message_threshold",
    "slug_scheme",
    "user_namespace_annotations",
    "user_namespace_labels",
    "user_namespace_template",
];

/// Whether this is an option, and no key of our own.
#[must_use]
pub fn is_option(key: &str) -> bool {
    OPTIONS.known.contains(&key) || OF_SITE.contains(&key)
}

/// All options.
pub fn all() -> impl Iterator<Item = &'static str> {
    OPTIONS.known.iter().chain(OF_SITE).copied()
}

/// The option of this name.
#[must_use]
pub fn find(key: &str) -> Option<&'static str> {
    all().find(|option| *option == key)
}

/// The options whose texts are templates.
const TEMPLATES: [&str; 17] = [
    "default_url",
    "environment",
    "extra_annotations",
    "extra_containers",
    "extra_labels",
    "extra_pod_config",
    "init_containers",
    "notebook_dir",
    "service_account",
    "storage_extra_annotations",
    "storage_extra_labels",
    "storage_selector",
    "user_namespace_annotations",
    "user_namespace_labels",
    "volume_mounts",
    "volumes",
    "working_dir",
];

/// Whether the texts of this option are templates.
#[must_use]
pub fn is_template(key: &str) -> bool {
    TEMPLATES.contains(&key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spawner::options::KUBESPAWNER_OPTIONS;

    #[test]
    fn options_are_those_of_kubespawner() {
        assert_eq!(all().find(|key| !KUBESPAWNER_OPTIONS.contains(key)), None);
        assert_eq!(TEMPLATES.iter().find(|key| !is_option(key)), None);
        assert_eq!(OPTIONS.sensitive.iter().find(|(key, _)| !OPTIONS.known.contains(key)), None);
    }

    #[test]
    fn a_hub_sets_no_names_and_refers_to_no_secrets() {
        for key in ["profile_list", "pod_name_template", "pod_patch", "enable_user_namespaces", "k8s_api_host"] {
            assert!(!OPTIONS.known.contains(&key), "{key}");
        }
        let reference = serde_json::json!({"A": {"valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}});
        assert!((OPTIONS.check)("environment", &reference).unwrap_err().contains("values are texts"));
        assert!((OPTIONS.check)("delete_grace_period", &serde_json::json!(0)).unwrap_err().contains("at least 1"));
        assert!((OPTIONS.check)("volumes", &serde_json::json!([{"nme": "x"}])).unwrap_err().contains("`[0].nme`"));
    }
}
