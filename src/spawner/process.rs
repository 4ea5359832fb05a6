//! Servers as processes of this machine.
//!
//! Each server has a `supervisor`, a small process of its own that outlives Outpost; the two talk through the server's
//! directory (`state`). Outpost itself keeps nothing that it could not read there again, so that it can be killed at
//! any point: who holds the directory's lock decides, and there is never a second server.

pub mod account;
mod cgroup;
mod environment;
mod ladder;
pub mod limits;
mod log;
pub mod open_files;
pub mod options;
mod plan;
mod ports;
mod proc;
mod sentences;
mod settings;
mod spec;
mod starting;
mod state;
mod stopping;
pub mod supervisor;
mod values;
mod watch;

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::options::OPTIONS;
use self::options::Options;
use self::plan::Places;
pub use self::settings::Settings;
use self::starting::Slots;
use self::state::{Record, Seen, Stage};
pub use self::values::{AccountName, Argv, Bytes, Place, Ports, Text};
use self::watch::Watched;
use super::{Changes, Choice, Found, Offer, OptionTable, Progress, Spawner, SpawnerSettings, Started, Status};
use crate::error::{Error, Result};
use crate::model::{Exit, Handle, Launch, Uid};

/// Where this binary is, also after it has been replaced on disk.
pub const THIS_BINARY: &str = "/proc/self/exe";

/// What the backend gets from the application.
#[derive(Clone, Debug)]
pub struct Context {
    /// The state directory; it has to be on a local disk (locks) and to be Unicode.
    pub state_dir: PathBuf,
    /// The identifier of this Outpost, the same after a restart.
    pub instance: String,
    /// Where ends of servers are reported.
    pub changes: Changes,
    /// What tasks are spawned on.
    pub tracker: TaskTracker,
    /// Ends the tasks; servers go on.
    pub shutdown: CancellationToken,
    /// The program that is run as `<program> supervise <uid>`: [`THIS_BINARY`].
    pub supervisor: PathBuf,
}

/// The backend.
#[derive(Debug)]
pub struct Process {
    name: Arc<str>,
    settings: ArcSwap<Settings>,
    context: Context,
    places: Places,
    cgroups: OnceLock<Option<PathBuf>>,
    slots: Slots,
    watched: Arc<Watched>,
}

impl Process {
    /// Makes the backend, finds its servers again and begins to watch them. Needs a runtime.
    ///
    /// # Errors
    /// A sentence: the settings, or the state directory cannot be used.
    pub fn new(name: &str, settings: Settings, context: Context) -> Result<Arc<Self>, String> {
        settings.check()?;
        if context.state_dir.to_str().is_none() || !context.state_dir.is_absolute() {
            return Err(format!("the state directory {} has to be absolute and Unicode", context.state_dir.display()));
        }
        let places = Places { state_dir: context.state_dir.clone() };
        for place in [places.servers(), places.all_certificates()] {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&place)
                .map_err(|error| format!("{} cannot be created: {error}", place.display()))?;
        }
        let process = Arc::new(Self {
            name: name.into(),
            settings: ArcSwap::from_pointee(Settings::default()),
            places,
            cgroups: OnceLock::new(),
            slots: Slots::default(),
            watched: Arc::default(),
            context,
        });
        process.take_over(settings)?;
        process.find_again().map_err(|error| format!("{}: {error}", process.places.servers().display()))?;
        process.watch();
        Ok(process)
    }

    fn take_over(&self, settings: Settings) -> Result<(), String> {
        if settings.switches_user() {
            // Servers have to get through to their certificates. What else is in there has modes of its own.
            for place in [&self.places.state_dir, &self.places.all_certificates()] {
                let opened = fs::metadata(place).and_then(|meta| {
                    fs::set_permissions(place, Permissions::from_mode(meta.permissions().mode() & 0o7777 | 0o011))
                });
                opened.map_err(|error| format!("{}: {error}", place.display()))?;
            }
        } else {
            tracing::warn!(
                spawner.name = %self.name,
                unix_user = %account::Account::own().name,
                "servers run as Outpost's own Unix user: each can read and change the files of Outpost and of all other \
                 servers. Set `user` or `users` (Outpost has to be root then), or use this for trusted users only"
            );
            if nix::unistd::geteuid().is_root() {
                tracing::warn!(spawner.name = %self.name, "servers run as ROOT: whoever has one has this machine");
            }
        }
        if plan::limits(&settings, &Options::default()) != limits::Limits::default() {
            self.cgroups();
        }
        self.settings.store(Arc::new(settings));
        Ok(())
    }

    /// Where servers' cgroups can be; looked for once.
    fn cgroups(&self) -> Option<&PathBuf> {
        let found = self.cgroups.get_or_init(|| match cgroup::find() {
            Ok(root) => {
                tracing::info!(spawner.name = %self.name, cgroup = %root.display(), "limits are kept by cgroup v2");
                Some(root)
            }
            Err(reason) => {
                tracing::info!(
                    spawner.name = %self.name, %reason,
                    "limits are kept by rlimits: memory per process, processes per Unix user, whole processors"
                );
                None
            }
        });
        found.as_ref()
    }

    fn handle(&self) -> Handle {
        Handle { spawner: self.name.clone(), state: Value::Null }
    }

    fn find_again(&self) -> io::Result<()> {
        for uid in directories(&self.places, &self.name)? {
            if let Ok(Seen::Record(record)) = self.places.server(&uid).look() {
                self.note(&uid, &record);
            }
        }
        Ok(())
    }

    /// Remembers what a living server has: its port is taken, and its end is to be reported.
    fn note(&self, uid: &Uid, record: &Record) {
        if let Some(server) = record.living_server() {
            self.watched.add(uid, server);
        }
        if record.living_server().is_some() || record.has_supervisor() {
            ports::keep(uid, record.port);
        }
    }

    fn watch(&self) {
        let (watched, places) = (self.watched.clone(), self.places.clone());
        let (changes, shutdown) = (self.context.changes.clone(), self.context.shutdown.clone());
        self.context.tracker.spawn(async move {
            let mut clock = tokio::time::interval(watch::INTERVAL);
            clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            for round in 0_u32.. {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    _ = clock.tick() => {}
                }
                let (watched, places, changes) = (watched.clone(), places.clone(), changes.clone());
                let _ = blocking(move || watched.look(&places, &changes, round)).await;
            }
        });
    }

    /// What the directory of a server shows now.
    async fn look(&self, uid: &Uid) -> Result<Seen> {
        let dir = self.places.server(uid);
        blocking(move || dir.look()).await?.map_err(|error| Error::internal(format!("state of {uid}: {error}")))
    }

    async fn tail(&self, uid: &Uid, lines: usize) -> Result<Vec<String>> {
        let dir = self.places.server(uid);
        blocking(move || dir.tail(lines)).await?.map_err(|error| Error::internal(format!("log of {uid}: {error}")))
    }
}

/// Runs what may wait for a disk or a user database apart from the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

/// The identifiers of all directories of a backend.
fn directories(places: &Places, spawner: &str) -> io::Result<BTreeSet<Uid>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(places.servers())? {
        if let Some(uid) = entry?.file_name().to_str().and_then(Uid::parse)
            && places.server(&uid).spawner().as_deref() == Some(spawner)
        {
            found.insert(uid);
        }
    }
    Ok(found)
}

fn exited(code: Option<i32>, reason: String, early: bool) -> Status {
    Status::Exited(Exit { code, reason, early })
}

#[async_trait]
impl Spawner for Process {
    fn prepare(&self, launch: &Launch) -> Result<Handle> {
        Options::read(&launch.options)?;
        account::name_for(&self.settings.load(), launch)?;
        Ok(self.handle())
    }

    async fn start(&self, _handle: &Handle, launch: &Launch, progress: &Progress) -> Result<Started> {
        self.start_server(launch, progress).await
    }

    async fn status(&self, uid: &Uid, _handle: &Handle) -> Result<Status> {
        // The moment between a server's end and its supervisor's record of it is short.
        for _ in 0..10 {
            let record = match self.look(uid).await? {
                Seen::Nothing => return Ok(Status::Absent),
                Seen::Empty => return Ok(Status::Starting),
                Seen::Broken => return self.status_without_record(uid).await,
                Seen::Record(record) => record,
            };
            return Ok(match record.stage {
                Stage::Failed { message } => exited(None, message, true),
                Stage::Exited { code, early: true } => {
                    exited(Some(code), sentences::ended_before_listening(code), true)
                }
                Stage::Exited { code, early: false } => exited(Some(code), sentences::ended(code), false),
                _ if record.is_of_another_boot() => exited(None, sentences::machine_restarted(), false),
                Stage::Preparing if record.has_supervisor() => Status::Starting,
                Stage::Running { .. } if record.living_server().is_some() => {
                    self.note(uid, &record);
                    Status::Running
                }
                Stage::Running { .. } if record.has_supervisor() => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    continue;
                }
                // It may have written and ended since we read.
                stage => match self.look(uid).await? {
                    Seen::Record(now) if now.stage == stage => match stage {
                        Stage::Preparing => exited(None, sentences::start_interrupted(), true),
                        _ => exited(None, sentences::ended_unseen(), false),
                    },
                    _ => continue,
                },
            });
        }
        Ok(Status::Unknown)
    }

    async fn stop(&self, uid: &Uid, _handle: &Handle) -> Result<()> {
        self.stop_server(uid).await
    }

    async fn logs(&self, uid: &Uid, _handle: &Handle, lines: usize) -> Result<Vec<String>> {
        self.tail(uid, lines).await
    }

    async fn list(&self) -> Result<Vec<Found>> {
        let instance = self.context.instance.clone();
        let (places, name) = (self.places.clone(), self.name.clone());
        let mut found = blocking(move || directories(&places, &name))
            .await?
            .map_err(|error| Error::internal(format!("list of servers: {error}")))?;
        for uid in &found {
            if let Ok(Seen::Record(record)) = self.look(uid).await {
                self.note(uid, &record);
            }
        }
        let strays = blocking(move || proc::carriers(&instance)).await?;
        found.extend(strays.into_iter().filter(|stray| *stray.spawner == *self.name).map(|stray| stray.uid));
        Ok(found.into_iter().map(|uid| Found { uid, handle: self.handle() }).collect())
    }

    fn shared(&self) -> bool {
        false
    }

    fn options(&self) -> OptionTable {
        OPTIONS
    }

    fn offer(&self, _choice: &Choice<'_>) -> Result<Offer, String> {
        Ok(self.settings.load().offer())
    }

    fn start_response(&self, launch: &Launch, started: &Started) -> Result<String> {
        self.settings.load().start_response.answer(launch, started)
    }

    fn reconfigure(&self, settings: &SpawnerSettings) -> Result<(), String> {
        match settings {
            SpawnerSettings::Process(settings) => {
                settings.check()?;
                self.take_over(settings.clone())
            }
            other => Err(other.change_of_kind("process")),
        }
    }
}

impl Process {
    /// A record that nobody can read says nothing; a process that carries the server's name does.
    async fn status_without_record(&self, uid: &Uid) -> Result<Status> {
        let (instance, dir, uid) = (self.context.instance.clone(), self.places.server(uid), uid.clone());
        let alive = blocking(move || {
            !matches!(dir.lock(), Ok(Some(_))) || proc::carriers(&instance).iter().any(|carrier| carrier.uid == uid)
        });
        Ok(if alive.await? { Status::Unknown } else { exited(None, sentences::record_lost(), false) })
    }
}
