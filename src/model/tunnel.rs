//! What became of the question for a server's tunnel.

use std::fmt;

/// Whether a hub has made the tunnel to a server since the last restart, as far as it was asked to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Tunnel {
    /// Nobody asked.
    #[default]
    Unasked,
    /// The hub is to be asked.
    Due,
    /// The hub made it.
    Made,
    /// The hub answered with this HTTP status that it knows the server's token no more: it is not asked again.
    Refused(u16),
}

impl Tunnel {
    /// Reads the text of the database.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "" => Some(Self::Unasked),
            "due" => Some(Self::Due),
            "made" => Some(Self::Made),
            text => text.strip_prefix("refused ")?.parse().ok().map(Self::Refused),
        }
    }
}

/// The text of the database and of listings; empty where nobody asked.
impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unasked => Ok(()),
            Self::Due => f.write_str("due"),
            Self::Made => f.write_str("made"),
            Self::Refused(status) => write!(f, "refused {status}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read() {
        for tunnel in [Tunnel::Unasked, Tunnel::Due, Tunnel::Made, Tunnel::Refused(403)] {
            assert_eq!(Tunnel::parse(&tunnel.to_string()), Some(tunnel));
        }
        assert_eq!(Tunnel::parse("refused"), None);
    }
}
