//! How much is asked of the API server.

use std::time::Duration;

use outpost::spawner::Status;

use super::{Site, launch};
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Gate};

/// As the calls of one server, without its names.
fn shape(calls: &[String]) -> Vec<String> {
    let mut shape: Vec<String> = calls
        .iter()
        .map(|call| {
            let (method, path) = call.split_once(' ').unwrap();
            format!("{method} {}", path.split('/').nth(5).unwrap_or(path))
        })
        .collect();
    shape.sort();
    shape
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_takes_three_requests_a_poll_none_and_a_stop_three() {
    let Some(cluster) = Cluster::shared().await else { return };
    let (gate, namespace) = (Gate::open(cluster).await, cluster.namespace().await);
    let site = Site::within(cluster, namespace, &gate.kubeconfig, "services_enabled = true", |_| starts()).await;
    let launch = launch("ada", "lab");
    gate.calls();
    site.start(&launch).await.unwrap();
    assert_eq!(shape(&gate.calls()), ["POST pods", "POST secrets", "POST services"]);
    for _ in 0..50 {
        assert_eq!(site.status(&launch).await, Status::Running);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(gate.calls(), Vec::<String>::new());
    site.stop(&launch).await;
    assert_eq!(shape(&gate.calls()), ["DELETE pods", "DELETE secrets", "DELETE services"]);
    assert_eq!(site.status(&launch).await, Status::Absent);
    site.assert_is_empty().await;
}
