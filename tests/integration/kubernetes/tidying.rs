//! Pods whose server has ended do not stay for ever.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use outpost::metrics::Metrics;
use outpost::spawner::kubernetes::names::{INSTALLATION, MANAGED_BY, SERVER, SPAWNER};
use outpost::spawner::kubernetes::{Context, Kubernetes};
use outpost::spawner::{Changes, Spawner};
use rstest::rstest;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::eventually;
use crate::support::kube::{Cluster, create};

#[rstest]
#[case::by_default("", false)]
#[case::not_if_the_site_looks_after_them("delete_stopped_pods = false", true)]
#[tokio::test(flavor = "multi_thread")]
async fn an_ended_pod_is_removed_by_the_next_pass(#[case] setting: &str, #[case] stays: bool) {
    let Some(cluster) = Cluster::shared().await else { return };
    let (namespace, admin) = (cluster.namespace().await, cluster.admin().await);
    let pods: Api<Pod> = Api::namespaced(admin.clone(), &namespace);
    let settings = toml::from_str(&format!("namespace = '{namespace}'\n{setting}")).unwrap();
    let (changes, _) = Changes::channel();
    let (tracker, shutdown) = (TaskTracker::new(), CancellationToken::new());
    let context = Context { changes, tracker, shutdown: shutdown.clone(), metrics: Arc::new(Metrics::default()) };
    let backend = Kubernetes::with_client("cluster", settings, context, admin).unwrap();
    backend.begin("one");

    for (name, phase) in [("over", "Failed"), ("runs", "Running")] {
        let uid = ulid::Ulid::generate().to_string();
        let labels = json!({MANAGED_BY: "outpost", INSTALLATION: "one", SPAWNER: "cluster", SERVER: uid});
        let spec = json!({"containers": [{"name": "notebook", "image": "image"}]});
        create(pods.clone(), json!({"metadata": {"name": name, "labels": labels}, "spec": spec})).await;
        let status = json!({"status": {"phase": phase, "reason": "Evicted"}});
        pods.patch_status(name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    }
    let seen = eventually("both are seen", || async {
        let ended = backend.tidy(&HashSet::new()).await;
        (backend.list().await.ok()?.len() == 2 && (stays || ended.len() == 1)).then_some(ended)
    })
    .await;
    backend.tidy(&seen).await;
    assert_eq!(pods.get_opt("over").await.unwrap().is_some(), stays);
    assert!(pods.get_opt("runs").await.unwrap().is_some());
    shutdown.cancel();
}
