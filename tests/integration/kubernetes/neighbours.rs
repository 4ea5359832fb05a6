//! Several Outposts: strangers in one namespace, and replicas on one database.

use k8s_openapi::api::core::v1::Pod;
use outpost::spawner::Status;
use serde_json::json;

use super::{Site, configuration, launch, settings_of};
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Kubelet, Step};
use crate::support::server::body;
use crate::support::{Kind, TestDb, TestOutpost, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn two_outposts_in_one_namespace_ignore_each_other() {
    let settings = "services_enabled = true\npod_name_template = 'pod-{uid}'\n";
    let Some(cluster) = Cluster::shared().await else { return };
    let site = Site::new(settings).await.unwrap();
    let account = cluster.permitted(&site.namespace, &settings_of(&site.namespace, settings)).await;
    let toml = configuration(&account.kubeconfig, &site.namespace, settings);
    let neighbour = TestOutpost::start(&toml).await;
    let spawner = neighbour.outpost.spawners.get("cluster").unwrap();
    eventually("it sees its servers", || async { spawner.trouble().is_none().then_some(()) }).await;
    let launch = launch("ada", "");
    let handle = site.prepared(&launch);
    site.start(&launch).await.unwrap();
    // It is asked for the very same server, which it does not have.
    assert!(spawner.list().await.unwrap().is_empty());
    assert_eq!(spawner.status(&launch.uid, &handle).await.unwrap(), Status::Absent);
    spawner.stop(&launch.uid, &handle).await.unwrap();
    assert_eq!(site.status(&launch).await, Status::Running);
    assert_eq!((site.names::<Pod>().await.len(), site.spawner().list().await.unwrap().len()), (1, 1));
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_names_of_two_outposts_are_in_each_others_way() {
    let Some(cluster) = Cluster::shared().await else { return };
    let settings = "pod_name_template = 'pod-{username}'";
    let site = Site::new(settings).await.unwrap();
    let account = cluster.permitted(&site.namespace, &settings_of(&site.namespace, settings)).await;
    let toml = configuration(&account.kubeconfig, &site.namespace, settings);
    let neighbour = TestOutpost::start(&toml).await;
    let spawner = neighbour.outpost.spawners.get("cluster").unwrap();
    let (ours, theirs) = (launch("ada", ""), launch("ada", ""));
    site.start(&ours).await.unwrap();
    let (progress, _events) = outpost::spawner::Progress::channel();
    let handle = spawner.prepare(&theirs).unwrap();
    let refused = spawner.start(&handle, &theirs, &progress).await.unwrap_err().to_string();
    assert!(refused.contains("pod-ada"), "{refused}");
    spawner.stop(&theirs.uid, &handle).await.unwrap();
    assert_eq!(site.status(&ours).await, Status::Running);
    site.stop(&ours).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_takes_over_a_start() {
    let Some(cluster) = Cluster::shared().await else { return };
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let namespace = cluster.namespace().await;
    let held = || [vec![Step::Bind, Step::Hold], starts()[1..].to_vec()].concat();
    let kubelet = Kubelet::start(cluster, &namespace, move |_| held()).await;
    let settings = "services_enabled = true\n";
    let account = cluster.permitted(&namespace, &settings_of(&namespace, settings)).await;
    let toml = configuration(&account.kubeconfig, &namespace, settings);
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = TestOutpost::start_in(dirs[0].path(), &db.url, &toml).await;
    let second = TestOutpost::start_in(dirs[1].path(), &db.url, &toml).await;
    let request = body("lab", "1", "http://127.0.0.1:1/hub/api");
    assert_eq!(first.post_async(&request).await.status, 202);
    let pods: kube::Api<Pod> = kube::Api::namespaced(cluster.admin().await, &namespace);
    let all = async || pods.list(&kube::api::ListParams::default()).await.unwrap().items;
    eventually("its pod is there", || async { (all().await.len() == 1).then_some(()) }).await;
    // The other one knows of it, and goes on with it when the first has gone.
    eventually("the second one knows it", || async {
        (second.get("/services/lab/1").await.status == 200).then_some(())
    })
    .await;
    first.stop().await;
    let pod = all().await.remove(0).metadata.uid;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    kubelet.go_on();
    let started = second.post("/services", &request).await;
    assert_eq!(started.status, 200, "{:?}", started.body);
    assert_eq!(second.get("/services/lab/1").await.body, json!({"status": null, "logs": []}));
    let running = all().await;
    assert_eq!((running.len(), running[0].metadata.uid.clone()), (1, pod));
    assert_eq!(second.delete("/services/lab/1").await.status, 200);
    assert!(all().await.is_empty());
}
