//! The real program with a real Kubernetes API server, the bench playing the kubelet.

use std::collections::HashMap;
use std::pin::pin;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use tokio::sync::Mutex;

use crate::client::{Connection, basic_auth, post};
use crate::median;
use crate::memory::{peak_mib, resident_mib};
use crate::support::daemon::free_port;
use crate::support::kube::{Cluster, Kubelet, Step, read};
use crate::support::server::client;

const ONE_BY_ONE: usize = 60;
const AT_ONCE: usize = 500;

/// When pods were seen first, by their names.
type Seen = Arc<Mutex<HashMap<String, Instant>>>;

pub async fn measure() {
    let Some(cluster) = Cluster::own(&[]).await else { return };
    let namespace = cluster.namespace().await;
    let pods: Api<Pod> = Api::namespaced(cluster.admin().await, &namespace);
    let seen = Seen::default();
    tokio::spawn(watch(pods.clone(), seen.clone()));
    let _kubelet = Kubelet::start(&cluster, &namespace, |_| vec![Step::Bind, Step::Runs]).await;
    let outpost = Outpost::start(&cluster, &namespace).await;
    let idle = resident_mib(outpost.pid);

    let (mut bare, mut whole) = (Vec::new(), Vec::new());
    let mut connection = Connection::open(&outpost.api).await;
    for round in 0..ONE_BY_ONE {
        let name = format!("bare-{round}");
        let begun = Instant::now();
        let pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "image"}]}});
        pods.create(&PostParams::default(), &read(pod)).await.unwrap();
        bare.push(since(&seen, begun, |pod| pod == name).await);
        pods.delete(&name, &DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() }).await.unwrap();

        let name = format!("idle{round}");
        let begun = Instant::now();
        assert_eq!(connection.send(&post(&outpost.auth, &name, "0")).await, 200);
        whole.push(since(&seen, begun, |pod| pod.contains(&name)).await);
    }
    println!("kubernetes, a real API server");
    println!("  a pod after its POST, by a bare client {:>7.1} ms", median(bare.into_iter()));
    println!("  a pod after the hub's POST, when idle  {:>7.1} ms    (wanted: at most 50)", median(whole.into_iter()));

    let before = outpost.requests().await;
    let begun = Instant::now();
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|at| {
            let (api, auth) = (outpost.api.clone(), outpost.auth.clone());
            tokio::spawn(
                async move { Connection::open(&api).await.send(&post(&auth, &format!("storm{at}"), "0")).await },
            )
        })
        .collect();
    let mut running = 0;
    for client in clients {
        running += usize::from(client.await.unwrap() == 200);
    }
    let (took, requests) = (begun.elapsed().as_secs_f64(), outpost.requests().await - before);
    println!("  {running} of {AT_ONCE} starts at once run after       {took:>7.1} s");
    println!(
        "  requests for them                      {requests:>7}       ({:.0}/s; wanted: at most 4 each)",
        requests as f64 / took
    );
    println!(
        "  resident memory, idle and at most      {idle:>7.1} and {:.1} MiB (wanted: below 100)\n",
        peak_mib(outpost.pid)
    );
    assert_eq!(running, AT_ONCE);
}

/// Notes when pods come up.
async fn watch(pods: Api<Pod>, seen: Seen) {
    let stream = pods.watch(&WatchParams::default(), "0").await.unwrap();
    let mut stream = pin!(stream);
    while let Some(event) = stream.next().await {
        if let Ok(WatchEvent::Added(pod)) = event {
            seen.lock().await.entry(pod.metadata.name.unwrap_or_default()).or_insert_with(Instant::now);
        }
    }
}

/// How long it took until such a pod was seen, in milliseconds.
async fn since(seen: &Seen, begun: Instant, is_it: impl Fn(&str) -> bool) -> f64 {
    loop {
        let at = seen.lock().await.iter().find(|(name, at)| **at >= begun && is_it(name)).map(|(_, at)| *at);
        if let Some(at) = at {
            return (at - begun).as_secs_f64() * 1000.0;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

struct Outpost {
    api: String,
    admin: String,
    auth: String,
    pid: u32,
    _process: tokio::process::Child,
    _dir: tempfile::TempDir,
}

impl Outpost {
    async fn start(cluster: &Cluster, namespace: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (api, admin) = (format!("127.0.0.1:{}", free_port()), format!("127.0.0.1:{}", free_port()));
        let config = format!(
            "state_dir = '{}'\n[http]\nlisten = '{api}'\nadmin_listen = '{admin}'\n[log]\nlevel = 'warn'\n\
             [spawners.cluster]\ntype = 'kubernetes'\nkubeconfig = '{}'\nnamespace = '{namespace}'\nservices_enabled = true\n\
             [hubs.bench]\napi_url = 'http://127.0.0.1:1/hub/api'\nsend_events = false\nconcurrent_starts = 1000\n",
            dir.path().display(),
            cluster.admin_kubeconfig().display(),
        );
        let file = dir.path().join("outpost_config.toml");
        std::fs::write(&file, config).unwrap();
        let process = tokio::process::Command::new(env!("CARGO_BIN_EXE_outpost"))
            .arg("--config")
            .arg(&file)
            .arg("serve")
            .env("usernames", "bench")
            .env("passwords", "s3cret")
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ready = format!("http://{admin}/readyz");
        while !client().get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let pid = process.id().unwrap();
        Self { api, admin, auth: basic_auth("bench", "s3cret"), pid, _process: process, _dir: dir }
    }

    /// How much was asked of the API server.
    async fn requests(&self) -> u64 {
        let metrics = client().get(format!("http://{}/metrics", self.admin));
        let text = metrics.send().await.unwrap().text().await.unwrap();
        let counts = text.lines().filter(|line| line.starts_with("outpost_kubernetes_requests_total{"));
        counts.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    }
}
