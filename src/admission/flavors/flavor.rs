//! One flavor: what it gives and how often it can be had.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

use super::fields::{Fields, Mistake, count};
use crate::model::Resources;

/// The longest run time.
const LONGEST: Duration = Duration::from_hours(100 * 365 * 24);

/// The keys that mean something here, and those that hubs know.
pub const KEYS: [&str; 10] = [
    "max",
    "maxPerUser",
    "max_per_user",
    "max_total",
    "queue",
    "runtime",
    "resources",
    "weight",
    "display_name",
    "description",
];

/// A flavor or a credit as the hub gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: Arc<str>,
    /// All of its keys, overrides of the set applied.
    pub raw: Arc<Map<String, Value>>,
}

/// A flavor as it is for those who have it, overrides of the set applied.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Flavor {
    /// Its name.
    pub name: Arc<str>,
    /// All of its keys, as the hub gets them.
    pub raw: Arc<Map<String, Value>>,
    /// The most servers of it on one hub.
    pub max: Option<i64>,
    /// The most servers of it of one user of one hub.
    pub max_per_user: Option<i64>,
    /// The most servers of it on all hubs.
    pub max_total: Option<i64>,
    /// Whether a start waits for a free place instead of being refused.
    pub queue: bool,
    /// How long a server runs.
    pub runtime: Option<Duration>,
    /// What a server gets.
    pub resources: Resources,
}

impl Flavor {
    /// The name for people.
    #[must_use]
    pub fn display_name(&self) -> &str {
        let written = self.raw.get("display_name").and_then(Value::as_str);
        written.filter(|name| !name.trim().is_empty()).unwrap_or(&self.name)
    }

    pub(super) fn entry(&self) -> Entry {
        Entry { name: self.name.clone(), raw: self.raw.clone() }
    }

    /// A credit: its keys mean nothing here.
    pub(super) fn credit(name: &str, raw: &Map<String, Value>) -> Self {
        Self { name: name.into(), raw: Arc::new(raw.clone()), ..Self::default() }
    }

    /// Reads a flavor. Keys that mean nothing here are the hub's.
    pub(super) fn read(name: &str, fields: &Fields<'_>) -> Result<Self, Mistake> {
        Ok(Self {
            max: fields.limit("max")?,
            max_per_user: match fields.limit("maxPerUser")? {
                Some(limit) => Some(limit),
                None => fields.limit("max_per_user")?,
            },
            max_total: fields.limit("max_total")?,
            queue: fields.boolean("queue")?,
            runtime: fields.table("runtime")?.map(|runtime| duration(&runtime)).transpose()?,
            resources: fields
                .table("resources")?
                .map_or_else(|| Ok(Resources::default()), |fields| resources(&fields))?,
            ..Self::credit(name, fields.map)
        })
    }
}

fn duration(fields: &Fields<'_>) -> Result<Duration, Mistake> {
    const UNITS: [(&str, f64); 4] = [("days", 86_400.0), ("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0)];
    fields.only(&UNITS.map(|(unit, _)| unit))?;
    let mut seconds = 0.0;
    for (unit, length) in UNITS {
        if let Some(value) = fields.get(unit) {
            let amount = value.as_f64().filter(|amount| *amount >= 0.0);
            seconds += length * amount.ok_or_else(|| fields.mistake(unit, "expected a number, 0 or more"))?;
        }
    }
    let duration = Duration::try_from_secs_f64(seconds).ok().filter(|time| !time.is_zero() && *time <= LONGEST);
    duration.ok_or_else(|| fields.here("expected a time of more than nothing and at most 100 years"))
}

/// The resources in KubeSpawner's flat names, `gpu`, or the nested form of z2jh's `cpu` and `memory`.
fn resources(fields: &Fields<'_>) -> Result<Resources, Mistake> {
    let mut resources = Resources::default();
    for (key, value) in fields.map.iter().filter(|(_, value)| !value.is_null()) {
        let mut add = |name: &str, value: Value| resources.add(name, value);
        match key.as_str() {
            "gpu" => {
                let gpus = count(value, 0).map_err(|expected| fields.mistake(key, &expected))?;
                let devices = serde_json::json!({ "nvidia.com/gpu": gpus });
                add("extra_resource_limits", devices.clone())
                    .and_then(|()| add("extra_resource_guarantees", devices))
                    .map_err(|expected| fields.mistake(key, &expected))?;
            }
            "cpu" | "memory" => {
                let Some(nested) = fields.table(key)? else { continue };
                nested.only(&["limit", "guarantee"])?;
                let kind = if key == "cpu" { "cpu" } else { "mem" };
                for bound in ["limit", "guarantee"] {
                    if let Some(value) = nested.get(bound) {
                        add(&format!("{kind}_{bound}"), value.clone())
                            .map_err(|expected| nested.mistake(bound, &expected))?;
                    }
                }
            }
            _ => add(key, value.clone()).map_err(|expected| fields.mistake(key, &expected))?,
        }
    }
    resources.check().map_err(|expected| fields.here(&expected))?;
    Ok(resources)
}
