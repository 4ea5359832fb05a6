//! The steps, as a kubelet writes them down.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1;
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt as _;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use outpost::clock::Clock;
use serde_json::{Value, json};

use super::super::read;
use super::{Shared, Step};

/// What is known about a pod that is played.
pub(super) struct Played {
    pub pod: Pod,
    pub address: String,
    /// How often [`super::Kubelet::go_on`] was called before, as far as it counts for this pod.
    went_on: u32,
}

impl Shared {
    /// Takes a pod through its script.
    pub(super) async fn play(self: Arc<Self>, pod: Pod) {
        let steps = (self.script)(&pod);
        let mut played = Played { pod, address: Self::address(), went_on: *self.hold.borrow() };
        for step in steps {
            if self.step(&mut played, &step).await.is_err() {
                // It has gone in the meantime, or the API server has.
                return;
            }
        }
    }

    async fn step(&self, played: &mut Played, step: &Step) -> kube::Result<()> {
        let name = played.pod.name_any();
        match *step {
            Step::Unschedulable(message) => {
                let condition = json!({
                    "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message,
                });
                self.patch(&name, json!({"phase": "Pending", "conditions": [condition]})).await?;
                self.event(&played.pod, true, "FailedScheduling", message).await;
            }
            Step::Bind => {
                let binding = json!({"metadata": {"name": name}, "target": {"kind": "Node", "name": self.node}});
                let _: Value = self.pods.create_subresource("binding", &name, &PostParams::default(), &binding).await?;
                let message = format!("Successfully assigned {}/{name} to {}", self.namespace, self.node);
                self.event(&played.pod, false, "Scheduled", &message).await;
            }
            Step::Event { warning, reason, message } => self.event(&played.pod, warning, reason, message).await,
            Step::Waits { reason, message } => {
                let state = json!({"waiting": {"reason": reason, "message": message}});
                self.patch(&name, status(played, "Pending", &state, false)).await?;
            }
            Step::InitEnds { code } => {
                let container = &played.pod.spec.as_ref().unwrap().init_containers.as_ref().unwrap()[0];
                let reason = if code == 0 { "Completed" } else { "Error" };
                let state = json!({"terminated": {"exitCode": code, "reason": reason}});
                let init = container_status(&container.name, container.image.as_deref(), &state, code == 0);
                self.patch(&name, json!({"phase": "Pending", "initContainerStatuses": [init]})).await?;
            }
            Step::Runs => {
                self.readable(&played.pod).await?;
                self.patch(&name, status(played, "Running", &running(), true)).await?;
            }
            Step::RunsProcess => self.run_process(played).await?,
            Step::Says(line) => self.logs.lock().unwrap().entry(name).or_default().push(line.to_owned()),
            Step::Ends { code, reason } => self.ended(played, code, reason).await?,
            Step::Evicted(message) => {
                self.patch(&name, json!({"phase": "Failed", "reason": "Evicted", "message": message})).await?;
            }
            Step::Pause(time) => tokio::time::sleep(time).await,
            Step::Hold => {
                let mut hold = self.hold.clone();
                let _ = hold.wait_for(|count| *count > played.went_on).await;
                played.went_on += 1;
            }
        }
        Ok(())
    }

    /// The notebook's container has ended, and nobody starts it again.
    pub(super) async fn ended(&self, played: &Played, code: i32, reason: &str) -> kube::Result<()> {
        let state = json!({"terminated": {"exitCode": code, "reason": reason, "finishedAt": now()}});
        let phase = if code == 0 { "Succeeded" } else { "Failed" };
        self.patch(&played.pod.name_any(), status(played, phase, &state, false)).await
    }

    pub(super) async fn patch(&self, name: &str, status: Value) -> kube::Result<()> {
        let patch = Patch::Merge(json!({ "status": status }));
        self.pods.patch_status(name, &PatchParams::default(), &patch).await.map(drop)
    }

    /// Waits for all Secrets that the pod reads, as a kubelet does.
    pub(super) async fn readable(&self, pod: &Pod) -> kube::Result<()> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        for secret in secrets_of(pod) {
            while secrets.get_opt(&secret).await?.is_none() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// Writes an event about a pod.
    async fn event(&self, pod: &Pod, warning: bool, reason: &str, message: &str) {
        let (name, at) = (pod.name_any(), now());
        let event = json!({
            "metadata": {"name": format!("{name}.{:x}", rand::random_range(0..u64::MAX))},
            "involvedObject": {
                "apiVersion": "v1", "kind": "Pod", "name": name, "namespace": self.namespace, "uid": pod.uid(),
            },
            "type": if warning { "Warning" } else { "Normal" },
            "reason": reason, "message": message, "firstTimestamp": at, "lastTimestamp": at, "count": 1,
            "source": {"component": "kubelet", "host": self.node},
        });
        let events: Api<v1::Event> = Api::namespaced(self.client.clone(), &self.namespace);
        let _ = events.create(&PostParams::default(), &read(event)).await;
    }

    /// Finishes the deletion of a pod, as soon as the API server lets it.
    pub(super) async fn finish(self: Arc<Self>, pod: Pod) {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions { uid: pod.uid(), resource_version: None }),
            ..DeleteParams::default()
        };
        while matches!(self.pods.delete(&pod.name_any(), &now).await, Err(error) if !is_final(&error)) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Whether the API server said that the pod has gone.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if matches!(status.code, 404 | 409))
}

fn now() -> String {
    Clock::System.now().to_rfc3339_opts(chrono::SecondsFormat::Secs, true)
}

pub(super) fn running() -> Value {
    json!({"running": {"startedAt": now()}})
}

/// The status of a pod whose first container is in this state; the others wait with it, or run.
pub(super) fn status(played: &Played, phase: &str, notebook: &Value, ready: bool) -> Value {
    let containers = &played.pod.spec.as_ref().unwrap().containers;
    let statuses = containers.iter().enumerate().map(|(at, container)| {
        let state = if at == 0 || notebook.get("waiting").is_some() { notebook.clone() } else { running() };
        container_status(&container.name, container.image.as_deref(), &state, ready)
    });
    let yes_if = |yes: bool| if yes { "True" } else { "False" };
    json!({
        "phase": phase,
        "podIP": played.address, "podIPs": [{"ip": played.address}], "startTime": now(),
        "containerStatuses": statuses.collect::<Vec<_>>(),
        "conditions": [
            {"type": "PodScheduled", "status": "True"},
            {"type": "Initialized", "status": "True"},
            {"type": "ContainersReady", "status": yes_if(ready)},
            {"type": "Ready", "status": yes_if(ready)},
        ],
    })
}

fn container_status(name: &str, image: Option<&str>, state: &Value, ready: bool) -> Value {
    let image = image.unwrap_or_default();
    json!({"name": name, "image": image, "imageID": "", "restartCount": 0, "ready": ready, "state": state})
}

fn secrets_of(pod: &Pod) -> Vec<String> {
    let spec = pod.spec.as_ref().unwrap();
    let variables = spec.containers.iter().flat_map(|container| container.env.iter().flatten());
    let referenced = variables.filter_map(|variable| variable.value_from.as_ref()?.secret_key_ref.as_ref());
    let referenced = referenced.filter(|reference| !reference.optional.unwrap_or(false)).map(|one| one.name.clone());
    let mounted = spec.volumes.iter().flatten().filter_map(|volume| volume.secret.as_ref()?.secret_name.clone());
    let mut all: Vec<String> = referenced.chain(mounted).collect();
    all.sort();
    all.dedup();
    all
}
