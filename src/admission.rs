//! What a hub may ask for. Pure functions of values: rules, definitions, caller and request in, options and limits or a
//! refusal out.
//!
//! - [`Rules`] (`[[overrides]]`) say which options a hub may set; the first rule that fits a request decides.
//! - [`Definitions`] (flavors and credits, a [`Document`] each) say which flavors a hub and a user have, what a flavor
//!   gives and how often it can be had.
//! - [`decide`] weighs one request against both; [`explain`] tells how.

mod explain;
mod flavors;
mod normalise;
mod overrides;
mod sentences;

use std::sync::Arc;

use serde_json::{Map, Value};

pub use self::explain::{Asked, Explanation, Verdict};
pub use self::flavors::{Definitions, Document, Entry, Flavor, Format, Kind, Selection};
pub use self::normalise::Normalise;
pub use self::overrides::Rules;
pub use self::sentences::{OwnServer, refusal, waiting};
use crate::error::Result;
use crate::model::{Need, Quota};
use crate::spawner::OptionTable;

/// What requests are weighed against.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Which options hubs may set.
    pub rules: &'a Rules,
    /// Which flavors there are, and for whom.
    pub definitions: &'a Definitions,
    /// What is done to the user's attributes before anything is matched with them.
    pub normalise: &'a Normalise,
}

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The JupyterHub.
    pub hub: &'a str,
    /// Its name of the user.
    pub user: &'a str,
    /// Its number of the user.
    pub user_id: i64,
    /// The options for the backend.
    pub misc: &'a Map<String, Value>,
    /// What the user chose on the hub.
    pub user_options: &'a Map<String, Value>,
    /// The flavor.
    pub flavor: Option<&'a str>,
    /// What the hub tells about the user.
    pub authentication: &'a Map<String, Value>,
    /// The backend's name.
    pub spawner: &'a str,
    /// The backend's options.
    pub table: OptionTable,
    /// The site's own settings of resource options of the backend.
    pub site: &'a Map<String, Value>,
}

/// A request that may start, if its quotas allow.
#[derive(Clone, Debug, Default)]
pub struct Admitted {
    /// The effective options: the flavor's resources with what the hub may override merged over.
    pub options: Map<String, Value>,
    /// The flavor, if it is defined.
    pub flavor: Option<Arc<Flavor>>,
    /// The limits, in the order in which they are told.
    pub quotas: Vec<Quota>,
    /// What the server takes up.
    pub need: Need,
    /// The user's groups that some limit counts.
    pub groups: Vec<Arc<str>>,
    /// What the user is told as progress: options that were dropped.
    pub messages: Vec<String>,
}

/// Decides about a request.
///
/// # Errors
/// [`crate::error::Error::Refused`] with a sentence for the user, or [`crate::error::Error::Internal`] where an
/// expression of the site fails.
pub fn decide(policy: &Policy<'_>, ask: &Ask<'_>) -> Result<Admitted> {
    let options = policy.rules.admit(ask.hub, ask.misc.clone(), ask.table.sensitive)?;
    let need = Need::of(&options, ask.site);
    Ok(Admitted { options, need, ..Admitted::default() })
}

/// Tells how a request is decided.
#[must_use]
pub fn explain(policy: &Policy<'_>, ask: &Ask<'_>) -> Explanation {
    match decide(policy, ask) {
        Ok(admitted) => Explanation { options: admitted.options, need: admitted.need, ..Explanation::default() },
        Err(error) => Explanation { refusal: Some(error.to_string()), ..Explanation::default() },
    }
}
