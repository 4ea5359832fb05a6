//! What servers take up, under KubeSpawner's names: quantities, and the resources of a flavor.

use serde_json::{Map, Value};

use super::Need;

/// The options that are resources: a hub's own must not exceed the flavor's or the site's.
pub const RESOURCES: [&str; 6] =
    ["cpu_limit", "cpu_guarantee", "mem_limit", "mem_guarantee", "extra_resource_limits", "extra_resource_guarantees"];

/// What a flavor says about where servers run: as little a hub's to change as what they take up.
pub const PLACEMENT: [&str; 2] = ["node_selector", "tolerations"];

/// The resources of a flavor as options of a backend, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources(Map<String, Value>);

impl Resources {
    /// The options: flat, in the order of the document.
    #[must_use]
    pub const fn options(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Adds an option. Entries of an object join those that are there.
    ///
    /// # Errors
    /// What was expected, if it is none of [`RESOURCES`] or [`PLACEMENT`] or of another type.
    pub fn add(&mut self, key: &str, value: Value) -> Result<(), String> {
        match (key, &value) {
            ("node_selector", Value::Object(labels)) if labels.values().all(Value::is_string) => {}
            ("node_selector", _) => return Err("expected labels of nodes and their values, all texts".to_owned()),
            ("tolerations", Value::Array(_) | Value::Object(_)) => {}
            ("tolerations", _) => return Err("expected a list of tolerations".to_owned()),
            _ => check_resource(key, &value)?,
        }
        match (self.0.get_mut(key), value) {
            (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
            (_, value) => drop(self.0.insert(key.to_owned(), value)),
        }
        Ok(())
    }
}

/// Checks the value of one of [`RESOURCES`].
///
/// # Errors
/// What was expected.
pub fn check_resource(key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Object(amounts) if key.starts_with("extra_resource") => {
            amounts.iter().filter(|(_, amount)| !amount.is_null()).try_for_each(|(name, amount)| {
                quantity(name, amount).map(drop).map_err(|expected| format!("{name:?}: {expected}"))
            })
        }
        _ if key.starts_with("extra_resource") => Err("expected resources and how much of each".to_owned()),
        _ if RESOURCES.contains(&key) => quantity(key, value).map(drop),
        _ => Err(format!("expected one of {}, {}", RESOURCES.join(", "), PLACEMENT.join(", "))),
    }
}

/// How much a value is, in processors, bytes or devices. In `mem_limit`, `mem_guarantee` and `memory` the units K, M, G and T are
/// powers of 1024, as in KubeSpawner; everything else is a quantity of Kubernetes (`500m`, `2G`, `2Gi`, `1e3`).
///
/// # Errors
/// What was expected. The value is not repeated.
pub fn quantity(key: &str, value: &Value) -> Result<f64, String> {
    let is_bytes = matches!(key, "mem_limit" | "mem_guarantee" | "memory");
    let amount = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) if is_bytes => scaled(text, BYTES),
        Value::String(text) => scaled(text, KUBERNETES),
        _ => None,
    };
    amount.filter(|amount| amount.is_finite() && *amount >= 0.0).ok_or_else(|| {
        if is_bytes {
            "expected a size in bytes like \"2G\""
        } else {
            "expected a quantity like 2, \"500m\" or \"2Gi\""
        }
        .to_owned()
    })
}

const BYTES: &[(&str, f64)] = &[("K", KIB), ("M", KIB * KIB), ("G", KIB * KIB * KIB), ("T", KIB * KIB * KIB * KIB)];

const KUBERNETES: &[(&str, f64)] = &[
    ("Ki", KIB),
    ("Mi", KIB * KIB),
    ("Gi", KIB * KIB * KIB),
    ("Ti", KIB * KIB * KIB * KIB),
    ("Pi", KIB * KIB * KIB * KIB * KIB),
    ("Ei", KIB * KIB * KIB * KIB * KIB * KIB),
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
];

const KIB: f64 = 1024.0;

fn scaled(text: &str, units: &[(&str, f64)]) -> Option<f64> {
    let (number, factor) =
        units.iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, *factor))).unwrap_or((text, 1.0));
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let is_number = digits.contains(|c: char| c.is_ascii_digit())
        && digits.chars().all(|c| c.is_ascii_digit() || c == '.')
        && exponent.trim_start_matches(['+', '-']).chars().all(|c| c.is_ascii_digit());
    if !is_number || (factor != 1.0 && digits.len() != number.len()) {
        return None;
    }
    Some(number.parse::<f64>().ok()? * factor)
}

impl Need {
    /// What a server with these options takes up: limits, else guarantees; where the options say nothing, the site's own
    /// settings count. Amounts that are none count as nothing: [`check_resource`] is there to refuse them.
    #[must_use]
    pub fn of(options: &Map<String, Value>, site: &Map<String, Value>) -> Self {
        let amount = |keys: [&str; 2]| {
            [options, site]
                .into_iter()
                .flat_map(|options| keys.map(|key| options.get(key).and_then(|value| quantity(key, value).ok())))
                .find_map(|amount| amount)
                .unwrap_or(0.0)
        };
        let whole = |amount: f64| amount.min(MOST).ceil() as i64;
        Self {
            cpu_millis: whole(amount(["cpu_limit", "cpu_guarantee"]) * 1000.0),
            memory_bytes: whole(amount(["mem_limit", "mem_guarantee"])),
            gpus: whole([options, site].into_iter().find_map(gpus).unwrap_or_default()),
        }
    }
}

/// What one server can count for: so little that sums over all servers do not overflow.
const MOST: f64 = (1_i64 << 50) as f64;

/// The devices whose name says so, of all makers together: limits or guarantees, whichever are more.
fn gpus(options: &Map<String, Value>) -> Option<f64> {
    let is_gpu = |name: &str| name.ends_with("gpu") || name.contains("gpu.");
    let sum = |extra: &Map<String, Value>| -> f64 {
        extra.iter().filter(|(name, _)| is_gpu(name)).filter_map(|(name, amount)| quantity(name, amount).ok()).sum()
    };
    ["extra_resource_limits", "extra_resource_guarantees"]
        .iter()
        .filter_map(|key| options.get(*key).and_then(Value::as_object))
        .map(sum)
        .reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("mem_limit", json!("2G"), Some(2_147_483_648.0))]
    #[case("mem_guarantee", json!("1.5K"), Some(1536.0))]
    #[case("mem_limit", json!(1000), Some(1000.0))]
    #[case("mem_limit", json!("2Gi"), None)]
    #[case("cpu_limit", json!("500m"), Some(0.5))]
    #[case("cpu_limit", json!(1.5), Some(1.5))]
    #[case("memory.other", json!("2G"), Some(2e9))]
    #[case("ephemeral-storage", json!("2Gi"), Some(2_147_483_648.0))]
    #[case("ephemeral-storage", json!("1e3"), Some(1000.0))]
    #[case("ephemeral-storage", json!("1E"), Some(1e18))]
    #[case("nvidia.com/gpu", json!("2"), Some(2.0))]
    #[case("cpu_limit", json!(-1), None)]
    #[case("cpu_limit", json!("-1"), None)]
    #[case("cpu_limit", json!("NaN"), None)]
    #[case("cpu_limit", json!("inf"), None)]
    #[case("cpu_limit", json!("1e999"), None)]
    #[case("cpu_limit", json!("1e3m"), None)]
    #[case("cpu_limit", json!(""), None)]
    #[case("cpu_limit", json!("."), None)]
    #[case("cpu_limit", json!("m"), None)]
    #[case("cpu_limit", json!([1]), None)]
    #[case("cpu_limit", json!(true), None)]
    fn quantities(#[case] key: &str, #[case] value: Value, #[case] amount: Option<f64>) {
        assert_eq!(quantity(key, &value).ok(), amount);
    }

    #[rstest]
    #[case(json!({"cpu_limit": "1500m", "mem_limit": "1G"}), json!({"cpu_limit": 4}), (1500, 1 << 30, 0))]
    #[case(json!({"cpu_guarantee": 1}), json!({"mem_limit": 5}), (1000, 5, 0))]
    #[case(json!({"extra_resource_limits": {"nvidia.com/gpu": 2, "amd.com/gpu": "1", "x/y": 9}}), json!({}), (0, 0, 3))]
    #[case(json!({"extra_resource_guarantees": {"gpu.intel.com/i915": 1}}), json!({}), (0, 0, 1))]
    #[case(json!({"extra_resource_limits": {}, "extra_resource_guarantees": {"a/gpu": 2}}), json!({}), (0, 0, 2))]
    #[case(json!({"mem_limit": 1e300}), json!({}), (0, 1 << 50, 0))]
    #[case(json!({}), json!({}), (0, 0, 0))]
    fn needs(#[case] options: Value, #[case] site: Value, #[case] expected: (i64, i64, i64)) {
        let need = Need::of(options.as_object().unwrap(), site.as_object().unwrap());
        assert_eq!((need.cpu_millis, need.memory_bytes, need.gpus), expected);
    }

    #[test]
    fn resources_are_checked() {
        let mut resources = Resources::default();
        resources.add("cpu_limit", json!(2)).unwrap();
        resources.add("extra_resource_limits", json!({"a/gpu": 1})).unwrap();
        resources.add("extra_resource_limits", json!({"b/x": 1})).unwrap();
        assert_eq!(resources.options()["extra_resource_limits"], json!({"a/gpu": 1, "b/x": 1}));
        for (key, value) in [
            ("cpu", json!(1)),
            ("cpu_limit", json!("lots")),
            ("extra_resource_limits", json!({"a": []})),
            ("extra_resource_limits", json!(1)),
            ("node_selector", json!({"a": 1})),
            ("tolerations", json!("x")),
        ] {
            assert!(resources.add(key, value).unwrap_err().starts_with(['e', '"']), "{key}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_amount_or_none(text in any::<String>(), key in prop_oneof!["mem_limit", "cpu_limit"]) {
            if let Ok(amount) = quantity(&key, &json!(text)) {
                prop_assert!(amount.is_finite() && amount >= 0.0);
            }
        }
    }
}
