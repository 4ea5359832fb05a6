//! From a launch to a complete spec: all decisions about one server, made before there is any process.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;

use super::account::{self, Account};
use super::environment::{self, Surroundings};
use super::ladder::Patience;
use super::limits::Limits;
use super::options::Options;
use super::settings::Settings;
use super::spec::{Files, Spec};
use super::state::Dir;
use super::values::{Bytes, Text};
use super::{open_files, ports};
use crate::error::Result;
use crate::model::{Launch, TemplateContext, Uid, path_segment};
use crate::spawner::singleuser;

/// Where programs are if nobody says.
const USUAL_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The places of this Outpost's servers below its state directory.
#[derive(Clone, Debug)]
pub struct Places {
    /// The state directory.
    pub state_dir: PathBuf,
}

impl Places {
    /// One directory per server.
    #[must_use]
    pub fn servers(&self) -> PathBuf {
        self.state_dir.join("servers")
    }

    /// The directory of one server.
    #[must_use]
    pub fn server(&self, uid: &Uid) -> Dir {
        Dir::of(&self.servers(), uid)
    }

    /// One directory of certificates per server that has some.
    #[must_use]
    pub fn all_certificates(&self) -> PathBuf {
        self.state_dir.join("certs")
    }

    /// The certificates of one server.
    #[must_use]
    pub fn certificates(&self, uid: &Uid) -> PathBuf {
        self.all_certificates().join(uid.as_str())
    }

    /// The home of a user that has no Unix user: apart from all others', and the same for all of his servers.
    #[must_use]
    pub fn home(&self, launch: &Launch) -> PathBuf {
        self.state_dir.join("home").join(path_segment(&launch.id.hub)).join(path_segment(&launch.user))
    }
}

/// What a plan is made of, beside the launch.
pub struct Site<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// Where things are.
    pub places: &'a Places,
    /// This Outpost.
    pub instance: &'a str,
    /// This backend.
    pub spawner: &'a str,
    /// The cgroup that servers can have theirs in.
    pub cgroups: Option<&'a Path>,
}

/// The host that hubs are told.
#[must_use]
pub fn host(settings: &Settings) -> String {
    match (&settings.connect_host, settings.ip) {
        (Some(host), _) => host.clone(),
        (None, IpAddr::V4(ip)) if !ip.is_unspecified() => ip.to_string(),
        // Hubs split the answer at its only colon, so that an IPv6 address cannot be one.
        (None, _) => nix::unistd::gethostname()
            .ok()
            .and_then(|name| name.into_string().ok())
            .unwrap_or_else(|| "localhost".to_owned()),
    }
}

/// The limits of a launch: its own, else those of the site.
#[must_use]
pub fn limits(settings: &Settings, options: &Options) -> Limits {
    let memory = options.mem_limit.or(settings.mem_limit).map(|Bytes(bytes)| bytes);
    let cores = options.cpu_limit.or(settings.cpu_limit);
    Limits { memory, cores, processes: settings.pids_limit, cgroup: None }
}

/// Makes the plan. It gives the server a port, and asks the user database: not for an async thread.
///
/// # Errors
/// A sentence for the user: no account, no port.
pub fn plan(site: &Site<'_>, launch: &Launch, options: &Options) -> Result<Spec> {
    let settings = site.settings;
    let account = match account::name_for(settings, launch)? {
        Some(name) => Account::look_up(&name, settings.min_uid)?,
        None => Account::own(),
    };
    let home = if account.switch.is_some() { account.home.clone() } else { site.places.home(launch) };
    let port = ports::take(
        &launch.uid,
        settings.ip,
        options.port.filter(|_| settings.port_from_hub),
        settings.ports.as_ref().map(|ports| &ports.0),
    )?;
    let address = SocketAddr::new(settings.ip, port);
    let mut limits = limits(settings, options);
    if limits != Limits::default() {
        limits.cgroup = site.cgroups.map(|root| root.join(format!("outpost-{}", launch.uid)));
    }

    let words = words(launch, &account, &home, address, str::to_owned);
    let path_words = self::words(launch, &account, &home, address, path_segment);
    let directory = launch.certificates.as_ref().map(|_| site.places.certificates(&launch.uid));
    let around = Surroundings {
        settings,
        options,
        account: &account,
        home: &home,
        address,
        limits: &limits,
        words: &words,
        path_words: &path_words,
        certificates: directory.as_deref(),
        instance: site.instance,
        spawner: site.spawner,
    };
    let environment = environment::build(launch, &around, |name| std::env::var(name).ok())?;
    let path = environment.get("PATH").cloned().or_else(|| std::env::var("PATH").ok());
    let render = |texts: &[Text]| texts.iter().map(|text| text.0.render(&words)).collect::<Result<Vec<_>>>();
    let mut argv = options.cmd.as_ref().unwrap_or(&settings.cmd).0.clone();
    argv.extend(match &options.args {
        Some(args) => args.0.clone(),
        None => render(&settings.args)?,
    });
    Ok(Spec {
        dir: site.places.server(&launch.uid),
        spawner: site.spawner.to_owned(),
        argv,
        environment,
        path: path.unwrap_or_else(|| USUAL_PATH.to_owned()),
        home: account.switch.is_none().then(|| home.clone()),
        working_dir: settings.working_dir.0.render(&path_words)?.into(),
        switch: account.switch.clone(),
        limits,
        open_files: open_files::of_servers(),
        address,
        host: host(settings),
        pre_start: render(&settings.pre_start)?,
        auth_state: auth_state(launch),
        post_stop: render(&settings.post_stop)?,
        hook_timeout: settings.hook_timeout,
        patience: patience(settings),
        log_size: settings.log_size.0,
        certificates: launch.certificates.as_ref().zip(directory).map(|(certificates, directory)| Files {
            directory,
            texts: singleuser::ssl_texts(certificates).map(|(name, text)| (name.to_owned(), text)).into(),
        }),
    })
}

/// How long a server has to end.
#[must_use]
pub fn patience(settings: &Settings) -> Patience {
    Patience { interrupt: settings.interrupt_timeout, term: settings.term_timeout, kill: settings.kill_timeout }
}

fn words(
    launch: &Launch,
    account: &Account,
    home: &Path,
    address: SocketAddr,
    made_safe: impl Fn(&str) -> String,
) -> TemplateContext<'static> {
    [
        ("username", made_safe(&launch.user)),
        ("servername", made_safe(&launch.id.name)),
        ("hub", made_safe(&launch.id.hub)),
        ("user_id", launch.user_id.to_string()),
        ("uid", launch.uid.to_string()),
        ("unix_user", made_safe(&account.name)),
        ("home", home.to_string_lossy().into_owned()),
        ("ip", address.ip().to_string()),
        ("port", address.port().to_string()),
        ("base_url", singleuser::base_url(launch).to_owned()),
    ]
    .into()
}

fn auth_state(launch: &Launch) -> BTreeMap<String, String> {
    let name = |key: &str| {
        key.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' }).collect::<String>()
    };
    launch
        .auth_state
        .iter()
        .map(|(key, value)| (format!("OUTPOST_AUTH_STATE_{}", name(key)), value.expose_secret().replace('\0', "")))
        .collect()
}
