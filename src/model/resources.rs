//! What servers take up, under KubeSpawner's names, and the resources of a flavor.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Need, quantity};

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

    /// Checks what no single option can know.
    ///
    /// # Errors
    /// Which guarantee is above its limit.
    pub fn check(&self) -> Result<(), String> {
        for (limit, guarantee) in BOUNDS {
            let (Some(most), Some(least)) = (self.0.get(limit), self.0.get(guarantee)) else { continue };
            let above = match (most, least) {
                (Value::Object(most), Value::Object(least)) => {
                    let named = least.iter().filter_map(|(name, least)| Some((name.as_str(), most.get(name)?, least)));
                    named.filter(|(name, most, least)| is_above(name, least, most)).map(|(name, ..)| name).next()
                }
                _ => is_above(limit, least, most).then_some(limit),
            };
            match above {
                None => {}
                Some(name) if name == limit => return Err(format!("expected {guarantee} not to be above {limit}")),
                Some(name) => return Err(format!("expected {guarantee} of {name:?} not to be above {limit}")),
            }
        }
        Ok(())
    }
}

/// Limits and what is guaranteed below them.
const BOUNDS: [(&str, &str); 3] = [
    ("cpu_limit", "cpu_guarantee"),
    ("mem_limit", "mem_guarantee"),
    ("extra_resource_limits", "extra_resource_guarantees"),
];

fn is_above(unit: &str, amount: &Value, most: &Value) -> bool {
    matches!((quantity(unit, amount), quantity(unit, most)), (Ok(amount), Ok(most)) if amount > most)
}

/// Checks the value of one of [`RESOURCES`].
///
/// # Errors
/// What was expected.
pub fn check_resource(key: &str, value: &Value) -> Result<(), String> {
    match value {
        Value::Object(amounts) if key.starts_with("extra_resource") => {
            amounts.iter().filter(|(_, amount)| !amount.is_null()).try_for_each(|(name, amount)| match name.as_str() {
                "cpu" | "memory" => Err(format!("expected resources other than {name}, which has options of its own")),
                name => quantity(name, amount).map(drop).map_err(|expected| {
                    format!("expected amounts, that of {name:?} {}", expected.trim_start_matches("expected "))
                }),
            })
        }
        _ if key.starts_with("extra_resource") => Err("expected resources and how much of each".to_owned()),
        _ if RESOURCES.contains(&key) => quantity(key, value).map(drop),
        _ => Err(format!("expected one of {}, {}", RESOURCES.join(", "), PLACEMENT.join(", "))),
    }
}

impl Need {
    /// What a server with these options takes up: its limits, or its guarantees where those are more. Where the options say
    /// nothing about either, the site's own settings count. Amounts that are none count as nothing: [`check_resource`] is
    /// there to refuse them.
    #[must_use]
    pub fn of(options: &Map<String, Value>, site: &Map<String, Value>) -> Self {
        let most = |keys: [&str; 2]| {
            let amount = |options: &Map<String, Value>, key| quantity(key, options.get(key)?).ok();
            keys.iter().filter_map(|key| amount(options, key).or_else(|| amount(site, key))).fold(0.0, f64::max)
        };
        let whole = |amount: f64| amount.min(MOST).ceil() as i64;
        Self {
            cpu_millis: whole(most(["cpu_limit", "cpu_guarantee"]) * 1000.0),
            memory_bytes: whole(most(["mem_limit", "mem_guarantee"])),
            gpus: whole(gpus(options, site)),
        }
    }
}

/// What one server can count for: so little that sums over all servers do not overflow.
const MOST: f64 = (1_i64 << 50) as f64;

/// What the names of GPUs and their like contain.
const GPUS: [&str; 4] = ["gpu", "/mig-", "habana.ai/gaudi", "google.com/tpu"];

/// The devices of all makers together: of each the limit, or the guarantee where that is more.
fn gpus(options: &Map<String, Value>, site: &Map<String, Value>) -> f64 {
    let mut devices: BTreeMap<&str, f64> = BTreeMap::new();
    for key in ["extra_resource_limits", "extra_resource_guarantees"] {
        let mut merged: BTreeMap<&str, &Value> = BTreeMap::new();
        for extra in [site, options].into_iter().filter_map(|options| options.get(key)?.as_object()) {
            merged.extend(extra.iter().map(|(name, amount)| (name.as_str(), amount)));
        }
        for (name, amount) in merged {
            if GPUS.iter().any(|part| name.contains(part))
                && let Ok(amount) = quantity(name, amount)
            {
                let most = devices.entry(name).or_default();
                *most = most.max(amount);
            }
        }
    }
    devices.values().sum()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case(json!({"cpu_limit": "1500m", "mem_limit": "1G"}), json!({"cpu_limit": 4}), (1500, 1 << 30, 0))]
    #[case(json!({"cpu_guarantee": 1}), json!({"mem_limit": 5}), (1000, 5, 0))]
    #[case(json!({"extra_resource_limits": {"nvidia.com/gpu": 2, "amd.com/gpu": "1", "x/y": 9}}), json!({}), (0, 0, 3))]
    #[case(json!({"extra_resource_guarantees": {"gpu.intel.com/i915": 1}}), json!({}), (0, 0, 1))]
    #[case(json!({"extra_resource_limits": {}, "extra_resource_guarantees": {"a/gpu": 2}}), json!({}), (0, 0, 2))]
    #[case(json!({"extra_resource_limits": {"nvidia.com/mig-1g.5gb": 1, "habana.ai/gaudi": 2, "google.com/tpu": 4}}), json!({}),
        (0, 0, 7))]
    #[case(json!({"cpu_limit": 1e300}), json!({}), (1 << 50, 0, 0))]
    // What is guaranteed does not hide the site's limit.
    #[case(json!({"mem_guarantee": "100M"}), json!({"mem_limit": "1G"}), (0, 1 << 30, 0))]
    #[case(json!({"mem_limit": "100M"}), json!({"mem_guarantee": "1G", "mem_limit": "2G"}), (0, 1 << 30, 0))]
    #[case(json!({"extra_resource_limits": {}}), json!({"extra_resource_limits": {"a/gpu": 1}}), (0, 0, 1))]
    #[case(json!({"extra_resource_limits": {"a/gpu": 1}}), json!({"extra_resource_guarantees": {"a/gpu": 2, "b/gpu": 1}}),
        (0, 0, 3))]
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
            ("extra_resource_limits", json!({"memory": "64Gi"})),
            ("extra_resource_guarantees", json!({"cpu": 64})),
            ("node_selector", json!({"a": 1})),
            ("tolerations", json!("x")),
        ] {
            assert!(resources.add(key, value).unwrap_err().starts_with(['e', '"']), "{key}");
        }
    }

    #[rstest]
    #[case(json!({"cpu_limit": 1, "cpu_guarantee": 8}), Some("expected cpu_guarantee not to be above cpu_limit"))]
    #[case(json!({"mem_limit": "1G", "mem_guarantee": "1025M"}), Some("expected mem_guarantee"))]
    #[case(json!({"extra_resource_limits": {"a/b": 1}, "extra_resource_guarantees": {"c/d": 9, "a/b": 2}}),
        Some("expected extra_resource_guarantees of \"a/b\""))]
    #[case(json!({"cpu_limit": 2, "cpu_guarantee": "2000m", "mem_guarantee": "1G"}), None)]
    fn a_guarantee_is_not_above_its_limit(#[case] options: Value, #[case] mistake: Option<&str>) {
        let mut resources = Resources::default();
        for (key, value) in options.as_object().unwrap() {
            resources.add(key, value.clone()).unwrap();
        }
        let checked = resources.check().err().unwrap_or_default();
        assert!(
            checked.starts_with(mistake.unwrap_or_default()) && checked.is_empty() == mistake.is_none(),
            "{checked}"
        );
    }
}
