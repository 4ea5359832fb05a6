//! Alerts and the dashboard ask for what Outpost tells, and the objects that carry them are what the Prometheus Operator
//! takes.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::support::every_metric;
use crate::support::helm::{Helm, Rendered};

const ON: &str = "
metrics: {serviceMonitor: {enabled: true}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}";

/// A `PrometheusRule`, as far as the chart uses it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    #[serde(rename = "name")]
    _name: String,
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    alert: String,
    expr: String,
    #[serde(rename = "for")]
    _patience: Option<String>,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

/// A `ServiceMonitor`, as far as the chart uses it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Monitor {
    selector: Selector,
    namespace_selector: Option<BTreeMap<String, Vec<String>>>,
    endpoints: Vec<Endpoint>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Selector {
    match_labels: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Endpoint {
    port: String,
    path: String,
    #[serde(rename = "interval")]
    _interval: String,
}

fn alerts(rendered: &Rendered) -> Vec<Alert> {
    let rules: Rules = serde_json::from_value(rendered.only("PrometheusRule")["spec"].clone()).unwrap();
    rules.groups.into_iter().flat_map(|group| group.rules).collect()
}

fn dashboard(rendered: &Rendered) -> Value {
    let texts = rendered.of_kind("ConfigMap").flat_map(|map| map["data"].as_object().unwrap());
    let dashboard = texts.into_iter().find(|(file, _)| file.ends_with(".json")).unwrap();
    serde_json::from_str(dashboard.1.as_str().unwrap()).unwrap()
}

/// All `expr` in a value, and the queries of variables.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(object) => object.iter().for_each(|(key, value)| match value.as_str() {
            Some(text) if key == "expr" => found.push(text.to_owned()),
            _ => expressions(value, found),
        }),
        Value::Array(list) => list.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

/// The names under which Prometheus has what Outpost tells.
fn told() -> BTreeSet<String> {
    let text = every_metric().encode();
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let names = families.flat_map(|(name, kind)| match kind {
        "counter" => vec![format!("{name}_total")],
        "histogram" => ["_bucket", "_count", "_sum"].map(|part| format!("{name}{part}")).to_vec(),
        _ => vec![name.to_owned()],
    });
    names.collect()
}

#[test]
fn alerts_and_dashboard_ask_for_metrics_that_are_told() {
    let Some(helm) = Helm::engine() else { return };
    let rendered = helm.render(ON);
    let mut queries: Vec<_> = alerts(&rendered).into_iter().map(|alert| alert.expr).collect();
    assert!(queries.len() >= 8, "{queries:?}");
    expressions(&dashboard(&rendered), &mut queries);
    assert!(queries.len() >= 20, "{queries:?}");
    // Grafana puts a period in place of these.
    let plain =
        |query: &str| query.replace("$__rate_interval", "5m").replace("$__range", "1h").replace("$__interval", "1m");
    let requests: Vec<_> = queries.iter().map(|query| json!({"do": "query", "expression": plain(query)})).collect();
    let (told, mut asked) = (told(), BTreeSet::new());
    for (query, answer) in queries.iter().zip(helm.ask(&requests)) {
        let answer = answer.unwrap_or_else(|mistake| panic!("{query}: {mistake}"));
        for metric in answer["metrics"].as_array().unwrap() {
            let name = metric[0].as_str().unwrap();
            assert!(told.contains(name) || name == "up", "{query}: {name} is none of {told:?}");
            asked.insert(name.to_owned());
        }
    }
    assert!(asked.len() >= 12, "{asked:?}");
}

#[test]
fn alerts_say_what_to_do() {
    let Some(helm) = Helm::engine() else { return };
    let mut names = BTreeSet::new();
    for alert in alerts(&helm.render(ON)) {
        for annotation in ["summary", "description"] {
            assert!(alert.annotations[annotation].len() >= 10, "{}: {annotation}", alert.alert);
        }
        assert!(["critical", "warning", "info"].contains(&alert.labels["severity"].as_str()), "{}", alert.alert);
        assert!(names.insert(alert.alert.clone()), "{}", alert.alert);
    }
}

/// Prometheus finds the port with the metrics: by a service, and by the container behind it.
#[test]
fn prometheus_finds_the_metrics() {
    let Some(helm) = Helm::engine() else { return };
    let rendered = helm.render(ON);
    let monitor: Monitor = serde_json::from_value(rendered.only("ServiceMonitor")["spec"].clone()).unwrap();
    let is_chosen = |service: &&Value| {
        let labels = &service["metadata"]["labels"];
        monitor.selector.match_labels.iter().all(|(name, value)| labels[name] == value.as_str())
    };
    assert_eq!(monitor.endpoints.len(), 1);
    let endpoint = &monitor.endpoints[0];
    assert_eq!(endpoint.path, "/metrics");
    if let Some(namespaces) = monitor.namespace_selector {
        assert_eq!(namespaces["matchNames"], [super::NAMESPACE]);
    }
    let ports =
        rendered.of_kind("Service").filter(is_chosen).flat_map(|service| service["spec"]["ports"].as_array().unwrap());
    let ports: Vec<_> = ports.filter(|port| port["name"] == endpoint.port.as_str()).collect();
    assert_eq!(ports.len(), 1, "{ports:?}");
    let container = &rendered.only("Deployment")["spec"]["template"]["spec"]["containers"][0];
    let ports_of_container = container["ports"].as_array().unwrap();
    let port = ports_of_container.iter().find(|port| port["name"] == ports[0]["targetPort"]).unwrap();
    assert_eq!(port["containerPort"], 8081);
}
