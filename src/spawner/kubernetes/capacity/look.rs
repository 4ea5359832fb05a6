//! The nodes as they were a moment ago.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::ListParams;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{NoPlace, Nodes};
use crate::spawner::kubernetes::api::{ApiError, Cluster};

/// How old a look may be for a pod to be let through. If it is wrong then, the scheduler says so.
const RECENT: Duration = Duration::from_secs(10);

/// The capacity of a cluster, looked at when it is asked for.
#[derive(Debug, Default)]
pub struct Capacity {
    /// When the last look began, and what was seen.
    seen: Mutex<Option<(Instant, Nodes)>>,
}

impl Capacity {
    /// Why there is no place for a pod that is about to be created; nothing where there is one, or where that cannot be
    /// known.
    pub async fn no_place(&self, cluster: &Cluster, pod: &PodSpec) -> Option<NoPlace> {
        match self.place(cluster, pod).await {
            Ok(place) => place.err(),
            Err(error) => {
                tracing::warn!(cause = %error, "the capacity of the cluster is not known, so that a start is not checked");
                None
            }
        }
    }

    /// A pod is only refused by a look that began after it was asked for, since what one server has left, the next may
    /// have. All who ask meanwhile share the next look.
    async fn place(&self, cluster: &Cluster, pod: &PodSpec) -> Result<Result<(), NoPlace>, ApiError> {
        let asked = Instant::now();
        let mut seen = self.seen.lock().await;
        if let Some((at, nodes)) = seen.as_mut().filter(|(at, _)| at.elapsed() < RECENT) {
            let place = nodes.place(pod);
            if place.is_ok() || *at >= asked {
                return Ok(place);
            }
        }
        let begun = Instant::now();
        let mut nodes = look(cluster).await?;
        let place = nodes.place(pod);
        *seen = Some((begun, nodes));
        Ok(place)
    }
}

async fn look(cluster: &Cluster) -> Result<Nodes, ApiError> {
    let mut nodes = Nodes::default();
    let all = ListParams::default();
    cluster.each::<Node, Node>(None, &all, |node| nodes.add_node(node)).await?;
    cluster.each::<PriorityClass, PriorityClass>(None, &all, |class| nodes.add_priority(class)).await?;
    let not_over = all.fields("status.phase!=Succeeded,status.phase!=Failed");
    cluster.each::<Pod, Pod>(None, &not_over, |pod| nodes.add_pod(&pod)).await?;
    Ok(nodes)
}
