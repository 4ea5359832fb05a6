//! Servers as pods of a Kubernetes cluster, with the options of KubeSpawner.
//!
//! All decisions about a server are made by [`plan`] before anything is asked of the cluster: the objects that there will
//! be, as typed values, and the place that is kept to find and remove them. What has become of them is read from the
//! [`view`], an index that watches keep up to date, so that a poll asks nobody. Everything that is created can be found
//! again by its name and its labels: Outpost keeps nothing that it could not lose.

pub mod api;
pub mod capacity;
pub mod check;
pub mod claims;
pub mod events;
pub mod failures;
pub mod manifest;
pub mod merge;
pub mod names;
pub mod objects;
pub mod options;
pub mod patch;
pub mod plan;
pub mod profiles;
pub mod rights;
pub mod sample;
pub mod settings;
mod starting;
mod stopping;
mod tidying;
mod turns;
pub mod view;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::Pod;
use kube::api::LogParams;
use serde::Deserialize as _;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::api::{Cluster, Limits, Source};
use self::capacity::Capacity;
pub use self::options::OPTIONS;
use self::plan::{Identity, Place};
pub use self::settings::Settings;
use self::turns::Turns;
use self::view::{Metadata, Sighting, View};
use self::watch::Watch;
use super::{Changes, Choice, Found, Offer, OptionTable, Progress, Spawner, SpawnerSettings, Started, Status};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Handle, Launch, Uid};

/// The most of a log that is read, in bytes.
const LONGEST_LOG: i64 = 512 << 10;

/// What the backend gets from the application.
#[derive(Clone, Debug)]
pub struct Context {
    /// Where ends of servers are reported.
    pub changes: Changes,
    /// What tasks are spawned on.
    pub tracker: TaskTracker,
    /// Ends the tasks; servers go on.
    pub shutdown: CancellationToken,
    /// Where requests are counted.
    pub metrics: Arc<Metrics>,
}

/// The backend.
#[derive(Debug)]
pub struct Kubernetes {
    name: String,
    settings: Arc<ArcSwap<Settings>>,
    cluster: Cluster,
    context: Context,
    installation: OnceLock<String>,
    view: Arc<View>,
    /// What ends the watches of a scope.
    watched: Mutex<BTreeMap<String, CancellationToken>>,
    turns: Arc<Turns>,
    capacity: Arc<Capacity>,
}

impl Kubernetes {
    /// Makes the backend. Needs a runtime; nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// A sentence: the settings, or the kubeconfig cannot be used.
    pub async fn new(name: &str, settings: Settings, context: Context) -> Result<Arc<Self>, String> {
        let source = Source { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() };
        let cluster = Cluster::connect(source, &limits(&settings), context.metrics.clone()).await?;
        Self::with_cluster(name, settings, context, cluster)
    }

    /// Makes the backend of a cluster that a client talks to.
    ///
    /// # Errors
    /// A sentence: the settings cannot be used.
    pub fn with_client(
        name: &str,
        settings: Settings,
        context: Context,
        client: kube::Client,
    ) -> Result<Arc<Self>, String> {
        let cluster = Cluster::new(client, &limits(&settings), context.metrics.clone());
        Self::with_cluster(name, settings, context, cluster)
    }

    fn with_cluster(name: &str, settings: Settings, context: Context, cluster: Cluster) -> Result<Arc<Self>, String> {
        let settings = settled(settings, &cluster)?;
        let backend = Arc::new(Self {
            name: name.to_owned(),
            settings: Arc::new(ArcSwap::from_pointee(settings)),
            cluster,
            context,
            installation: OnceLock::new(),
            view: Arc::default(),
            watched: Mutex::default(),
            turns: Arc::default(),
            capacity: Arc::default(),
        });
        let Context { tracker, shutdown, .. } = &backend.context;
        tracker.spawn(shutdown.clone().run_until_cancelled_owned(tidying::for_ever(Arc::downgrade(&backend))));
        Ok(backend)
    }

    fn identity(&self) -> Result<Identity<'_>> {
        let installation = self.installation.get().ok_or_else(|| Error::internal("the database is not there yet"))?;
        Ok(Identity { installation, spawner: &self.name })
    }

    /// Whether a pod is this backend's, and of this server.
    fn is_of(&self, uid: &Uid, pod: &Sighting) -> Result<bool> {
        let labels = names::backend_labels(&self.identity()?);
        let is_ours = labels.iter().all(|(name, value)| pod.metadata.labels.get(name) == Some(value));
        Ok(is_ours && pod.server().as_ref() == Some(uid))
    }

    fn handle(&self, place: &Place) -> Result<Handle> {
        let state = serde_json::to_value(place).map_err(Error::internal)?;
        Ok(Handle { spawner: self.name.as_str().into(), state })
    }

    /// Sees to it that the pods of a namespace are watched.
    fn watch(&self, namespace: &str) {
        let settings = self.settings.load();
        let scope = if settings.all_namespaces().is_none() { "" } else { namespace };
        let Ok(identity) = self.identity() else { return };
        let end = {
            let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
            if watched.contains_key(scope) {
                return;
            }
            let end = self.context.shutdown.child_token();
            watched.insert(scope.to_owned(), end.clone());
            end
        };
        let watch = Watch {
            cluster: self.cluster.unpaced(),
            view: self.view.clone(),
            scope: scope.to_owned(),
            selector: selector(&identity),
            settings: self.settings.clone(),
            spawner: self.name.clone(),
            changes: self.context.changes.clone(),
            metrics: self.context.metrics.clone(),
        };
        self.view.expect(scope);
        let tracker = &self.context.tracker;
        tracker.spawn(end.clone().run_until_cancelled_owned(watch.clone().pods()));
        // They are not only told: pulls and causes are known from them.
        tracker.spawn(end.run_until_cancelled_owned(watch.events()));
    }

    fn is_fresh(&self, namespace: &str) -> bool {
        self.view.is_fresh(namespace, self.settings.load().stale_after)
    }

    /// The last lines of one of a pod's containers: that of the server unless another one is named.
    async fn tail(&self, pod: &Sighting, container: Option<&str>, lines: usize) -> Result<Vec<String>> {
        let container = container.unwrap_or(manifest::NOTEBOOK);
        let params = LogParams {
            container: Some(container.to_owned()),
            tail_lines: i64::try_from(lines).ok(),
            limit_bytes: Some(LONGEST_LOG),
            previous: failures::ran_before(pod, container),
            ..LogParams::default()
        };
        match self.cluster.logs(&pod.metadata.namespace, &pod.metadata.name, &params).await {
            Ok(text) => {
                let mut last: Vec<String> = text.lines().rev().take(lines).map(readable).collect();
                last.reverse();
                Ok(last)
            }
            // It has not begun, or is gone.
            Err(error) if matches!(error.code(), Some(400 | 404)) => Ok(Vec::new()),
            Err(error) => Err(Error::internal(error)),
        }
    }
}

/// What selects the objects of a backend.
fn selector(identity: &Identity<'_>) -> String {
    let labels = names::backend_labels(identity);
    labels.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(",")
}

fn limits(settings: &Settings) -> Limits {
    Limits { rate: settings.api_rate, burst: settings.api_burst, timeout: settings.api_timeout }
}

/// Checks settings, and fills in the namespace that the credentials belong to.
fn settled(mut settings: Settings, cluster: &Cluster) -> Result<Settings, String> {
    cluster.namespace().clone_into(&mut settings.own_namespace);
    settings.check()?;
    Ok(settings)
}

fn place_of(handle: &Handle) -> Result<Place> {
    Place::deserialize(&handle.state).map_err(|error| Error::internal(format!("handle of a server: {error}")))
}

/// A line of a log as a person would have seen it.
fn readable(line: &str) -> String {
    let shown = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
    shown.chars().filter(|c| !c.is_control() || *c == '\t').take(4096).collect()
}

#[async_trait]
impl Spawner for Kubernetes {
    fn begin(&self, installation: &str) {
        let _ = self.installation.set(installation.to_owned());
        match self.settings.load().all_namespaces() {
            Some(namespaces) => namespaces.iter().for_each(|namespace| self.watch(namespace)),
            None => self.watch(""),
        }
    }

    fn trouble(&self) -> Option<String> {
        let settings = self.settings.load();
        let mut blind = self.view.blind(settings.stale_after);
        // A server of old times may be where nothing is to be seen any more.
        let namespaces = settings.all_namespaces();
        blind.retain(|(scope, _)| namespaces.as_ref().map_or(scope.is_empty(), |names| names.contains(scope)));
        let troubles = blind.into_iter().map(|(scope, trouble)| {
            let place = if scope.is_empty() { "the cluster".to_owned() } else { format!("the namespace {scope}") };
            format!("the pods of {place} cannot be seen: {}", trouble.as_deref().unwrap_or("they were not listed yet"))
        });
        Some(troubles.collect::<Vec<_>>().join("; ")).filter(|troubles| !troubles.is_empty())
    }

    fn prepare(&self, launch: &Launch) -> Result<Handle> {
        self.handle(&plan::place(&self.settings.load(), launch)?)
    }

    async fn start(&self, handle: &Handle, launch: &Launch, progress: &Progress) -> Result<Started> {
        self.start_server(handle, launch, progress).await
    }

    async fn status(&self, uid: &Uid, handle: &Handle) -> Result<Status> {
        let place = place_of(handle)?;
        self.watch(&place.namespace);
        if !self.is_fresh(&place.namespace) {
            return Ok(Status::Unknown);
        }
        if let Some(pod) = self.view.pod(uid) {
            return Ok(failures::status(&pod));
        }
        // One that another Outpost has just started may not have been seen here yet.
        let found = self.cluster.get::<Pod, Sighting>(Some(&place.namespace), &place.pod).await;
        match found.map_err(Error::internal)? {
            Some(pod) if self.is_of(uid, &pod)? => Ok(failures::status(&pod)),
            _ => Ok(Status::Absent),
        }
    }

    /// A container that failed is begun again by its node, and would run although it counts for nothing.
    async fn ended(&self, uid: &Uid, handle: &Handle) -> Result<()> {
        let place = place_of(handle)?;
        let Some(pod) = self.view.pod(uid).filter(|pod| !pod.is_going() && !pod.is_over()) else { return Ok(()) };
        let Metadata { namespace, name, uid: id, .. } = &pod.metadata;
        let deleted = self.cluster.delete::<Pod>(Some(namespace), name, Some(id), Some(place.grace_period)).await;
        deleted.map(drop).map_err(Error::internal)
    }

    async fn stop(&self, uid: &Uid, handle: &Handle) -> Result<()> {
        self.stop_server(uid, handle).await
    }

    async fn logs(&self, uid: &Uid, handle: &Handle, lines: usize) -> Result<Vec<String>> {
        let place = place_of(handle)?;
        match self.view.pod(uid) {
            Some(pod) => self.tail(&pod, None, lines).await,
            None if self.is_fresh(&place.namespace) => Ok(Vec::new()),
            None => Err(Error::internal("the pods cannot be seen just now")),
        }
    }

    async fn list(&self) -> Result<Vec<Found>> {
        if !self.view.sees(self.settings.load().stale_after) {
            return Err(Error::internal(
                self.trouble().unwrap_or_else(|| "the pods cannot be seen just now".to_owned()),
            ));
        }
        // What cannot be seen just now is left out.
        let pods = self.view.pods().into_iter().filter(|(_, pod)| self.is_fresh(&pod.metadata.namespace));
        pods.map(|(uid, pod)| Ok(Found { handle: self.handle(&seen_place(&uid, &pod))?, uid })).collect()
    }

    fn shared(&self) -> bool {
        true
    }

    fn options(&self) -> OptionTable {
        OPTIONS
    }

    fn offer(&self, choice: &Choice<'_>) -> Result<Offer, String> {
        self.settings.load().offer(choice)
    }

    fn start_response(&self, launch: &Launch, started: &Started) -> Result<String> {
        self.settings.load().start_response.answer(launch, started)
    }

    fn reconfigure(&self, settings: &SpawnerSettings) -> Result<(), String> {
        let SpawnerSettings::Kubernetes(settings) = settings else { return Err(settings.change_of_kind("kubernetes")) };
        let before = self.settings.load_full();
        if (&settings.kubeconfig, &settings.context) != (&before.kubeconfig, &before.context) {
            return Err("kubeconfig: another cluster is used when Outpost is restarted".to_owned());
        }
        if limits(settings) != limits(&before) {
            tracing::warn!(spawner.name = self.name, "the limits of requests take effect when Outpost is restarted");
        }
        self.settings.store(Arc::new(settled(settings.clone(), &self.cluster)?));
        if let Some(installation) = self.installation.get() {
            self.begin(installation);
        }
        Ok(())
    }
}

/// Where a server is that nobody remembers.
fn seen_place(uid: &Uid, pod: &Sighting) -> Place {
    Place {
        namespace: pod.metadata.namespace.clone(),
        pod: pod.metadata.name.clone(),
        service: true,
        secret: format!("outpost-{}", uid.as_str().to_ascii_lowercase()),
        claim: None,
        port: 0,
        host: None,
        grace_period: 1,
        extra: Vec::new(),
        post_stop: Vec::new(),
    }
}
