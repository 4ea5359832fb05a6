//! What a change of the values changes, and what it leaves alone.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use kube::api::Api;
use rstest::rstest;
use serde_json::Value;

use crate::support::helm::{Helm, Release};
use crate::support::kube::Cluster;

/// The template of Outpost's pod before a change and after it.
fn templates(helm: &Helm, before: &str, after: &str) -> [Value; 2] {
    let mut rendered = helm.try_render([before, after]).into_iter().map(Result::unwrap);
    [(); 2].map(|()| rendered.next().unwrap().only("Deployment")["spec"]["template"].clone())
}

#[rstest]
#[case::a_new_hub("hubs: {a: {}}", "hubs: {a: {}, b: {}}")]
#[case::a_key_of_a_hub("hubs: {a: {ssh_keys: [ssh-ed25519 AAAA]}}", "hubs: {a: {ssh_keys: [ssh-ed25519 BBBB]}}")]
#[case::an_image("", "singleuser: {image: {name: example/lab, tag: '2'}}")]
#[case::a_backend("", "config: {spawners: {more: {type: kubernetes, namespace: outpost}}}")]
#[case::options_of_a_backend("", "config: {spawners: {kubernetes: {priority_class_name: high}}}")]
#[case::flavors("flavors: {a: {max: 1}}", "flavors: {a: {max: 2}}")]
fn what_is_read_anew_leaves_the_pod_alone(#[case] before: &str, #[case] after: &str) {
    let Some(helm) = Helm::engine() else { return };
    let [before, after] = templates(&helm, before, after);
    assert_eq!(before, after);
}

#[rstest]
#[case::the_rate_of_requests("", "config: {spawners: {kubernetes: {api_rate: 5}}}")]
#[case::the_burst_of_requests("", "config: {spawners: {kubernetes: {api_burst: 5}}}")]
#[case::another_cluster(
    "config: {spawners: {far: {type: kubernetes, kubeconfig: /a, context: a}}}",
    "config: {spawners: {far: {type: kubernetes, kubeconfig: /a, context: b}}}"
)]
#[case::another_file_of_a_cluster(
    "config: {spawners: {far: {type: kubernetes, kubeconfig: /a}}}",
    "config: {spawners: {far: {type: kubernetes, kubeconfig: /b}}}"
)]
#[case::another_type("config: {spawners: {far: {type: process}}}", "config: {spawners: {far: {type: kubernetes}}}")]
#[case::the_port("config: {http: {listen: '0.0.0.0:8080'}}", "config: {http: {listen: '[::]:8080'}}")]
#[case::the_form_of_the_log("", "config: {log: {format: json}}")]
#[case::the_certificate("tlsSecret: a", "tlsSecret: b")]
#[case::the_hubs_secret("outpostUsers: a", "outpostUsers: b")]
fn what_is_read_once_replaces_the_pod(#[case] before: &str, #[case] after: &str) {
    let Some(helm) = Helm::engine() else { return };
    let checksum = |template: &Value| template["metadata"]["annotations"]["checksum/restart"].clone();
    let [before, after] = templates(&helm, before, after).map(|template| checksum(&template));
    assert!(before.is_string());
    assert_ne!(before, after);
}

/// A release whose Deployment and passwords are looked at.
struct Installed {
    release: Release,
    deployments: Api<Deployment>,
    secrets: Api<Secret>,
}

impl Installed {
    async fn new(helm: &Helm, cluster: &Cluster, values: &str) -> Self {
        let release = Release::new(helm, cluster, "outpost").await;
        release.install(values).unwrap();
        let (client, namespace) = (cluster.admin().await, &release.namespace);
        let deployments = Api::namespaced(client.clone(), namespace);
        let secrets = Api::namespaced(client, namespace);
        Self { release, deployments, secrets }
    }

    fn upgrade(&self, values: &str) {
        self.release.upgrade(values).unwrap_or_else(|error| panic!("{values}: {error}"));
    }

    /// Grows with every change of the Deployment.
    async fn generation(&self) -> i64 {
        self.deployments.get("outpost").await.unwrap().metadata.generation.unwrap()
    }

    async fn passwords(&self) -> BTreeMap<String, ByteString> {
        self.secrets.get("outpost-hubs").await.unwrap().data.unwrap()
    }

    /// Whether the database is on a claim, as the API server has it.
    async fn is_on_a_claim(&self) -> bool {
        let spec = self.deployments.get("outpost").await.unwrap().spec.template.spec.unwrap();
        let mounts = spec.containers[0].volume_mounts.as_deref().unwrap();
        let mounts: Vec<_> = mounts.iter().filter(|mount| mount.mount_path == "/var/lib/outpost").collect();
        assert_eq!(mounts.len(), 1, "{mounts:?}");
        let volume = spec.volumes.unwrap().into_iter().find(|volume| volume.name == mounts[0].name).unwrap();
        assert_ne!(volume.empty_dir.is_some(), volume.persistent_volume_claim.is_some(), "{volume:?}");
        volume.persistent_volume_claim.is_some()
    }
}

/// The API server merges volumes of one name, and one of two kinds is none.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_moves_to_a_claim_and_away_from_it() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    // Without any values Helm would take those of before.
    let (stays, nothing_stays) = ("persistence: {enabled: true}", "persistence: {enabled: false}");
    let installed = Installed::new(&helm, cluster, nothing_stays).await;
    assert!(!installed.is_on_a_claim().await);
    let postgresql = "config: {store: {url: 'postgresql://outpost@db/outpost'}}";
    for (values, is_on_a_claim) in [
        (stays, true),
        (nothing_stays, false),
        ("persistence: {existingClaim: ours}", true),
        (postgresql, false),
        (stays, true),
    ] {
        installed.upgrade(values);
        assert_eq!(installed.is_on_a_claim().await, is_on_a_claim, "{values}");
    }
    installed.release.rollback(1).unwrap();
    assert!(!installed.is_on_a_claim().await);
    installed.release.uninstall().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_come_and_go_with_their_passwords_while_the_pod_stays() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let installed = Installed::new(&helm, cluster, "hubs: {a: {}, b: {}}").await;
    let (passwords, generation) = (installed.passwords().await, installed.generation().await);
    assert_eq!(passwords.len(), 2);
    installed.upgrade("hubs: {a: {}}");
    assert_eq!(installed.passwords().await, passwords);
    installed.upgrade("hubs: {a: {}, b: {}, c: {}}");
    assert_eq!(installed.generation().await, generation);
    // None of them is the chart's for a while.
    installed.upgrade("outpostUsers: users");
    installed.upgrade("hubs: {b: {}, c: {}}");
    let mut now = installed.passwords().await;
    assert!(now.remove("c").is_some());
    assert_eq!(now, passwords);
    installed.release.uninstall().unwrap();
}
