//! `pod_patch`: what a site changes about pods beyond all options, as a strategic merge patch or as a JSON patch. Its texts are
//! templates; they become values, never text that is parsed again.

use k8s_openapi::api::core::v1::Pod;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value};

use super::merge::expand_value;
use super::options::typed;
use crate::model::TemplateContext;

/// A patch of pods.
#[derive(Clone, Debug, PartialEq)]
pub enum PodPatch {
    /// A part of a pod that is merged into it. Lists whose elements have a name merge by it; other lists are replaced, but
    /// for tolerations, which are added.
    Merge(Map<String, Value>),
    /// Operations of a JSON patch.
    Operations(Vec<Value>),
}

impl Default for PodPatch {
    fn default() -> Self {
        Self::Operations(Vec::new())
    }
}

impl<'de> Deserialize<'de> for PodPatch {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Object(part) => Ok(Self::Merge(part)),
            Value::Array(operations) => {
                let patch = Value::Array(operations.clone());
                json_patch::Patch::deserialize(&patch)
                    .map_err(|error| D::Error::custom(format!("expected operations of a JSON patch: {error}")))?;
                Ok(Self::Operations(operations))
            }
            _ => Err(D::Error::custom("expected a part of a pod, or a list of the operations of a JSON patch")),
        }
    }
}

/// Fields of a pod that are lists, and the key that tells their elements apart.
const MERGE_KEYS: [(&str, &str); 12] = [
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("env", "name"),
    ("ports", "containerPort"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("volumes", "name"),
    ("imagePullSecrets", "name"),
    ("hostAliases", "ip"),
    ("resourceClaims", "name"),
    ("topologySpreadConstraints", "topologyKey"),
];

/// What says in an object of a patch that it replaces or deletes what is there.
const DIRECTIVE: &str = "$patch";

impl PodPatch {
    /// The pod with the patch applied.
    ///
    /// # Errors
    /// What does not fit, for the administrator.
    pub fn apply(&self, pod: Pod, words: &TemplateContext<'_>) -> Result<Pod, String> {
        let mut value = serde_json::to_value(&pod).map_err(|error| error.to_string())?;
        match self {
            Self::Operations(operations) if operations.is_empty() => return Ok(pod),
            Self::Operations(operations) => {
                let mut patch = operations.clone();
                for operation in &mut patch {
                    let path = operation.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
                    if let Some(value) = operation.get_mut("value") {
                        expand_value(value, words, &path)?;
                    }
                }
                let patch = json_patch::Patch::deserialize(&Value::Array(patch)).map_err(|error| error.to_string())?;
                json_patch::patch(&mut value, &patch).map_err(|error| error.to_string())?;
            }
            Self::Merge(part) => {
                let mut part = Value::Object(part.clone());
                expand_value(&mut part, words, "")?;
                merge(&mut value, part, "")?;
            }
        }
        typed(&value)
    }
}

/// Merges a part into what is there; `field` is the name of the field that holds both.
fn merge(there: &mut Value, part: Value, field: &str) -> Result<(), String> {
    match (there, part) {
        (Value::Object(there), Value::Object(mut part)) => {
            if directive(&mut part)? == Some(Directive::Replace) {
                there.clear();
            }
            for (key, value) in part {
                match value {
                    Value::Null => drop(there.shift_remove(&key)),
                    value => merge(there.entry(&key).or_insert(Value::Null), value, &key)?,
                }
            }
        }
        (Value::Array(there), Value::Array(part)) if field == "tolerations" => {
            let new: Vec<_> = part.into_iter().filter(|value| !there.contains(value)).collect();
            there.extend(new);
        }
        (Value::Array(there), Value::Array(part)) if merge_key(field).is_some() => {
            let key = merge_key(field).unwrap_or_default();
            part.into_iter().try_for_each(|element| merge_element(there, element, field, key))?;
        }
        (there @ Value::Null, part @ (Value::Object(_) | Value::Array(_))) => {
            // What is new has directives, too.
            *there = if part.is_object() { Value::Object(Map::new()) } else { Value::Array(Vec::new()) };
            return if merge_key(field).is_some() || part.is_object() {
                merge(there, part, field)
            } else {
                *there = part;
                Ok(())
            };
        }
        (there, part) => *there = part,
    }
    Ok(())
}

fn merge_element(list: &mut Vec<Value>, mut element: Value, field: &str, key: &str) -> Result<(), String> {
    let name = element.get(key).cloned().ok_or_else(|| format!("an element of `{field}` has no `{key}`"))?;
    let at = list.iter().position(|there| there.get(key) == Some(&name));
    let deletes = match element.as_object() {
        Some(object) => directive(&mut object.clone())? == Some(Directive::Delete),
        None => false,
    };
    match at {
        Some(at) if deletes => drop(list.remove(at)),
        Some(at) => return list.get_mut(at).map_or(Ok(()), |there| merge(there, element, "")),
        None if deletes => {}
        None => {
            if let Some(object) = element.as_object_mut() {
                directive(object)?;
            }
            list.push(element);
        }
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Directive {
    Replace,
    Delete,
    Merge,
}

/// Takes the directive out of an object.
fn directive(object: &mut Map<String, Value>) -> Result<Option<Directive>, String> {
    match object.shift_remove(DIRECTIVE).as_ref().map(Value::as_str) {
        None => Ok(None),
        Some(Some("replace")) => Ok(Some(Directive::Replace)),
        Some(Some("delete")) => Ok(Some(Directive::Delete)),
        Some(Some("merge")) => Ok(Some(Directive::Merge)),
        Some(_) => Err(format!("`{DIRECTIVE}` has to be replace, delete or merge")),
    }
}

fn merge_key(field: &str) -> Option<&'static str> {
    MERGE_KEYS.iter().find(|(name, _)| *name == field).map(|(_, key)| *key)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn patched(patch: Value) -> Result<Value, String> {
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}}, "spec": {
            "containers": [{"name": "notebook", "image": "i", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                "volumeMounts": [{"name": "v", "mountPath": "/home"}]}],
            "tolerations": [{"key": "k"}]}});
        let patch = PodPatch::deserialize(&patch).map_err(|error| error.to_string())?;
        let words = TemplateContext::from([("username", "ann".to_owned())]);
        patch.apply(serde_json::from_value(pod).unwrap(), &words).map(|pod| serde_json::to_value(pod).unwrap())
    }

    #[rstest]
    #[case(json!({"metadata": {"labels": {"b": "{username}"}}}), "/metadata/labels", json!({"a": "1", "b": "ann"}))]
    #[case(json!({"metadata": {"labels": {"a": null}}}), "/metadata/labels", json!({}))]
    #[case(json!({"metadata": {"labels": {"$patch": "replace", "b": "2"}}}), "/metadata/labels", json!({"b": "2"}))]
    #[case(json!({"spec": {"containers": [{"name": "notebook", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}]}]}}),
        "/spec/containers/0/env", json!([{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}]))]
    #[case(json!({"spec": {"containers": [{"name": "notebook", "env": [{"name": "A", "$patch": "delete"}, {"name": "D", "$patch": "delete"}]}]}}),
        "/spec/containers/0/env", json!([{"name": "B", "value": "2"}]))]
    #[case(json!({"spec": {"containers": [{"name": "side", "image": "s"}]}}), "/spec/containers/1", json!({"name": "side", "image": "s"}))]
    #[case(json!({"spec": {"containers": [{"name": "notebook", "volumeMounts": [{"mountPath": "/home", "readOnly": true}]}]}}),
        "/spec/containers/0/volumeMounts", json!([{"name": "v", "mountPath": "/home", "readOnly": true}]))]
    #[case(json!({"spec": {"tolerations": [{"key": "k"}, {"key": "l"}]}}), "/spec/tolerations", json!([{"key": "k"}, {"key": "l"}]))]
    #[case(json!({"spec": {"dnsConfig": {"nameservers": ["1.1.1.1"]}}}), "/spec/dnsConfig", json!({"nameservers": ["1.1.1.1"]}))]
    #[case(json!([{"op": "add", "path": "/spec/hostname", "value": "{username}"}]), "/spec/hostname", json!("ann"))]
    #[case(json!([{"op": "remove", "path": "/spec/tolerations"}]), "/spec/tolerations", json!(null))]
    #[case(json!([]), "/spec/tolerations", json!([{"key": "k"}]))]
    fn a_pod_is_patched(#[case] patch: Value, #[case] path: &str, #[case] expected: Value) {
        let pod = patched(patch).unwrap();
        assert_eq!(pod.pointer(path).cloned().unwrap_or_default(), expected);
    }

    #[rstest]
    #[case(json!({"spec": {"nme": 1}}), "`spec.nme` is no key that Kubernetes has there")]
    #[case(json!({"spec": {"hostname": 5}}), "`spec.hostname` has to be a string")]
    #[case(json!({"spec": {"hostname": "{nope}"}}), "`{nope}` is no field here")]
    #[case(json!({"spec": {"containers": [{"image": "x"}]}}), "an element of `containers` has no `name`")]
    #[case(json!({"spec": {"$patch": "other"}}), "`$patch` has to be replace, delete or merge")]
    #[case(json!([{"op": "move"}]), "expected operations of a JSON patch")]
    #[case(json!([{"op": "remove", "path": "/spec/nope"}]), "/spec/nope")]
    #[case(json!("spec: {}"), "expected a part of a pod")]
    fn mistakes_are_told(#[case] patch: Value, #[case] expected: &str) {
        let mistake = patched(patch).unwrap_err();
        assert!(mistake.contains(expected), "{mistake}");
    }
}
