//! How a server is removed: gently, by force at the deadline, and nothing that is not this server's.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use kube::core::{DynamicObject, PartialObjectMeta};
use serde::Deserialize as _;
use tokio::time::Instant;

use super::api::{ApiError, Patience};
use super::plan::{ObjectRef, Place};
use super::view::{Following, Sighting};
use super::{Kubernetes, place_of};
use super::{names, objects};
use crate::error::{Error, Result};
use crate::model::{Handle, Uid};

/// What a node may take to tell that a pod has ended within its grace.
const AFTER_GRACE: Duration = Duration::from_secs(5);
/// How long a pod may take to go when it was removed by force.
const LAST_WAIT: Duration = Duration::from_secs(15);
/// How long it is tried to apply what is to be there after the end.
const AFTERWARDS: Duration = Duration::from_secs(30);
/// How often a pod is asked for where the view does not show it.
const LOOK: Duration = Duration::from_secs(2);

impl Kubernetes {
    pub(super) async fn stop_server(&self, uid: &Uid, handle: &Handle) -> Result<()> {
        let place = place_of(handle)?;
        let _turn = self.turns.take(uid).await;
        let ids = self.turns.ids(uid);
        let settings = self.settings.load_full();
        self.watch(&place.namespace);
        // A pod must have its grace before it is removed by force.
        let grace = Duration::from_secs(place.grace_period.into()) + AFTER_GRACE;
        let stop = Stop {
            backend: self,
            uid,
            place: &place,
            labels: names::backend_labels(&self.identity()?),
            following: self.view.observe(uid),
            deadline: Instant::now() + settings.stop_timeout.max(grace),
        };
        let (pod, secret, service, extra) = tokio::join!(
            stop.pod(ids.pod),
            stop.owned::<Secret>(&place.secret, ids.secret),
            async { if place.service { stop.owned::<Service>(&place.pod, ids.service).await } else { Ok(()) } },
            stop.extra(),
        );
        pod.and(secret).and(service).and(extra).map_err(|error| Error::Unavailable {
            message: "The cluster has not removed the server yet.",
            cause: error.to_string(),
        })?;
        stop.afterwards().await;
        self.turns.forget(uid);
        Ok(())
    }
}

struct Stop<'a> {
    backend: &'a Kubernetes,
    uid: &'a Uid,
    place: &'a Place,
    labels: BTreeMap<String, String>,
    following: Following,
    deadline: Instant,
}

/// An object as far as it has to be known to be deleted.
type Known = PartialObjectMeta<Pod>;

impl Stop<'_> {
    async fn request<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        request: impl FnMut() -> F,
    ) -> Result<T, ApiError> {
        Patience::until(self.deadline).until_answered(request).await
    }

    /// Whether an object carries this server's labels.
    fn is_ours(&self, found: &ObjectMeta) -> bool {
        let label = |name: &str| found.labels.as_ref().and_then(|labels| labels.get(name));
        let of_backend = self.labels.iter().all(|(name, value)| label(name) == Some(value));
        of_backend && label(names::SERVER).is_some_and(|server| server == self.uid.as_str())
    }

    /// The cluster's identifier of an object of this server.
    async fn find<K: Resource<DynamicType = ()>>(&self, name: &str) -> Result<Option<String>, ApiError> {
        let found = self.request(|| self.backend.cluster.get::<K, Known>(Some(&self.place.namespace), name)).await?;
        Ok(found.filter(|object| self.is_ours(&object.metadata)).and_then(|object| object.metadata.uid))
    }

    async fn owned<K: Resource<DynamicType = ()>>(&self, name: &str, id: Option<String>) -> Result<(), ApiError> {
        let id = match id {
            Some(id) => Some(id),
            None => self.find::<K>(name).await?,
        };
        let Some(id) = id else { return Ok(()) };
        let namespace = Some(&*self.place.namespace);
        self.request(|| self.backend.cluster.delete::<K>(namespace, name, Some(&id), None)).await.map(drop)
    }

    async fn pod(&self, id: Option<String>) -> Result<(), ApiError> {
        let seen = self.seen();
        let id = match id.or_else(|| seen.clone()) {
            Some(id) => id,
            // The view may be behind.
            None => match self.find::<Pod>(&self.place.pod).await? {
                Some(id) => id,
                None => return Ok(()),
            },
        };
        let shown = seen.as_ref() == Some(&id);
        if !self.delete(&id, self.place.grace_period).await? {
            self.backend.view.bury(self.uid, &self.place.namespace, &id);
            return Ok(());
        }
        // Force is for what is there, not for what the view still shows.
        if !self.is_gone(&id, shown, self.deadline).await? && !self.has_gone(&id).await? {
            tracing::warn!(server.uid = %self.uid, "a pod did not end in time; it is removed by force");
            self.delete(&id, 0).await?;
            if !self.is_gone(&id, shown, Instant::now() + LAST_WAIT).await? {
                return Err(ApiError::late("delete", "pods", &self.place.namespace));
            }
        }
        Ok(())
    }

    async fn delete(&self, id: &str, grace: u32) -> Result<bool, ApiError> {
        let Place { namespace, pod, .. } = self.place;
        let patience = Patience::until(self.deadline.max(Instant::now() + LAST_WAIT));
        patience
            .until_answered(|| self.backend.cluster.delete::<Pod>(Some(namespace), pod, Some(id), Some(grace)))
            .await
    }

    fn seen(&self) -> Option<String> {
        self.following.seen.borrow().pod.as_ref().map(|pod| pod.metadata.uid.clone())
    }

    /// Waits until a pod is not there any more. The view tells, if it has shown the pod and is not behind.
    async fn is_gone(&self, id: &str, mut shown: bool, deadline: Instant) -> Result<bool, ApiError> {
        let mut seen = self.following.seen.clone();
        loop {
            let shows = seen.borrow_and_update().pod.as_ref().is_some_and(|pod| pod.metadata.uid == id);
            let fresh = self.backend.is_fresh(&self.place.namespace);
            if shown && !shows && fresh {
                return Ok(true);
            }
            shown |= shows;
            if !(shown && fresh) && self.has_gone(id).await? {
                return Ok(true);
            }
            let look = (Instant::now() + LOOK).min(deadline);
            tokio::select! {
                _ = seen.changed() => {}
                () = tokio::time::sleep_until(look) => {
                    if look == deadline {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Asks whether a pod is not there any more.
    async fn has_gone(&self, id: &str) -> Result<bool, ApiError> {
        let Place { namespace, pod, .. } = self.place;
        let found = self.request(|| self.backend.cluster.get::<Pod, Sighting>(Some(namespace), pod)).await?;
        let gone = found.is_none_or(|pod| pod.metadata.uid != id);
        if gone {
            self.backend.view.bury(self.uid, namespace, id);
        }
        Ok(gone)
    }

    /// Removes the objects that were made before the pod. One of a kind that the cluster or the role does not have any more
    /// stays, and the server is stopped all the same.
    async fn extra(&self) -> Result<(), ApiError> {
        for object in &self.place.extra {
            match self.remove(object).await {
                Err(error) if matches!(error.code(), Some(403 | 404)) => tracing::warn!(
                    server.uid = %self.uid, kind = object.kind, name = object.name, cause = %error,
                    "an object of `pre_start` cannot be removed"
                ),
                removed => removed?,
            }
        }
        Ok(())
    }

    async fn remove(&self, object: &ObjectRef) -> Result<(), ApiError> {
        let (resource, namespace, name) = (object.resource(), &self.place.namespace, &object.name);
        let found = self.request(|| self.backend.cluster.get_any(&resource, namespace, name)).await?;
        let Some(found) = found.filter(|found| self.is_ours(&found.metadata)) else { return Ok(()) };
        let id = found.metadata.uid.as_deref();
        self.request(|| self.backend.cluster.delete_any(&resource, namespace, name, id)).await
    }

    /// Applies what is to be there after the end. The server is gone: what cannot be applied is only logged.
    async fn afterwards(&self) {
        let patience = Patience::until(Instant::now() + AFTERWARDS);
        for object in &self.place.post_stop {
            let applied = match DynamicObject::deserialize(object) {
                Ok(object) => {
                    let resource = objects::reference(&object).resource();
                    let applied = patience.until_answered(|| self.backend.cluster.apply(&object, &resource)).await;
                    applied.map_err(|error| error.to_string())
                }
                Err(error) => Err(error.to_string()),
            };
            if let Err(cause) = applied {
                tracing::warn!(server.uid = %self.uid, cause, "an object of `post_stop` cannot be applied");
            }
        }
    }
}
