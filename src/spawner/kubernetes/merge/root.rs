//! Layers of options that make a server run as root, over others that forbid it: such a pod could never start.

use serde_json::{Map, Value};

use crate::model;
use crate::spawner::kubernetes::options::camel;

/// The options in which a Unix user stands, the one that counts first.
const USERS: [(&str, Option<&str>); 3] =
    [(CONTAINER, Some("runAsUser")), ("uid", None), ("pod_security_context", Some("runAsUser"))];

const CONTAINER: &str = "container_security_context";
const NON_ROOT: &str = "runAsNonRoot";

/// Puts a layer over what is below it. If it makes the user 0, `runAsNonRoot` of the container stays only if the layer says it,
/// too.
pub fn merge(base: &mut Map<String, Value>, layer: Map<String, Value>) {
    let names_user = USERS.iter().any(|(option, key)| find(&layer, option, *key).is_some());
    let says_non_root = find(&layer, CONTAINER, Some(NON_ROOT)).is_some();
    model::merge(base, layer);
    if names_user && !says_non_root && user(base) == Some(0) {
        let container = base.get_mut(CONTAINER).and_then(Value::as_object_mut);
        container.into_iter().for_each(|context| context.retain(|key, _| camel(key) != NON_ROOT));
    }
}

/// The Unix user that the server runs as, if that is said.
fn user(options: &Map<String, Value>) -> Option<i64> {
    let said = |(option, key): &(&str, Option<&str>)| find(options, option, *key).filter(|value| !value.is_null());
    USERS.iter().find_map(said)?.as_i64()
}

/// The value of an option, or of a key in it: of two spellings the later one counts.
fn find<'a>(options: &'a Map<String, Value>, option: &str, key: Option<&str>) -> Option<&'a Value> {
    let value = options.get(option)?;
    match key {
        None => Some(value),
        Some(key) => value.as_object()?.iter().rfind(|(written, _)| camel(written) == key).map(|(_, value)| value),
    }
}
