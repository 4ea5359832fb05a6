//! Credentials that the cluster does not accept any more.

use super::{configuration, launch};
use crate::support::kube::Cluster;
use crate::support::{TestOutpost, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_expired_are_read_anew() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let kubeconfig = cluster.kubeconfig("expired");
    let outpost = TestOutpost::start(&configuration(&kubeconfig, &namespace, "start_timeout = 1")).await;
    let spawner = outpost.outpost.spawners.get("cluster").unwrap();
    eventually("it says so", || async { spawner.trouble().filter(|trouble| trouble.contains("401")) }).await;
    let launch = launch("ada", "");
    let handle = spawner.prepare(&launch).unwrap();
    let refused = spawner.start(&handle, &launch, &outpost::spawner::Progress::channel().0).await.unwrap_err();
    assert!(refused.to_string().contains("does not accept the credentials of Outpost"), "{refused}");

    std::fs::copy(cluster.admin_kubeconfig(), &kubeconfig).unwrap();
    eventually("the pods are seen", || async { spawner.trouble().is_none().then_some(()) }).await;
    spawner.stop(&launch.uid, &handle).await.unwrap();
}
