//! Who changes something.

use std::fmt;
use std::sync::Arc;

/// Who changes something, as the audit table and the versions of the flavors name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Actor {
    /// A token of the admin API: `token:<name>`.
    Token(Arc<str>),
    /// Somebody at the command line, by the Unix user: `cli:<name>`.
    Cli(Arc<str>),
    /// An SSH client of a hub: `hub:<name>`.
    Hub(Arc<str>),
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(name) => write!(f, "token:{name}"),
            Self::Cli(user) => write!(f, "cli:{user}"),
            Self::Hub(name) => write!(f, "hub:{name}"),
        }
    }
}
