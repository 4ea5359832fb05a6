//! What the other tests stand on: the API server is real, and the kubelet of the tests behaves.

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, LogParams, PostParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::support::eventually;
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Kubelet, Step, client, create, read};

fn a_pod(name: &str, words: &[&str]) -> Value {
    let env = json!([{"name": "GREETING", "value": "hello"}]);
    let container = json!({"name": "notebook", "image": "image", "command": words, "env": env});
    json!({"metadata": {"name": name}, "spec": {"containers": [container], "restartPolicy": "Never"}})
}

async fn phase(pods: &Api<Pod>, name: &str, expected: &str) -> Pod {
    eventually(&format!("{name} is {expected}"), || async {
        let pod = pods.get(name).await.unwrap();
        (pod.status.as_ref()?.phase.as_deref() == Some(expected)).then_some(pod)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_runs_says_something_and_goes() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let says = || [starts(), vec![Step::Says("hello"), Step::Hold, Step::Ends { code: 7, reason: "Error" }]].concat();
    let kubelet = Kubelet::start(cluster, &namespace, move |_| says()).await;
    let pods: Api<Pod> = Api::namespaced(cluster.admin().await, &namespace);
    create(pods.clone(), a_pod("one", &[])).await;
    let pod = phase(&pods, "one", "Running").await;
    assert_eq!(pod.spec.unwrap().node_name.as_deref(), Some(kubelet.node()));
    eventually("it says so", || async {
        (pods.logs("one", &LogParams::default()).await.ok()? == "hello\n").then_some(())
    })
    .await;
    kubelet.go_on();
    phase(&pods, "one", "Failed").await;
    pods.delete("one", &DeleteParams::default()).await.unwrap();
    eventually("the pod has gone", || async { pods.get_opt("one").await.unwrap().is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_waits_for_room_is_prepared_and_evicted() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let pause = Step::Pause(Duration::from_millis(50));
    let steps =
        [Step::Unschedulable("no room"), pause, Step::Bind, Step::InitEnds { code: 0 }, Step::Evicted("no disk")];
    let _kubelet = Kubelet::start(cluster, &namespace, move |_| steps.to_vec()).await;
    let pods: Api<Pod> = Api::namespaced(cluster.admin().await, &namespace);
    let mut pod = a_pod("one", &[]);
    pod["spec"]["initContainers"] = json!([{"name": "first", "image": "image"}]);
    create(pods.clone(), pod).await;
    let status = phase(&pods, "one", "Failed").await.status.unwrap();
    assert_eq!((status.reason.as_deref(), status.message.as_deref()), (Some("Evicted"), Some("no disk")));
    assert!(status.init_container_statuses.unwrap()[0].ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_may_be_a_process() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let kubelet = Kubelet::start(cluster, &namespace, |_| vec![Step::Bind, Step::RunsProcess]).await;
    let pods: Api<Pod> = Api::namespaced(cluster.admin().await, &namespace);
    create(pods.clone(), a_pod("ends", &["sh", "-c", "echo $GREETING; sleep 1; exit 3"])).await;
    create(pods.clone(), a_pod("stays", &["sleep", "1000"])).await;
    let pod = phase(&pods, "ends", "Failed").await;
    let ended = pod.status.unwrap().container_statuses.unwrap().remove(0).state.unwrap().terminated.unwrap();
    assert_eq!((ended.exit_code, kubelet.log("ends").as_str()), (3, "hello"));
    phase(&pods, "stays", "Running").await;
    pods.delete("stays", &DeleteParams::default()).await.unwrap();
    eventually("the pod has gone", || async { pods.get_opt("stays").await.unwrap().is_none().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_may_do_what_its_role_says() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["create"]}]);
    let path = cluster.kubeconfig(&cluster.token(&namespace, &rules).await);
    let limited = client(Kubeconfig::read_from(path).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(limited.clone(), &namespace);
    let pod: Pod = read(a_pod("one", &[]));
    // The API server's view of roles lags by a moment.
    eventually("pods may be made", || async { pods.create(&PostParams::default(), &pod).await.ok() }).await;
    assert!(matches!(pods.get("one").await, Err(kube::Error::Api(status)) if status.code == 403));
}
