//! What is known of this backend's pods without asking: an index that watches fill and everybody reads. Synchronous, so
//! that a poll costs nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition};
use serde::Deserialize;
use serde::de::IgnoredAny;
use tokio::sync::watch;
use tokio::time::Instant;

use super::events::Line;
use super::names;
use crate::model::Uid;

/// The most events that are kept for one start.
const MOST_EVENTS: usize = 200;

/// A pod, trimmed to what this backend has to know.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
pub struct Sighting {
    /// Who it is.
    pub metadata: Metadata,
    /// What it is to be.
    pub spec: Spec,
    /// What has become of it.
    pub status: Status,
}

/// A pod's metadata.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// The pod's name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// The cluster's identifier of this pod, as opposed to others of the same name.
    pub uid: String,
    /// Of this state of it.
    pub resource_version: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Present from when its end was asked for.
    pub deletion_timestamp: Option<Present>,
}

/// Something that is there, whatever it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Present;

impl<'de> Deserialize<'de> for Present {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        IgnoredAny::deserialize(deserializer).map(|_| Self)
    }
}

/// A pod's specification.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// Its containers.
    pub containers: Vec<Present>,
    /// The node that it runs on.
    pub node_name: Option<String>,
}

/// A pod's status.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, rename_all = "camelCase")]
pub struct Status {
    /// `Pending`, `Running`, `Succeeded`, `Failed` or `Unknown`.
    pub phase: String,
    /// Why it is in this phase, as a word: `Evicted`.
    pub reason: Option<String>,
    /// Why it is in this phase.
    pub message: Option<String>,
    /// Its address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// What holds for it: `PodScheduled`, `Ready`.
    pub conditions: Vec<PodCondition>,
    /// Those that prepare it.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Those that run.
    pub container_statuses: Vec<ContainerStatus>,
}

impl Sighting {
    /// The server that it is, in the words of Outpost; `None`: it is none of ours.
    #[must_use]
    pub fn server(&self) -> Option<Uid> {
        Uid::parse(self.metadata.labels.get(names::SERVER)?)
    }

    /// Whether its end has been asked for.
    #[must_use]
    pub const fn is_going(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }

    /// Whether all of its containers have ended for good.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(&*self.status.phase, "Succeeded" | "Failed")
    }

    /// Whether a container of it is about to be made. Before that, its image is pulled.
    #[must_use]
    pub fn is_being_made(&self) -> bool {
        let mut statuses = self.status.init_container_statuses.iter().chain(&self.status.container_statuses);
        statuses.any(|container| {
            let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref()?.reason.as_deref());
            matches!(waiting, Some("ContainerCreating" | "PodInitializing"))
        })
    }

    /// Whether it has an address and all of its containers are ready.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let statuses = &self.status.container_statuses;
        self.status.phase == "Running"
            && !self.is_going()
            && self.status.pod_ip.as_ref().is_some_and(|ip| !ip.is_empty())
            && statuses.len() >= self.spec.containers.len()
            && statuses.iter().all(|container| container.ready)
    }
}

/// What is known of one server.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Its pod.
    pub pod: Option<Arc<Sighting>>,
    /// What happened to it since somebody began to follow it, in order.
    pub events: Vec<Arc<Line>>,
}

/// How well a namespace is seen.
#[derive(Clone, Debug, Default)]
struct Sight {
    /// When it was last known that all is seen.
    last: Option<Instant>,
    /// Why that is not so now.
    trouble: Option<String>,
}

/// The index. A `scope` is a namespace, or empty for all of them.
#[derive(Debug, Default)]
pub struct View(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    servers: HashMap<Uid, watch::Sender<Seen>>,
    /// The servers whose events somebody follows, and how many do, by namespace and name of their pods.
    followed: HashMap<(String, String), (Uid, usize)>,
    scopes: HashMap<String, Sight>,
    /// Pods that are known to be gone, though the watch has not said so yet.
    buried: HashMap<String, Burial>,
}

/// Where a pod was, and since when it is known not to be there any more.
#[derive(Debug)]
struct Burial {
    namespace: String,
    at: Instant,
}

impl View {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a pod. `true`: it was not known like this.
    pub fn apply(&self, pod: Sighting) -> bool {
        let Some(uid) = pod.server() else { return false };
        let mut inner = self.lock();
        if inner.buried.contains_key(&pod.metadata.uid) {
            return false;
        }
        inner.servers.entry(uid).or_default().send_if_modified(|seen| {
            let differs = seen.pod.as_deref() != Some(&pod);
            seen.pod = Some(Arc::new(pod));
            differs
        })
    }

    /// Notes that a pod is not there any more.
    pub fn delete(&self, pod: &Sighting) -> bool {
        let Some(uid) = pod.server() else { return false };
        let mut inner = self.lock();
        inner.buried.remove(&pod.metadata.uid);
        inner.forget(&uid, |known| known.metadata.uid == pod.metadata.uid)
    }

    /// Notes that these pods, and no others, are in a scope, as somebody was told who asked at `begun`. Gives the servers
    /// whose pods are not there any more.
    pub fn replace(&self, scope: &str, begun: Instant, pods: Vec<Sighting>) -> Vec<Uid> {
        let listed: HashSet<Uid> = pods.iter().filter_map(Sighting::server).collect();
        let listed_ids: HashSet<String> = pods.iter().map(|pod| pod.metadata.uid.clone()).collect();
        let is_within = |namespace: &str| scope.is_empty() || namespace == scope;
        // Only a list that is older than the burial may show what is not there.
        let stays = |id: &String, burial: &Burial| burial.at >= begun && listed_ids.contains(id);
        self.lock().buried.retain(|id, burial| !is_within(&burial.namespace) || stays(id, burial));
        for pod in pods {
            self.apply(pod);
        }
        let mut inner = self.lock();
        let known: Vec<Uid> = inner.servers.keys().filter(|uid| !listed.contains(uid)).cloned().collect();
        known.into_iter().filter(|uid| inner.forget(uid, |pod| is_within(&pod.metadata.namespace))).collect()
    }

    /// Notes that a pod is gone for good, whatever a watch that is behind will say.
    pub fn bury(&self, uid: &Uid, namespace: &str, id: &str) {
        let mut inner = self.lock();
        inner.forget(uid, |known| known.metadata.uid == id);
        inner.buried.insert(id.to_owned(), Burial { namespace: namespace.to_owned(), at: Instant::now() });
    }

    /// Notes an event, if it is about a pod that somebody follows.
    pub fn event(&self, line: Line) {
        let inner = self.lock();
        let about = (line.object.namespace.clone(), line.object.name.clone());
        let Some(sender) = inner.followed.get(&about).and_then(|(uid, _)| inner.servers.get(uid)) else { return };
        sender.send_if_modified(|seen| {
            let known = seen.events.iter().any(|known| known.is_same(&line));
            // Where it is not known that an image was pulled, it is waited for.
            let most = if line.reason == "Pulled" { 2 * MOST_EVENTS } else { MOST_EVENTS };
            if known || seen.events.len() >= most {
                return false;
            }
            seen.events.push(Arc::new(line));
            true
        });
    }

    /// Notes that a scope is about to be watched.
    pub fn expect(&self, scope: &str) {
        self.lock().scopes.entry(scope.to_owned()).or_default();
    }

    /// Notes that all that happened in a scope is known now.
    pub fn alive(&self, scope: &str) {
        self.lock().scopes.insert(scope.to_owned(), Sight { last: Some(Instant::now()), trouble: None });
    }

    /// Notes why a scope cannot be seen just now.
    pub fn troubled(&self, scope: &str, trouble: String) {
        self.lock().scopes.entry(scope.to_owned()).or_default().trouble = Some(trouble);
    }

    /// Whether what is known of a namespace is not older than `stale_after`.
    #[must_use]
    pub fn is_fresh(&self, namespace: &str, stale_after: Duration) -> bool {
        let inner = self.lock();
        [namespace, ""].iter().any(|scope| inner.scopes.get(*scope).is_some_and(|sight| sight.is_fresh(stale_after)))
    }

    /// Whether anything is known that is not older than `stale_after`.
    #[must_use]
    pub fn sees(&self, stale_after: Duration) -> bool {
        self.lock().scopes.values().any(|sight| sight.is_fresh(stale_after))
    }

    /// The scopes that cannot be seen, each with the reason.
    #[must_use]
    pub fn blind(&self, stale_after: Duration) -> Vec<(String, Option<String>)> {
        let inner = self.lock();
        let blind = inner.scopes.iter().filter(|(_, sight)| !sight.is_fresh(stale_after));
        let mut blind: Vec<_> = blind.map(|(scope, sight)| (scope.clone(), sight.trouble.clone())).collect();
        blind.sort();
        blind
    }

    /// The pod of a server, as last seen.
    #[must_use]
    pub fn pod(&self, uid: &Uid) -> Option<Arc<Sighting>> {
        self.lock().servers.get(uid)?.borrow().pod.clone()
    }

    /// All pods, as last seen.
    #[must_use]
    pub fn pods(&self) -> Vec<(Uid, Arc<Sighting>)> {
        let inner = self.lock();
        inner.servers.iter().filter_map(|(uid, seen)| Some((uid.clone(), seen.borrow().pod.clone()?))).collect()
    }

    /// Follows what happens to a server and, from now on, its pod's events.
    #[must_use]
    pub fn follow(self: &Arc<Self>, uid: &Uid, namespace: &str, pod: &str) -> Following {
        let key = (namespace.to_owned(), pod.to_owned());
        let mut inner = self.lock();
        let followed = inner.followed.entry(key.clone()).or_insert_with(|| (uid.clone(), 0));
        if followed.0 != *uid {
            *followed = (uid.clone(), 0);
        }
        followed.1 += 1;
        self.following(&mut inner, uid, Some(key))
    }

    /// Follows what happens to a server, but for its pod's events.
    #[must_use]
    pub fn observe(self: &Arc<Self>, uid: &Uid) -> Following {
        self.following(&mut self.lock(), uid, None)
    }

    fn following(self: &Arc<Self>, inner: &mut Inner, uid: &Uid, key: Option<(String, String)>) -> Following {
        let seen = inner.servers.entry(uid.clone()).or_default().subscribe();
        Following { view: self.clone(), uid: uid.clone(), key, seen }
    }

    /// The namespaces and names of the pods whose events somebody follows in a scope.
    #[must_use]
    pub fn followed(&self, scope: &str) -> Vec<(String, String)> {
        let inner = self.lock();
        inner.followed.keys().filter(|(namespace, _)| scope.is_empty() || namespace == scope).cloned().collect()
    }

    /// Whether there is a server in a namespace, or is to be.
    #[must_use]
    pub fn is_used(&self, namespace: &str) -> bool {
        let inner = self.lock();
        let has_pod = |seen: &watch::Sender<Seen>| {
            seen.borrow().pod.as_ref().is_some_and(|pod| pod.metadata.namespace == namespace)
        };
        inner.followed.keys().any(|(of, _)| of == namespace) || inner.servers.values().any(has_pod)
    }

    /// Notes that a scope is not watched any more, so that nothing is known of what no other scope shows.
    pub fn abandon(&self, scope: &str) {
        let mut inner = self.lock();
        inner.scopes.remove(scope);
        let watched: HashSet<String> = inner.scopes.keys().cloned().collect();
        let is_lost = |namespace: &str| !watched.contains("") && !watched.contains(namespace);
        inner.buried.retain(|_, burial| !is_lost(&burial.namespace));
        let known: Vec<Uid> = inner.servers.keys().cloned().collect();
        for uid in known {
            inner.forget(&uid, |pod| is_lost(&pod.metadata.namespace));
        }
    }
}

impl Inner {
    /// Forgets the pod of a server, if it is the one that is meant.
    fn forget(&mut self, uid: &Uid, is_meant: impl Fn(&Sighting) -> bool) -> bool {
        let Some(sender) = self.servers.get(uid) else { return false };
        let forgotten = sender.send_if_modified(|seen| {
            let meant = seen.pod.as_ref().is_some_and(|pod| is_meant(pod));
            if meant {
                seen.pod = None;
            }
            meant
        });
        if sender.receiver_count() == 0 && sender.borrow().pod.is_none() {
            self.servers.remove(uid);
        }
        forgotten
    }
}

impl Sight {
    fn is_fresh(&self, stale_after: Duration) -> bool {
        self.last.is_some_and(|last| last.elapsed() < stale_after)
    }
}

/// Somebody who follows a server. Its events are kept as long as somebody follows them.
#[derive(Debug)]
pub struct Following {
    view: Arc<View>,
    uid: Uid,
    /// Of the events.
    key: Option<(String, String)>,
    /// What is known of the server.
    pub seen: watch::Receiver<Seen>,
}

impl Drop for Following {
    fn drop(&mut self) {
        let mut inner = self.view.lock();
        let inner = &mut *inner;
        let Some(sender) = inner.servers.get(&self.uid) else { return };
        if let Some(key) = &self.key {
            let others = match inner.followed.get_mut(key).filter(|(uid, _)| *uid == self.uid) {
                Some((_, count)) => {
                    *count -= 1;
                    let others = *count;
                    if others == 0 {
                        inner.followed.remove(key);
                    }
                    others
                }
                // A new server of its name is followed instead.
                None => 0,
            };
            if others == 0 {
                sender.send_if_modified(|seen| {
                    seen.events = Vec::new();
                    false
                });
            }
        }
        // The last one's own receiver is counted, too.
        if sender.receiver_count() <= 1 && sender.borrow().pod.is_none() {
            inner.servers.remove(&self.uid);
        }
    }
}

#[cfg(test)]
mod tests;
