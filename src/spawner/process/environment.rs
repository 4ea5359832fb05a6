//! The environment of a server: nothing of Outpost's own but what is allowed, then layer over layer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use super::account::Account;
use super::limits::Limits;
use super::options::Options;
use super::proc::{INSTANCE, SERVER_ID, SPAWNER};
use super::settings::Settings;
use crate::error::Result;
use crate::model::{Launch, TemplateContext};
use crate::spawner::singleuser;

/// Whether a hub may not set this variable: what decides which program runs, as whom, and in which container is the site's,
/// and so are the marks that a server is found by. (The site's hooks get this environment, too.)
#[must_use]
pub fn is_not_for_hubs(name: &str) -> bool {
    const NAMES: [&str; 10] =
        ["PATH", "ENV", "BASH_ENV", "IFS", "GCONV_PATH", "GLIBC_TUNABLES", "USER", "LOGNAME", "HOME", "SHELL"];
    const PREFIXES: [&str; 9] = [
        "LD_",
        "OUTPOST_",
        "BASH_FUNC_",
        "APPTAINER",
        "SINGULARITY",
        "DOCKER_",
        "PODMAN_",
        "CONTAINER_",
        "CONTAINERS_",
    ];
    NAMES.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// What else the environment is made of.
pub struct Surroundings<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// The hub's options.
    pub options: &'a Options,
    /// The Unix user.
    pub account: &'a Account,
    /// Its home, for servers.
    pub home: &'a Path,
    /// Where the server listens.
    pub address: SocketAddr,
    /// What the server can have: `MEM_LIMIT` and `CPU_LIMIT`, as a hub sets them.
    pub limits: &'a Limits,
    /// The values of templates.
    pub words: &'a TemplateContext<'a>,
    /// The same for paths.
    pub path_words: &'a TemplateContext<'a>,
    /// Where the certificates are.
    pub certificates: Option<&'a Path>,
    /// This Outpost.
    pub instance: &'a str,
    /// This backend.
    pub spawner: &'a str,
}

/// Puts the layers together. `own` looks up a variable of Outpost itself.
///
/// # Errors
/// A template without a value, which is a fault of ours.
pub fn build(
    launch: &Launch,
    around: &Surroundings<'_>,
    own: impl Fn(&str) -> Option<String>,
) -> Result<BTreeMap<String, String>> {
    let settings = around.settings;
    let mut env = BTreeMap::new();
    let mut set = |name: &str, value: Option<String>| match value {
        Some(value) => env.insert(name.to_owned(), value),
        None => env.remove(name),
    };
    for name in &settings.env_keep {
        if let Some(value) = own(name) {
            set(name, Some(value));
        }
    }
    let shell = around.account.shell.to_string_lossy();
    set("USER", Some(around.account.name.clone()));
    set("LOGNAME", Some(around.account.name.clone()));
    set("HOME", Some(around.home.to_string_lossy().into_owned()));
    set("SHELL", Some(if shell.is_empty() { "/bin/sh".to_owned() } else { shell.into_owned() }));

    let directory = match &around.options.notebook_dir {
        Some(directory) => Some(directory.clone()),
        None => settings.notebook_dir.as_ref().map(|place| place.0.render(around.path_words)).transpose()?,
    };
    let default_url = match &around.options.default_url {
        Some(url) => Some(url.clone()),
        None => settings.default_url.as_ref().map(|place| place.0.render(around.path_words)).transpose()?,
    };
    for (name, value) in &launch.environment.0 {
        let taken_away = around.options.environment.get(name).is_some_and(Option::is_none);
        if !is_not_for_hubs(name) && !taken_away {
            set(name, Some(value.clone()));
        }
    }
    if launch.environment.get("JPY_API_TOKEN").is_none()
        && let Some(token) = launch.environment.get("JUPYTERHUB_API_TOKEN")
    {
        set("JPY_API_TOKEN", Some(token.to_owned()));
    }
    if let Some(directory) = directory {
        set("JUPYTERHUB_ROOT_DIR", Some(directory));
    }
    if let Some(url) = default_url {
        set("JUPYTERHUB_DEFAULT_URL", Some(url));
    }
    set("MEM_LIMIT", around.limits.memory.map(|bytes| bytes.to_string()));
    set("CPU_LIMIT", around.limits.cores.map(|cores| cores.to_string()));
    for (name, value) in &around.options.environment {
        if let Some(value) = value
            && !is_not_for_hubs(name)
        {
            set(name, Some(value.clone()));
        }
    }
    for (name, value) in &settings.environment {
        set(name, Some(value.0.render(around.words)?));
    }

    set(SERVER_ID, Some(launch.uid.to_string()));
    set(INSTANCE, Some(around.instance.to_owned()));
    set(SPAWNER, Some(around.spawner.to_owned()));
    set("JUPYTERHUB_SERVICE_URL", Some(singleuser::service_url(launch, around.address)));
    for (name, file) in singleuser::SSL_FILES {
        set(name, around.certificates.map(|directory| directory.join(file).to_string_lossy().into_owned()));
    }
    Ok(env)
}

/// The address at which this machine itself reaches a server that listens on `ip`.
#[must_use]
pub fn local(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    }
}
