//! `[spawners.<name>]` with `type = "process"`. Keys have the names of `KubeSpawner` and of hubs where those have them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde::Deserialize;

use super::values::{AccountName, Argv, Bytes, Place, Ports, Text};
use crate::spawner::{Offer, StartResponse};

/// `type = "process"`: how servers are started as processes of this machine.
///
/// Templates: `{username}`, `{servername}`, `{hub}` and `{user_id}` are the hub's words, `{uid}` Outpost's identifier of
/// the server, `{unix_user}` and `{home}` the account that it runs as, `{ip}`, `{port}` and `{base_url}` where it
/// listens. In paths the hub's words are escaped into one segment each; in arguments and in the environment they stand
/// as they are, since nothing parses those.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The program that is a server, and its first arguments. Found in the `PATH` of `environment` or Outpost's own.
    pub cmd: Argv,
    /// More arguments. Templates.
    pub args: Vec<Text>,
    /// Variables of every server; they win over those that the hub sends. Values are templates.
    pub environment: BTreeMap<String, Text>,
    /// Outpost's own variables that every server gets; no other one reaches it.
    pub env_keep: Vec<String>,
    /// Where the server starts. Created (0700) if it is missing and servers run as Outpost's own user.
    pub working_dir: Place,
    /// The root of the file browser (`JUPYTERHUB_ROOT_DIR`).
    pub notebook_dir: Option<Place>,
    /// The page that is shown first (`JUPYTERHUB_DEFAULT_URL`).
    pub default_url: Option<Place>,
    /// The address that servers listen on.
    pub ip: IpAddr,
    /// The host that hubs are told; default: `ip`, or this machine's name where `ip` is no single IPv4 address.
    pub connect_host: Option<String>,
    /// The ports that servers may have, `"20000-21000"`; default: any free one. Best outside of those that the machine
    /// gives to its own connections (`net.ipv4.ip_local_port_range`).
    pub ports: Option<Ports>,
    /// Whether the port that the hub proposes is taken if it is free (and within `ports`, and not below 1024).
    pub port_from_hub: bool,
    /// The Unix user that a server runs as, from the hub's user name: `"{username}"`. Needs root.
    pub user: Option<AccountName>,
    /// Unix users by the hub's user names. It wins over `user`; without `user`, nobody else can start. Needs root.
    pub users: BTreeMap<String, String>,
    /// No server runs as a Unix user with a smaller number, whatever its name.
    pub min_uid: u32,
    /// Refuses to run servers as Outpost's own user, which lets them read its files.
    pub require_user_switch: bool,
    /// The most memory that a server can have: `"2G"`.
    pub mem_limit: Option<Bytes>,
    /// The most processors that a server can use: `1.5`.
    pub cpu_limit: Option<f64>,
    /// The most processes that a server can have.
    pub pids_limit: Option<u64>,
    /// How long a start may take, `pre_start` included.
    #[serde(with = "humantime_serde")]
    pub start_timeout: Duration,
    /// Whether a start is done only when the port accepts connections, not as soon as the process runs.
    pub wait_for_port: bool,
    /// How long a server has after SIGINT, before SIGTERM.
    #[serde(with = "humantime_serde")]
    pub interrupt_timeout: Duration,
    /// How long a server has after SIGTERM, before SIGKILL.
    #[serde(with = "humantime_serde")]
    pub term_timeout: Duration,
    /// How long a server may take to be gone after SIGKILL.
    #[serde(with = "humantime_serde")]
    pub kill_timeout: Duration,
    /// The most bytes of log that are kept of a server, in two files.
    pub log_size: Bytes,
    /// A command that runs before each server, as the same user and with the same environment, and
    /// `OUTPOST_AUTH_STATE_<KEY>` for what the hub tells of the user's authentication. Arguments are templates.
    pub pre_start: Vec<Text>,
    /// A command that runs after each server, as the same user and with the same environment.
    pub post_stop: Vec<Text>,
    /// How long each of the two may take.
    #[serde(with = "humantime_serde")]
    pub hook_timeout: Duration,
    /// What the hub is told: `host:port`, or nothing while that is not known.
    pub start_response: StartResponse,
}

impl Default for Settings {
    fn default() -> Self {
        let template = "a default is a template of its own fields";
        Self {
            cmd: Argv(vec!["jupyterhub-singleuser".to_owned()]),
            args: Vec::new(),
            environment: BTreeMap::new(),
            // What JupyterHub keeps, and what decides about letters and hours.
            env_keep: [
                "PATH",
                "LANG",
                "LC_ALL",
                "LC_CTYPE",
                "TZ",
                "PYTHONPATH",
                "VIRTUAL_ENV",
                "CONDA_ROOT",
                "CONDA_DEFAULT_ENV",
                "JUPYTERHUB_SINGLEUSER_APP",
            ]
            .map(str::to_owned)
            .to_vec(),
            working_dir: Place::parse("{home}").expect(template),
            notebook_dir: None,
            default_url: None,
            ip: Ipv4Addr::LOCALHOST.into(),
            connect_host: None,
            ports: None,
            port_from_hub: true,
            user: None,
            users: BTreeMap::new(),
            min_uid: 1000,
            require_user_switch: false,
            mem_limit: None,
            cpu_limit: None,
            pids_limit: None,
            start_timeout: Duration::from_secs(60),
            wait_for_port: false,
            interrupt_timeout: Duration::from_secs(10),
            term_timeout: Duration::from_secs(5),
            kill_timeout: Duration::from_secs(5),
            log_size: Bytes(4 << 20),
            pre_start: Vec::new(),
            post_stop: Vec::new(),
            hook_timeout: Duration::from_secs(60),
            start_response: StartResponse::parse("{host}:{port}").expect(template),
        }
    }
}

impl Settings {
    /// The limits as options, in their units.
    #[must_use]
    pub fn offer(&self) -> Offer {
        let memory = self.mem_limit.map(|Bytes(bytes)| ("mem_limit".to_owned(), bytes.into()));
        let cores = self.cpu_limit.map(|cores| ("cpu_limit".to_owned(), cores.into()));
        Offer { resources: memory.into_iter().chain(cores).collect(), profile: None }
    }

    /// Checks what no single key can know.
    ///
    /// # Errors
    /// A sentence that begins with the key.
    pub fn check(&self) -> Result<(), String> {
        self.check_as(nix::unistd::geteuid().is_root())
    }

    /// Whether servers run as Unix users of their own.
    #[must_use]
    pub fn switches_user(&self) -> bool {
        self.user.is_some() || !self.users.is_empty()
    }

    fn check_as(&self, root: bool) -> Result<(), String> {
        let rule = |holds: bool, sentence: &str| if holds { Ok(()) } else { Err(sentence.to_owned()) };
        rule(self.cmd.0.first().is_some_and(|program| !program.is_empty()), "`cmd` has to name a program")?;
        for (key, hook) in [("pre_start", &self.pre_start), ("post_stop", &self.post_stop)] {
            let named = hook.first().is_none_or(|program| !program.0.as_str().is_empty());
            rule(named, &format!("`{key}` has to begin with a program"))?;
        }
        for name in self.environment.keys() {
            let sound = !name.is_empty() && !name.contains(['=', '\0']) && !name.starts_with("OUTPOST_");
            rule(sound, &format!("`environment` cannot set a variable named {name:?}"))?;
        }
        let place = self.working_dir.0.as_str();
        rule(
            place.starts_with('/') || place.starts_with("{home}"),
            "`working_dir` has to begin with `/` or with `{home}`",
        )?;
        if let Some(host) = &self.connect_host {
            // Hubs split the answer at its colon, and some put it into a command line.
            let sound = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-');
            rule(sound, "`connect_host` has to be a host name or an IPv4 address")?;
        }
        rule(
            self.cpu_limit.is_none_or(|cores| cores.is_finite() && cores >= 0.01),
            "`cpu_limit` has to be 0.01 or more",
        )?;
        rule(self.pids_limit != Some(0), "`pids_limit` has to be 1 or more")?;
        rule(self.log_size >= Bytes(64 << 10), "`log_size` has to be 64K or more")?;
        rule(self.start_timeout >= Duration::from_secs(1), "`start_timeout` has to be 1s or more")?;
        rule(!self.hook_timeout.is_zero(), "`hook_timeout` must not be 0s")?;
        rule(self.min_uid >= 1, "`min_uid` has to be 1 or more: no server runs as root")?;
        rule(
            self.users.values().all(|name| !name.is_empty() && name != "root"),
            "`users` has to map to Unix users other than root",
        )?;
        if self.switches_user() {
            rule(
                root,
                "`user` and `users` need Outpost to run as root, since nobody else can start processes of others",
            )
        } else {
            rule(
                !self.require_user_switch,
                "`require_user_switch` is set, but neither `user` nor `users` says which Unix user a server runs as",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        toml::from_str(text).map_err(|error| error.to_string())
    }

    #[test]
    fn nothing_written_is_the_default_and_sound() {
        let settings = read("").unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.check_as(false), Ok(()));
    }

    #[rstest]
    #[case("cmd = []", "`cmd`")]
    #[case("cmd = ''", "`cmd`")]
    #[case("pre_start = ['']", "`pre_start`")]
    #[case("environment = { 'A=B' = '1' }", "`environment`")]
    #[case("environment = { OUTPOST_SERVER_ID = '1' }", "`environment`")]
    #[case("working_dir = 'data'", "`working_dir`")]
    #[case("connect_host = 'a:1'", "`connect_host`")]
    #[case("connect_host = '$(id)'", "`connect_host`")]
    #[case("cpu_limit = 0.0", "`cpu_limit`")]
    #[case("cpu_limit = nan", "`cpu_limit`")]
    #[case("pids_limit = 0", "`pids_limit`")]
    #[case("log_size = '1K'", "`log_size`")]
    #[case("start_timeout = '0s'", "`start_timeout`")]
    #[case("hook_timeout = '0s'", "`hook_timeout`")]
    #[case("user = 'x'\nmin_uid = 0", "`min_uid`")]
    #[case("users = { a = 'root' }", "`users`")]
    #[case("require_user_switch = true", "`require_user_switch`")]
    fn a_bad_setting_is_named(#[case] text: &str, #[case] key: &str) {
        let sentence = read(text).unwrap().check_as(true).unwrap_err();
        assert!(sentence.starts_with(key), "{sentence}");
    }

    #[rstest]
    #[case("cmd = 5", "a program, or a list")]
    #[case("args = ['{nope}']", "`{nope}` is no field here")]
    #[case("working_dir = '{port}'", "`{port}` is no field here")]
    #[case("start_response = '{ip}'", "`{ip}` is no field here")]
    #[case("mem_limit = '2X'", "a size in bytes")]
    #[case("ports = '5'", "a range of ports")]
    #[case("comand = 'x'", "unknown field `comand`")]
    fn a_bad_value_has_its_line(#[case] text: &str, #[case] message: &str) {
        let error = read(text).unwrap_err();
        assert!(error.contains(message) && error.contains("line 1"), "{error}");
    }

    #[test]
    fn only_root_switches_users() {
        let settings = read("user = '{username}'").unwrap();
        assert_eq!(settings.check_as(true), Ok(()));
        assert!(settings.check_as(false).unwrap_err().contains("need Outpost to run as root"));
    }
}
