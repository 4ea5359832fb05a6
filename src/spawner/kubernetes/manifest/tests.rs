//! What KubeSpawner makes of the same options is compared elsewhere, with the real one; this is the table, and what is ours.

mod validity;

use rstest::rstest;
use secrecy::SecretString;
use serde_json::{Value, json};

use crate::error::Result;
use crate::model::{Certificates, Launch};
use crate::spawner::kubernetes::plan::{Identity, Plan, place, plan};
use crate::spawner::kubernetes::{Settings, sample};

pub const IDENTITY: Identity<'_> = Identity { installation: "installation-1", spawner: "cluster" };

pub fn launch() -> Launch {
    sample::launch("hub", "ada", "")
}

pub fn with_certificates(launch: Launch) -> Launch {
    let certificates = Certificates {
        keyfile: SecretString::from("PRIVATE"),
        certfile: SecretString::from("PUBLIC"),
        cafile: SecretString::from("SERVERS"),
        trust_bundles: [("hub-ca".to_owned(), SecretString::from("HUB"))].into(),
    };
    Launch { certificates: Some(certificates), ..launch }
}

/// The objects of a launch by a site with these options.
pub fn planned(options: Value, launch: &Launch) -> Result<Plan> {
    let settings: Settings = serde_json::from_value(options).unwrap();
    plan(&settings, launch, &place(&settings, launch)?, &IDENTITY)
}

fn pod(options: Value, launch: &Launch) -> Value {
    serde_json::to_value(planned(options, launch).unwrap().pod).unwrap()
}

#[rstest]
#[case("image", json!("a:1"), "/containers/0/image", json!("a:1"))]
#[case("image_pull_policy", json!("Never"), "/containers/0/imagePullPolicy", json!("Never"))]
#[case("image_pull_secrets", json!(["a", {"name": "b"}]), "/imagePullSecrets", json!([{"name": "a"}, {"name": "b"}]))]
#[case("cmd", json!("lab"), "/containers/0/args", json!(["lab"]))]
#[case("args", json!(["--debug"]), "/containers/0/args", Value::Null)]
#[case("working_dir", json!("/w"), "/containers/0/workingDir", json!("/w"))]
#[case("cpu_limit", json!(1.5), "/containers/0/resources", json!({"limits": {"cpu": "1.5"}}))]
#[case("cpu_guarantee", json!(2), "/containers/0/resources", json!({"requests": {"cpu": "2"}}))]
#[case("mem_limit", json!("1G"), "/containers/0/resources", json!({"limits": {"memory": "1073741824"}}))]
#[case("mem_guarantee", json!(5), "/containers/0/resources", json!({"requests": {"memory": "5"}}))]
#[case("extra_resource_limits", json!({"a/gpu": 1}), "/containers/0/resources", json!({"limits": {"a/gpu": "1"}}))]
#[case("extra_resource_guarantees", json!({"a/b": "1Gi"}), "/containers/0/resources", json!({"requests": {"a/b": "1Gi"}}))]
#[case("uid", json!(0), "/containers/0/securityContext/runAsUser", json!(0))]
#[case("gid", json!(5), "/containers/0/securityContext/runAsGroup", json!(5))]
#[case("fs_gid", json!(100), "/securityContext", json!({"fsGroup": 100}))]
#[case("supplemental_gids", json!([1, 2]), "/securityContext", json!({"supplementalGroups": [1, 2]}))]
#[case("privileged", json!(true), "/containers/0/securityContext/privileged", json!(true))]
#[case("privileged", json!(false), "/containers/0/securityContext", json!({"allowPrivilegeEscalation": false}))]
#[case("allow_privilege_escalation", Value::Null, "/containers/0/securityContext", Value::Null)]
#[case("container_security_context", json!({"allowPrivilegeEscalation": true}), "/containers/0/securityContext",
    json!({"allowPrivilegeEscalation": true}))]
#[case("pod_security_context", json!({"runAsNonRoot": true}), "/securityContext", json!({"runAsNonRoot": true}))]
#[case("service_account", json!("jupyter"), "/serviceAccountName", json!("jupyter"))]
#[case("service_account", json!("jupyter"), "/automountServiceAccountToken", Value::Null)]
#[case("service_account", Value::Null, "/automountServiceAccountToken", json!(false))]
#[case("automount_service_account_token", json!(true), "/automountServiceAccountToken", json!(true))]
#[case("volumes", json!([{"name": "v", "emptyDir": {}}]), "/volumes/0/name", json!("v"))]
#[case("volume_mounts", json!([{"name": "v", "mountPath": "/v"}]), "/containers/0/volumeMounts/0/mountPath", json!("/v"))]
#[case("init_containers", json!([{"name": "i"}]), "/initContainers/0/name", json!("i"))]
#[case("extra_containers", json!([{"name": "x"}]), "/containers/1/name", json!("x"))]
#[case("lifecycle_hooks", json!({"preStop": {"exec": {"command": ["a"]}}}), "/containers/0/lifecycle/preStop/exec/command",
    json!(["a"]))]
#[case("node_selector", json!({"a": "b"}), "/nodeSelector", json!({"a": "b"}))]
#[case("tolerations", json!([{"key": "a"}]), "/tolerations", json!([{"key": "a"}]))]
#[case("scheduler_name", json!("s"), "/schedulerName", json!("s"))]
#[case("priority_class_name", json!("p"), "/priorityClassName", json!("p"))]
#[case("node_affinity_required", json!([{"matchFields": []}]),
    "/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution", json!({"nodeSelectorTerms": [{"matchFields": []}]}))]
#[case("node_affinity_preferred", json!([{"weight": 1, "preference": {}}]),
    "/affinity", json!({"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": {}}]}}))]
#[case("pod_affinity_required", json!([{"topologyKey": "a"}]),
    "/affinity", json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}))]
#[case("pod_affinity_preferred", json!([{"weight": 1, "podAffinityTerm": {"topologyKey": "a"}}]),
    "/affinity/podAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", json!(1))]
#[case("pod_anti_affinity_required", json!([{"topologyKey": "a"}]),
    "/affinity", json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "a"}]}}))]
#[case("pod_anti_affinity_preferred", json!([{"weight": 1, "podAffinityTerm": {"topologyKey": "a"}}]),
    "/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/weight", json!(1))]
#[case("extra_pod_config", json!({"dns_policy": "Default", "restartPolicy": "Never"}), "/restartPolicy", json!("Never"))]
#[case("extra_pod_config", json!({"dns_policy": "Default"}), "/dnsPolicy", json!("Default"))]
#[case("extra_container_config", json!({"stdin": true}), "/containers/0/stdin", json!(true))]
#[case("extra_container_config", json!({"name": "another"}), "/containers/0/name", json!("notebook"))]
#[case("port", json!(80), "/containers/0/ports", json!([{"name": "notebook-port", "containerPort": 80}]))]
fn an_option_has_its_field(#[case] key: &str, #[case] value: Value, #[case] field: &str, #[case] expected: Value) {
    let pod = pod(json!({key: value}), &launch());
    assert_eq!(pod["spec"].pointer(field).unwrap_or(&Value::Null), &expected, "{pod:#}");
}

#[test]
fn options_do_not_change_whose_an_object_is() {
    let words = json!({"app.kubernetes.io/managed-by": "another", "hub.jupyter.org/username": "another",
        "hub.jupyter.org/servername": "another"});
    let options = json!({"extra_labels": words, "common_labels": words, "extra_annotations": words, "storage_extra_labels": words,
        "storage_extra_annotations": words, "user_namespace_labels": {"app.kubernetes.io/managed-by": "another"},
        "storage_pvc_ensure": true, "storage_capacity": "1Gi", "services_enabled": true, "enable_user_namespaces": true});
    let mut launch = sample::launch("hub", "Ada L.", "My Server");
    launch.options = json!({"extra_labels": words}).as_object().unwrap().clone();
    let plan = planned(options, &launch).unwrap();
    for metadata in [&plan.pod.metadata, &plan.secret.metadata, &plan.service.unwrap().metadata] {
        let (labels, annotations) = (metadata.labels.as_ref().unwrap(), metadata.annotations.as_ref().unwrap());
        assert_eq!(labels["outpost.jupyter.org/server"], launch.uid.as_str());
        assert_eq!(labels["outpost.jupyter.org/installation"], "installation-1");
        assert_eq!(labels["app.kubernetes.io/managed-by"], "outpost");
        assert!(labels["hub.jupyter.org/username"].starts_with("ada-l---"));
        assert_eq!(annotations["hub.jupyter.org/username"], "Ada L.");
        assert_eq!(annotations["hub.jupyter.org/servername"], "My Server");
    }
    let namespace = plan.namespace.unwrap().metadata;
    assert_eq!(namespace.labels.unwrap()["app.kubernetes.io/managed-by"], "outpost");
    let claim = plan.claim.unwrap().metadata;
    assert_eq!(claim.annotations.unwrap()["hub.jupyter.org/username"], "Ada L.");
    let labels = claim.labels.unwrap();
    assert_eq!(labels["outpost.jupyter.org/installation"], "installation-1");
    assert!(!labels.contains_key("outpost.jupyter.org/hub") || labels["outpost.jupyter.org/hub"] == "hub");
}

#[test]
fn a_claim_outlives_its_server() {
    let options = json!({"storage_pvc_ensure": true, "storage_capacity": "1Gi", "storage_class": "fast"});
    let claim = planned(options, &launch()).unwrap().claim.unwrap();
    assert!(!claim.metadata.labels.unwrap().contains_key("outpost.jupyter.org/server"));
    let spec = serde_json::to_value(claim.spec).unwrap();
    let expected = json!({"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": "fast"});
    assert_eq!(spec, expected);
}

#[test]
fn certificates_are_files_of_the_secret() {
    let plan = planned(json!({"secret_mount_path": "/tls"}), &with_certificates(launch())).unwrap();
    let data = plan.secret.data.unwrap();
    assert_eq!(data["ssl.key"].0, b"PRIVATE");
    assert_eq!(data["ssl.crt"].0, b"PUBLIC");
    assert_eq!(data["notebooks-ca_trust.crt"].0, b"SERVERS\nHUB");
    let pod = serde_json::to_value(plan.pod.spec.unwrap()).unwrap();
    let secret = &pod["volumes"][0]["secret"];
    assert_eq!(secret["secretName"], json!(plan.secret.metadata.name));
    let files: Vec<_> = secret["items"].as_array().unwrap().iter().map(|item| item["key"].as_str().unwrap()).collect();
    assert_eq!(files, ["ssl.key", "ssl.crt", "notebooks-ca_trust.crt"]);
    let container = &pod["containers"][0];
    assert_eq!(container["volumeMounts"][0]["mountPath"], "/tls/");
    let key = container["env"].as_array().unwrap().iter().find(|variable| variable["name"] == "JUPYTERHUB_SSL_KEYFILE");
    assert_eq!(key.unwrap()["value"], "/tls/ssl.key");
    assert!(!pod.to_string().contains("PRIVATE"));
}

#[test]
fn a_server_with_certificates_has_a_name_that_they_can_be_for() {
    let plan = planned(json!({}), &with_certificates(launch())).unwrap();
    let spec = serde_json::to_value(plan.service.unwrap().spec).unwrap();
    let expected = json!({"type": "ClusterIP", "selector": {"outpost.jupyter.org/server": launch().uid.as_str()},
        "ports": [{"name": "http", "port": 8888, "targetPort": 8888}]});
    assert_eq!(spec, expected);
    assert!(planned(json!({}), &launch()).unwrap().service.is_none());
}
