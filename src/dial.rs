//! SSH connections that Outpost makes by itself, for sites that let nothing in.
//!
//! `[hubs.<name>.dial]`: Outpost logs in to an SSH server on the hub's side and has it listen for the API and for each
//! running server of that hub (remote forwards). What comes in there is led to the server, and nowhere else.

mod backoff;
mod dials;
mod link;
mod login;
mod offers;
mod place;
mod ports;
mod pump;
mod session;

use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use self::backoff::Backoff;
pub use self::dials::{Dial, Dials};
pub use self::login::{Credentials, Login};
use self::offers::Range;
pub use self::place::{Place, Reach, Target};
pub use self::ports::numbers;
pub use self::session::Session;
use crate::config::Secret;
use crate::model::{Uid, host_and_port};

/// `[hubs.<name>.dial]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Name or address and port of an SSH server on the hub's side, as `host:port`.
    pub to: String,
    /// The user there.
    pub user: String,
    /// The private key to log in with, in OpenSSH's form and without a passphrase.
    pub key: Secret,
    /// The server's host key: lines of `known_hosts`, with the host or without, e.g. `ssh-ed25519 AAAA…`.
    #[serde(default)]
    pub host_keys: Vec<String>,
    /// Or a `known_hosts` file that has it.
    pub known_hosts: Option<PathBuf>,
    /// Where the API is offered there: `host:port`, or the path of a Unix socket.
    pub api: Option<String>,
    /// The address that servers are offered at there.
    #[serde(default = "loopback")]
    pub listen: String,
    /// The ports that servers are offered at, one each: `[first, last]`.
    #[serde(default = "ports")]
    pub ports: (u16, u16),
    /// Instead of ports: the path of a Unix socket for each server, with `{uid}` in it.
    pub socket: Option<String>,
    /// The address that the hub is told, with `{port}` and `{uid}` in it: how the hub reaches what is offered there.
    #[serde(default = "answer")]
    pub answer: String,
}

fn loopback() -> String {
    "127.0.0.1".to_owned()
}

const fn ports() -> (u16, u16) {
    (42000, 42999)
}

fn answer() -> String {
    "127.0.0.1:{port}".to_owned()
}

/// How a connection is.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
#[schema(as = DialState)]
pub struct State {
    /// The SSH server on the hub's side.
    pub to: String,
    /// Whether the connection is there.
    pub connected: bool,
    /// Why not.
    pub trouble: Option<String>,
    /// How many servers are to be reachable through it.
    pub offered: usize,
    /// How many of them are.
    pub registered: usize,
}

/// Why there is no connection.
#[derive(Debug)]
enum Trouble {
    None,
    Disconnected(String),
}

impl Settings {
    /// Checks what needs no file and no network.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        self.login().check()?;
        if self.listen.is_empty() || self.listen.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err("listen: has to be an address, for example 127.0.0.1".to_owned());
        }
        if self.listen.contains(':') && self.listen.parse::<Ipv6Addr>().is_err() {
            return Err("listen: has to be an address without a port, which is one of `ports`; for example 127.0.0.1 \
                        or ::1"
                .to_owned());
        }
        let (first, last) = self.ports;
        if first == 0 || first > last {
            return Err("ports: have to be the first and the last one, for example [42000, 42999]".to_owned());
        }
        let api = match self.api.as_deref() {
            Some(text) => Some(Place::parse(text).ok_or("api: has to be host:port or the path of a Unix socket")?),
            None => None,
        };
        if self.socket.is_none() && api.and_then(|api| api.port()).is_some_and(|port| (first..=last).contains(&port)) {
            return Err("api: has to have a port that is not among `ports`".to_owned());
        }
        if let Some(socket) = &self.socket
            && (!socket.contains("{uid}") || !matches!(Place::parse(socket), Some(Place::Unix(_))))
        {
            return Err("socket: has to be an absolute path with {uid} in it".to_owned());
        }
        let needed = if self.socket.is_some() { "{uid}" } else { "{port}" };
        if !self.answer.contains(needed) {
            return Err(format!("answer: has to have {needed} in it, since each server needs an address of its own"));
        }
        let told = self.answer_for(&Uid::generate(), self.socket.is_none().then_some(first));
        let plain = |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
        host_and_port(&told)
            .filter(|(host, _)| plain(host))
            .map(drop)
            .ok_or_else(|| "answer: has to be host:port, for example 127.0.0.1:{port}".to_owned())
    }

    /// How to log in.
    #[must_use]
    pub fn login(&self) -> Login {
        Login {
            to: self.to.clone(),
            user: self.user.clone(),
            key: self.key.clone(),
            host_keys: self.host_keys.clone(),
            known_hosts: self.known_hosts.clone(),
        }
    }

    /// The Unix socket of a server, where servers have one.
    fn socket_of(&self, uid: &Uid) -> Option<Place> {
        self.socket.as_ref().map(|socket| Place::Unix(socket.replace("{uid}", uid.as_str())))
    }

    /// The address that the hub is told.
    fn answer_for(&self, uid: &Uid, port: Option<u16>) -> String {
        let answer = self.answer.replace("{uid}", uid.as_str());
        match port {
            Some(port) => answer.replace("{port}", &port.to_string()),
            None => answer,
        }
    }

    /// Where servers may be offered.
    fn range(&self) -> Range {
        Range { to: self.to.clone(), host: self.listen.clone(), ports: self.ports }
    }

    /// The place that an address which the hub was told belongs to, also if `answer` was another one then.
    fn place_of(&self, uid: &Uid, address: &str) -> Option<Place> {
        if let Some(socket) = self.socket_of(uid) {
            return Some(socket);
        }
        let (first, last) = self.ports;
        let port = self.told_port(uid, address);
        let port = port.or_else(|| numbers(address).filter(|port| (first..=last).contains(port)).last())?;
        Some(Place::Tcp { host: self.listen.clone(), port })
    }

    fn told_port(&self, uid: &Uid, address: &str) -> Option<u16> {
        let answer = self.answer.replace("{uid}", uid.as_str());
        let (before, after) = answer.split_once("{port}")?;
        address.strip_prefix(before)?.strip_suffix(&after.replace("{port}", ""))?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "to = 'hub:22'\nuser = 'outpost'\nkey = { file = '/k' }\nhost_keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt']\n";

    fn settings(more: &str) -> Settings {
        toml::from_str(&format!("{GOOD}{more}")).unwrap()
    }

    #[test]
    fn mistakes_name_the_key() {
        assert_eq!(settings("").check(), Ok(()));
        assert_eq!(settings("listen = '::1'").check(), Ok(()));
        assert_eq!(
            settings("socket = '/run/{uid}.sock'\nanswer = '{uid}.outpost:80'\napi = '/run/api.sock'").check(),
            Ok(())
        );
        for (more, key) in [
            ("listen = ''", "listen"),
            ("listen = '127.0.0.1:42000'", "listen"),
            ("listen = '[::1]:42000'", "listen"),
            ("ports = [0, 5]", "ports"),
            ("ports = [5, 4]", "ports"),
            ("api = '127.0.0.1:42000'", "api"),
            ("api = '127.0.0.1'", "api"),
            ("socket = '/run/outpost.sock'", "socket"),
            ("socket = '{uid}.sock'", "socket"),
            ("socket = '/run/{uid}.sock'", "answer"),
            ("answer = '127.0.0.1:80'", "answer"),
            ("answer = '$(x):{port}'", "answer"),
            ("answer = '{port}'", "answer"),
        ] {
            let mistake = settings(more).check().unwrap_err();
            assert!(mistake.starts_with(&format!("{key}: ")), "{more}: {mistake}");
        }
    }

    #[test]
    fn the_place_is_read_back_from_the_address() {
        let uid = Uid::generate();
        for (more, port, address) in [
            ("", Some(42007), "127.0.0.1:42007".to_owned()),
            ("answer = 'proxy-{uid}.hub.svc:{port}'", Some(42000), format!("proxy-{uid}.hub.svc:42000")),
            ("socket = '/run/{uid}.sock'\nanswer = '{uid}.outpost:80'", None, format!("{uid}.outpost:80")),
        ] {
            let settings = settings(more);
            assert_eq!(settings.answer_for(&uid, port), address);
            let place = settings.place_of(&uid, &address).unwrap();
            assert_eq!(place.port(), port, "{place}");
        }
        for address in ["10.0.0.1:42007", "proxy-42007.hub.svc:80"] {
            let place = settings("").place_of(&uid, address);
            assert_eq!(place.and_then(|place| place.port()), Some(42007), "{address}: the answer was another one");
        }
        assert_eq!(settings("").place_of(&uid, "10.0.0.1:41000"), None, "the range was another one");
    }
}
