//! Limits as values: what is counted, over which servers, up to what.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a server takes up. Absent limits of a backend count as nothing.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Need {
    /// Thousandths of a processor.
    pub cpu_millis: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Devices.
    pub gpus: i64,
}

/// What a limit counts.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Counted {
    /// Servers.
    Servers,
    /// Thousandths of a processor.
    Cpu,
    /// Bytes of memory.
    Memory,
    /// GPUs.
    Gpus,
}

impl Counted {
    /// How much of it a server with this need takes up.
    #[must_use]
    pub const fn of(self, need: &Need) -> i64 {
        match self {
            Self::Servers => 1,
            Self::Cpu => need.cpu_millis,
            Self::Memory => need.memory_bytes,
            Self::Gpus => need.gpus,
        }
    }

    /// An amount of it in units that people know: `2 servers`, `1.5 CPUs`, `4 GiB`.
    #[must_use]
    pub fn in_words(self, amount: i64) -> String {
        const UNITS: [(&str, u32); 4] = [("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];
        let plural = |number: String, one: &str| {
            let end = if number == "1" { "" } else { "s" };
            format!("{number} {one}{end}")
        };
        match self {
            Self::Servers => plural(amount.to_string(), "server"),
            Self::Gpus => plural(amount.to_string(), "GPU"),
            Self::Cpu => plural(decimal(amount as f64 / 1000.0), "CPU"),
            Self::Memory => match UNITS.iter().find(|(_, bits)| amount >> bits > 0) {
                Some((unit, bits)) => format!("{} {unit}", decimal(amount as f64 / 2_f64.powi(*bits as i32))),
                None => plural(amount.to_string(), "byte"),
            },
        }
    }
}

/// At most three digits after the point.
fn decimal(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// Which servers a limit counts: those to which all that is given applies.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq, Serialize)]
pub struct Scope {
    /// Of this hub. Absent: of all hubs.
    pub hub: Option<Arc<str>>,
    /// Of the user with this number on the hub.
    pub user_id: Option<i64>,
    /// Of users in this group.
    pub group: Option<Arc<str>>,
    /// With such a flavor.
    pub flavor: Option<OfFlavor>,
}

/// Which flavors a limit counts.
#[derive(Clone, Debug, Eq, Hash, PartialEq, Serialize)]
#[serde(untagged)]
pub enum OfFlavor {
    /// The one of this name.
    Named(Arc<str>),
    /// All that are not defined, together, and none.
    Undefined {
        /// Those that are defined.
        #[serde(rename = "none_of")]
        defined: Arc<[Arc<str>]>,
    },
}

impl OfFlavor {
    /// Whether servers with this flavor, or without one, count.
    #[must_use]
    pub fn counts(&self, flavor: Option<&str>) -> bool {
        match self {
            Self::Named(name) => flavor == Some(name),
            Self::Undefined { defined } => flavor.is_none_or(|flavor| defined.iter().all(|name| **name != *flavor)),
        }
    }
}

impl From<&str> for OfFlavor {
    fn from(name: &str) -> Self {
        Self::Named(name.into())
    }
}

impl Scope {
    /// Whether the limit is the user's own, so that it holds up nobody else.
    #[must_use]
    pub const fn is_personal(&self) -> bool {
        self.user_id.is_some()
    }
}

/// One limit of one start.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Quota {
    /// Which servers count.
    pub scope: Scope,
    /// What of them.
    pub counted: Counted,
    /// The most that there may be, the new server included.
    pub limit: i64,
    /// Where the limit is written, for the administrator: `flavors.gpu.max`.
    pub source: Arc<str>,
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(Counted::Servers, 1, "1 server")]
    #[case(Counted::Servers, 0, "0 servers")]
    #[case(Counted::Cpu, 1500, "1.5 CPUs")]
    #[case(Counted::Cpu, 1000, "1 CPU")]
    #[case(Counted::Memory, 2 << 30, "2 GiB")]
    #[case(Counted::Memory, 3 << 29, "1.5 GiB")]
    #[case(Counted::Memory, 100, "100 bytes")]
    #[case(Counted::Gpus, 2, "2 GPUs")]
    fn amounts(#[case] counted: Counted, #[case] number: i64, #[case] expected: &str) {
        assert_eq!(counted.in_words(number), expected);
    }
}
