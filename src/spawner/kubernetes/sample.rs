//! A launch that templates and options are tried with before there is any.

use crate::model::{Environment, Launch, ServerId, Uid};

/// A launch of this server.
///
#[must_use]
pub fn launch(hub: &str, user: &str, server: &str) -> Launch {
    Launch {
        uid: Uid::parse("01J00000000000000000000000").unwrap_or_else(Uid::generate),
        id: ServerId::new(hub, server, "0"),
        user: user.into(),
        user_id: 7,
        environment: Environment::default(),
        options: serde_json::Map::new(),
        user_options: serde_json::Map::new(),
        groups: Vec::new(),
        certificates: None,
        auth_state: crate::model::AuthState::new(),
    }
}
