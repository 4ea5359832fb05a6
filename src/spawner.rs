//! The port to the backends that run servers, and the registry of those that are configured.
//!
//! Adding a backend means: one file or folder below `spawner/` with its settings, and two lines in here.
//!
//! # The rules of [`Spawner`]
//! - [`prepare`](Spawner::prepare) has no side effect. Its handle is stored before [`start`](Spawner::start) is called,
//!   and from then on identifies the server for good.
//! - `start` may be called again for the same handle at any time: after a crash in mid-start, or while the server runs.
//!   It finds what is there and goes on from it; it never starts a second server. It may be dropped at any await.
//! - [`status`](Spawner::status) never guesses: what it cannot know is [`Status::Unknown`], on which nothing is stopped.
//! - [`stop`](Spawner::stop) leaves nothing behind. What is absent already is stopped: `Ok`. It may be called again.
//! - No method waits for a hub.

pub mod kubernetes;
pub mod memory;
pub mod options;
pub mod process;
pub mod singleuser;
mod start_response;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::mpsc;

pub use self::start_response::StartResponse;
use crate::error::Result;
use crate::model::{Exit, Handle, Launch, Uid};

/// One backend. See the module for the rules.
#[async_trait]
pub trait Spawner: Send + Sync {
    /// Called before anything else once the database is there: the identifier of this installation, which all Outposts on
    /// the same database share and which a backend that they share marks its objects with. Called again, it changes nothing.
    fn begin(&self, _installation: &str) {}

    /// What keeps the backend from seeing its servers just now, for administrators.
    fn trouble(&self) -> Option<String> {
        None
    }

    /// Checks the launch and says where the server will be. No side effect.
    ///
    /// # Errors
    /// [`crate::error::Error::Refused`] with a sentence for the user, for options that this backend cannot do.
    fn prepare(&self, launch: &Launch) -> Result<Handle>;

    /// Starts the server, or finds the one that was started before, and returns when it runs.
    ///
    /// # Errors
    /// [`crate::error::Error::Failed`] with a sentence for the user and the server's last log lines. The caller stops
    /// the handle then.
    async fn start(&self, handle: &Handle, launch: &Launch, progress: &Progress) -> Result<Started>;

    /// What is known about the server.
    ///
    /// # Errors
    /// The backend could not be asked; the same as [`Status::Unknown`], with a cause for the log.
    async fn status(&self, uid: &Uid, handle: &Handle) -> Result<Status>;

    /// Ends the server and removes all that belongs to it, gently first, by force at the deadline.
    ///
    /// # Errors
    /// It could not be ended or that is not known; to be tried again.
    async fn stop(&self, uid: &Uid, handle: &Handle) -> Result<()>;

    /// Its end is noted, and it counts for nothing any more: what would begin again by itself ends for good. What it wrote is
    /// there until `stop`, where the backend can keep it. May be called again.
    ///
    /// # Errors
    /// That could not be done; to be tried again.
    async fn ended(&self, _uid: &Uid, _handle: &Handle) -> Result<()> {
        Ok(())
    }

    /// The last `lines` lines that the server wrote, oldest first. Works until `stop` returns.
    ///
    /// # Errors
    /// The log cannot be read.
    async fn logs(&self, uid: &Uid, handle: &Handle, lines: usize) -> Result<Vec<String>>;

    /// All servers of this Outpost that exist in the backend, whether or not a row knows them.
    ///
    /// # Errors
    /// The backend could not be asked.
    async fn list(&self) -> Result<Vec<Found>>;

    /// Whether any Outpost that shares the database can drive this backend's servers (a cluster), or only the one on
    /// the same machine (processes).
    fn shared(&self) -> bool;

    /// The options of this backend.
    fn options(&self) -> OptionTable;

    /// What the site's settings have for a request.
    ///
    /// # Errors
    /// A sentence for the user: what was chosen on the hub cannot be had.
    fn offer(&self, choice: &Choice<'_>) -> Result<Offer, String>;

    /// The answer to the hub's start request, as the site configured it: `host:port`, or empty while the address is not
    /// known yet.
    ///
    /// # Errors
    /// [`crate::error::Error::Internal`] for a template without a value.
    fn start_response(&self, launch: &Launch, started: &Started) -> Result<String>;

    /// Takes over changed settings for the starts to come; running servers stay as they are.
    ///
    /// # Errors
    /// A sentence, if the settings are of another kind of backend or cannot be used.
    fn reconfigure(&self, settings: &SpawnerSettings) -> Result<(), String>;
}

/// A request, as far as a site's settings depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The JupyterHub.
    pub hub: &'a str,
    /// Its name of the user.
    pub user: &'a str,
    /// The user's groups.
    pub groups: &'a [&'a str],
    /// What the user chose on the hub.
    pub user_options: &'a Map<String, Value>,
}

/// What a site's settings have for a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Offer {
    /// The resource options (`mem_limit`, `cpu_limit`): the limits that a hub may not exceed.
    pub resources: Map<String, Value>,
    /// The profile that is taken, be it chosen or the default one; `None`: the backend has no profiles.
    pub profile: Option<String>,
}

/// [`Spawner::offer`] of the backend that a request is for.
pub type SiteOffer<'a> = dyn Fn(&Choice<'_>) -> Result<Offer, String> + Send + Sync + 'a;

/// A backend's options, as far as admission has to know them.
#[derive(Clone, Copy, Debug)]
pub struct OptionTable {
    /// Those that the backend reads.
    pub known: &'static [&'static str],
    /// Those that hand over the host or the cluster, with the reason as a part of a sentence ("it …"): a hub may set them
    /// only where a rule says so.
    pub sensitive: &'static [(&'static str, &'static str)],
    /// Whether a value is of the option's type; the error says what it has to be: "a port number".
    pub check: fn(&str, &Value) -> Result<(), String>,
}

/// All configured backends by name.
#[derive(Default)]
pub struct Registry {
    spawners: RwLock<BTreeMap<String, Arc<dyn Spawner>>>,
    installation: OnceLock<String>,
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.spawners.read().unwrap_or_else(PoisonError::into_inner).keys()).finish()
    }
}

impl Registry {
    /// The backend of this name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Arc<dyn Spawner>> {
        self.spawners.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// Tells all backends, those of later too, which installation they belong to: [`Spawner::begin`].
    pub fn begin(&self, installation: &str) {
        let installation = self.installation.get_or_init(|| installation.to_owned());
        for (_, spawner) in self.all() {
            spawner.begin(installation);
        }
    }

    /// All backends, by name.
    #[must_use]
    pub fn all(&self) -> Vec<(String, Arc<dyn Spawner>)> {
        let spawners = self.spawners.read().unwrap_or_else(PoisonError::into_inner);
        spawners.iter().map(|(name, spawner)| (name.clone(), spawner.clone())).collect()
    }

    /// Adds a backend. One that is not configured any more stays, since its servers do.
    pub fn insert(&self, name: &str, spawner: Arc<dyn Spawner>) {
        if let Some(installation) = self.installation.get() {
            spawner.begin(installation);
        }
        self.spawners.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), spawner);
    }
}

/// A server that runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Started {
    /// The host that the hub reaches it at.
    pub host: String,
    /// Its port there.
    pub port: u16,
}

/// What a backend knows about a server.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Status {
    /// It exists and is not ready yet.
    Starting,
    /// It runs.
    Running,
    /// It ended.
    Exited(Exit),
    /// There is no such server.
    Absent,
    /// That cannot be known just now: never a reason to do anything.
    Unknown,
}

/// A server that exists in a backend.
#[derive(Clone, Debug)]
pub struct Found {
    /// Outpost's identifier, which the backend's object carries.
    pub uid: Uid,
    /// The handle to stop it with.
    pub handle: Handle,
}

/// What a start tells its user, in order. Sending never waits.
#[derive(Clone, Debug)]
pub struct Progress(mpsc::UnboundedSender<ProgressEvent>);

/// One line of progress.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProgressEvent {
    /// 0 to 100. 100 is the hub's: a backend stays below.
    pub progress: u8,
    /// A sentence for the user, plain text.
    pub message: String,
}

impl Progress {
    /// A sender and the receiver of what it says.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<ProgressEvent>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Tells the user something. Nobody listening is fine.
    pub fn say(&self, progress: u8, message: impl Into<String>) {
        let _ = self.0.send(ProgressEvent { progress: progress.min(99), message: message.into() });
    }
}

/// Backends report here that a server changed by itself (it ended), so that nobody has to poll them in a hurry.
#[derive(Clone, Debug)]
pub struct Changes(mpsc::UnboundedSender<Uid>);

impl Changes {
    /// A sender and the receiver of what it reports.
    #[must_use]
    pub fn channel() -> (Self, mpsc::UnboundedReceiver<Uid>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        (Self(sender), receiver)
    }

    /// Reports that this server is not what it was.
    pub fn report(&self, uid: Uid) {
        let _ = self.0.send(uid);
    }
}

/// `[spawners.<name>]`: the settings of one backend, by its `type`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum SpawnerSettings {
    /// Local processes.
    Process(process::Settings),
    /// Pods of a cluster.
    Kubernetes(kubernetes::Settings),
    /// Servers that exist in memory only: for tests and benchmarks.
    Memory(memory::Settings),
}

impl SpawnerSettings {
    /// The name of the kind, as in `type = "…"`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::Kubernetes(_) => "kubernetes",
            Self::Memory(_) => "memory",
        }
    }

    /// Checks what needs no server.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        match self {
            Self::Process(settings) => settings.check(),
            Self::Kubernetes(settings) => settings.check(),
            Self::Memory(_) => Ok(()),
        }
    }

    /// What may not be meant so, where servers of several hubs are started.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let Self::Kubernetes(settings) = self else { return Vec::new() };
        let warning = |key| {
            format!(
                "`{key}`: a user of another hub with the same name has the same storage, unless `{{hub}}` or `{{pvc_name}}` is in it"
            )
        };
        settings.shared_volumes().map(warning).collect()
    }

    /// The options of this kind of backend.
    #[must_use]
    pub const fn options(&self) -> OptionTable {
        match self {
            Self::Process(_) => process::OPTIONS,
            Self::Kubernetes(_) => kubernetes::OPTIONS,
            Self::Memory(_) => memory::OPTIONS,
        }
    }

    /// What the site's settings have for a request.
    ///
    /// # Errors
    /// A sentence for the user: what was chosen on the hub cannot be had.
    pub fn offer(&self, choice: &Choice<'_>) -> Result<Offer, String> {
        match self {
            Self::Process(settings) => Ok(settings.offer()),
            Self::Kubernetes(settings) => settings.offer(choice),
            Self::Memory(_) => Ok(Offer::default()),
        }
    }

    fn change_of_kind(&self, before: &str) -> String {
        format!(
            "the type of a backend cannot change from `{before}` to `{}` while Outpost runs; restart Outpost",
            self.kind()
        )
    }
}
