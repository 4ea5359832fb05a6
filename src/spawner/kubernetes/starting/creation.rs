//! The requests of a start. Each object may be there already, from a start that was interrupted; nothing that belongs to
//! others is touched.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::model::Uid;
use crate::spawner::kubernetes::api::{ApiError, Cluster, Patience};
use crate::spawner::kubernetes::capacity::Capacity;
use crate::spawner::kubernetes::plan::{Place, Plan};
use crate::spawner::kubernetes::settings::{CapacityCheck, Settings};
use crate::spawner::kubernetes::turns::Turns;
use crate::spawner::kubernetes::{claims, failures, names};
use crate::spawner::{Progress, Status};

/// The pause before a name that is still taken is tried again.
const PAUSE: Duration = Duration::from_millis(500);

/// What is to be created. It goes on for itself, so that no request is given up half-way where its start is dropped.
pub struct Creation {
    pub cluster: Cluster,
    pub settings: Arc<Settings>,
    pub capacity: Arc<Capacity>,
    pub turns: Arc<Turns>,
    pub uid: Uid,
    pub place: Place,
    pub plan: Plan,
    pub patience: Patience,
    pub progress: Progress,
}

/// What there is now.
pub struct Created {
    /// The cluster's identifier of the pod.
    pub pod: String,
    /// Whether it was there already.
    pub found: bool,
}

/// Whose a pod is that has the name of ours.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Whose {
    /// It is this server's.
    This,
    /// It is of a server of ours that is being deleted.
    Going,
    /// It is of an earlier start of this server, and has ended.
    Over,
    /// It is of an earlier start of this server, which its hub has given up: a hub has one server of a name.
    Earlier,
    /// It is of a later start of this server.
    Later,
    /// It is none of ours.
    Foreign,
}

impl Creation {
    /// Creates all objects, or finds those that are there.
    pub async fn run(self) -> Result<Created> {
        let _turn = self.turns.take(&self.uid).await;
        self.is_wanted()?;
        self.has_place().await?;
        if let Some(namespace) = &self.plan.namespace {
            self.namespace(namespace).await?;
        }
        if let Some(claim) = &self.plan.claim {
            let used = self.settings.storage_retention.map(|_| Clock::System.now());
            let Plan { claim_is_made: is_made, claim_is_adopted: is_adopted, .. } = self.plan;
            let terms = claims::Terms { is_made, is_adopted, used };
            claims::ensure(&self.cluster, claim, &terms, &self.patience).await?;
        }
        for (object, reference) in self.plan.pre_start.iter().zip(&self.place.extra) {
            self.is_wanted()?;
            let (resource, namespace, name) = (reference.resource(), &self.place.namespace, &reference.name);
            let found = self.request(|| self.cluster.get_any(&resource, namespace, name)).await;
            if let Some(found) = found.map_err(|error| refused(&error))?
                && !same(&found.metadata, &object.metadata, &[names::INSTALLATION, names::SPAWNER, names::HUB])
            {
                return Err(taken(&reference.kind, &found.metadata, &object.metadata));
            }
            self.request(|| self.cluster.apply(object, &resource)).await.map_err(|error| refused(&error))?;
        }
        let created = self.pod().await?;
        self.turns.note(&self.uid, |ids| ids.pod = Some(created.pod.clone()));
        let (secret, service) = tokio::join!(
            self.owned::<Secret>(Some(&self.plan.secret), &created.pod),
            self.owned::<Service>(self.plan.service.as_ref(), &created.pod)
        );
        let (secret, service) = (secret?, service?);
        self.turns.note(&self.uid, |ids| (ids.secret, ids.service) = (secret, service));
        Ok(created)
    }

    /// The user's namespace. One that is there has to be known as this user's.
    async fn namespace(&self, wanted: &Namespace) -> Result<()> {
        match self.request(|| self.cluster.create(wanted)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(refused(&error)),
        }
        let name = &self.place.namespace;
        let found = self.request(|| self.cluster.get::<Namespace, Namespace>(None, name)).await;
        let user = |meta: &ObjectMeta| meta.annotations.as_ref().and_then(|all| all.get(names::USERNAME).cloned());
        let is_users = found.map_err(|error| refused(&error))?.is_some_and(|found| {
            same(&found.metadata, &wanted.metadata, &[names::INSTALLATION, names::SPAWNER, names::HUB])
                && user(&found.metadata) == user(&wanted.metadata)
        });
        if is_users {
            return Ok(());
        }
        Err(Error::failed(format!(
            "The namespace \"{name}\" that your server is to be in is not known as yours in the cluster. Please tell the administrators of this system."
        )))
    }

    /// Whether somebody still waits for the server. Asked before anything is created that only a later stop removes.
    fn is_wanted(&self) -> Result<()> {
        if self.patience.is_over() { Err(Error::Cancelled) } else { Ok(()) }
    }

    async fn request<T, F: Future<Output = Result<T, ApiError>>>(
        &self,
        request: impl FnMut() -> F,
    ) -> Result<T, ApiError> {
        self.patience.until_answered(request).await
    }

    /// Whether a node has a place for the pod, as far as the site wants to know.
    async fn has_place(&self) -> Result<()> {
        let Some(spec) = self.plan.pod.spec.as_ref().filter(|_| self.settings.capacity_check != CapacityCheck::Off)
        else {
            return Ok(());
        };
        let Some(no_place) = self.capacity.no_place(&self.cluster, spec).await else { return Ok(()) };
        // A pod that is there, from a start that was interrupted, has its place.
        let (namespace, name) = (Some(&*self.place.namespace), &*self.place.pod);
        let found = self.request(|| self.cluster.get::<Pod, Pod>(namespace, name)).await.ok().flatten();
        if found.is_some_and(|found| whose(&found, &self.plan.pod) == Whose::This) {
            return Ok(());
        }
        tracing::info!(server.uid = %self.uid, nodes = no_place.nodes, "there is no place for a server");
        if self.settings.capacity_check == CapacityCheck::Fail {
            return Err(Error::failed(format!("{} {}", no_place.reason, no_place.advice)));
        }
        self.progress.say(5, format!("{} Your server may have to wait.", no_place.reason));
        Ok(())
    }

    async fn pod(&self) -> Result<Created> {
        let mut told = false;
        loop {
            self.is_wanted()?;
            let denial = match self.request(|| self.cluster.create(&self.plan.pod)).await {
                Ok(pod) => return Ok(Created { pod: pod.metadata.uid.unwrap_or_default(), found: false }),
                Err(error) => error,
            };
            let (namespace, name) = (Some(&*self.place.namespace), &*self.place.pod);
            let Some(found) = self.in_the_way::<Pod>(name, denial).await? else { continue };
            let whose = whose(&found, &self.plan.pod);
            let id = found.metadata.uid.clone().unwrap_or_default();
            match whose {
                Whose::This => return Ok(Created { pod: id, found: true }),
                Whose::Foreign => return Err(taken("pod", &found.metadata, &self.plan.pod.metadata)),
                Whose::Later => return Err(Error::failed("Your server was started once more meanwhile.")),
                Whose::Over | Whose::Earlier => {
                    let grace = if whose == Whose::Over { 0 } else { self.place.grace_period };
                    self.request(|| self.cluster.delete::<Pod>(namespace, name, Some(&id), Some(grace)))
                        .await
                        .map_err(|error| refused(&error))?;
                }
                Whose::Going => {
                    if !std::mem::replace(&mut told, true) {
                        self.progress.say(5, "Waiting until the server that ran before has ended.");
                    }
                    if !self.patience.pause(PAUSE).await {
                        return Err(Error::failed(
                            "The server that ran before has not ended in time. Please try again in a minute.",
                        ));
                    }
                }
            }
        }
    }

    /// What has the name of an object that could not be created; `None`: it has gone meanwhile. Quotas and webhooks are
    /// asked before the name is, so that whatever they deny may be there already.
    async fn in_the_way<K>(&self, name: &str, denial: ApiError) -> Result<Option<K>>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        if denial.code().is_none_or(|code| denial.may_pass() || code == 404) {
            return Err(refused(&denial));
        }
        let found = self.request(|| self.cluster.get::<K, K>(Some(&self.place.namespace), name)).await;
        match found {
            Ok(Some(found)) => Ok(Some(found)),
            Ok(None) if denial.is_conflict() && self.patience.pause(PAUSE).await => Ok(None),
            Err(error) if denial.is_conflict() => Err(refused(&error)),
            _ => Err(refused(&denial)),
        }
    }

    /// An object that is to go with the pod.
    async fn owned<K>(&self, object: Option<&K>, pod: &str) -> Result<Option<String>>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Serialize + DeserializeOwned,
    {
        let Some(object) = object else { return Ok(None) };
        let mut object = object.clone();
        object.meta_mut().owner_references = Some(vec![OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: self.place.pod.clone(),
            uid: pod.to_owned(),
            ..OwnerReference::default()
        }]);
        let (namespace, name) = (Some(&*self.place.namespace), object.meta().name.clone().unwrap_or_default());
        loop {
            self.is_wanted()?;
            let denial = match self.request(|| self.cluster.create(&object)).await {
                Ok(created) => return Ok(created.meta().uid.clone()),
                Err(error) => error,
            };
            let Some(found) = self.in_the_way::<K>(&name, denial).await? else { continue };
            let (found, wanted) = (found.meta(), object.meta());
            let id = found.uid.as_deref();
            let owners = found.owner_references.iter().flatten();
            if same(found, wanted, &[names::INSTALLATION, names::SERVER])
                && owners.into_iter().any(|owner| owner.uid == pod)
            {
                return Ok(id.map(str::to_owned));
            }
            if !same(found, wanted, &[names::INSTALLATION, names::SPAWNER, names::HUB]) {
                return Err(taken(&K::kind(&()).to_lowercase(), found, wanted));
            }
            // The pod of this name is ours, so that what another one left behind is of no use.
            self.request(|| self.cluster.delete::<K>(namespace, &name, id, None))
                .await
                .map_err(|error| refused(&error))?;
        }
    }
}

fn same(found: &ObjectMeta, wanted: &ObjectMeta, labels: &[&str]) -> bool {
    let label = |meta: &ObjectMeta, label: &str| meta.labels.as_ref().and_then(|labels| labels.get(label).cloned());
    labels.iter().all(|name| label(wanted, name).is_some() && label(found, name) == label(wanted, name))
}

fn whose(found: &Pod, wanted: &Pod) -> Whose {
    let annotation = |pod: &Pod, name: &str| {
        pod.metadata.annotations.as_ref().and_then(|annotations| annotations.get(name).cloned()).unwrap_or_default()
    };
    let ours = same(&found.metadata, &wanted.metadata, &[names::INSTALLATION, names::SPAWNER, names::HUB]);
    let this = same(&found.metadata, &wanted.metadata, &[names::SERVER]);
    let of_user =
        [names::USERNAME, names::SERVERNAME].iter().all(|name| annotation(found, name) == annotation(wanted, name));
    if !ours || !this && !of_user {
        return Whose::Foreign;
    }
    // Identifiers of servers are in the order in which they were made.
    let server = |pod: &Pod| pod.metadata.labels.as_ref().and_then(|labels| labels.get(names::SERVER).cloned());
    match found.metadata.deletion_timestamp {
        Some(_) => Whose::Going,
        None if this => Whose::This,
        None if server(found) > server(wanted) => Whose::Later,
        None if has_ended(found) => Whose::Over,
        None => Whose::Earlier,
    }
}

fn has_ended(pod: &Pod) -> bool {
    let pod = serde_json::to_value(pod).and_then(serde_json::from_value);
    pod.is_ok_and(|pod| matches!(failures::status(&pod), Status::Exited(_)))
}

fn taken(kind: &str, found: &ObjectMeta, wanted: &ObjectMeta) -> Error {
    let (name, namespace) = (wanted.name.as_deref(), wanted.namespace.as_deref());
    let whose = if same(found, wanted, &[names::INSTALLATION]) {
        "belongs to another user, hub or backend of this Outpost"
    } else {
        "is not Outpost's"
    };
    Error::failed(format!(
        "The {kind} \"{}\" in the namespace \"{}\" of the cluster {whose}, so that your server cannot have its name. Please tell the administrators of this system.",
        name.unwrap_or_default(),
        namespace.unwrap_or_default(),
    ))
}

/// A request that the cluster did not do, as the end of a start.
pub fn refused(error: &ApiError) -> Error {
    tracing::warn!(cause = %error, "the cluster did not do what a start needs");
    Error::failed(error.sentence())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;

    fn pod(uid: &str, user: &str, more: Value) -> Pod {
        let mut pod = json!({
            "metadata": {
                "labels": {names::INSTALLATION: "i", names::SPAWNER: "s", names::HUB: "h", names::SERVER: uid},
                "annotations": {names::USERNAME: user, names::SERVERNAME: ""},
            },
        });
        json_patch::merge(&mut pod, &more);
        serde_json::from_value(pod).unwrap()
    }

    #[rstest]
    #[case("1", "ada", json!({}), Whose::This)]
    #[case("1", "ada", json!({"status": {"phase": "Failed"}}), Whose::This)]
    #[case("1", "ada", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Whose::Going)]
    #[case("0", "ada", json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), Whose::Going)]
    #[case("0", "ada", json!({"status": {"phase": "Failed"}}), Whose::Over)]
    #[case("0", "ada", json!({"status": {"phase": "Running"}}), Whose::Earlier)]
    #[case("0", "ada", json!({"status": {"phase": "Running", "containerStatuses": [{"name": "notebook", "ready": false,
        "restartCount": 0, "image": "", "imageID": "", "state": {"terminated": {"exitCode": 1}}}]}}), Whose::Over)]
    #[case("2", "ada", json!({"status": {"phase": "Running"}}), Whose::Later)]
    #[case("2", "ada", json!({"status": {"phase": "Failed"}}), Whose::Later)]
    #[case("0", "eve", json!({"status": {"phase": "Failed"}}), Whose::Foreign)]
    #[case("1", "ada", json!({"metadata": {"labels": {names::INSTALLATION: "other"}}}), Whose::Foreign)]
    #[case("1", "ada", json!({"metadata": {"labels": null}}), Whose::Foreign)]
    #[case("1", "ada", json!({"metadata": {"labels": {names::HUB: "other"}}}), Whose::Foreign)]
    fn pods_of_the_same_name_are_told_apart(
        #[case] uid: &str,
        #[case] user: &str,
        #[case] more: Value,
        #[case] expected: Whose,
    ) {
        assert_eq!(whose(&pod(uid, user, more), &pod("1", "ada", json!({}))), expected);
    }

    #[rstest]
    #[case(json!({names::HUB: "other"}), "belongs to another user, hub or backend of this Outpost")]
    #[case(json!({names::INSTALLATION: "other"}), "is not Outpost's")]
    #[case(json!({names::INSTALLATION: null}), "is not Outpost's")]
    fn who_has_the_name_is_told(#[case] labels: Value, #[case] whose: &str) {
        let found = pod("1", "ada", json!({"metadata": {"labels": labels}}));
        let sentence = taken("pod", &found.metadata, &pod("1", "ada", json!({})).metadata).to_string();
        assert!(sentence.contains(&format!("of the cluster {whose}, so that")), "{sentence}");
    }
}
