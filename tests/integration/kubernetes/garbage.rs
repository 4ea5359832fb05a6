//! With a controller manager: what a pod owns goes with it.

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::DeleteParams;

use super::{Site, launch};
use crate::support::eventually;
use crate::support::kube::Cluster;
use crate::support::kube::kubelet::starts;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pod_owns_goes_with_it() {
    let Some(cluster) = Cluster::controlled().await else { return };
    let site = Site::on(&cluster, "services_enabled = true", |_| starts()).await;
    let (lost, kept) = (launch("ada", ""), launch("bob", ""));
    for launch in [&lost, &kept] {
        site.start(launch).await.unwrap();
    }
    let pod = site.pod_of(&lost.uid).await.unwrap().name_any();
    site.api::<Pod>().delete(&pod, &DeleteParams::default()).await.unwrap();
    // The token of the default account is a secret, too.
    let secrets = async || site.names::<Secret>().await.iter().filter(|name| name.starts_with("outpost-")).count();
    eventually("its secret and its service are collected", || async {
        (secrets().await == 1 && site.names::<Service>().await.len() == 1).then_some(())
    })
    .await;
    site.stop(&lost).await;
    site.stop(&kept).await;
    assert_eq!((secrets().await, site.names::<Service>().await.len()), (0, 0));
    assert_eq!(site.names::<Pod>().await, Vec::<String>::new());
}
