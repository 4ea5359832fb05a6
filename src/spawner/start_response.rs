//! What a hub is told when a start is done, as the site writes it: the same for every backend that has an address.

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};

use super::Started;
use crate::error::Result;
use crate::model::{Launch, Template};

/// The answer to a start: a template of `host`, `port`, `name`, `hub` and `user`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StartResponse(Template);

impl StartResponse {
    /// Reads the template.
    ///
    /// # Errors
    /// A sentence that names the unknown field or the open brace.
    pub fn parse(text: &str) -> Result<Self, String> {
        Template::parse(text, &["host", "port", "name", "hub", "user"]).map(Self)
    }

    /// The answer for a server that runs.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] for a field without a value.
    pub fn answer(&self, launch: &Launch, started: &Started) -> Result<String> {
        let words = [
            ("host", started.host.clone()),
            ("port", started.port.to_string()),
            ("name", launch.id.name.to_string()),
            ("hub", launch.id.hub.to_string()),
            ("user", launch.user.to_string()),
        ];
        self.0.render(&words.into())
    }
}

impl<'de> Deserialize<'de> for StartResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
