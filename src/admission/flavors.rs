//! Flavors and credits: which there are, who has which, what they limit.

mod changes;
mod choice;
mod document;
mod fields;
mod flavor;
mod limits;
mod sets;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::choice::{Chosen, choose};
pub use self::document::{Document, Format, Kind};
pub use self::flavor::{Entry, Flavor};
pub use self::limits::Person;

/// What is defined. Cheap to clone.
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

impl Definitions {
    /// The flavors of a hub, or of a user where `authentication` (normalised) is not empty and a set of users fits.
    #[must_use]
    pub fn flavors(&self, hub: &str, authentication: &Map<String, Value>) -> Selection {
        select(self.flavors.as_deref(), hub, authentication)
    }

    /// The credits, likewise.
    #[must_use]
    pub fn credits(&self, hub: &str, authentication: &Map<String, Value>) -> Selection {
        select(self.credits.as_deref(), hub, authentication)
    }
}

fn select(document: Option<&Document>, hub: &str, authentication: &Map<String, Value>) -> Selection {
    let Some(document) = document else { return Selection::default() };
    let set = document.sets().choose(hub, authentication);
    Selection {
        set: set.source.clone(),
        forbidden: set.forbidden,
        entries: set.flavors.iter().map(|flavor| flavor.entry()).collect(),
    }
}

#[cfg(test)]
mod tests;
