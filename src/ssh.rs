//! The SSH server, by which hubs reach their servers and nothing else.
//!
//! A hub's key says which hub a client is; nothing else does. All that a client gets is a connection to a server of its hub
//! that is running at the moment when it asks ([`Outpost::forward_target`](crate::outpost::Outpost::forward_target)). What
//! else it asks for is refused, logged and in the audit table, but for kinds of channels that the library itself does not
//! know, such as an agent's or a tunnel device's: it refuses them without a word to us.

pub mod algorithms;
mod backlog;
mod connect;
mod connection;
mod forward;
mod host_keys;
mod limits;
mod listener;
mod public_address;
mod refusals;
mod server;
mod stream;
mod waiting;

use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

pub use self::host_keys::HostKeys;
pub use self::listener::Listener;
use crate::model::listen;

/// `[ssh]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where hubs' SSH clients connect. Default: there is no SSH server.
    #[serde(deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// Name or address and port that hubs reach it by, for `outpost ssh fingerprint`. Default: `listen`; without a port: its port.
    pub public_address: Option<String>,
    /// SSH public keys of the only hub that has a password: lines of `authorized_keys`. A key stays the key of its first hub;
    /// where there are several hubs, those that no hub has yet are left out.
    pub authorized_keys: Vec<String>,
    /// How many connections a hub may have at once.
    pub connections_per_hub: usize,
    /// How many open forwards (channels) a hub may have at once, over all its connections.
    pub channels_per_hub: usize,
    /// How many connections may be unauthenticated at once; the oldest gives way to a new one.
    pub unauthenticated: usize,
    /// How many of them from one address, which behind a load balancer is that of all; the oldest of them gives way.
    pub unauthenticated_per_address: usize,
    /// How many keys a client may try.
    pub authentication_attempts: usize,
    /// How long a client has until it is authenticated.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// How long a client may give no sign of life. It is asked for one every 15 s, or four times in that time if that is more
    /// often; one that does not answer three times is gone already.
    #[serde(with = "humantime_serde")]
    pub idle_timeout: Duration,
    /// How long a server may take to accept a forwarded connection, with the look-up of its name.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long a server may hold up its hub's other users by not reading what it is sent, before that one channel is closed.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
    /// How long open channels may go on when Outpost ends.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: None,
            public_address: None,
            authorized_keys: Vec::new(),
            connections_per_hub: 100,
            channels_per_hub: 10_000,
            unauthenticated: 100,
            unauthenticated_per_address: 20,
            authentication_attempts: 6,
            handshake_timeout: Duration::from_secs(20),
            idle_timeout: Duration::from_secs(600),
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Checks what needs no network.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        self.check_public_address()?;
        let numbers = [
            ("connections_per_hub", self.connections_per_hub),
            ("channels_per_hub", self.channels_per_hub),
            ("unauthenticated", self.unauthenticated),
            ("unauthenticated_per_address", self.unauthenticated_per_address),
            ("authentication_attempts", self.authentication_attempts),
        ];
        if let Some((key, _)) = numbers.iter().find(|(_, number)| *number == 0) {
            return Err(format!("{key}: has to be at least 1"));
        }
        let times = [
            ("handshake_timeout", self.handshake_timeout),
            ("idle_timeout", self.idle_timeout),
            ("connect_timeout", self.connect_timeout),
            ("stall_timeout", self.stall_timeout),
        ];
        match times.iter().find(|(_, time)| time.is_zero()) {
            Some((key, _)) => Err(format!("{key}: must not be 0s")),
            None => Ok(()),
        }
    }

    /// What may not be meant so, for a process that may have so many files open.
    #[must_use]
    pub fn warning(&self, open_files: u64) -> Option<String> {
        let needed = [self.channels_per_hub, self.connections_per_hub, self.unauthenticated]
            .into_iter()
            .fold(0, |sum, number| number.saturating_add(sum)) as u64;
        (self.listen.is_some() && needed >= open_files).then(|| {
            format!(
                "[ssh] channels_per_hub: with {} a hub can need more file descriptors than Outpost can have, which is {open_files} \
                 (`ulimit -Hn`, LimitNOFILE of systemd)",
                self.channels_per_hub
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_has_to_fit_below_the_limit_of_open_files() {
        let settings = Settings { listen: Some(([127, 0, 0, 1], 22).into()), ..Settings::default() };
        let warning = settings.warning(10_000).unwrap();
        assert!(warning.contains("channels_per_hub: with 10000 ") && warning.contains("is 10000 ("), "{warning}");
        assert_eq!(settings.warning(65_536), None);
        assert_eq!(Settings::default().warning(10), None, "there is no SSH server");
    }
}
