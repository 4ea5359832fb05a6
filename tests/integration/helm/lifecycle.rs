//! The life of a release on the real API server: installed, upgraded, rolled back, uninstalled, installed again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::{Client, ResourceExt as _};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::name;
use crate::support::eventually;
use crate::support::helm::{CHART, Helm, Release, examples};
use crate::support::kube::{Cluster, read};

/// The kinds of the Prometheus Operator: the API server of the tests takes whatever they have in them.
async fn operator(client: &Client) {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for kind in ["ServiceMonitor", "PrometheusRule"] {
        let plural = format!("{}s", kind.to_lowercase());
        let anything = json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let definition = json!({
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")},
            "spec": {
                "group": "monitoring.coreos.com", "scope": "Namespaced",
                "names": {"kind": kind, "plural": plural, "singular": kind.to_lowercase()},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": anything}],
            },
        });
        if_absent(definitions.create(&PostParams::default(), &read(definition)).await);
        eventually("the kind is served", || async {
            let definition = definitions.get(&format!("{plural}.monitoring.coreos.com")).await.unwrap();
            let conditions = definition.status?.conditions?;
            conditions.iter().any(|one| one.type_ == "Established" && one.status == "True").then_some(())
        })
        .await;
    }
}

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

async fn life(helm: Helm, cluster: &'static Cluster, example: String, values: String) {
    let client = cluster.admin().await;
    // Names of objects in namespaces of servers come from the release's.
    let [first, second] = ["first", "second"].map(|one| format!("{example}-{one}"));
    let release = Release::new(&helm, cluster, &first).await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for object in &release.render(&values).objects {
        if let Some(namespace) = object["metadata"]["namespace"].as_str() {
            let namespace = json!({"metadata": {"name": namespace}});
            if_absent(namespaces.create(&PostParams::default(), &read(namespace)).await);
        }
    }

    let installed = release.install(&values).unwrap_or_else(|error| panic!("{example}: {error}"));
    for object in &installed {
        assert!(found(&client, &release, object).await.is_some(), "{example}: {}", name(object));
    }
    let made = secrets(&client, &release).await;
    let keys = made.keys().filter(|name| name.ends_with("-keys")).count();
    assert_eq!(keys, usize::from(!values.contains("cryptSecret: ")), "{example}: {made:?}");

    // Another one, elsewhere, has nothing in common with it.
    let other = Release::new(&helm, cluster, &second).await;
    other.install(&values).unwrap_or_else(|error| panic!("{example}, a second time: {error}"));
    other.uninstall().unwrap();
    for object in &installed {
        assert!(found(&client, &release, object).await.is_some(), "{example}: the other one took {}", name(object));
    }

    // What Outpost reads anew by itself begins no new pods, what it cannot does; no secret is made anew.
    let reread = format!("{values}\n---\nconfig: {{log: {{level: debug}}}}");
    let upgraded = release.upgrade(&reread).unwrap_or_else(|error| panic!("{example}: {error}"));
    assert_ne!(config(&upgraded), config(&installed), "{example}");
    assert_eq!(deployment(&upgraded)["spec"], deployment(&installed)["spec"], "{example}");
    let restarted = format!("{reread}\n---\nconfig: {{tasks: {{reconcile: 33s}}}}");
    let upgraded = release.upgrade(&restarted).unwrap();
    let annotations = |objects: &[Value]| deployment(objects)["spec"]["template"]["metadata"]["annotations"].clone();
    assert_ne!(annotations(&upgraded), annotations(&installed), "{example}");
    assert_eq!(secrets(&client, &release).await, made, "{example}");

    release.rollback(1).unwrap();
    for object in
        installed.iter().filter(|object| ["Deployment", "ConfigMap"].contains(&object["kind"].as_str().unwrap()))
    {
        let now = found(&client, &release, object).await.unwrap();
        let before = &object["spec"]["template"]["metadata"]["annotations"];
        let after = &now.data["spec"]["template"]["metadata"]["annotations"];
        assert_eq!((&now.data["data"], after), (&object["data"], before), "{example}: {}", name(object));
    }
    assert_eq!(secrets(&client, &release).await, made, "{example}");

    // What cannot be had again stays, and nothing else.
    let volumes: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &release.namespace);
    let volumes_before: Vec<_> =
        volumes.list(&ListParams::default()).await.unwrap().iter().map(kube::ResourceExt::uid).collect();
    release.uninstall().unwrap();
    for object in &installed {
        let stays = object["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        let is_data = object["kind"] == "PersistentVolumeClaim"
            || object["kind"] == "Secret" && made.contains_key(object["metadata"]["name"].as_str().unwrap());
        let is_extra = object["metadata"]["name"].as_str().unwrap().contains("extra-files");
        assert_eq!(stays, is_data && !is_extra, "{example}: {}", name(object));
        let is_there = found(&client, &release, object).await.filter(|one| one.metadata.deletion_timestamp.is_none());
        assert_eq!(is_there.is_some(), stays, "{example}: {}", name(object));
    }

    release.install(&values).unwrap_or_else(|error| panic!("{example}, again: {error}"));
    assert_eq!(secrets(&client, &release).await, made, "{example}: the same secrets are taken up");
    let volumes: Vec<_> =
        volumes.list(&ListParams::default()).await.unwrap().iter().map(kube::ResourceExt::uid).collect();
    assert_eq!(volumes, volumes_before, "{example}: the same volume is taken up");
    release.uninstall().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn every_example_lives_through_all_that_happens_to_a_release() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    operator(&cluster.admin().await).await;
    let mut lives = JoinSet::new();
    for (example, values) in examples() {
        lives.spawn(life(helm.clone(), cluster, example, values));
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
