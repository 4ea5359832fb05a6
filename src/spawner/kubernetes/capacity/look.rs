//! The nodes as they were a moment ago.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, PodSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::ListParams;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{NoPlace, Nodes};
use crate::error::{Error, Result};
use crate::spawner::Progress;
use crate::spawner::kubernetes::api::{ApiError, Cluster};
use crate::spawner::kubernetes::settings::CapacityCheck;

/// How old a look may be for a pod to be let through. If it is wrong then, the scheduler says so.
const RECENT: Duration = Duration::from_secs(10);

/// How old it may be for a pod to be refused: what one server has left, the next may have.
const JUST_NOW: Duration = Duration::from_secs(1);

/// The capacity of a cluster, looked at when it is asked for.
#[derive(Debug, Default)]
pub struct Capacity {
    seen: Mutex<Option<(Instant, Nodes)>>,
}

impl Capacity {
    /// Looks for a place for a pod that is about to be created, as far as the site wants that. What cannot be looked at is
    /// no reason against it.
    ///
    /// # Errors
    /// [`Error::Failed`]: there is none.
    pub async fn check(
        &self,
        cluster: &Cluster,
        mode: CapacityCheck,
        pod: &PodSpec,
        progress: &Progress,
    ) -> Result<()> {
        if mode == CapacityCheck::Off {
            return Ok(());
        }
        let no_place = match self.place(cluster, pod).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(no_place)) => no_place,
            Err(error) => {
                tracing::warn!(cause = %error, "the capacity of the cluster is not known; the start goes on without the check");
                return Ok(());
            }
        };
        tracing::info!(nodes = no_place.nodes, "there is no place for a server");
        if mode == CapacityCheck::Fail {
            return Err(Error::failed(format!("{} {}", no_place.reason, no_place.advice)));
        }
        progress.say(10, format!("{} It may have to wait.", no_place.reason));
        Ok(())
    }

    /// All who ask at once wait for the same look.
    async fn place(&self, cluster: &Cluster, pod: &PodSpec) -> Result<Result<(), NoPlace>, ApiError> {
        let mut seen = self.seen.lock().await;
        if let Some((at, nodes)) = seen.as_ref().filter(|(at, _)| at.elapsed() < RECENT) {
            let place = nodes.place(pod);
            if place.is_ok() || at.elapsed() < JUST_NOW {
                return Ok(place);
            }
        }
        let nodes = look(cluster).await?;
        let place = nodes.place(pod);
        *seen = Some((Instant::now(), nodes));
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
