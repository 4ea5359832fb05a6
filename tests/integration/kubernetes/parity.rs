//! What Outpost makes of KubeSpawner's options is what the real KubeSpawner makes of them, but for a list of differences.
//! The configurations are in `tests/kube/parity.json`; `tests/kube/parity.py` asks KubeSpawner.

mod differences;

use std::collections::BTreeMap;
use std::process::Command;

use outpost::error::Result;
use outpost::model::{Certificates, Environment, Launch, ServerId, Uid};
use outpost::spawner::kubernetes::plan::{Identity, place, plan};
use outpost::spawner::kubernetes::settings::INSTEAD;
use outpost::spawner::kubernetes::{Settings, options};
use outpost::spawner::options::KUBESPAWNER_OPTIONS;
use secrecy::SecretString;
use serde_json::{Map, Value, json};

use self::differences::DIFFERENCES;
use crate::support::provided;

const CASES: &str = include_str!("../../kube/parity.json");

const PAGE: &str = include_str!("../../../docs/kubespawner.md");

pub const UID: &str = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
pub const INSTALLATION: &str = "this-installation";
pub const SPAWNER: &str = "cluster";
pub const HUB: &str = "hub1";

/// What a script prints with the real KubeSpawner. `None`: it is not here, and the test is skipped.
fn of_kubespawner(script: &[&str]) -> Option<BTreeMap<String, Value>> {
    let installed = provided("OUTPOST_TEST_HUB", "the real KubeSpawner")?;
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kube");
    let asked = Command::new(format!("{installed}/venv/bin/python")).args(script).current_dir(folder).output().unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    Some(serde_json::from_slice(&asked.stdout).unwrap())
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn launch(case: &Value, theirs: &Value) -> Launch {
    let text = |value: &Value| SecretString::from(value.as_str().unwrap());
    let certificates = &theirs["certificates"];
    Launch {
        uid: Uid::parse(UID).unwrap(),
        id: ServerId {
            hub: HUB.into(),
            name: case["server"].as_str().unwrap_or_default().into(),
            start_id: "start".into(),
        },
        user: case["user"].as_str().unwrap_or("ada").into(),
        user_id: 7,
        environment: serde_json::from_value::<Environment>(theirs["environment"].clone()).unwrap(),
        options: object(&case["misc"]),
        user_options: object(&case["user_options"]),
        groups: Vec::new(),
        certificates: certificates.is_object().then(|| Certificates {
            keyfile: text(&certificates["keyfile"]),
            certfile: text(&certificates["certfile"]),
            cafile: text(&certificates["cafile"]),
            trust_bundles: [("hub-ca".to_owned(), text(&certificates["hub-ca"]))].into(),
        }),
        auth_state: BTreeMap::new(),
    }
}

/// What a site writes that comes from the Python service with one hub: ours have the hub in them.
fn settings(case: &Value) -> Settings {
    let mut options = object(&json!({
        "pod_name_template": "jupyter-{user_server}",
        "pvc_name_template": "claim-{user_server}",
        "user_namespace_template": "{hubnamespace}-{username}",
    }));
    options.extend(object(&case["options"]));
    serde_json::from_value(Value::Object(options)).unwrap()
}

fn of_outpost(case: &Value, theirs: &Value) -> Result<Value> {
    let (settings, launch) = (settings(case), launch(case, theirs));
    let place = place(&settings, &launch)?;
    let plan = plan(&settings, &launch, &place, &Identity { installation: INSTALLATION, spawner: SPAWNER })?;
    // KubeSpawner asks nobody about one that it does not make.
    let claim = plan.claim.filter(|_| plan.claim_is_made);
    Ok(json!({
        "pod": plan.pod, "claim": claim, "service": plan.service, "secret": plan.secret, "namespace": plan.namespace,
        "host": place.host,
    }))
}

/// Without what is empty, which nobody can tell from what is absent, and without what every object of its type has.
fn tidy(value: &Value) -> Value {
    let is_something = |value: &Value| match value {
        Value::Null => false,
        Value::Array(list) => !list.is_empty(),
        Value::Object(object) => !object.is_empty(),
        _ => true,
    };
    match value {
        Value::Object(object) => {
            let keys = object.iter().filter(|(key, _)| !["kind", "apiVersion"].contains(&key.as_str()));
            // An empty volume is one.
            let keep = |key: &str, value: &Value| is_something(value) || key == "emptyDir";
            let keys = keys.map(|(key, value)| (key.clone(), tidy(value))).filter(|(key, value)| keep(key, value));
            Value::Object(keys.collect())
        }
        Value::Array(list) => Value::Array(list.iter().map(tidy).collect()),
        other => other.clone(),
    }
}

/// The paths at which two values differ, with both.
fn compare(path: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(one), Value::Object(other)) => {
            let keys: std::collections::BTreeSet<_> = one.keys().chain(other.keys()).collect();
            keys.into_iter().for_each(|key| compare(&format!("{path}.{key}"), &theirs[key], &ours[key], found));
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            let pairs = one.iter().zip(other).enumerate();
            pairs.for_each(|(at, (one, other))| compare(&format!("{path}[{at}]"), one, other, found));
        }
        _ if theirs == ours => {}
        _ => found.push(format!("{path}: KubeSpawner has {theirs}, Outpost {ours}")),
    }
}

#[test]
fn objects_are_those_of_kubespawner_but_for_a_list_of_differences() {
    let Some(all_theirs) = of_kubespawner(&["parity.py", "parity.json"]) else { return };
    let cases: Map<String, Value> = serde_json::from_str(CASES).unwrap();
    assert!(cases.len() >= 30);
    let mut seen = BTreeMap::new();
    let mut found = Vec::new();
    for (name, case) in &cases {
        let mut theirs = tidy(&all_theirs[name]);
        let ours = match of_outpost(case, &all_theirs[name]) {
            Ok(ours) => tidy(&ours),
            Err(error) => json!(error.to_string()),
        };
        for keys in ["environment", "certificates"] {
            theirs.as_object_mut().unwrap().remove(keys);
        }
        for (difference, make) in DIFFERENCES {
            let before = theirs.clone();
            make(&mut theirs, case);
            theirs = tidy(&theirs);
            *seen.entry(*difference).or_insert(false) |= before != theirs;
        }
        compare(name, &theirs, &ours, &mut found);
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
    let idle: Vec<_> = seen.into_iter().filter_map(|(difference, seen)| (!seen).then_some(difference)).collect();
    assert!(idle.is_empty(), "these are no differences any more: {idle:#?}");
}

#[test]
fn keys_in_the_words_of_pythons_client_become_those_of_the_api() {
    let Some(words) = of_kubespawner(&["words.py"]) else { return };
    assert!(words.len() >= 200, "{}", words.len());
    for (python, api) in words {
        let read: Value = options::typed(&json!({python: 1})).unwrap();
        assert!(read.get(api.as_str().unwrap()).is_some(), "{api} became {read}");
    }
}

#[test]
fn the_differences_are_documented() {
    let page = PAGE.split_whitespace().collect::<Vec<_>>().join(" ");
    for (difference, _) in DIFFERENCES {
        assert!(page.contains(&format!("- {difference}")), "{difference}");
    }
    let is_no_key = |option: &&&str| {
        let settings = serde_json::from_value::<Settings>(json!({**option: {"no": "value"}}));
        settings.is_err_and(|error| error.to_string().contains("unknown field"))
    };
    let instead = INSTEAD.iter().map(|(option, _)| option);
    for option in KUBESPAWNER_OPTIONS.iter().filter(is_no_key).chain(instead) {
        assert!(page.contains(&format!("`{option}`")), "{option} is no key, and the page does not say what is instead");
    }
}
