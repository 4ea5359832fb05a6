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
    // Names and amounts that the API server would refuse, or that would be more than one line.
    "fullnameOverride: a.b",
    "nameOverride: A_b",
    "priorityClassName: \"x\\n      hostNetwork: true\"",
    "persistence: {size: 5 potatoes}",
    "singleuser: {namespaces: ['x-{username}']}",
    "config: {spawners: {kubernetes: {enable_user_namespaces: 'true'}}}",
    // Tables that templates need.
    "image: null",
    "config: null",
    "singleuser: null",
    "singleuser: {storage: {dynamic: null}}",
    "singleuser: {cloudMetadata: {ip: null}}",
    "service: {ports: null}",
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
    "serviceAccount: {create: false}",
    // Kinds that would be other rights than they look like.
    "config: {spawners: {kubernetes: {object_kinds: ['*/v1/Secret']}}}",
    "config: {spawners: {kubernetes: {object_kinds: ['apps/v1/a,pods/exec,b']}}}",
    // Options of profiles that the hub has, or that have another name.
    "singleuser: {profileList: [{display_name: A, kubespawner_override: {http_timeout: 60}}]}",
    "config: {spawners: {a: {type: kubernetes, profile_list: {b: {profile_options: {c: {choices: {d: {kubespawner_override: {fs_group: 5}}}}}}}}}}",
    // A secret belongs into a Secret.
    "hubs: {a: {passwords: [s3cret]}}",
    "hubs: {a: {passwords: [{secretKeyRef: {name: x}}]}}",
    "hubs: {a: {flavors_update_token: s3cret}}",
    "config: {store: {password: s3cret}}",
    "config: {store: {keys: [s3cret]}}",
    "config: {store: {url: 'postgresql://me:s3cret@db/outpost'}}",
    "config: {store: {url: 'postgresql://me:s3cret/x@db/outpost'}}",
    "config: {store: {url: 'postgresql://db/outpost?pass%77ord=s3cret'}}",
    "config: {spawners: {kubernetes: {environment: {API_KEY: {value: s3cret}}}}}",
    "config: {spawners: {kubernetes: {pre_start: [{kind: Secret, stringData: {a: s3cret}}]}}}",
    "singleuser: {initContainers: [{name: a, image: b, env: [{name: API_KEY, value: s3cret}]}]}",
    "singleuser: {profileList: [{kubespawner_override: {environment: {MY_TOKEN: s3cret}}}]}",
    "extraEnvVars: [{name: SQL_PASSWORD, value: s3cret}]",
    "extraEnvVars: [{name: OUTPOST_DATABASE_URL, value: 'postgresql://me:s3cret@db/outpost'}]",
    // What says where a secret is.
    "hubs: {a: {passwords: [null]}}",
    "hubs: {a: {passwords: [{}]}}",
    "hubs: {a: {passwords: [{secretKeyRef: {name: 5, key: x}}]}}",
    "hubs: {a: {passwords: [{secretKeyRef: {name: '', key: x}}]}}",
    "hubs: {a: {passwords: [{secretKeyRef: {name: x, key: a/b}}]}}",
    // Names that are no keys of a Secret.
    "hubs: {'my hub': {}}",
    "hubs: {'..': {}}",
    "hubs: {..x: {}}",
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
