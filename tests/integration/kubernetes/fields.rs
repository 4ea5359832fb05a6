//! Every option is found again in the objects as the API server returns them, and the API server takes them as they are.

mod table;

use std::collections::BTreeSet;
use std::path::Path;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, Service};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{Api, PostParams};
use outpost::spawner::kubernetes::Settings;
use outpost::spawner::kubernetes::options;
use outpost::spawner::kubernetes::plan::{Identity, place, plan};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use self::table::{ELSEWHERE, FIELDS};
use super::launch;
use crate::support::kube::{Cluster, create};

/// What is in `sent` and not in `returned`, by its path. Quantities are written in another way, but are the same.
fn lost(sent: &Value, returned: &Value, path: &Path, found: &mut Vec<String>) {
    match (sent, returned) {
        (Value::Object(sent), Value::Object(returned)) => {
            for (key, value) in sent {
                lost(value, returned.get(key).unwrap_or(&Value::Null), &path.join(key), found);
            }
        }
        (Value::Array(sent), Value::Array(returned)) if sent.len() <= returned.len() => {
            for (at, (sent, returned)) in sent.iter().zip(returned).enumerate() {
                lost(sent, returned, &path.join(at.to_string()), found);
            }
        }
        // An empty list or table is the same as none.
        (Value::Array(sent), Value::Null) if sent.is_empty() => {}
        (Value::Object(sent), Value::Null) if sent.is_empty() => {}
        _ if sent == returned || path.iter().any(|key| key == "resources") && !returned.is_null() => {}
        _ => found.push(format!("{}: {sent} became {returned}", path.display())),
    }
}

/// Creates an object, and returns what the API server made of it.
async fn returned<K>(api: Api<K>, object: &K) -> Value
where
    K: kube::Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let answer = match api.create(&PostParams::default(), object).await {
        Ok(answer) => serde_json::to_value(answer).unwrap(),
        Err(error) => panic!("{error}: {}", serde_json::to_string_pretty(object).unwrap()),
    };
    let mut found = Vec::new();
    lost(&serde_json::to_value(object).unwrap(), &answer, Path::new("/"), &mut found);
    assert_eq!(found, Vec::<String>::new());
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn every_option_lands_in_its_field() {
    let Some(cluster) = Cluster::shared().await else { return };
    let admin = cluster.admin().await;
    let class = json!({"metadata": {"name": "high-of-tests"}, "value": 1000});
    create::<PriorityClass>(Api::all(admin.clone()), class).await;
    let mut wrong = Vec::new();
    for (toml, object, pointer, expected) in FIELDS {
        let namespace = cluster.namespace().await;
        let mut settings: Settings = toml::from_str(toml).unwrap_or_else(|error| panic!("{toml}: {error}"));
        settings.options.insert("namespace".to_owned(), json!(namespace));
        let mut launch = launch("ada", "lab");
        if toml.contains("secret_mount_path") {
            launch.certificates = Some(outpost::model::Certificates::default());
        }
        let identity = Identity { installation: "installation", spawner: "cluster" };
        let place = place(&settings, &launch).unwrap_or_else(|error| panic!("{toml}: {error:?}"));
        let plan = plan(&settings, &launch, &place, &identity).unwrap_or_else(|error| panic!("{toml}: {error:?}"));
        let namespace = place.namespace.clone();
        let mut answers = json!({});
        if let Some(object) = &plan.namespace {
            answers["namespace"] = returned::<Namespace>(Api::all(admin.clone()), object).await;
        }
        answers = json!({
            "namespace": answers["namespace"],
            "pod": returned::<Pod>(Api::namespaced(admin.clone(), &namespace), &plan.pod).await,
            "secret": returned::<Secret>(Api::namespaced(admin.clone(), &namespace), &plan.secret).await,
        });
        if let Some(service) = &plan.service {
            answers["service"] = returned::<Service>(Api::namespaced(admin.clone(), &namespace), service).await;
        }
        if let Some(claim) = &plan.claim {
            answers["claim"] =
                returned::<PersistentVolumeClaim>(Api::namespaced(admin.clone(), &namespace), claim).await;
        }
        let variables =
            answers["pod"].pointer("/spec/containers/0/env").and_then(Value::as_array).into_iter().flatten();
        let named = variables.map(|one| (one["name"].as_str().unwrap().to_owned(), one.clone()));
        answers["environment"] = Value::Object(named.collect());
        answers["place"] = serde_json::to_value(&place).unwrap();
        let expected: Value = serde_json::from_str(expected).unwrap_or_else(|error| panic!("{expected}: {error}"));
        let found = answers[object].pointer(pointer).unwrap_or(&Value::Null);
        if *found != expected {
            wrong
                .push(format!("{toml}\n   {object}{pointer} is {found} instead of {expected}\n   {}", answers[object]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_option_has_a_field() {
    let keys_of = |toml: &&str| toml::from_str::<toml::Table>(toml).unwrap().keys().cloned().collect::<Vec<_>>();
    let tested: BTreeSet<String> = FIELDS.iter().flat_map(|(toml, ..)| keys_of(toml)).collect();
    let elsewhere = ELSEWHERE.iter().map(|option| (*option).to_owned());
    let tested: BTreeSet<String> = tested.into_iter().chain(elsewhere).collect();
    let all: BTreeSet<String> = options::all().map(str::to_owned).collect();
    assert_eq!(all.difference(&tested).collect::<Vec<_>>(), Vec::<&String>::new());
}
