//! Objects besides those that every server has: before it, after it, and its namespace.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use outpost::spawner::Status;

use super::{Site, is_of, launch};
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Kubelet};

const AROUND: &str = "object_kinds = ['v1/ConfigMap']\n\
    pre_start = [{ apiVersion = 'v1', kind = 'ConfigMap', metadata = { name = 'before-{uid}' }, data = { of = '{username}' } }]\n\
    post_stop = [{ apiVersion = 'v1', kind = 'ConfigMap', metadata = { name = 'after-{uid}' }, data = { of = '{username}' } }]\n";

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_applied_before_a_server_and_after_it() {
    let Some(site) = Site::new(AROUND).await else { return };
    let launch = launch("ada", "");
    site.start(&launch).await.unwrap();
    let uid = launch.uid.as_str().to_ascii_lowercase();
    let before = site.api::<ConfigMap>().get(&format!("before-{uid}")).await.unwrap();
    assert!(is_of(before.labels(), &launch.uid));
    assert_eq!(before.data.unwrap()["of"], "ada");
    // A start that is repeated finds it.
    site.start(&launch).await.unwrap();
    site.stop(&launch).await;
    assert_eq!(site.names::<ConfigMap>().await, [format!("after-{uid}")]);
    let after = site.api::<ConfigMap>().get(&format!("after-{uid}")).await.unwrap();
    assert_eq!(after.data.unwrap()["of"], "ada");
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn users_can_have_namespaces_of_their_own() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let own = format!("{namespace}-ada");
    let _kubelet = Kubelet::start(cluster, &own, |_| starts()).await;
    let settings = format!("enable_user_namespaces = true\nuser_namespace_template = '{namespace}-{{username}}'\n");
    let site = Site::permitted(cluster, namespace, &settings, |_| starts()).await;
    for _ in 0..2 {
        let launch = launch("ada", "");
        site.start(&launch).await.unwrap();
        assert_eq!(site.status(&launch).await, Status::Running);
        let pods: Api<Pod> = Api::namespaced(site.admin.clone(), &own);
        assert_eq!(pods.list(&ListParams::default()).await.unwrap().items.len(), 1);
        site.stop(&launch).await;
        assert!(pods.list(&ListParams::default()).await.unwrap().items.is_empty());
    }
    assert!(Api::<Namespace>::all(site.admin.clone()).get(&own).await.is_ok());
    site.assert_is_empty().await;
}
