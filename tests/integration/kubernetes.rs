//! The Kubernetes backend against a real API server.

mod check;
mod claims;
mod ground;
mod tidying;

use std::sync::Arc;
use std::time::Duration;

use outpost::metrics::Metrics;
use outpost::spawner::kubernetes::api::{Cluster, Limits};

/// The backend's own way to ask the API.
fn api(client: kube::Client) -> Cluster {
    let limits = Limits { rate: 1000, burst: 1000, timeout: Duration::from_secs(10) };
    Cluster::new(client, &limits, Arc::new(Metrics::default()))
}
