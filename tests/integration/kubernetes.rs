//! The Kubernetes backend against a real API server.

mod audit;
mod budget;
mod capacity;
mod check;
mod claims;
mod conflicts;
mod credentials;
mod denial;
mod failures;
mod faults;
mod fields;
mod garbage;
mod ground;
mod hub;
mod kills;
mod neighbours;
mod objects;
mod parity;
mod rights;
mod tidying;
mod watching;

use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Pod, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams};
use outpost::config::Config;
use outpost::error::{Error, Result};
use outpost::model::{Environment, Handle, Launch, ServerId, Uid};
use outpost::spawner::kubernetes::settings::Settings;
use outpost::spawner::{Progress, ProgressEvent, Spawner, SpawnerSettings, Started, Status};
use serde::de::DeserializeOwned;
use serde_json::Map;

use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Kubelet, Step};
use crate::support::{TestOutpost, eventually};

/// A server of a user of the hub `hub`.
pub fn launch(user: &str, name: &str) -> Launch {
    let environment = [("JUPYTERHUB_USER", user), ("JUPYTERHUB_API_TOKEN", "s3cret-token")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Launch {
        uid: Uid::generate(),
        id: ServerId::new("hub", name, "0"),
        user: user.into(),
        user_id: 1,
        environment: Environment(environment.into()),
        options: Map::new(),
        user_options: Map::new(),
        groups: Vec::new(),
        certificates: None,
        auth_state: [].into(),
    }
}

/// The configuration of a backend in a namespace.
pub fn configuration(kubeconfig: &Path, namespace: &str, settings: &str) -> String {
    format!(
        "[spawners.cluster]\ntype = 'kubernetes'\nkubeconfig = '{}'\nnamespace = '{namespace}'\nimage = 'notebook'\n{settings}",
        kubeconfig.display()
    )
}

/// The settings of that backend.
pub fn settings_of(namespace: &str, settings: &str) -> Settings {
    let config = Config::parse(&configuration(Path::new("none"), namespace, settings)).unwrap();
    match &config.spawners["cluster"] {
        SpawnerSettings::Kubernetes(settings) => settings.clone(),
        other => panic!("{other:?}"),
    }
}

/// An Outpost in this process whose servers are pods of a namespace of its own.
pub struct Site {
    pub outpost: TestOutpost,
    pub namespace: String,
    pub admin: kube::Client,
    pub kubelet: Kubelet,
}

impl Site {
    /// On the cluster that tests share, with pods that start as they should.
    pub async fn new(settings: &str) -> Option<Self> {
        Self::scripted(settings, |_| starts()).await
    }

    /// On that cluster, with pods that do as the script says.
    pub async fn scripted(settings: &str, script: impl Fn(&Pod) -> Vec<Step> + Send + Sync + 'static) -> Option<Self> {
        Some(Self::on(Cluster::shared().await?, settings, script).await)
    }

    pub async fn on(
        cluster: &Cluster,
        settings: &str,
        script: impl Fn(&Pod) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let namespace = cluster.namespace().await;
        Self::permitted(cluster, namespace, settings, script).await
    }

    /// In a namespace that is there, as an account that may do what Outpost says that it needs, and nothing else.
    pub async fn permitted(
        cluster: &Cluster,
        namespace: String,
        settings: &str,
        script: impl Fn(&Pod) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let account = cluster.permitted(&namespace, &settings_of(&namespace, settings)).await;
        Self::within(cluster, namespace, &account.kubeconfig, settings, script).await
    }

    /// In a namespace that is there, by way of a kubeconfig.
    pub async fn within(
        cluster: &Cluster,
        namespace: String,
        kubeconfig: &Path,
        settings: &str,
        script: impl Fn(&Pod) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let kubelet = Kubelet::start(cluster, &namespace, script).await;
        let outpost = TestOutpost::start(&configuration(kubeconfig, &namespace, settings)).await;
        let site = Self { outpost, namespace, admin: cluster.admin().await, kubelet };
        site.sees().await;
        site
    }

    /// Waits until the backend sees its servers.
    pub async fn sees(&self) {
        eventually("the backend sees its servers", || async { self.spawner().trouble().is_none().then_some(()) }).await;
    }

    pub fn spawner(&self) -> Arc<dyn Spawner> {
        self.outpost.outpost.spawners.get("cluster").unwrap()
    }

    pub fn prepared(&self, launch: &Launch) -> Handle {
        self.spawner().prepare(launch).unwrap()
    }

    pub async fn start(&self, launch: &Launch) -> Result<Started> {
        self.told(launch).await.0
    }

    /// What a start gives, and what it tells its user.
    pub async fn told(&self, launch: &Launch) -> (Result<Started>, Vec<ProgressEvent>) {
        let (progress, mut events) = Progress::channel();
        let result = match self.spawner().prepare(launch) {
            Ok(handle) => self.spawner().start(&handle, launch, &progress).await,
            Err(error) => Err(error),
        };
        drop(progress);
        let mut told = Vec::new();
        while let Ok(event) = events.try_recv() {
            told.push(event);
        }
        (result, told)
    }

    /// The sentence of a start that has to fail.
    pub async fn failure(&self, launch: &Launch) -> String {
        match self.start(launch).await {
            Err(Error::Failed { message, .. } | Error::Refused(message)) => message,
            other => panic!("{other:?}"),
        }
    }

    pub async fn status(&self, launch: &Launch) -> Status {
        self.spawner().status(&launch.uid, &self.prepared(launch)).await.unwrap()
    }

    pub async fn stop(&self, launch: &Launch) {
        self.spawner().stop(&launch.uid, &self.prepared(launch)).await.unwrap();
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    /// The names of all objects of a kind.
    pub async fn names<K>(&self) -> Vec<String>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let all = self.api::<K>().list(&ListParams::default()).await.unwrap();
        all.iter().map(kube::ResourceExt::name_any).collect()
    }

    /// Nothing of any server is left, but for volume claims.
    pub async fn assert_is_empty(&self) {
        assert_eq!(self.names::<Pod>().await, Vec::<String>::new());
        assert_eq!(self.names::<Secret>().await, Vec::<String>::new());
        assert_eq!(self.names::<Service>().await, Vec::<String>::new());
    }

    /// The pod of a server.
    pub async fn pod_of(&self, uid: &Uid) -> Option<Pod> {
        let all = self.api::<Pod>().list(&ListParams::default()).await.unwrap();
        all.into_iter().find(|pod| is_of(pod.labels(), uid))
    }
}

/// Whether labels name a server.
pub fn is_of(labels: &std::collections::BTreeMap<String, String>, uid: &Uid) -> bool {
    labels
        .get(outpost::spawner::kubernetes::names::SERVER)
        .is_some_and(|label| label.eq_ignore_ascii_case(uid.as_str()))
}
