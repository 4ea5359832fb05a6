//! What the chart refuses, and what it says then: `snapshots/refusals.snap`.

use insta::{assert_snapshot, with_settings};

use crate::support::helm::Helm;

/// Values that are wrong, each for one reason.
const REFUSED: &[&str] = &[
    // Keys that do not exist, and types that are wrong.
    "replicas: 2",
    "image: {name: x}",
    "singleuser: {imgae: {}}",
    "singleuser: {storage: {dynamic: {class: x}}}",
    "service: {port: 80}",
    "replicaCount: two",
    "replicaCount: -1",
    "image: outpost",
    "image: {pullPolicy: Sometimes}",
    "image: {digest: abc}",
    "imagePullSecrets: secret",
    "hubs: [jupyterhub]",
    "hubs: {a: text}",
    "sshPublicKeys: ssh-ed25519 AAAA",
    "outpostUsers: {usernames: a}",
    "config: text",
    "singleuser: {namespaces: servers}",
    "singleuser: {memory: {limit: [1]}}",
    "singleuser: {networkPolicy: {enabled: 'yes'}}",
    "database: {type: mysql}",
    "persistence: {size: [5Gi]}",
    "service: {type: External}",
    "servicessh: {enabled: 'no'}",
    "ingress: {hosts: outpost.example.org}",
    "tlsSecret: {name: tls}",
    "networkPolicy: {apiFrom: {}}",
    "rbac: true",
    "serviceAccount: {create: 'false'}",
    "extraEnvVars: {A: b}",
    "podDisruptionBudget: {maxUnavailable: {}}",
    "metrics: {serviceMonitor: true}",
    "test: {timeout: 5}",
    // What the chart of the Python service had.
    "outpostConfig: |\n  c.JupyterHubOutpost.sanitize_response = True",
    "extraPythonPackages: [numpy]",
    // What does not go together.
    "replicaCount: 2",
    "hubs: {a: {}, b: {}}\nsshPublicKeys: [ssh-ed25519 AAAA]",
    "config: {http: {listen: '0.0.0.0:80'}}",
    "config: {http: {admin_listen: '0.0.0.0:81'}}",
    "config: {http: {tls_cert: /a}}",
    "config: {ssh: {listen: '0.0.0.0:22'}}",
    "config: {state_dir: /data}",
    "config: {flavors: {file: /a}}",
    // A secret belongs into a Secret.
    "hubs: {a: {passwords: [s3cret]}}",
    "hubs: {a: {passwords: [{secretKeyRef: {name: x}}]}}",
    "hubs: {a: {flavors_update_token: s3cret}}",
    "config: {store: {password: s3cret}}",
    "config: {store: {keys: [s3cret]}}",
    "config: {store: {url: 'postgresql://me:s3cret@db/outpost'}}",
    // A name that is no key of a Secret.
    "hubs: {'my hub': {}}",
    // z2jh's block needs privileges there.
    "singleuser: {cloudMetadata: {blockWithIptables: true}}",
];

/// What a person reads of it: where in a template it was said is left out.
fn sentence(error: &str) -> String {
    let error = error
        .rsplit_once("): ")
        .filter(|(before, _)| before.contains("execution error at"))
        .map_or(error, |(_, said)| said);
    error.trim().to_owned()
}

#[test]
fn refusals_say_what_is_wrong_and_what_to_write() {
    let Some(helm) = Helm::engine() else { return };
    let mut text = String::new();
    for (values, rendered) in REFUSED.iter().zip(helm.try_render(REFUSED.iter().copied())) {
        let said = rendered.map_or_else(|error| sentence(&error), |_| "ACCEPTED".to_owned());
        assert!(!said.contains("s3cret"), "{values}\n{said}");
        text.push_str(&format!("{values}\n    {}\n\n", said.replace('\n', "\n    ")));
    }
    with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        assert_snapshot!("refusals", text);
    });
    assert!(!text.contains("ACCEPTED"), "{text}");
}
