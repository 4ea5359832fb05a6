//! `outpost forward-agent`: a tunnel from the login node of a site without a way out to the network of a JupyterHub.
//!
//! A hub that is told so (`ssh_create_remote_forward`) runs `ssh <user>@<node> start` before each start of a server and
//! takes the exit status 217 for "the tunnel is there"; whoever stops servers may run `… stop`. One tunnel serves all
//! servers of a hub, so that uses are counted. It is kept by a process of its own, which outlives the SSH connection that
//! started it, and which another one replaces should it be killed.

mod files;
mod tunnel;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf, absolute};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use serde::Deserialize;

use self::files::Files;
use crate::config::Secret;
use crate::dial::{Backoff, Login, Place};
use crate::model::{host_and_port, listen};

/// How long `start` waits for the tunnel, and `stop` for its end: hubs give up after 3 s.
const PATIENCE: Duration = Duration::from_secs(2);

/// The pause between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// `[forward_agents.<hub>]`.
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
    /// Where servers of this site connect to reach the hub.
    #[serde(default, deserialize_with = "listen")]
    pub listen: Option<SocketAddr>,
    /// What of the hub's network they reach there, as `host:port`.
    pub forward_to: Option<String>,
    /// What the hub's side reaches of this site.
    #[serde(default)]
    pub reverse: Vec<Reverse>,
}

/// Something of this site that the hub's side reaches.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Reverse {
    /// Where the SSH server listens for it: `host:port`, or the path of a Unix socket.
    pub listen: String,
    /// What is reached there, as `host:port`.
    pub to: String,
}

impl Settings {
    /// Checks what needs no file and no network.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        self.login().check()?;
        if self.listen.is_some() != self.forward_to.is_some() {
            return Err("forward_to: belongs to listen; both are needed, or none".to_owned());
        }
        if self.listen.is_none() && self.reverse.is_empty() {
            return Err("listen: is needed, with forward_to; else the tunnel leads nowhere".to_owned());
        }
        if self.forward_to.as_deref().is_some_and(|to| host_and_port(to).is_none()) {
            return Err("forward_to: has to be host:port, for example hub:8081".to_owned());
        }
        for reverse in &self.reverse {
            Place::parse(&reverse.listen).ok_or("reverse: listen: has to be host:port or the path of a Unix socket")?;
            host_and_port(&reverse.to).ok_or("reverse: to: has to be host:port")?;
        }
        Ok(())
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
}

/// How a tunnel is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Status {
    /// It is there.
    Up,
    /// It is not, with the reason as a sentence.
    Down(String),
}

/// The tunnel to one hub, as far as this machine and user have it.
#[derive(Debug)]
pub struct Agent {
    hub: String,
    settings: Settings,
    files: Files,
}

impl Agent {
    /// The tunnel to `hub`, whose files are below the state directory of this user.
    ///
    /// # Errors
    /// A sentence: the directory cannot be made.
    pub fn open(state_dir: &Path, hub: &str, mut settings: Settings) -> Result<Self, String> {
        // The process that keeps the tunnel has another working directory.
        let whole = |path: &Path| absolute(path).map_err(|error| format!("{}: {error}", path.display()));
        if let Secret::File(path) = &mut settings.key {
            *path = whole(path)?;
        }
        if let Some(path) = &mut settings.known_hosts {
            *path = whole(path)?;
        }
        Ok(Self { hub: hub.to_owned(), settings, files: Files::open(&whole(state_dir)?, hub)? })
    }

    /// Counts one more use, and has the tunnel be there: `spawn` starts the process that keeps it, with this as its
    /// standard error.
    ///
    /// # Errors
    /// A sentence: the files cannot be used, or the process cannot be started.
    pub async fn start(&self, spawn: impl FnOnce(std::fs::File) -> Result<(), String>) -> Result<Status, String> {
        {
            let uses = self.files.uses()?;
            uses.set(uses.get()?.saturating_add(1))?;
            if !uses.is_kept()? {
                // What the one before said last is true no more.
                self.files.forget_status();
                spawn(self.files.log()?)?;
            }
        }
        let end = Instant::now() + PATIENCE;
        loop {
            let status = self.status()?;
            if status == Status::Up || Instant::now() >= end {
                return Ok(status);
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// How the tunnel is.
    ///
    /// # Errors
    /// A sentence: the files cannot be used.
    pub fn status(&self) -> Result<Status, String> {
        if !self.files.uses()?.is_kept()? {
            return Ok(Status::Down("the tunnel is not started".to_owned()));
        }
        Ok(self.files.status())
    }

    /// Counts one use less, or none at all any more if `all` end. The tunnel ends with the last one.
    ///
    /// # Errors
    /// A sentence: the files cannot be used.
    pub async fn stop(&self, all: bool) -> Result<(), String> {
        let left = {
            let uses = self.files.uses()?;
            let left = if all { 0 } else { uses.get()?.saturating_sub(1) };
            uses.set(left)?;
            left
        };
        let end = Instant::now() + PATIENCE;
        while left == 0 && self.files.uses()?.is_kept()? && Instant::now() < end {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }

    /// Has a process keep the tunnel ([`Agent::keep`]), and another one when that was killed: the work of the process that
    /// [`Agent::start`] starts. `keeper` gives the process that has ended.
    ///
    /// # Errors
    /// A sentence: the process cannot be started, or the files cannot be used.
    pub async fn run(&self, keeper: impl AsyncFn() -> io::Result<ExitStatus>) -> Result<(), String> {
        let mut backoff = Backoff::default();
        loop {
            let since = Instant::now();
            let ended = keeper().await.map_err(|error| format!("the tunnel cannot be begun: {error}"))?;
            if ended.success() || self.files.count().is_ok_and(|count| count == 0) {
                return Ok(());
            }
            tracing::warn!(hub = ?self.hub, ended = %ended, "the process that keeps the tunnel has died; there will be another one");
            backoff.connected(since);
            tokio::time::sleep(backoff.pause()).await;
        }
    }

    /// Keeps the tunnel until nobody uses it any more. Returns at once if another process does it.
    ///
    /// # Errors
    /// A sentence: the files cannot be used.
    pub async fn keep(&self) -> Result<(), String> {
        let Some(kept) = self.files.uses()?.keep()? else { return Ok(()) };
        self.files.note(&Status::Down("it is connecting".to_owned()));
        tracing::info!(hub = ?self.hub, to = self.settings.to, "the tunnel begins");
        let used_more = tokio::sync::Notify::new();
        let uses = tokio::select! {
            never = tunnel::keep(&self.settings, &used_more, |status| self.files.note(&status)) => match never {},
            uses = self.unused(&used_more) => uses,
        };
        // While the count is locked, so that no start takes a process that ends for one that goes on.
        drop(kept);
        drop(uses);
        tracing::info!(hub = ?self.hub, "the tunnel ends, since nobody uses it any more");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(more: &str) -> Settings {
        toml::from_str(&format!(
            "to = 'hub:22'\nuser = 'tunnel'\nkey = {{ file = '/k' }}\nhost_keys = ['ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt']\n{more}"
        ))
        .unwrap()
    }

    #[test]
    fn mistakes_name_the_key() {
        assert_eq!(settings("listen = '0.0.0.0:8081'\nforward_to = 'hub:8081'").check(), Ok(()));
        assert_eq!(settings("reverse = [{ listen = '/run/x.sock', to = '127.0.0.1:80' }]").check(), Ok(()));
        for (more, key) in [
            ("", "listen: "),
            ("listen = '0.0.0.0:8081'", "forward_to: "),
            ("listen = '0.0.0.0:8081'\nforward_to = 'hub'", "forward_to: "),
            ("reverse = [{ listen = 'x', to = '127.0.0.1:80' }]", "reverse: listen: "),
            ("reverse = [{ listen = '127.0.0.1:80', to = 'x' }]", "reverse: to: "),
        ] {
            let mistake = settings(more).check().unwrap_err();
            assert!(mistake.starts_with(key), "{more}: {mistake}");
        }
    }
}
