//! A real JupyterHub, whose notebooks are pods, whose containers are processes of this machine.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use serde_json::json;

use super::{configuration, settings_of};
use crate::support::kube::{Cluster, Kubelet, Step};
use crate::support::real_hub::{RealHub, free_port, patiently};
use crate::support::server::options;
use crate::support::{Kind, TestDb, TestOutpost};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_hub_starts_a_notebook_in_a_pod() {
    let Some(cluster) = Cluster::shared().await else { return };
    let port = free_port();
    let Some(hub) = RealHub::start(port, false).await else { return };
    let namespace = cluster.namespace().await;
    let steps = || vec![Step::Bind, Step::Waits { reason: "ContainerCreating", message: "" }, Step::RunsProcess];
    let kubelet = Kubelet::start(cluster, &namespace, move |_| steps()).await;
    let singleuser = hub.bin.join("jupyterhub-singleuser");
    // Nobody here knows the names of a cluster, so that the hub is told where the process listens.
    let settings = format!(
        "cmd = ['{}', '--allow-root']\npod_connect_ip = '127.0.0.1'\n[hubs.hub1]\napi_url = '{}'\n[[overrides]]\nhubs = ['hub1']\nallow = 'all'\n",
        singleuser.display(),
        hub.api
    );
    let account = cluster.permitted(&namespace, &settings_of(&namespace, &settings)).await;
    let toml = configuration(&account.kubeconfig, &namespace, &settings);
    let (dir, db) = (tempfile::tempdir().unwrap(), TestDb::new(Kind::Sqlite).await.unwrap());
    let mut options = options(dir.path(), &db.url, &toml);
    options.config.http.listen.set_port(port);
    let outpost = TestOutpost::run(options).await;
    let pods: Api<Pod> = Api::namespaced(cluster.admin().await, &namespace);
    let count = async || pods.list(&ListParams::default()).await.unwrap().items.len();

    for (user, name, start_async) in [("alice", "", false), ("bob", "lab", true)] {
        hub.add_user(user).await;
        hub.start_server(user, name, &json!({"start_async": start_async})).await;
        let progress = hub.progress(user, name).await;
        assert!(progress.contains("\"ready\": true"), "{progress}");
        hub.wait_until_ready(user, name).await;
        patiently("the notebook answers", || async { hub.reachable(user, name).await.then_some(()) }).await;
    }
    assert_eq!(count().await, 2);
    let listed = outpost.get("/services/").await.body;
    let bobs = listed.as_array().unwrap().iter().find(|server| server["name"] == "lab").unwrap().clone();
    let path = format!("/services/lab/{}?collect_logs=true", bobs["start_id"].as_str().unwrap());
    let logs = outpost.get(&path).await.body["logs"].to_string();
    assert!(logs.contains("Jupyter Server"), "{logs} {}", kubelet.node());
    hub.stop_server("bob", "lab").await;
    // A pod that an administrator deletes is noticed by the hub.
    patiently("bob's pod is gone", || async { (count().await == 1).then_some(()) }).await;
    let pod = pods.list(&ListParams::default()).await.unwrap().items.remove(0).metadata.name.unwrap();
    pods.delete(&pod, &kube::api::DeleteParams::default()).await.unwrap();
    hub.wait_until_stopped("alice", "").await;
    patiently("nothing is left", || async { (outpost.view_is_empty() && count().await == 0).then_some(()) }).await;
    hub.stop().await;
}
