//! Outpost is killed at each request of a start and of a stop, before the API server gets it and after it did.

use std::path::Path;

use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, Service};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt as _};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{configuration, is_of};
use crate::support::daemon::{Daemon, send};
use crate::support::eventually;
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Gate, Kubelet, Side};

fn body(name: &str) -> Value {
    json!({
        "name": name,
        "env": {"JUPYTERHUB_USER": "ada", "JUPYTERHUB_API_TOKEN": "token"},
        "user_options": {"start_id": "1"},
    })
}

struct Place {
    admin: Client,
    namespace: String,
    gate: Gate,
    daemon: Daemon,
    _kubelet: Kubelet,
}

impl Place {
    async fn new() -> Option<Self> {
        let cluster = Cluster::shared().await?;
        let (gate, namespace) = (Gate::open(cluster).await, cluster.namespace().await);
        let kubelet = Kubelet::start(cluster, &namespace, |_| starts()).await;
        let daemon = Daemon::start(&Self::toml(&gate.kubeconfig, &namespace)).await;
        Some(Self { admin: cluster.admin().await, namespace, gate, daemon, _kubelet: kubelet })
    }

    fn toml(kubeconfig: &Path, namespace: &str) -> String {
        let settings = "services_enabled = true\nstorage_pvc_ensure = true\nstorage_capacity = '1Gi'\n\
            object_kinds = ['v1/ConfigMap']\n\
            pre_start = [{ apiVersion = 'v1', kind = 'ConfigMap', metadata = { name = 'before-{uid}' } }]\n";
        configuration(kubeconfig, namespace, settings)
    }

    async fn all<K>(&self) -> Vec<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
            + Clone
            + serde::de::DeserializeOwned
            + std::fmt::Debug,
    {
        Api::namespaced(self.admin.clone(), &self.namespace).list(&ListParams::default()).await.unwrap().items
    }

    /// Whether everything that there is belongs to one server, which has a row.
    async fn assert_one_server_runs(&self) {
        let rows = self.daemon.rows().await;
        assert_eq!(rows.len(), 1, "{rows:?}");
        let uid = outpost::model::Uid::parse(rows[0]["id"].as_str().unwrap()).unwrap();
        let (pods, secrets) = (self.all::<Pod>().await, self.all::<Secret>().await);
        let services = self.all::<Service>().await;
        assert_eq!((pods.len(), secrets.len(), services.len(), self.all::<ConfigMap>().await.len()), (1, 1, 1, 1));
        assert!(is_of(pods[0].labels(), &uid));
        for owners in [secrets[0].owner_references(), services[0].owner_references()] {
            assert_eq!(Some(&owners[0].uid), pods[0].metadata.uid.as_ref());
        }
    }

    async fn assert_is_empty(&self) {
        assert_eq!((self.all::<Pod>().await.len(), self.all::<Secret>().await.len()), (0, 0));
        assert_eq!((self.all::<Service>().await.len(), self.all::<ConfigMap>().await.len()), (0, 0));
        assert_eq!(self.daemon.rows().await, Vec::<Value>::new());
    }

    async fn until_gone(&self, path: &str) {
        eventually("the server is gone", || async {
            (self.daemon.get(path).await.status == StatusCode::NOT_FOUND).then_some(())
        })
        .await;
    }
}

/// The requests of a start that change something: claim, object before the pod, pod, secret, service.
const STARTING: usize = 5;
/// The requests of a stop: pod, secret, service, object.
const STOPPING: usize = 4;

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_request_of_a_start() {
    let Some(place) = Place::new().await else { return };
    for step in 0..STARTING {
        for side in [Side::Before, Side::After] {
            for asynchronous in [false, true] {
                let name = format!("{step}-{side:?}-{asynchronous}").to_lowercase();
                let path = format!("/services/{name}/1");
                place.gate.stop(step, side);
                let first = tokio::spawn(send(place.daemon.post(&body(&name), asynchronous)));
                place.gate.stopped().await;
                place.daemon.kill();
                let _ = first.await.unwrap();
                place.daemon.spawn();
                place.daemon.up().await;
                let again = send(place.daemon.post(&body(&name), false)).await.unwrap();
                assert_eq!(again.status, 200, "{name}: {:?}", again.body);
                place.assert_one_server_runs().await;
                assert_eq!(place.daemon.get(&path).await.body, json!({"status": null, "logs": []}));
                assert_eq!(send(place.daemon.delete(&path, false)).await.unwrap().status, 200);
                place.assert_is_empty().await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_request_of_a_start_and_stopped_at_once() {
    let Some(place) = Place::new().await else { return };
    for step in 0..STARTING {
        for side in [Side::Before, Side::After] {
            let name = format!("{step}-{side:?}").to_lowercase();
            let path = format!("/services/{name}/1");
            place.gate.stop(step, side);
            let first = tokio::spawn(send(place.daemon.post(&body(&name), true)));
            place.gate.stopped().await;
            place.daemon.restart().await;
            let _ = first.await.unwrap();
            let stopped = send(place.daemon.delete(&path, false)).await.unwrap().status;
            assert!(matches!(stopped.as_u16(), 200 | 404), "{name}: {stopped}");
            place.until_gone(&path).await;
            place.assert_is_empty().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_request_of_a_stop() {
    let Some(place) = Place::new().await else { return };
    for step in 0..STOPPING {
        for side in [Side::Before, Side::After] {
            let name = format!("{step}-{side:?}").to_lowercase();
            let path = format!("/services/{name}/1");
            assert_eq!(send(place.daemon.post(&body(&name), false)).await.unwrap().status, 200);
            place.gate.stop(step, side);
            let first = tokio::spawn(send(place.daemon.delete(&path, false)));
            place.gate.stopped().await;
            place.daemon.restart().await;
            let _ = first.await.unwrap();
            place.until_gone(&path).await;
            place.assert_is_empty().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_outlives_outpost() {
    let Some(place) = Place::new().await else { return };
    let started = send(place.daemon.post(&body("lab"), false)).await.unwrap();
    assert_eq!(started.status, 200, "{:?}", started.body);
    let pod = place.all::<Pod>().await.remove(0).uid();
    for gently in [true, false] {
        if gently {
            assert!(place.daemon.terminate().await.success());
        } else {
            place.daemon.kill();
        }
        place.daemon.spawn();
        place.daemon.up().await;
        assert_eq!(place.daemon.get("/services/lab/1").await.body, json!({"status": null, "logs": []}));
        assert_eq!(send(place.daemon.post(&body("lab"), false)).await.unwrap().body, started.body);
        place.assert_one_server_runs().await;
        assert_eq!(place.all::<Pod>().await.remove(0).uid(), pod);
    }
    assert_eq!(send(place.daemon.delete("/services/lab/1", false)).await.unwrap().status, 200);
    place.assert_is_empty().await;
}
