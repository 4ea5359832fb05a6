//! The test plays scheduler and kubelet: it binds the pods of a namespace to a node and takes them through what a script
//! says. Whoever deletes a pod sees it go, and the API server can ask for logs.

mod logs;
mod play;
mod process;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::watcher::{self, Event};
use kube::{Client, ResourceExt as _};
use serde_json::json;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::{Cluster, create};

/// One step of what happens to a pod.
#[derive(Clone, Debug)]
pub enum Step {
    /// The scheduler found no node, and says why.
    Unschedulable(&'static str),
    /// The scheduler found the node.
    Bind,
    /// An event of the pod.
    Event { warning: bool, reason: &'static str, message: &'static str },
    /// The notebook's container waits, for this reason.
    Waits { reason: &'static str, message: &'static str },
    /// The first init container ended.
    InitEnds { code: i32 },
    /// All containers run, once the Secrets that they read are there; the pod is ready.
    Runs,
    /// As [`Step::Runs`], and the notebook's container is a process of this machine.
    RunsProcess,
    /// The container says something.
    Says(&'static str),
    /// The notebook's container ended.
    Ends { code: i32, reason: &'static str },
    /// The node had to make room.
    Evicted(&'static str),
    /// Nothing happens for a while.
    Pause(Duration),
    /// Nothing happens until [`Kubelet::go_on`].
    Hold,
}

/// A pod that starts as it should.
pub fn starts() -> Vec<Step> {
    let event = |reason, message| Step::Event { warning: false, reason, message };
    vec![
        Step::Bind,
        Step::Waits { reason: "ContainerCreating", message: "" },
        event("Pulling", "Pulling image \"notebook\""),
        event("Pulled", "Successfully pulled image \"notebook\" in 2.5s"),
        event("Created", "Created container notebook"),
        event("Started", "Started container notebook"),
        Step::Runs,
    ]
}

/// A pod whose container never runs.
pub fn waits(reason: &'static str, message: &'static str) -> Vec<Step> {
    vec![Step::Bind, Step::Waits { reason, message }]
}

type Script = dyn Fn(&Pod) -> Vec<Step> + Send + Sync;

/// Plays until it is dropped.
pub struct Kubelet {
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
    hold: watch::Sender<u32>,
}

struct Shared {
    client: Client,
    pods: Api<Pod>,
    namespace: String,
    node: String,
    script: Box<Script>,
    logs: Mutex<HashMap<String, Vec<String>>>,
    hold: watch::Receiver<u32>,
    dir: TempDir,
}

impl Kubelet {
    /// Plays by a script, which is asked once for each pod.
    pub async fn start(
        cluster: &Cluster,
        namespace: &str,
        script: impl Fn(&Pod) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let client = cluster.admin().await;
        let (hold, holding) = watch::channel(0);
        let shared = Arc::new(Shared {
            pods: Api::namespaced(client.clone(), namespace),
            client: client.clone(),
            namespace: namespace.to_owned(),
            node: format!("node-of-{namespace}"),
            script: Box::new(script),
            logs: Mutex::default(),
            hold: holding,
            dir: tempfile::tempdir().unwrap(),
        });
        let mut tasks = JoinSet::new();
        let port = logs::serve(cluster, shared.clone(), &mut tasks).await;
        shared.register(port).await;
        tasks.spawn(watch(shared.clone()));
        Self { shared, _tasks: tasks, hold }
    }

    /// Lets the pods that are at a [`Step::Hold`] go on, each to its next.
    pub fn go_on(&self) {
        self.hold.send_modify(|count| *count += 1);
    }

    /// The node that all pods are bound to.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// The log of a pod's process.
    pub fn log(&self, pod: &str) -> String {
        self.shared.lines(pod).join("\n")
    }
}

impl Shared {
    /// The node, with as much room as a workstation.
    async fn register(&self, port: u16) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        create::<Node>(nodes.clone(), json!({"metadata": {"name": self.node, "labels": {"of": self.namespace}}})).await;
        let room = json!({"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"});
        let status = json!({"status": {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
            "conditions": [{"type": "Ready", "status": "True"}],
            "capacity": room, "allocatable": room,
        }});
        nodes.patch_status(&self.node, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
        // A new node is not ready, as far as the API server knows.
        let schedulable = json!({"spec": {"taints": []}});
        nodes.patch(&self.node, &PatchParams::default(), &Patch::Merge(schedulable)).await.unwrap();
    }

    /// An address for a pod, below 127.0.0.0/8.
    fn address() -> String {
        static GIVEN: AtomicU32 = AtomicU32::new(0);
        let at = GIVEN.fetch_add(1, Ordering::Relaxed);
        format!("127.1.{}.{}", at / 250 % 250, at % 250 + 1)
    }
}

/// Sees to every pod of the namespace until it is dropped.
async fn watch(shared: Arc<Shared>) {
    let mut players: HashMap<String, (AbortHandle, bool)> = HashMap::new();
    let mut tasks = JoinSet::new();
    let stream = watcher::watcher(shared.pods.clone(), watcher::Config::default());
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        let (Event::Apply(pod) | Event::InitApply(pod)) = (match event {
            Ok(Event::Delete(pod)) => {
                if let Some((player, _)) = players.remove(&pod.uid().unwrap()) {
                    player.abort();
                }
                continue;
            }
            Ok(event) => event,
            // An API server that is killed in a test: the watch goes on when it is back.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(200)).await;
                continue;
            }
        }) else {
            continue;
        };
        let uid = pod.uid().unwrap();
        let ends = pod.metadata.deletion_timestamp.is_some();
        match players.get(&uid) {
            Some((_, true)) => {}
            Some((_, false)) if !ends => {}
            before => {
                if let Some((player, _)) = before {
                    player.abort();
                }
                let shared = shared.clone();
                let player = if ends { tasks.spawn(shared.finish(pod)) } else { tasks.spawn(shared.play(pod)) };
                players.insert(uid, (player, ends));
            }
        }
    }
}
