//! `pre_start` and `post_stop`: objects of any kind that is allowed, made of templates for each server.

use std::collections::BTreeMap;

use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value, json};

use super::merge::expand_value;
use super::names::{Names, slugs};
use super::plan::ObjectRef;

/// A kind of objects, as `v1/ConfigMap` or `networking.k8s.io/v1/NetworkPolicy`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectKind {
    /// Its group and version: `v1`, `apps/v1`.
    pub api_version: String,
    /// Its name: `ConfigMap`.
    pub kind: String,
}

impl ObjectKind {
    /// The kind of an object.
    fn of(object: &Map<String, Value>) -> Option<Self> {
        let text = |key: &str| object.get(key)?.as_str().map(str::to_owned);
        Some(Self { api_version: text("apiVersion")?, kind: text("kind")? })
    }

    /// How it is asked for.
    #[must_use]
    pub fn resource(&self) -> ApiResource {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &self.kind))
    }
}

impl std::fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.api_version, self.kind)
    }
}

impl<'de> Deserialize<'de> for ObjectKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let sound =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || "./-".contains(c));
        match text.rsplit_once('/') {
            Some((api_version, kind)) if sound(api_version) && sound(kind) && api_version.split('/').count() <= 2 => {
                Ok(Self { api_version: api_version.to_owned(), kind: kind.to_owned() })
            }
            _ => Err(D::Error::custom("expected a kind of objects like \"v1/ConfigMap\" or \"apps/v1/Deployment\"")),
        }
    }
}

/// Checks an object of the configuration: what of it cannot be told with one server.
///
/// # Errors
/// What was expected.
pub fn check(object: &Map<String, Value>, allowed: &[ObjectKind]) -> Result<(), String> {
    let kind = ObjectKind::of(object).ok_or("expected an object with `apiVersion` and `kind`")?;
    if !allowed.contains(&kind) {
        return Err(format!("{kind} is none of the kinds in `object_kinds`"));
    }
    let metadata = object.get("metadata").unwrap_or(&Value::Null);
    let name = metadata.get("name").and_then(Value::as_str).unwrap_or_default();
    if !name.contains("{uid}") && !name.contains("{pod_name}") {
        return Err(
            "expected a `metadata.name` with `{uid}` or `{pod_name}` in it, so that each server has its own".to_owned()
        );
    }
    match metadata.get("namespace") {
        None => Ok(()),
        Some(_) => Err("expected no `metadata.namespace`: it is always the server's".to_owned()),
    }
}

/// Makes an object for a server, with these labels over its own.
///
/// # Errors
/// What does not fit, for the administrator.
pub fn make(
    object: &Map<String, Value>,
    names: &Names,
    labels: &BTreeMap<String, String>,
) -> Result<DynamicObject, String> {
    let mut value = Value::Object(object.clone());
    expand_value(&mut value, &names.words, "")?;
    if let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), json!(names.namespace));
    }
    let mut object: DynamicObject = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    if !name.split('.').all(slugs::is_dns_label) || name.len() > 253 {
        return Err(format!("{name:?} is no name that Kubernetes takes"));
    }
    object.metadata.labels.get_or_insert_default().extend(labels.clone());
    Ok(object)
}

/// What an object is found by.
#[must_use]
pub fn reference(object: &DynamicObject) -> ObjectRef {
    let types = object.types.clone().unwrap_or_default();
    let kind = ObjectKind { api_version: types.api_version, kind: types.kind };
    let plural = kind.resource().plural;
    let name = object.metadata.name.clone().unwrap_or_default();
    ObjectRef { api_version: kind.api_version, kind: kind.kind, plural, name }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::{names::Naming, sample};
    use super::*;

    fn kind(text: &str) -> Result<ObjectKind, String> {
        ObjectKind::deserialize(&json!(text)).map_err(|error| error.to_string())
    }

    #[rstest]
    #[case("v1/ConfigMap", "", "v1", "configmaps")]
    #[case("networking.k8s.io/v1/NetworkPolicy", "networking.k8s.io", "v1", "networkpolicies")]
    fn kinds(#[case] text: &str, #[case] group: &str, #[case] version: &str, #[case] plural: &str) {
        let kind = kind(text).unwrap();
        let resource = kind.resource();
        assert_eq!((&*resource.group, &*resource.version, &*resource.plural), (group, version, plural));
        assert_eq!(kind.to_string(), text);
    }

    #[rstest]
    #[case("ConfigMap")]
    #[case("v1/")]
    #[case("a/b/v1/Kind")]
    #[case("v1/Config Map")]
    fn what_is_no_kind_is_told(#[case] text: &str) {
        assert!(kind(text).unwrap_err().contains("v1/ConfigMap"));
    }

    fn object(name: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": {"app": "x", "ours": "no"}},
            "data": {"user": "{unescaped_username}"}})
    }

    #[rstest]
    #[case(json!({}), "apiVersion")]
    #[case(json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "{uid}"}}), "v1/Secret is none of the kinds")]
    #[case(object("config"), "`{uid}` or `{pod_name}`")]
    #[case(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{uid}", "namespace": "x"}}), "`metadata.namespace`")]
    fn mistakes(#[case] object: Value, #[case] expected: &str) {
        let mistake = check(object.as_object().unwrap(), &[kind("v1/ConfigMap").unwrap()]).unwrap_err();
        assert!(mistake.contains(expected), "{mistake}");
    }

    #[test]
    fn an_object_is_made_for_one_server() {
        let names = Naming::read(&Map::new(), "lab").unwrap().names(&sample::launch("hub", "Ann: {x}\n", "")).unwrap();
        let labels = BTreeMap::from([("ours".to_owned(), "yes".to_owned())]);
        let object = make(object("notes-{uid}").as_object().unwrap(), &names, &labels).unwrap();
        assert_eq!(object.data, json!({"data": {"user": "Ann: {x}\n"}}));
        assert_eq!(object.metadata.namespace.as_deref(), Some("lab"));
        assert_eq!(
            object.metadata.labels.as_ref().map(|labels| (&*labels["app"], &*labels["ours"])),
            Some(("x", "yes"))
        );
        let name = format!("notes-{}", names.words["uid"]);
        let expected =
            ObjectRef { api_version: "v1".into(), kind: "ConfigMap".into(), plural: "configmaps".into(), name };
        assert_eq!(reference(&object), expected);
    }

    #[test]
    fn a_name_that_kubernetes_does_not_take_is_told() {
        let names = Naming::read(&Map::new(), "lab").unwrap().names(&sample::launch("hub", "Ann", "")).unwrap();
        let mistake = make(object("{unescaped_username}-{uid}").as_object().unwrap(), &names, &BTreeMap::new());
        assert!(mistake.unwrap_err().contains("is no name that Kubernetes takes"));
    }
}
