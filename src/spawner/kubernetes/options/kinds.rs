//! Values of the API of Kubernetes inside options: keys in either spelling, numbers where the API has quantities, and
//! errors with their path.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// The longest period, so that sums of times do not overflow: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A period: a text with a unit (`"60s"`), or a number of seconds as in `KubeSpawner`.
#[must_use]
pub fn period(value: &Value) -> Option<Duration> {
    let period = match value {
        Value::Number(seconds) => Duration::try_from_secs_f64(seconds.as_f64()?).ok(),
        Value::String(_) => humantime_serde::deserialize(value).ok(),
        _ => None,
    };
    period.filter(|period| *period <= LONGEST)
}

/// Reads an object of the API. Keys may be in `snake_case`, as Python's client has them.
///
/// # Errors
/// The path and what is wrong there, without the value: `` `[0].nme` is no key there``.
pub fn typed<T: DeserializeOwned + Serialize>(value: &Value) -> Result<T, String> {
    let value = api_words(value);
    let read: T = serde_path_to_error::deserialize(&value).map_err(|error| {
        let path = error.path().to_string();
        // What serde says repeats the value before it says what was expected.
        let message = error.inner().to_string();
        let expected = message.rsplit_once("expected ").map_or("something else", |(_, expected)| expected);
        if path == "." { expected.to_owned() } else { format!("`{path}` has to be {expected}") }
    })?;
    let known = serde_json::to_value(&read).map_err(|_| "something else".to_owned())?;
    match unknown(&value, &known, "") {
        Some(path) => Err(format!("`{path}` is no key that Kubernetes has there")),
        None => Ok(read),
    }
}

/// The same, for a part of an object that is kept as it is, in the words of the API.
///
/// # Errors
/// As [`typed`].
pub fn part<T: DeserializeOwned + Serialize>(value: &Value) -> Result<Map<String, Value>, String> {
    typed::<T>(value)?;
    match api_words(value) {
        Value::Object(part) => Ok(part),
        _ => Err("an object".to_owned()),
    }
}

/// The path of the first key that did not come through.
fn unknown(written: &Value, known: &Value, path: &str) -> Option<String> {
    match (written, known) {
        (Value::Object(written), Value::Object(known)) => written.iter().find_map(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            match known.get(key) {
                Some(known) => unknown(value, known, &path),
                None if value.is_null() => None,
                None => Some(path),
            }
        }),
        (Value::Array(written), Value::Array(known)) => (written.iter().zip(known).enumerate())
            .find_map(|(at, (value, known))| unknown(value, known, &format!("{path}[{at}]"))),
        _ => None,
    }
}

/// The keys of maps whose own keys are free.
const FREE: [&str; 9] = [
    "labels",
    "annotations",
    "matchLabels",
    "nodeSelector",
    "limits",
    "requests",
    "volumeAttributes",
    "options",
    "env",
];

/// Where the words of the API are not what a rule makes of Python's.
const ODD: [(&str, &str); 14] = [
    ("_exec", "exec"),
    ("dataset_uuid", "datasetUUID"),
    ("disk_uri", "diskURI"),
    ("downward_api", "downwardAPI"),
    ("host_ip", "hostIP"),
    ("host_ipc", "hostIPC"),
    ("host_pid", "hostPID"),
    ("pd_id", "pdID"),
    ("scale_io", "scaleIO"),
    ("set_hostname_as_fqdn", "setHostnameAsFQDN"),
    ("storage_policy_id", "storagePolicyID"),
    ("target_ww_ns", "targetWWNs"),
    ("target_wwns", "targetWWNs"),
    ("volume_id", "volumeID"),
];

/// The value with keys as the API has them, and quantities as texts.
#[must_use]
pub fn api_words(value: &Value) -> Value {
    match value {
        Value::Object(object) => object
            .iter()
            .map(|(key, value)| {
                let key = camel(key);
                let value = match (key.as_str(), value) {
                    ("limits" | "requests", Value::Object(amounts)) => {
                        Value::Object(amounts.iter().map(|(name, amount)| (name.clone(), as_text(amount))).collect())
                    }
                    ("sizeLimit" | "divisor", amount) => as_text(amount),
                    ("env", list @ Value::Array(_)) => api_words(list),
                    (free, value) if FREE.contains(&free) => value.clone(),
                    (_, value) => api_words(value),
                };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(api_words).collect::<Vec<_>>().into(),
        other => other.clone(),
    }
}

fn as_text(amount: &Value) -> Value {
    match amount {
        Value::Number(number) => Value::String(number.to_string()),
        other => other.clone(),
    }
}

/// A key as the API has it: `image_pull_policy` as `imagePullPolicy`.
#[must_use]
pub fn camel(key: &str) -> String {
    if let Some((_, word)) = ODD.iter().find(|(python, _)| *python == key) {
        return (*word).to_owned();
    }
    let mut parts = key.split('_');
    let mut word = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let mut letters = part.chars();
        word.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        word.push_str(letters.as_str());
    }
    word
}
