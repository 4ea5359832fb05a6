//! Every object is of its type, with no field too many: an API server may drop what it does not know.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::{Ingress, NetworkPolicy};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::name;
use crate::support::helm::{Helm, rendered_examples};

fn again<K: DeserializeOwned + Serialize>(object: &Value) -> Result<Value, String> {
    let typed: K = serde_json::from_value(object.clone()).map_err(|mistake| mistake.to_string())?;
    serde_json::to_value(typed).map_err(|mistake| mistake.to_string())
}

/// The object after a journey through its type.
fn typed(object: &Value) -> Result<Value, String> {
    let kind = format!("{}/{}", object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
    match kind.as_str() {
        "apps/v1/Deployment" => again::<Deployment>(object),
        "networking.k8s.io/v1/Ingress" => again::<Ingress>(object),
        "networking.k8s.io/v1/NetworkPolicy" => again::<NetworkPolicy>(object),
        "policy/v1/PodDisruptionBudget" => again::<PodDisruptionBudget>(object),
        "rbac.authorization.k8s.io/v1/ClusterRole" => again::<ClusterRole>(object),
        "rbac.authorization.k8s.io/v1/ClusterRoleBinding" => again::<ClusterRoleBinding>(object),
        "rbac.authorization.k8s.io/v1/Role" => again::<Role>(object),
        "rbac.authorization.k8s.io/v1/RoleBinding" => again::<RoleBinding>(object),
        "v1/ConfigMap" => again::<ConfigMap>(object),
        "v1/PersistentVolumeClaim" => again::<PersistentVolumeClaim>(object),
        "v1/Pod" => again::<Pod>(object),
        "v1/Secret" => again::<Secret>(object),
        "v1/Service" => again::<Service>(object),
        "v1/ServiceAccount" => again::<ServiceAccount>(object),
        // The kinds of the Prometheus Operator are looked at where the alerts are.
        "monitoring.coreos.com/v1/ServiceMonitor" | "monitoring.coreos.com/v1/PrometheusRule" => Ok(object.clone()),
        _ => Err(format!("no {kind} was expected")),
    }
}

/// What is in the one and not in the other, by its path.
fn lost(path: &str, before: &Value, after: &Value, found: &mut Vec<String>) {
    match (before, after) {
        (Value::Object(one), Value::Object(_)) => {
            one.iter().for_each(|(key, value)| lost(&format!("{path}.{key}"), value, &after[key], found));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            one.iter().zip(other).enumerate().for_each(|(at, (a, b))| lost(&format!("{path}[{at}]"), a, b, found));
        }
        _ if before == after => {}
        _ => found.push(format!("{path}: {before} became {after}")),
    }
}

#[test]
fn no_object_has_a_field_that_its_kind_does_not_have() {
    let Some(helm) = Helm::engine() else { return };
    let mut found = Vec::new();
    for (example, rendered) in rendered_examples(&helm) {
        assert!(rendered.objects.len() >= 5, "{example}");
        for object in &rendered.objects {
            let place = format!("{example}: {}", name(object));
            match typed(object) {
                Ok(after) => lost(&place, object, &after, &mut found),
                Err(mistake) => found.push(format!("{place}: {mistake}")),
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn every_object_says_what_it_belongs_to() {
    let Some(helm) = Helm::engine() else { return };
    for (example, rendered) in rendered_examples(&helm) {
        for object in &rendered.objects {
            let labels = &object["metadata"]["labels"];
            let label = |key: &str| labels[format!("app.kubernetes.io/{key}")].as_str().unwrap();
            let of_release = (label("instance"), label("managed-by"), label("version"));
            let expected = ("outpost", "Helm", env!("CARGO_PKG_VERSION"));
            assert_eq!(of_release, expected, "{example}: {}", name(object));
        }
    }
}
