//! What became of the question for a server's tunnel.

use std::fmt;

use chrono::{DateTime, Utc};

/// Whether a hub has made the tunnel to a server since the last restart, as far as it was asked to.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tunnel {
    /// How far it is.
    pub state: TunnelState,
    /// Since when: it became due then, or the question that had this answer was asked then.
    pub at: Option<DateTime<Utc>>,
}

/// How far the question for a tunnel is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum TunnelState {
    /// Nobody asked.
    #[default]
    Unasked,
    /// The hub is to be asked.
    Due,
    /// The hub made it.
    Made,
    /// The hub answered with this HTTP status that it does not know the server or its token any more: it is not asked again
    /// before the next restart.
    Refused(u16),
}

impl Tunnel {
    /// Whichever of the two was written later.
    #[must_use]
    pub fn newest(self, other: Self) -> Self {
        if self.at > other.at { self } else { other }
    }
}

impl TunnelState {
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
impl fmt::Display for TunnelState {
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
        let states = [TunnelState::Unasked, TunnelState::Due, TunnelState::Made, TunnelState::Refused(403)];
        for state in states {
            assert_eq!(TunnelState::parse(&state.to_string()), Some(state));
        }
        assert_eq!(TunnelState::parse("refused"), None);
    }

    #[test]
    fn the_newest_counts() {
        let at = |seconds| DateTime::from_timestamp_secs(seconds);
        let due = Tunnel { state: TunnelState::Due, at: at(1) };
        let made = Tunnel { state: TunnelState::Made, at: at(2) };
        assert_eq!([due.newest(made), made.newest(due), due.newest(Tunnel::default())], [made, made, due]);
    }
}
