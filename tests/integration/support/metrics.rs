//! Every metric with something in it: a family of which nothing was counted yet is not told.

use std::time::Duration;

use outpost::metrics::{
    CallLabels, DialLabels, HubLabels, KubernetesLabels, Metrics, NamespaceLabels, RefusalLabels, RequestLabels,
    SshBytesLabels, SshLabels, SshRefusalLabels, TunnelLabels,
};

pub fn every_metric() -> Metrics {
    let hub = || "hub".to_owned();
    let metrics = Metrics::default();
    metrics.start("cluster", "running", Duration::ZERO);
    metrics.store("insert", Duration::ZERO, true);
    metrics.kubernetes(KubernetesLabels { verb: "get", resource: "pods".to_owned(), code: 200 }, Duration::ZERO);
    metrics.requests.get_or_create(&RequestLabels { method: "GET", route: "/ping", status: 200 }).inc();
    metrics.refusals.get_or_create(&RefusalLabels { hub: hub(), reason: "limit" }).inc();
    metrics.hub_calls.get_or_create(&CallLabels { hub: hub(), call: "event", outcome: "ok" }).inc();
    metrics.tunnels.get_or_create(&TunnelLabels { hub: hub(), state: "due" }).inc();
    metrics.tunnel_failures.get_or_create(&HubLabels { hub: hub() }).inc();
    metrics.kubernetes_seen.get_or_create(&NamespaceLabels { spawner: hub(), namespace: hub() }).inc();
    metrics.ssh_connections.get_or_create(&SshLabels { hub: hub() }).inc();
    metrics.ssh_channels.get_or_create(&SshLabels { hub: hub() }).inc();
    metrics.ssh_bytes.get_or_create(&SshBytesLabels { hub: hub(), direction: "to_hub" }).inc();
    metrics.ssh_refusals.get_or_create(&SshRefusalLabels { reason: "key" }).inc();
    metrics.dial_connected.get_or_create(&DialLabels { hub: hub() }).set(1);
    metrics
}
