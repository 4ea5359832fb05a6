//! The life of a release on the real API server: installed, upgraded, rolled back, uninstalled, installed again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret};
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::name;
use crate::support::helm::{CHART, Helm, Release, examples};
use crate::support::kube::{Cluster, read};

/// The API server of the tests has no kinds of the Prometheus Operator.
const WITHOUT_OPERATOR: &str = "metrics: {serviceMonitor: {enabled: false}, prometheusRule: {enabled: false}}";

/// What only one release in a cluster can have.
const NOTHING_FIXED: &str = "
fullnameOverride: ''
service: {ports: {nodePort: null}}
servicessh: {ports: {nodePort: null}}";

fn if_absent<T>(created: kube::Result<T>) {
    if let Err(error) = created {
        assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    }
}

/// Asks for an object of the manifest.
async fn found(client: &Client, release: &Release, object: &Value) -> Option<DynamicObject> {
    let (group, version) = object["apiVersion"].as_str().unwrap().rsplit_once('/').unwrap_or(("", "v1"));
    let kind = object["kind"].as_str().unwrap();
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    let api: Api<DynamicObject> = if kind.starts_with("Cluster") {
        Api::all_with(client.clone(), &resource)
    } else {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or(&release.namespace);
        Api::namespaced_with(client.clone(), namespace, &resource)
    };
    api.get_opt(object["metadata"]["name"].as_str().unwrap()).await.unwrap()
}

/// The bytes of all secrets of a release, without Helm's own.
async fn secrets(client: &Client, release: &Release) -> BTreeMap<String, Value> {
    let api: Api<Secret> = Api::namespaced(client.clone(), &release.namespace);
    let all = api.list(&ListParams::default()).await.unwrap();
    let ours = all.into_iter().filter(|secret| secret.type_.as_deref() != Some("helm.sh/release.v1"));
    ours.map(|secret| (secret.name_any(), json!(secret.data))).collect()
}

fn deployment(objects: &[Value]) -> &Value {
    objects.iter().find(|object| object["kind"] == "Deployment").unwrap()
}

fn config(objects: &[Value]) -> &Value {
    objects.iter().map(|object| &object["data"]["outpost_config.toml"]).find(|text| text.is_string()).unwrap()
}

/// A release of one example, from its installation on.
struct Life {
    example: String,
    values: String,
    client: Client,
    release: Release,
    /// Its objects, as they were installed.
    installed: Vec<Value>,
    /// Its secrets, as they were made then.
    secrets: BTreeMap<String, Value>,
}

impl Life {
    async fn begin(helm: &Helm, cluster: &Cluster, example: String, values: String) -> Self {
        let client = cluster.admin().await;
        // Names of objects in namespaces of servers come from the release's.
        let release = Release::new(helm, cluster, &format!("{example}-first")).await;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        for object in &release.render(&values).objects {
            if let Some(namespace) = object["metadata"]["namespace"].as_str() {
                let namespace = json!({"metadata": {"name": namespace}});
                if_absent(namespaces.create(&PostParams::default(), &read(namespace)).await);
            }
        }
        let installed = release.install(&values).unwrap_or_else(|error| panic!("{example}: {error}"));
        let secrets = secrets(&client, &release).await;
        Self { example, values, client, release, installed, secrets }
    }

    /// The object as it is now, unless it is on its way out.
    async fn now(&self, object: &Value) -> Option<DynamicObject> {
        let now = found(&self.client, &self.release, object).await;
        now.filter(|object| object.metadata.deletion_timestamp.is_none())
    }

    async fn everything_is_there(&self) {
        for object in &self.installed {
            assert!(self.now(object).await.is_some(), "{}: {}", self.example, name(object));
        }
    }

    async fn secrets_are_the_same(&self) {
        assert_eq!(secrets(&self.client, &self.release).await, self.secrets, "{}", self.example);
    }

    /// The volumes, each with what makes it another one than one of the same name.
    async fn volumes(&self) -> Vec<(String, Option<String>)> {
        let volumes: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), &self.release.namespace);
        let volumes = volumes.list(&ListParams::default()).await.unwrap();
        volumes.iter().map(|volume| (volume.name_any(), volume.uid())).collect()
    }

    /// Another release elsewhere has nothing in common with it.
    async fn does_not_mind_another(&self, cluster: &Cluster) {
        let other = Release::new(&self.release.helm, cluster, &format!("{}-second", self.example)).await;
        let values = format!("{}\n---\n{NOTHING_FIXED}", self.values);
        other.install(&values).unwrap_or_else(|error| panic!("{}, a second time: {error}", self.example));
        other.uninstall().unwrap();
        self.everything_is_there().await;
    }

    /// What Outpost reads anew by itself begins no new pods, what it cannot does.
    async fn is_upgraded(&self) {
        let spec = |objects: &[Value]| deployment(objects)["spec"].clone();
        let reread = format!("{}\n---\nconfig: {{log: {{level: debug}}}}", self.values);
        let upgraded = self.release.upgrade(&reread).unwrap_or_else(|error| panic!("{}: {error}", self.example));
        assert_ne!(config(&upgraded), config(&self.installed), "{}", self.example);
        assert_eq!(spec(&upgraded), spec(&self.installed), "{}", self.example);
        let restarted = format!("{reread}\n---\nconfig: {{tasks: {{reconcile: 33s}}}}");
        let upgraded = self.release.upgrade(&restarted).unwrap();
        assert_ne!(spec(&upgraded)["template"], spec(&self.installed)["template"], "{}", self.example);
        self.secrets_are_the_same().await;
    }

    async fn is_rolled_back(&self) {
        self.release.rollback(1).unwrap();
        let annotations = |object: &Value| object["spec"]["template"]["metadata"]["annotations"].clone();
        for object in &self.installed {
            let now = self.now(object).await.unwrap().data;
            assert_eq!(annotations(&now), annotations(object), "{}: {}", self.example, name(object));
            if object["kind"] == "ConfigMap" {
                assert_eq!(now["data"], object["data"], "{}: {}", self.example, name(object));
            }
        }
        self.secrets_are_the_same().await;
    }

    /// What cannot be had again stays, and nothing else; the next release of that name takes it up.
    async fn is_uninstalled_and_comes_back(&self) {
        let volumes = self.volumes().await;
        self.release.uninstall().unwrap();
        for object in &self.installed {
            let name = name(object);
            let is_secret = name.starts_with("Secret/") && (name.ends_with("-keys") || name.ends_with("-hubs"));
            // Servers go on, and reach what they did.
            let is_of_servers = name.starts_with("NetworkPolicy/") && name.ends_with("-servers");
            let stays = is_secret || is_of_servers || name.starts_with("PersistentVolumeClaim/");
            assert_eq!(self.now(object).await.is_some(), stays, "{}: {name}", self.example);
        }
        self.release.install(&self.values).unwrap_or_else(|error| panic!("{}, again: {error}", self.example));
        self.secrets_are_the_same().await;
        assert_eq!(self.volumes().await, volumes, "{}", self.example);
        self.release.uninstall().unwrap();
    }
}

async fn life(helm: Helm, cluster: &'static Cluster, example: String, values: String) {
    let life = Life::begin(&helm, cluster, example, values).await;
    life.everything_is_there().await;
    life.does_not_mind_another(cluster).await;
    life.is_upgraded().await;
    life.is_rolled_back().await;
    life.is_uninstalled_and_comes_back().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_example_lives_through_all_that_happens_to_a_release() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let mut lives = JoinSet::new();
    // The smallest example sets nothing, as the chart without values.
    for (example, values) in examples().into_iter().filter(|(example, _)| example != "defaults") {
        lives.spawn(life(helm.clone(), cluster, example, format!("{values}\n---\n{WITHOUT_OPERATOR}")));
    }
    lives.join_all().await;
}

/// Otherwise the test above would show nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_refuses_a_field_that_it_does_not_know() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let dir = tempfile::tempdir().unwrap();
    copy(Path::new(CHART), dir.path());
    let wrong = "apiVersion: v1\nkind: Service\nmetadata: {name: wrong}\nspec: {prots: [{port: 80}]}\n";
    fs::write(dir.path().join("templates/wrong.yaml"), wrong).unwrap();
    let release = Release::new(&helm, cluster, "wrong").await;
    let refusal = release.install_chart(dir.path(), "").unwrap_err();
    assert!(refusal.contains("prots"), "{refusal}");
}

/// A tool that renders without asking the cluster would make a new key, with which nothing can be read any more.
#[tokio::test(flavor = "multi_thread")]
async fn the_key_of_the_database_cannot_be_replaced_by_mistake() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let release = Release::new(&helm, cluster, "outpost").await;
    release.install("").unwrap();
    let rendered = helm.render("");
    let key = rendered.of_kind("Secret").find(|secret| secret["metadata"]["name"] == "outpost-keys").unwrap();
    let secrets: Api<Secret> = Api::namespaced(cluster.admin().await, &release.namespace);
    let replaced = Patch::Merge(json!({"data": key["data"], "stringData": key["stringData"]}));
    let refusal = secrets.patch("outpost-keys", &PatchParams::default(), &replaced).await.unwrap_err();
    assert!(refusal.to_string().contains("immutable"), "{refusal}");
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&to).unwrap();
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
