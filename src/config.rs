//! The configuration: a list of sections. Each section's struct lives beside the code that it configures.
//!
//! It is strict: an unknown key is an error with line and column. It holds no secret, only where each secret is.

mod environment;
mod ssh_keys;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::Deserialize;

pub use self::environment::{Credential, Environment};
pub use self::ssh_keys::{ConfiguredKey, SHARED, of_several};
use crate::model::overlap;
use crate::spawner::SpawnerSettings;
use crate::{admission, forward_agent, http, hub, ssh, store, tasks, telemetry};

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "/etc/outpost/outpost_config.toml";

/// The name of the backend that there is when the configuration names none.
const DEFAULT_SPAWNER: &str = "local";

/// `outpost_config.toml`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where everything is kept that has to survive a restart.
    pub state_dir: Option<PathBuf>,
    /// The backend of hubs that name none; needed only where there are several.
    pub spawner: Option<String>,
    /// The listeners.
    pub http: http::Settings,
    /// The SSH server.
    pub ssh: ssh::Settings,
    /// The database.
    pub store: store::Settings,
    /// Log lines.
    pub log: telemetry::Settings,
    /// Background work.
    pub tasks: tasks::Settings,
    /// One entry a JupyterHub.
    pub hubs: BTreeMap<String, hub::Settings>,
    /// One entry a backend.
    pub spawners: BTreeMap<String, SpawnerSettings>,
    /// One entry a JupyterHub that `outpost forward-agent` makes a tunnel to.
    pub forward_agents: BTreeMap<String, forward_agent::Settings>,
    /// Flavors and credits.
    pub flavors: crate::outpost::FlavorSettings,
    /// What hubs may override; the first rule that fits decides.
    pub overrides: admission::Rules,
}

/// Where a secret is: `{ file = "/path" }` or `{ env = "NAME" }`. Never the secret itself.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Secret {
    /// The file's content, without white space at its ends.
    File(PathBuf),
    /// The value of an environment variable.
    Env(String),
}

impl Secret {
    /// Reads the secret.
    ///
    /// # Errors
    /// A sentence that names the file or the variable.
    pub fn read(&self) -> Result<SecretString, String> {
        let text = match self {
            Self::File(path) => {
                read_text(path).map_err(|error| format!("the file {} cannot be read: {error}", path.display()))?
            }
            Self::Env(name) => {
                std::env::var(name).map_err(|_| format!("the environment variable {name} is not set to a text"))?
            }
        };
        match text.trim() {
            "" => Err(format!("{self} is empty")),
            text => Ok(SecretString::from(text)),
        }
    }
}

/// Reads a regular file: a pipe would hold up whoever reads it.
///
/// # Errors
/// It is none, or it cannot be read.
pub fn read_file(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is no regular file"));
    }
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(content)
}

/// Reads a text from a regular file.
///
/// # Errors
/// It is none, or it cannot be read, or it is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<String> {
    String::from_utf8(read_file(path)?).map_err(|_| io::Error::other("it is not UTF-8"))
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Env(name) => write!(f, "the environment variable {name}"),
        }
    }
}

impl Config {
    /// Reads a configuration file (or [`DEFAULT_FILE`] if there is one, or none), puts the variables of the Python service
    /// under it and checks the whole.
    ///
    /// # Errors
    /// Sentences, one a line, that name the file, the line and column where they are known, and the key.
    pub fn load(path: Option<&Path>, environment: &Environment) -> Result<Self, String> {
        let path = path.or_else(|| Some(Path::new(DEFAULT_FILE)).filter(|path| path.exists()));
        let mut config = match path {
            None => Self::default(),
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("the configuration {} cannot be read: {error}", path.display()))?;
                Self::parse(&text).map_err(|error| format!("{}: {error}", path.display()))?
            }
        };
        environment.apply(&mut config)?;
        config.check()?;
        Ok(config)
    }

    /// Reads a configuration without checking how its parts fit together.
    ///
    /// # Errors
    /// What the TOML parser says: line, column, and what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut config: Self = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if config.spawners.is_empty() {
            let local = SpawnerSettings::Process(crate::spawner::process::Settings::default());
            config.spawners.insert(DEFAULT_SPAWNER.to_owned(), local);
        }
        Ok(config)
    }

    /// Checks what one section alone cannot know.
    fn check(&mut self) -> Result<(), String> {
        if self.spawners.is_empty() {
            *self = Self { spawners: Self::parse("")?.spawners, ..std::mem::take(self) };
        }
        let mut mistakes = Vec::new();
        let mut note = |key: String, mistake: Result<(), String>| {
            if let Err(mistake) = mistake {
                mistakes.push(format!("{key}: {mistake}"));
            }
        };
        note("http".to_owned(), self.http.check());
        note("ssh".to_owned(), self.ssh.check());
        note("store".to_owned(), self.store.check());
        note("log".to_owned(), self.log.check());
        note("tasks".to_owned(), self.tasks.check());
        for (name, settings) in &self.spawners {
            note(format!("spawners.{name}"), settings.check());
        }
        if let Some(name) = &self.spawner {
            note("spawner".to_owned(), self.known_spawner(name));
        } else if self.spawners.len() > 1
            && (self.hubs.is_empty() || self.hubs.values().any(|hub| hub.spawner.is_none()))
        {
            note("spawner".to_owned(), Err("has to name one of several [spawners.…], or every hub has to".to_owned()));
        }
        let spawners: Vec<_> = self.spawners.keys().map(String::as_str).collect();
        note("overrides".to_owned(), self.overrides.check(&spawners));
        for (name, hub) in &self.hubs {
            note(format!("hubs.{name:?}"), hub::check_name(name));
            note(format!("hubs.{name:?}"), hub.check());
            if let Some(setting) = &hub.ssh_recreate_at_start {
                let mistake = admission::WantedTunnels::parse(setting).map(drop);
                note(format!("hubs.{name:?}.ssh_recreate_at_start"), mistake);
            }
            if let Some(spawner) = &hub.spawner {
                note(format!("hubs.{name:?}.spawner"), self.known_spawner(spawner));
            }
        }
        for (name, agent) in &self.forward_agents {
            note(format!("forward_agents.{name:?}"), hub::check_name(name));
            note(format!("forward_agents.{name:?}"), agent.check());
        }
        mistakes.extend(self.ssh_keys().err());
        mistakes.extend(self.shared_listeners());
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes.join("\n")) }
    }

    /// The listeners of one program that would get the same connections.
    fn shared_listeners(&self) -> Vec<String> {
        let mut mistakes = Vec::new();
        for (key, address) in [("listen", self.http.listen), ("admin_listen", self.http.admin_listen)] {
            if self.ssh.listen.is_some_and(|listen| overlap(listen, address)) {
                mistakes.push(format!("ssh.listen: has to have another port than http.{key}, which is {address}"));
            }
        }
        let agents: Vec<_> =
            self.forward_agents.iter().filter_map(|(name, agent)| Some((name, agent.listen?))).collect();
        for (at, (name, listen)) in agents.iter().enumerate() {
            if let Some((first, _)) = agents[..at].iter().find(|(_, other)| overlap(*other, *listen)) {
                mistakes.push(format!(
                    "forward_agents.{name:?}.listen: has to have another port than forward_agents.{first:?}.listen"
                ));
            }
        }
        mistakes
    }

    /// What of the hubs' SSH keys is hardly meant so.
    ///
    /// # Errors
    /// As [`ssh_keys`](Self::ssh_keys).
    pub fn ssh_key_warnings(&self, environment: &Environment, now: DateTime<Utc>) -> Result<Vec<String>, String> {
        let keys = self.ssh_keys()?;
        let idle = |key: &ConfiguredKey| Some(format!("{} is of no use: {}", key.place, key.key.idle(now)?));
        let mut warnings: Vec<_> = keys.iter().filter_map(idle).collect();
        if !keys.is_empty() && self.ssh.listen.is_none() {
            warnings.push("there are SSH keys, but there is no SSH server without [ssh] listen".to_owned());
        }
        let with_password = self.hubs.iter().filter(|(_, hub)| !hub.passwords.is_empty()).map(|(name, _)| name.clone());
        let of_variables = environment.credentials()?.into_iter().map(|credential| credential.hub);
        let hubs: BTreeSet<_> = with_password.chain(of_variables).collect();
        if !self.ssh.authorized_keys.is_empty() && hubs.len() > 1 {
            warnings.push(format!("{}: {}", SHARED, of_several(hubs.iter())));
        }
        Ok(warnings)
    }

    /// The files that are named here and read anew when they change: flavors and credits, and what hubs are known and called
    /// by. Those of the database and of the listeners are not among them.
    #[must_use]
    pub fn files_read_anew(&self) -> Vec<&Path> {
        let mut files: Vec<_> = self.flavors.files().into_iter().map(|(_, path)| path).collect();
        for hub in self.hubs.values() {
            let tokens = [&hub.flavors_update_token, &hub.ssh_recreate_token].into_iter().flatten();
            let secrets = hub.passwords.iter().chain(tokens).chain(hub.dial.as_ref().map(|dial| &dial.key));
            files.extend(secrets.filter_map(|secret| match secret {
                Secret::File(path) => Some(path.as_path()),
                Secret::Env(_) => None,
            }));
            let known_hosts = hub.dial.as_ref().and_then(|dial| dial.known_hosts.as_ref());
            files.extend(hub.ca_file.iter().chain(known_hosts).map(PathBuf::as_path));
        }
        files
    }

    fn known_spawner(&self, name: &str) -> Result<(), String> {
        if self.spawners.contains_key(name) { Ok(()) } else { Err(format!("there is no [spawners.{name}]")) }
    }

    /// The backend that starts servers of `hub`.
    #[must_use]
    pub fn spawner_of(&self, hub: &str) -> Option<&str> {
        let own = self.hubs.get(hub).and_then(|settings| settings.spawner.as_deref());
        let only = self.spawners.keys().next().filter(|_| self.spawners.len() == 1).map(String::as_str);
        own.or(self.spawner.as_deref()).or(only)
    }

    /// The connections to make to hubs' sides, by hub.
    pub fn dials(&self) -> impl Iterator<Item = (&str, &crate::dial::Settings)> {
        self.hubs.iter().filter_map(|(name, hub)| Some((name.as_str(), hub.dial.as_ref()?)))
    }

    /// The folder of everything that has to survive a restart: as configured, else what systemd gives, else
    /// `/var/lib/outpost` for root, else `$XDG_STATE_HOME/outpost` or `~/.local/state/outpost`.
    ///
    /// # Errors
    /// A sentence, if none of these is known.
    pub fn state_dir(&self, environment: &Environment) -> Result<PathBuf, String> {
        let state_dir = if let Some(dir) = &self.state_dir {
            dir.clone()
        } else if let Some(dir) = environment.get("OUTPOST_STATE_DIR").or_else(|| environment.get("STATE_DIRECTORY")) {
            PathBuf::from(dir)
        } else if nix::unistd::geteuid().is_root() {
            PathBuf::from("/var/lib/outpost")
        } else if let Some(dir) = environment.get("XDG_STATE_HOME") {
            Path::new(dir).join("outpost")
        } else {
            let home = environment.get("HOME").ok_or("state_dir: is needed, since there is no HOME to put it into")?;
            Path::new(home).join(".local/state/outpost")
        };
        std::path::absolute(&state_dir).map_err(|error| format!("state_dir {}: {error}", state_dir.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, String> {
        let mut config = Config::parse(text)?;
        config.check()?;
        Ok(config)
    }

    #[test]
    fn without_a_file_there_is_one_backend() {
        let config = load("").unwrap();
        assert_eq!(config.spawner_of("any"), Some("local"));
    }

    #[test]
    fn mistakes_are_named() {
        let cases = [
            ("[http]\nlisten = 5\n", "line 2, column 10"),
            ("[htp]\n", "unknown field `htp`"),
            ("[http]\nlisten = '127.0.0.1:1'\nlisen = ''\n", "line 3, column 1"),
            ("[hubs.a]\nspawner = 'k8s'\n", "hubs.\"a\".spawner: there is no [spawners.k8s]"),
            ("[hubs.\"a:b\"]\n", "must not contain a colon"),
            ("[hubs.a]\napi_url = 'ftp://x'\n", "api_url"),
            ("[spawners.a]\ntype = 'slurm'\n", "slurm"),
            ("[spawners.a]\ntype = 'process'\ncmdd = ['x']\n", "cmdd"),
            ("[log]\nlevel = 'no=such=level'\n", "log"),
            ("[[overrides]]\nbackend = ['local', 'locall']\nallow = 'none'\n", "overrides: rule 1: backend \"locall\""),
            ("[hubs.a]\npasswords = [{file='a'}, {file='b'}, {file='c'}]\n", "at most two"),
            ("[hubs.a]\nssh_recreate_at_start = 'server.usr ='\n", "hubs.\"a\".ssh_recreate_at_start: `server.usr =`"),
            ("[hubs.a]\nssh_recreate = 'hub'\n", "hubs.\"a\": ssh_recreate_system: is needed"),
            ("[hubs.a]\nssh_recreate_at_start = 1\n", "has to be true, false or a text with a CEL expression"),
            ("[ssh]\nlisten = '0.0.0.0'\n", "has to be an IP address with a port, for example \"0.0.0.0:2222\""),
            ("[ssh]\nlisten = '0.0.0.0:8080'\n", "ssh.listen: has to have another port than http.listen"),
            ("[ssh]\nlisten = '127.0.0.1:8081'\n", "ssh.listen: has to have another port than http.admin_listen"),
            ("[tasks]\nconcurrent_tunnels = 0\n", "tasks: concurrent_tunnels: has to be at least 1"),
            ("[store]\nurl = 'postgresql://u:secret@h/d'\n", "store.password"),
        ];
        for (text, expected) in cases {
            let error = load(text).unwrap_err();
            assert!(error.contains(expected), "{text}\n-> {error}");
            assert!(!error.contains("u:secret"), "{error}");
        }
    }

    #[test]
    fn forward_agents_listen_side_by_side() {
        let agent = |name: &str, listen: &str| {
            format!(
                "[forward_agents.{name}]\nto = 'ssh.example.org:22'\nuser = 'u'\nkey = {{ file = 'k' }}\n\
                 known_hosts = 'h'\nlisten = '{listen}'\nforward_to = 'hub:8081'\n"
            )
        };
        load(&[agent("a", "10.0.0.1:8081"), agent("b", "10.0.0.1:8082")].concat()).unwrap();
        let mistake = load(&[agent("a", "10.0.0.1:8081"), agent("b", "0.0.0.0:8081")].concat()).unwrap_err();
        let expected = "forward_agents.\"b\".listen: has to have another port than forward_agents.\"a\".listen";
        assert_eq!(mistake, expected);
    }

    #[test]
    fn several_mistakes_are_named_at_once() {
        let error = load("[hubs.a]\nspawner = 'x'\n[hubs.b]\nspawner = 'y'\n").unwrap_err();
        assert_eq!(error.lines().count(), 2, "{error}");
    }
}
