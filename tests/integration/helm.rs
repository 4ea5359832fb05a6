//! The chart, with the real engine of Helm and the real API server.

mod account;
mod changes;
mod configuration;
mod hook;
mod lifecycle;
mod monitoring;
mod mounted;
mod objects;
mod refusals;
mod renders;
mod restricted;
mod rights;

use outpost::config::Config;
use outpost::spawner::SpawnerSettings;
use outpost::spawner::kubernetes::Settings;
use serde_json::Value;

use crate::support::helm::Rendered;

/// Where the chart is installed in tests that have no cluster.
const NAMESPACE: &str = "outpost";

/// The backends of a configuration whose cluster is the one that Outpost runs in.
fn backends(config: &str, namespace: &str) -> Vec<(String, Settings)> {
    let config = Config::parse(config).unwrap_or_else(|mistake| panic!("{mistake}\n{config}"));
    let backends = config.spawners.into_iter().filter_map(|(name, settings)| match settings {
        SpawnerSettings::Kubernetes(settings) if settings.kubeconfig.is_none() => {
            Some((name, Settings { own_namespace: namespace.to_owned(), ..settings }))
        }
        _ => None,
    });
    backends.collect()
}

/// The pods that a chart has: those of controllers, and those of hooks; each with its name.
fn pods(rendered: &Rendered) -> Vec<(String, Value)> {
    let of = |object: &Value| match object["kind"].as_str().unwrap() {
        "Pod" => Some(object["spec"].clone()),
        _ => Some(object["spec"]["template"]["spec"].clone()).filter(Value::is_object),
    };
    let named = |object: &Value| Some((name(object), of(object)?));
    rendered.objects.iter().filter_map(named).collect()
}

/// `Kind/name`.
fn name(object: &Value) -> String {
    format!("{}/{}", object["kind"].as_str().unwrap(), object["metadata"]["name"].as_str().unwrap())
}
