//! What the backend does by itself now and then: pods whose server has ended are removed, and claims that nobody uses;
//! and what it knows and watches for nobody any more ends.

use std::collections::HashSet;
use std::sync::{PoisonError, Weak};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;

use super::{Kubernetes, claims, failures, selector};
use crate::clock::Clock;
use crate::model::Uid;
use crate::spawner::Status;

/// The time between two passes, about. Until the next one, what an ended server wrote can be read.
const PERIOD: Duration = Duration::from_secs(1800);

/// One pass after the other, as long as there is the backend.
pub async fn for_ever(backend: Weak<Kubernetes>) {
    let mut ended = HashSet::new();
    loop {
        tokio::time::sleep(PERIOD.mul_f64(0.9 + 0.2 * rand::random::<f64>())).await;
        let Some(backend) = backend.upgrade() else { return };
        ended = backend.tidy(&ended).await;
    }
}

impl Kubernetes {
    /// One pass. `ended` are the servers that had ended at the pass before, from which it came; gives those of this one.
    pub async fn tidy(&self, ended: &HashSet<Uid>) -> HashSet<Uid> {
        let ended = self.remove_ended_pods(ended).await;
        self.retire_claims().await;
        // Another Outpost may have stopped a server that this one started.
        self.turns.keep(|uid| self.view.pod(uid).is_some());
        self.end_watches();
        ended
    }

    /// Ends the watches of what is neither configured nor has servers any more.
    fn end_watches(&self) {
        let namespaces = self.settings.load().all_namespaces();
        self.watched.lock().unwrap_or_else(PoisonError::into_inner).retain(|scope, end| {
            let needed = match &namespaces {
                Some(names) => names.contains(scope) || !scope.is_empty() && self.view.is_used(scope),
                None => scope.is_empty(),
            };
            if !needed {
                end.cancel();
                self.view.abandon(scope);
            }
            needed
        });
    }

    /// Removes the pods that had ended at the last pass already; gives those that have ended now. Their secrets and services
    /// go with them.
    async fn remove_ended_pods(&self, before: &HashSet<Uid>) -> HashSet<Uid> {
        let wanted = self.settings.load().delete_stopped_pods;
        let mut ended = HashSet::new();
        for (uid, pod) in self.view.pods() {
            if !wanted || !matches!(failures::status(&pod), Status::Exited(_)) {
                continue;
            }
            if before.contains(&uid) {
                let (namespace, name, id) = (&pod.metadata.namespace, &pod.metadata.name, &pod.metadata.uid);
                match self.cluster.delete::<Pod>(Some(namespace), name, Some(id), None).await {
                    Ok(_) => tracing::info!(server.uid = %uid, "the pod of a server that ended was removed"),
                    Err(error) => {
                        tracing::warn!(server.uid = %uid, cause = %error, "the pod of a server that ended stays")
                    }
                }
            }
            ended.insert(uid);
        }
        ended
    }

    async fn retire_claims(&self) {
        let settings = self.settings.load_full();
        let (Some(retention), Ok(identity)) = (settings.storage_retention, self.identity()) else { return };
        let namespaces = settings.all_namespaces();
        let scopes = namespaces.map_or_else(|| vec![None], |names| names.into_iter().map(Some).collect());
        for scope in scopes {
            let (selector, now) = (selector(&identity), Clock::System.now());
            if let Err(error) = claims::retire(&self.cluster, scope.as_deref(), &selector, retention, now).await {
                tracing::warn!(spawner.name = self.name, cause = %error, "volume claims cannot be looked at");
            }
        }
    }
}
