//! SSH connections that Outpost makes by itself, for sites that let nothing in.

use std::path::PathBuf;

use serde::Deserialize;

use crate::config::Secret;

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
    /// The server's host key: lines of `known_hosts` without the host, e.g. `ssh-ed25519 AAAA…`.
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
