//! All pods pass the level `restricted` of Pod Security: Outpost's, that of `helm test`, and those of users.

use outpost::spawner::kubernetes::plan::{Identity, place, plan};
use outpost::spawner::kubernetes::sample;
use serde_json::{Value, json};

use super::{NAMESPACE, backends, pods};
use crate::support::helm::{Helm, rendered_examples};

/// The kinds of volumes that the level allows.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"].into_iter().flat_map(|key| list(&pod[key]))
}

/// Whether a token of the pod's account is where programs look for one.
fn has_token(container: &Value) -> bool {
    let mounts = list(&container["volumeMounts"]);
    mounts.iter().any(|mount| mount["mountPath"] == "/var/run/secrets/kubernetes.io/serviceaccount")
}

/// What the level forbids about a pod.
fn violations(pod: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for key in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[key] == true {
            found.push(key.to_owned());
        }
    }
    for volume in list(&pod["volumes"]) {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        found.extend(kinds.filter(|kind| !VOLUMES.contains(&kind.as_str())).map(|kind| format!("a volume of {kind}")));
    }
    let all = &pod["securityContext"];
    if !list(&all["sysctls"]).is_empty() || !all["seLinuxOptions"].is_null() || all["runAsUser"] == 0 {
        found.push(format!("securityContext {all}"));
    }
    for container in containers(pod) {
        let own = &container["securityContext"];
        // What a container does not say, its pod says.
        let of = |key: &str| if own[key].is_null() { &all[key] } else { &own[key] };
        let dropped = list(&own["capabilities"]["drop"]).contains(&json!("ALL"));
        let added = list(&own["capabilities"]["add"]).iter().any(|one| one != "NET_BIND_SERVICE");
        let profile = &of("seccompProfile")["type"];
        let rules = [
            ("privileged", own["privileged"] != true),
            ("allowPrivilegeEscalation", own["allowPrivilegeEscalation"] == false),
            ("capabilities", dropped && !added),
            ("runAsNonRoot", of("runAsNonRoot") == true),
            ("runAsUser", of("runAsUser") != 0),
            ("seccompProfile", profile == "RuntimeDefault" || profile == "Localhost"),
            ("seLinuxOptions", own["seLinuxOptions"].is_null()),
            ("procMount", own["procMount"].is_null()),
            ("hostPort", list(&container["ports"]).iter().all(|port| port["hostPort"].as_u64().unwrap_or(0) == 0)),
        ];
        let broken = rules.into_iter().filter(|(_, holds)| !holds).map(|(rule, _)| rule);
        found.extend(broken.map(|rule| format!("{}: {rule}", container["name"])));
    }
    found
}

#[test]
fn outposts_own_pods_are_restricted() {
    let Some(helm) = Helm::engine() else { return };
    for (example, rendered) in rendered_examples(&helm) {
        let pods = pods(&rendered);
        assert_eq!(pods.len(), 2, "{example}: Outpost, and its test: {pods:?}");
        for (name, pod) in pods {
            assert_eq!(violations(&pod), [""; 0], "{example}: {name}");
            // Those that the site adds are its own.
            let ours = &pod["containers"][0];
            assert_eq!(ours["securityContext"]["readOnlyRootFilesystem"], true, "{example}: {name}");
            assert_eq!(pod["enableServiceLinks"], false, "{example}: {name}");
            // The account's rights are for Outpost's own container.
            assert_eq!(pod["automountServiceAccountToken"], false, "{example}: {name}");
            let may_ask: Vec<_> = containers(&pod).filter(|one| has_token(one)).map(|one| &one["name"]).collect();
            let expected: &[&str] = if name.starts_with("Pod/") { &[] } else { &["outpost"] };
            assert_eq!(may_ask, expected, "{example}: {name}");
        }
    }
}

#[test]
fn pods_of_users_are_restricted_and_have_no_token() {
    let Some(helm) = Helm::engine() else { return };
    for (example, rendered) in rendered_examples(&helm) {
        for (name, settings) in backends(rendered.config(), NAMESPACE) {
            // Who sets it to 0 wants root.
            if settings.options.get("uid") == Some(&json!(0)) {
                continue;
            }
            let launch = sample::launch("hub", "ada", "");
            let identity = Identity { installation: "x", spawner: &name };
            let plan = plan(&settings, &launch, &place(&settings, &launch).unwrap(), &identity).unwrap();
            let mut pod = serde_json::to_value(&plan.pod).unwrap()["spec"].clone();
            // Containers that the site adds are its own.
            pod["initContainers"] = Value::Null;
            pod["containers"].as_array_mut().unwrap().truncate(1);
            assert_eq!(violations(&pod), [""; 0], "{example}: {name}: {pod:#}");
            assert_eq!(pod["automountServiceAccountToken"], false, "{example}: {name}");
        }
    }
}

#[test]
fn what_is_forbidden_is_found() {
    let container = json!({"name": "c", "image": "x"});
    assert_eq!(violations(&json!({"containers": [container]})).len(), 4);
    let pod = json!({"hostPID": true, "volumes": [{"name": "v", "hostPath": {"path": "/"}}], "containers": []});
    assert_eq!(violations(&pod), ["hostPID", "a volume of hostPath"]);
}
