//! The watches that keep the view up to date. Each goes on for ever: what goes wrong is told, and tried again.
//!
//! The watcher of the `kube` crate is not used: it keeps whole objects or their metadata, does not tell whether a silent
//! watch is still alive, and lists all events of the past before it follows new ones. Here a pod is trimmed while it is
//! read, a watch may be silent for a bounded time only, and of events nothing is read that happened before.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::Resource;
use kube::api::{ListParams, WatchEvent, WatchParams};
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::api::{ApiError, Cluster, Fault};
use super::events::Line;
use super::failures;
use super::settings::Settings;
use super::view::{Sighting, View};
use crate::clock::Clock;
use crate::metrics::{Metrics, NamespaceLabels};
use crate::spawner::{Changes, Status};

/// Pods in one page of a list.
const PAGE: u32 = 250;
/// All pods are listed again after this time, whatever the watch says.
const RELIST: Duration = Duration::from_secs(600);
/// The pauses between tries.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a watch is for.
trait Watched: Send {
    /// The kind of objects.
    type Kind: Resource<DynamicType = ()>;
    /// What is read of one.
    type Object: DeserializeOwned + Clone + Send + 'static;
    /// Whether all objects are to be known, not only those that change.
    const ALL: bool;

    fn version(object: &Self::Object) -> &str;
    /// Who asked at `begun` was told of these objects.
    fn listed(&self, begun: Instant, objects: Vec<Self::Object>) -> impl Future<Output = ()> + Send;
    fn applied(&self, object: Self::Object);
    fn deleted(&self, object: Self::Object);
    /// Nothing was missed until now.
    fn alive(&self);
    fn troubled(&self, error: &ApiError);
}

/// The watches of one scope: a namespace, or all.
#[derive(Clone, Debug)]
pub struct Watch {
    /// Who is asked.
    pub cluster: Cluster,
    /// What is filled.
    pub view: Arc<View>,
    /// The namespace; empty: all of them.
    pub scope: String,
    /// The labels of this backend's pods.
    pub selector: String,
    /// As they are at the time.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The backend's name.
    pub spawner: String,
    /// Who hears of servers that ended.
    pub changes: Changes,
    /// Where the age of the view is shown.
    pub metrics: Arc<Metrics>,
}

impl Watch {
    /// How long a watch may be silent: one that is for longer is no sign of life.
    fn period(&self) -> Duration {
        (self.settings.load().stale_after / 3).clamp(Duration::from_secs(1), Duration::from_secs(240))
    }

    /// Follows the pods, for ever.
    pub async fn pods(self) {
        self.go_on(&Pods { watch: &self }, Some(&self.selector), None).await;
    }

    /// Follows the events about pods, for ever. Those of all pods come, since events have no labels.
    pub async fn events(self) {
        self.go_on(&Events { watch: &self }, None, Some("involvedObject.kind=Pod")).await;
    }

    async fn go_on<W: Watched>(&self, watched: &W, labels: Option<&str>, fields: Option<&str>) {
        let mut pause = FIRST_PAUSE;
        let (mut version, mut told) = (None, String::new());
        loop {
            let begun = Instant::now();
            let result = self.round(watched, &mut version, labels, fields).await;
            if let Err(error) = &result {
                watched.troubled(error);
                let cause = error.to_string();
                if told != cause {
                    tracing::warn!(
                        spawner.name = self.spawner,
                        namespace = self.scope,
                        cause,
                        "a watch is begun again"
                    );
                    told = cause;
                }
                // Pods are listed anew, which is sure. Events would be lost, unless their version is too old, or of another
                // life of the cluster.
                if W::ALL || !error.may_pass() || matches!(error.fault, Fault::Unsound(_)) {
                    version = None;
                }
            }
            // A watch that was open for a while did its work; one that ends at once must not be begun in a loop.
            if begun.elapsed() >= Duration::from_secs(1) {
                pause = FIRST_PAUSE;
                if result.is_ok() {
                    continue;
                }
            }
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Lists if nothing is known, then watches until the watch ends.
    async fn round<W: Watched>(
        &self,
        watched: &W,
        from: &mut Option<(String, Instant)>,
        labels: Option<&str>,
        fields: Option<&str>,
    ) -> Result<(), ApiError> {
        let scope = (!self.scope.is_empty()).then_some(&*self.scope);
        let (mut version, listed) = match from.clone() {
            Some((version, listed)) if !W::ALL || listed.elapsed() < RELIST => (version, listed),
            _ => {
                let mut params = ListParams { limit: Some(if W::ALL { PAGE } else { 1 }), ..ListParams::default() };
                params.label_selector = labels.map(str::to_owned);
                params.field_selector = fields.map(str::to_owned);
                let mut objects = Vec::new();
                let begun = Instant::now();
                let version = loop {
                    let page = self.cluster.list::<W::Kind, W::Object>(scope, &params).await?;
                    objects.extend(page.items);
                    params.continue_token = page.metadata.continue_.filter(|token| W::ALL && !token.is_empty());
                    if params.continue_token.is_none() {
                        break page.metadata.resource_version.unwrap_or_default();
                    }
                };
                watched.listed(begun, objects).await;
                watched.alive();
                (version, begun)
            }
        };
        *from = Some((version.clone(), listed));
        let period = u32::try_from(self.period().as_secs()).unwrap_or(u32::MAX);
        let params = WatchParams {
            label_selector: labels.map(str::to_owned),
            field_selector: fields.map(str::to_owned),
            timeout: Some(period),
            bookmarks: true,
            ..WatchParams::default()
        };
        let stream = self.cluster.watch::<W::Kind, W::Object>(scope, &params, &version).await?;
        tokio::pin!(stream);
        watched.alive();
        // The server ends the watch after the period; one that does not lost its connection without a word.
        let silence = Duration::from_secs(u64::from(period) + 5);
        while let Ok(Some(event)) = tokio::time::timeout(silence, stream.next()).await {
            match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    W::version(&object).clone_into(&mut version);
                    watched.applied(object);
                }
                WatchEvent::Deleted(object) => {
                    W::version(&object).clone_into(&mut version);
                    watched.deleted(object);
                }
                WatchEvent::Bookmark(bookmark) => version = bookmark.metadata.resource_version,
                WatchEvent::Error(_) => {}
            }
            *from = Some((version.clone(), listed));
            watched.alive();
        }
        Ok(())
    }
}

struct Pods<'a> {
    watch: &'a Watch,
}

impl Watched for Pods<'_> {
    type Kind = Pod;
    type Object = Sighting;
    const ALL: bool = true;

    fn version(pod: &Sighting) -> &str {
        &pod.metadata.resource_version
    }

    async fn listed(&self, begun: Instant, pods: Vec<Sighting>) {
        let ended: Vec<_> = pods.iter().filter(|pod| has_ended(pod)).filter_map(Sighting::server).collect();
        for uid in self.watch.view.replace(&self.watch.scope, begun, pods).into_iter().chain(ended) {
            self.watch.changes.report(uid);
        }
    }

    fn applied(&self, pod: Sighting) {
        let ended = has_ended(&pod).then(|| pod.server()).flatten();
        if self.watch.view.apply(pod)
            && let Some(uid) = ended
        {
            self.watch.changes.report(uid);
        }
    }

    fn deleted(&self, pod: Sighting) {
        if self.watch.view.delete(&pod)
            && let Some(uid) = pod.server()
        {
            self.watch.changes.report(uid);
        }
    }

    fn alive(&self) {
        let Watch { view, scope, spawner, metrics, .. } = self.watch;
        view.alive(scope);
        let labels = NamespaceLabels { spawner: spawner.clone(), namespace: scope.clone() };
        metrics.kubernetes_seen.get_or_create(&labels).set(Clock::System.now().timestamp());
    }

    fn troubled(&self, error: &ApiError) {
        self.watch.view.troubled(&self.watch.scope, error.to_string());
    }
}

fn has_ended(pod: &Sighting) -> bool {
    matches!(failures::status(pod), Status::Exited(_))
}

/// Notes what happened to a pod before anybody followed it. Who follows it can go on without.
pub async fn recall(cluster: &Cluster, view: &View, namespace: &str, pod: &str) {
    let of_pod = ListParams::default().fields(&format!("involvedObject.kind=Pod,involvedObject.name={pod}"));
    match cluster.list::<Event, Line>(Some(namespace), &of_pod).await {
        Ok(page) => page.items.into_iter().for_each(|line| view.event(line)),
        Err(error) => tracing::warn!(cause = %error, "the events of a pod are not known"),
    }
}

struct Events<'a> {
    watch: &'a Watch,
}

impl Watched for Events<'_> {
    type Kind = Event;
    type Object = Line;
    const ALL: bool = false;

    fn version(line: &Line) -> &str {
        &line.metadata.resource_version
    }

    /// What happened to those that are followed, before it is known what happens now.
    async fn listed(&self, _begun: Instant, _lines: Vec<Line>) {
        let Watch { cluster, view, scope, .. } = self.watch;
        for (namespace, pod) in view.followed(scope) {
            recall(cluster, view, &namespace, &pod).await;
        }
    }

    fn applied(&self, line: Line) {
        self.watch.view.event(line);
    }

    fn deleted(&self, _line: Line) {}

    fn alive(&self) {}

    fn troubled(&self, _error: &ApiError) {}
}

#[cfg(test)]
mod tests;
