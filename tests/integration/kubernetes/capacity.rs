//! What cannot fit anywhere is found out before it is asked for.

use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Map, Value, json};

use super::{Site, launch};
use crate::support::eventually;
use crate::support::kube::Cluster;
use crate::support::kube::kubelet::starts;

/// A site whose servers can only run on one node, which has 4 processors and 8 GiB.
async fn on_one_node(settings: &str) -> Option<Site> {
    let cluster = Cluster::shared().await?;
    let namespace = cluster.namespace().await;
    let settings = format!(
        "{settings}\nstorage_pvc_ensure = true\nstorage_capacity = '1Gi'\nnode_selector = {{ pool = '{namespace}' }}\n\
         tolerations = [{{ key = 'pool', operator = 'Equal', value = 'users', effect = 'NoSchedule' }}]\n"
    );
    let site = Site::permitted(cluster, namespace.clone(), &settings, |_| starts()).await;
    let nodes: Api<Node> = Api::all(cluster.admin().await);
    let taint = json!({"key": "pool", "value": "users", "effect": "NoSchedule"});
    let change = json!({"metadata": {"labels": {"pool": namespace}}, "spec": {"taints": [taint]}});
    nodes.patch(site.kubelet.node(), &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    let room = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
    let status = json!({"status": {"capacity": room, "allocatable": room}});
    nodes.patch_status(site.kubelet.node(), &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    Some(site)
}

fn asks_for(user: &str, memory: &str) -> outpost::model::Launch {
    let options: Map<String, Value> = Map::from_iter([("mem_guarantee".to_owned(), json!(memory))]);
    outpost::model::Launch { options, ..launch(user, "lab") }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fits_nowhere_is_refused_at_once() {
    let Some(site) = on_one_node("capacity_check = 'fail'").await else { return };
    assert_eq!(
        site.failure(&asks_for("ada", "16G")).await,
        "No machine of this system is large enough for this server: it needs 16 GiB of memory, and the most that one of \
         them has for it is 8 GiB of memory. Please choose less, or ask the administrators of the system."
    );
    site.assert_is_empty().await;
    assert_eq!(site.names::<PersistentVolumeClaim>().await, [""; 0]);

    let (first, second) = (asks_for("ada", "5G"), asks_for("bob", "5G"));
    site.start(&first).await.unwrap();
    bound(&site).await;
    let refused = site.failure(&second).await;
    assert!(
        refused.contains("it needs 5 GiB of memory, and the most that is free on one of them is 3 GiB"),
        "{refused}"
    );
    // A start that was interrupted does not stand in its own way.
    site.start(&first).await.unwrap();
    // What one has left, the next has.
    site.stop(&first).await;
    site.start(&second).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_can_be_told_and_wait() {
    let Some(site) = on_one_node("capacity_check = 'warn'").await else { return };
    let (started, told) = site.told(&asks_for("ada", "16G")).await;
    started.unwrap();
    assert!(told.iter().any(|event| event.message.ends_with("Your server may have to wait.")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_look_nobody_is_refused() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let all = json!([{"apiGroups": [""], "resources": ["*"], "verbs": ["*"]}]);
    let kubeconfig = cluster.kubeconfig(&cluster.token(&namespace, &all).await);
    let site = Site::within(cluster, namespace, &kubeconfig, "capacity_check = 'fail'", |_| starts()).await;
    site.start(&asks_for("ada", "16G")).await.unwrap();
}

/// Waits until the API server has noted which node the pod is on.
async fn bound(site: &Site) {
    let pods: Api<Pod> = site.api();
    eventually("the pod has a node", || async {
        let pods = pods.list(&kube::api::ListParams::default()).await.unwrap();
        pods.items.first()?.spec.as_ref()?.node_name.clone()
    })
    .await;
}
