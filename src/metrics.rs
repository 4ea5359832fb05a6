//! What Outpost counts, in one struct without globals. Labels are few and known: never a path, a user or a server.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// Labels of an HTTP request: its route's pattern and its answer.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct RequestLabels {
    /// `GET`, `POST`, `PUT`, `DELETE` or `other`.
    pub method: &'static str,
    /// The route's pattern, for example `/services/{name}/{start_id}`.
    pub route: &'static str,
    /// The HTTP status.
    pub status: u16,
}

/// Labels of a start that was decided.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct StartLabels {
    /// The backend's name in the configuration.
    pub spawner: String,
    /// `running`, `failed` or `cancelled`.
    pub outcome: &'static str,
}

/// Labels of a start that was refused.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct RefusalLabels {
    /// The hub's name.
    pub hub: String,
    /// `rule` (an option or a flavor that it may not have) or `limit`.
    pub reason: &'static str,
}

/// Labels of a call to a hub.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct CallLabels {
    /// The hub's name.
    pub hub: String,
    /// `event`, `flavors`, `tunnel` or `servers`.
    pub call: &'static str,
    /// `ok`, `refused` (the hub answered no) or `failed` (no answer).
    pub outcome: &'static str,
}

/// Labels of the tunnels to running servers that a hub was to be asked for.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct TunnelLabels {
    /// The hub's name.
    pub hub: String,
    /// `due`, `made` or `refused` (the hub does not know the server any more).
    pub state: &'static str,
}

/// Labels of what is counted for each hub.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct HubLabels {
    /// The hub's name.
    pub hub: String,
}

/// Labels of an operation on the database.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct StoreLabels {
    /// The method of the store.
    pub operation: &'static str,
}

/// Labels of a request to the API server of a cluster.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct KubernetesLabels {
    /// `create`, `get`, `list`, `watch`, `patch` or `delete`.
    pub verb: &'static str,
    /// The resource: `pods`.
    pub resource: String,
    /// The HTTP status; 0: no answer.
    pub code: u16,
}

/// Labels of what is seen of a namespace of a cluster.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct NamespaceLabels {
    /// The backend's name in the configuration.
    pub spawner: String,
    /// The namespace; empty: all of them.
    pub namespace: String,
}

/// Labels of a connection that Outpost makes to a hub's side.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct DialLabels {
    /// The hub's name.
    pub hub: String,
}

/// Labels of what a hub's SSH clients have open.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct SshLabels {
    /// The hub's name.
    pub hub: String,
}

/// Labels of bytes that were forwarded.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct SshBytesLabels {
    /// The hub's name.
    pub hub: String,
    /// `to_server` or `to_hub`.
    pub direction: &'static str,
}

/// Labels of what SSH clients were refused.
#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub struct SshRefusalLabels {
    /// Why, in a word.
    pub reason: &'static str,
}

/// Every metric, and the registry that prints them.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Requests of hubs and of administrators.
    pub requests: Family<RequestLabels, Counter>,
    /// Starts by outcome.
    pub starts: Family<StartLabels, Counter>,
    /// How long starts took, in seconds.
    pub start_duration: Family<StartLabels, Histogram>,
    /// Starts that were refused.
    pub refusals: Family<RefusalLabels, Counter>,
    /// Servers that exist, whatever their phase.
    pub servers: Gauge,
    /// Those of them that wait for a free place.
    pub queued: Gauge,
    /// Calls to hubs.
    pub hub_calls: Family<CallLabels, Counter>,
    /// Tunnels to running servers that hubs were to be asked for since the last restart.
    pub tunnels: Family<TunnelLabels, Gauge>,
    /// Questions for tunnels that have to be asked again.
    pub tunnel_failures: Family<HubLabels, Counter>,
    /// How long the database took, in seconds.
    pub store_duration: Family<StoreLabels, Histogram>,
    /// Operations on the database that failed.
    pub store_errors: Family<StoreLabels, Counter>,
    /// 1 if the last change of the configuration was refused, so that an older one is in force.
    pub configuration_stale: Gauge,
    /// Requests to the API servers of clusters.
    pub kubernetes_requests: Family<KubernetesLabels, Counter>,
    /// How long their answers took to begin, in seconds.
    pub kubernetes_duration: Family<KubernetesLabels, Histogram>,
    /// When a namespace was last known to be seen as it is, in seconds since 1970.
    pub kubernetes_seen: Family<NamespaceLabels, Gauge>,
    /// SSH connections of hubs.
    pub ssh_connections: Family<SshLabels, Gauge>,
    /// SSH connections that are not authenticated yet.
    pub ssh_unauthenticated: Gauge,
    /// Forwarded connections of hubs.
    pub ssh_channels: Family<SshLabels, Gauge>,
    /// Bytes that were forwarded.
    pub ssh_bytes: Family<SshBytesLabels, Counter>,
    /// What SSH clients were refused.
    pub ssh_refusals: Family<SshRefusalLabels, Counter>,
    /// Whether the connection to a hub's side is there, where there is to be one.
    pub dial_connected: Family<DialLabels, Gauge>,
}

/// 10 ms to 95 s.
fn start_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.01, 2.5, 11))
}

/// 0.1 ms to 6.5 s.
fn store_buckets() -> Histogram {
    Histogram::new(exponential_buckets(0.000_1, 4.0, 9))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("outpost");
        let start_duration: Family<_, _> = Family::new_with_constructor(start_buckets as fn() -> Histogram);
        let store_duration: Family<_, _> = Family::new_with_constructor(store_buckets as fn() -> Histogram);
        let kubernetes_duration: Family<_, _> = Family::new_with_constructor(store_buckets as fn() -> Histogram);
        let metrics = Self {
            requests: Family::default(),
            starts: Family::default(),
            start_duration,
            refusals: Family::default(),
            servers: Gauge::default(),
            queued: Gauge::default(),
            hub_calls: Family::default(),
            tunnels: Family::default(),
            tunnel_failures: Family::default(),
            store_duration,
            store_errors: Family::default(),
            configuration_stale: Gauge::default(),
            kubernetes_requests: Family::default(),
            kubernetes_duration,
            kubernetes_seen: Family::default(),
            ssh_connections: Family::default(),
            ssh_unauthenticated: Gauge::default(),
            ssh_channels: Family::default(),
            ssh_bytes: Family::default(),
            ssh_refusals: Family::default(),
            dial_connected: Family::default(),
            registry: Registry::default(),
        };
        registry.register(
            "requests",
            "Requests of hubs and of administrators, by route and status",
            metrics.requests.clone(),
        );
        registry.register("starts", "Starts, by backend and outcome", metrics.starts.clone());
        registry.register("start_duration_seconds", "How long starts took", metrics.start_duration.clone());
        registry.register("refusals", "Starts that were refused, by hub and reason", metrics.refusals.clone());
        registry.register("servers", "Servers that exist", metrics.servers.clone());
        registry.register("queued", "Servers that wait for a free place of their flavor", metrics.queued.clone());
        registry.register("hub_calls", "Calls to hubs, by hub, call and outcome", metrics.hub_calls.clone());
        registry.register(
            "tunnels",
            "Tunnels to running servers that hubs were to be asked for since the last restart, by hub and state",
            metrics.tunnels.clone(),
        );
        registry.register(
            "tunnel_failures",
            "Questions for tunnels that have to be asked again, by hub",
            metrics.tunnel_failures.clone(),
        );
        registry.register("store_duration_seconds", "How long the database took", metrics.store_duration.clone());
        registry.register("store_errors", "Operations on the database that failed", metrics.store_errors.clone());
        registry.register(
            "configuration_stale",
            "1 if the last change of the configuration was refused",
            metrics.configuration_stale.clone(),
        );
        registry.register(
            "kubernetes_requests",
            "Requests to the API servers of clusters, by verb, resource and status",
            metrics.kubernetes_requests.clone(),
        );
        registry.register(
            "kubernetes_request_duration_seconds",
            "How long the answers of API servers took to begin",
            metrics.kubernetes_duration.clone(),
        );
        registry.register(
            "kubernetes_seen_timestamp_seconds",
            "When a namespace was last known to be seen as it is",
            metrics.kubernetes_seen.clone(),
        );
        registry.register("ssh_connections", "SSH connections, by hub", metrics.ssh_connections.clone());
        registry.register(
            "ssh_unauthenticated",
            "SSH connections that are not authenticated yet",
            metrics.ssh_unauthenticated.clone(),
        );
        registry.register("ssh_channels", "Forwarded connections that are open, by hub", metrics.ssh_channels.clone());
        registry.register("ssh_bytes", "Bytes that were forwarded, by hub and direction", metrics.ssh_bytes.clone());
        registry.register("ssh_refusals", "What SSH clients were refused, by reason", metrics.ssh_refusals.clone());
        registry.register(
            "dial_connected",
            "1 if the SSH connection to a hub's side is there",
            metrics.dial_connected.clone(),
        );
        Self { registry, ..metrics }
    }
}

impl Metrics {
    /// All metrics in the OpenMetrics text format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => text,
            Err(error) => format!("# {error}\n# EOF\n"),
        }
    }

    /// Notes that a start was decided after `duration`.
    pub fn start(&self, spawner: &str, outcome: &'static str, duration: Duration) {
        let labels = StartLabels { spawner: spawner.to_owned(), outcome };
        self.start_duration.get_or_create(&labels).observe(duration.as_secs_f64());
        self.starts.get_or_create(&labels).inc();
    }

    /// Notes a request to the API server of a cluster.
    pub fn kubernetes(&self, labels: KubernetesLabels, duration: Duration) {
        self.kubernetes_requests.get_or_create(&labels).inc();
        self.kubernetes_duration.get_or_create(&labels).observe(duration.as_secs_f64());
    }

    /// Notes an operation on the database.
    pub fn store(&self, operation: &'static str, duration: Duration, failed: bool) {
        let labels = StoreLabels { operation };
        self.store_duration.get_or_create(&labels).observe(duration.as_secs_f64());
        if failed {
            self.store_errors.get_or_create(&labels).inc();
        }
    }
}
