//! Flavors and credits: which there are, who has which, what they limit.

mod document;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};

pub use self::document::{Document, Format, Kind};
use crate::model::Resources;

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

/// What is defined.
#[derive(Clone, Debug, Default)]
pub struct Definitions {
    /// Flavors. `None`: everything is allowed and nothing is limited.
    pub flavors: Option<Arc<Document>>,
    /// Credits.
    pub credits: Option<Arc<Document>>,
}

/// What a hub or a user has, for the wire.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Selection {
    /// The set that was chosen: `hubs.<name>` or `users.<name>`. `None`: no set fits, everything is allowed.
    pub set: Option<Arc<str>>,
    /// Whether that set forbids everything.
    pub forbidden: bool,
    /// The flavors or credits, in the order of the document.
    pub entries: Vec<Entry>,
}

/// A flavor or a credit as the hub gets it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its name.
    pub name: Arc<str>,
    /// All of its keys, overrides of the set applied.
    pub raw: Arc<Map<String, Value>>,
}

impl Definitions {
    /// The flavors of a hub, or of a user where `authentication` (normalised) is not empty and a set of users fits.
    #[must_use]
    pub fn flavors(&self, _hub: &str, _authentication: &Map<String, Value>) -> Selection {
        Selection::default()
    }

    /// The credits, likewise.
    #[must_use]
    pub fn credits(&self, _hub: &str, _authentication: &Map<String, Value>) -> Selection {
        Selection::default()
    }
}
