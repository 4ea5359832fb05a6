//! The kubelet's own API, as far as the API server asks it for logs.

use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, Query, State};
use axum::routing::get;
use axum_server::tls_rustls::RustlsConfig;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::super::Cluster;
use super::Shared;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wanted {
    tail_lines: Option<usize>,
}

impl Shared {
    /// What a pod's containers wrote.
    pub(super) fn lines(&self, pod: &str) -> Vec<String> {
        let mut lines = self.logs.lock().unwrap().get(pod).cloned().unwrap_or_default();
        let process = std::fs::read(self.log_of(pod)).unwrap_or_default();
        lines.extend(String::from_utf8_lossy(&process).lines().map(str::to_owned));
        lines
    }

    pub(super) fn log_of(&self, pod: &str) -> PathBuf {
        self.dir.path().join(format!("{pod}.log"))
    }
}

/// Listens at the port that it returns.
pub(super) async fn serve(cluster: &Cluster, shared: Arc<Shared>, tasks: &mut JoinSet<()>) -> u16 {
    let (certificate, key) = cluster.certificate();
    let tls = RustlsConfig::from_pem_file(certificate, key).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let router = Router::new().route("/containerLogs/{namespace}/{pod}/{container}", get(answer)).with_state(shared);
    let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
    tasks.spawn(async move { server.serve(router.into_make_service()).await.unwrap() });
    port
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    Path((_, pod, _)): Path<(String, String, String)>,
    Query(wanted): Query<Wanted>,
) -> String {
    let lines = shared.lines(&pod);
    let from = wanted.tail_lines.map_or(0, |tail| lines.len().saturating_sub(tail));
    lines[from..].iter().map(|line| format!("{line}\n")).collect()
}
