//! How a server is started, or found.

use std::collections::HashMap;
use std::ops::Deref;
use std::process::Stdio;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::{OwnedMutexGuard, oneshot};
use tokio_util::sync::CancellationToken;

use super::options::Options;
use super::plan::{self, Site};
use super::spec::{Report, Spec};
use super::state::{Seen, Stage};
use super::{Process, blocking, environment, sentences};
use crate::error::{Error, Result};
use crate::model::{Launch, Uid};
use crate::spawner::{Progress, Started};

/// A server that runs this long has not failed at once.
const SURVIVED: Duration = Duration::from_millis(300);
/// The lines of log that go with a failure.
const LAST_LINES: usize = 20;
/// How often a supervisor that did nothing is tried again.
const ATTEMPTS: usize = 10;

/// Fires when a supervisor has said all that it will say, with the sentence of one that could not even record why it
/// failed.
type Heard = oneshot::Receiver<Option<String>>;

/// The right to change a server. Work on a thread of its own has a share in it: it goes on where its caller was dropped.
pub type Turn = Arc<OwnedMutexGuard<()>>;

/// What the calls for one server share while there are any.
#[derive(Debug, Default)]
pub struct Slot {
    /// Who changes the server: one at a time.
    turn: Arc<tokio::sync::Mutex<()>>,
    /// Cancelled and replaced by each stop: no start that was called before it goes on after it.
    stopped: Mutex<CancellationToken>,
    /// Who wants to hear how the start goes.
    listeners: Mutex<Vec<Progress>>,
}

/// The slots of all servers that somebody works on.
#[derive(Clone, Debug, Default)]
pub struct Slots(Arc<Mutex<HashMap<Uid, Arc<Slot>>>>);

/// A share in a slot, given back when dropped.
pub struct Hold {
    slots: Slots,
    uid: Uid,
    slot: Arc<Slot>,
}

impl Slots {
    /// A share in the slot of a server.
    pub fn hold(&self, uid: &Uid) -> Hold {
        let slot = lock(&self.0).entry(uid.clone()).or_default().clone();
        Hold { slots: self.clone(), uid: uid.clone(), slot }
    }
}

impl Clone for Hold {
    fn clone(&self) -> Self {
        self.slots.hold(&self.uid)
    }
}

impl Deref for Hold {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.slot
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut slots = lock(&self.slots.0);
        // The map's own share and this one; new ones are made under the map's lock only.
        if Arc::strong_count(&self.slot) <= 2 {
            slots.remove(&self.uid);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Waits until nobody else changes the server.
    pub async fn turn(&self) -> Turn {
        Arc::new(self.turn.clone().lock_owned().await)
    }

    fn say(&self, progress: u8, message: &str) {
        for listener in &*lock(&self.listeners) {
            listener.say(progress, message);
        }
    }

    /// Ends all starts that are under way.
    pub fn cancel_starts(&self) {
        std::mem::take(&mut *lock(&self.stopped)).cancel();
    }
}

impl Process {
    pub(super) async fn start_server(&self, launch: &Launch, progress: &Progress) -> Result<Started> {
        let slot = &self.slots.hold(&launch.uid);
        lock(&slot.listeners).push(progress.clone());
        let stopped = lock(&slot.stopped).clone();
        let time = self.settings.load().start_timeout;
        let start = async {
            let turn = slot.turn().await;
            let heard = self.ensure(launch, slot, &turn).await?;
            drop(turn);
            self.follow(&launch.uid, slot, heard).await
        };
        tokio::select! {
            biased;
            () = stopped.cancelled() => Err(Error::Cancelled),
            done = tokio::time::timeout(time, start) => match done {
                Ok(done) => done,
                Err(_) => Err(self.late(&launch.uid, time).await),
            },
        }
    }

    /// Sees to it that there is a record of the server: a supervisor that has begun, or has been there before. The answer
    /// fires when a supervisor that has begun has nothing more to say.
    async fn ensure(&self, launch: &Launch, slot: &Hold, turn: &Turn) -> Result<Option<Heard>> {
        let uid = &launch.uid;
        for _ in 0..ATTEMPTS {
            match self.look(uid).await? {
                Seen::Record(record) if record.stage == Stage::Preparing && !record.has_supervisor() => {
                    self.reset(uid).await?;
                }
                Seen::Record(_) => return Ok(None),
                Seen::Broken => return Err(Error::failed(sentences::record_lost())),
                Seen::Nothing | Seen::Empty => {}
            }
            let mut heard = self.launch_supervisor(launch, slot, turn).await?;
            let mut wait = Duration::from_millis(5);
            loop {
                let ended = tokio::select! {
                    lost = &mut heard => Some(lost.unwrap_or_default()),
                    () = tokio::time::sleep(wait) => None,
                };
                if !matches!(self.look(uid).await?, Seen::Nothing | Seen::Empty) {
                    return Ok(ended.is_none().then_some(heard));
                }
                match ended {
                    Some(Some(sentence)) => return Err(Error::failed(sentence)),
                    // Another supervisor, of an Outpost before us, has the lock and is about to write.
                    Some(None) => break,
                    None => wait = (wait * 2).min(Duration::from_millis(100)),
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(Error::failed(sentences::supervisor_failed()))
    }

    /// Begins anew where a supervisor was ended before it had started anything.
    async fn reset(&self, uid: &Uid) -> Result<()> {
        self.end_strays(uid).await?;
        let dir = self.places.server(uid);
        let done = blocking(move || match dir.lock()? {
            Some(_lock) => dir.forget(),
            None => Ok(()),
        });
        done.await?.map_err(|error| Error::internal(format!("state of {uid}: {error}")))
    }

    async fn launch_supervisor(&self, launch: &Launch, slot: &Hold, turn: &Turn) -> Result<Heard> {
        let options = Options::read(&launch.options)?;
        slot.say(10, "Starting the server's process.");
        let frame = self.frame(launch, options, turn.clone()).await?;
        let mut command = Command::new(&self.context.supervisor);
        // The identifier is for people who look at the list of processes.
        command.arg("supervise").arg(launch.uid.as_str()).arg0("outpost").env_clear().current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let failed = |error: std::io::Error| {
            tracing::error!(spawner.name = %self.name, %error, "no supervisor: {}", self.context.supervisor.display());
            Error::failed(sentences::supervisor_failed())
        };
        let mut child = command.spawn().map_err(failed)?;
        let (sender, heard) = oneshot::channel();
        if let Some(mut input) = child.stdin.take() {
            // It may end without having read all, if it is not ours; its silence will tell.
            let _ = input.write_all(&frame).await;
        }
        let (slot, shutdown, uid) = (slot.clone(), self.context.shutdown.clone(), launch.uid.clone());
        self.context.tracker.spawn(async move {
            tokio::select! {
                () = attend(child, slot, &uid, sender) => {}
                () = shutdown.cancelled() => {}
            }
        });
        Ok(heard)
    }

    async fn frame(&self, launch: &Launch, options: Options, turn: Turn) -> Result<Vec<u8>> {
        let settings = self.settings.load_full();
        let limited = plan::limits(&settings, &options) != super::limits::Limits::default();
        let cgroups = limited.then(|| self.cgroups().cloned()).flatten();
        let (places, launch) = (self.places.clone(), launch.clone());
        let (instance, spawner) = (self.context.instance.clone(), self.name.clone());
        blocking(move || {
            let _turn = turn;
            let site = Site {
                settings: &settings,
                places: &places,
                instance: &instance,
                spawner: &spawner,
                cgroups: cgroups.as_deref(),
            };
            let spec = plan::plan(&site, &launch, &options)?;
            spec.dir.create(&spawner).map_err(|error| Error::failed(sentences::not_recorded(&error)))?;
            Spec::framed(&spec).map_err(Error::internal)
        })
        .await?
    }

    /// Waits until the server is what the configuration calls started.
    async fn follow(&self, uid: &Uid, slot: &Hold, mut heard: Option<Heard>) -> Result<Started> {
        let settings = self.settings.load_full();
        let mut wait = Duration::from_millis(10);
        let mut told = false;
        let mut silence = 0;
        loop {
            let mut pause = wait;
            match self.look(uid).await? {
                Seen::Nothing => return Err(Error::Cancelled),
                Seen::Empty => {}
                Seen::Broken => return Err(self.failed(uid, sentences::record_lost()).await),
                Seen::Record(record) => match &record.stage {
                    Stage::Failed { message } => return Err(self.failed(uid, message.clone()).await),
                    Stage::Exited { code, early } => {
                        let sentence = if settings.wait_for_port && *early {
                            sentences::ended_before_listening(*code)
                        } else {
                            sentences::ended_at_once(*code)
                        };
                        return Err(self.failed(uid, sentence).await);
                    }
                    Stage::Running { server, .. } if record.living_server().is_some() => {
                        if let Some(heard) = heard.take() {
                            // First what the supervisor has said, then what we say.
                            let _ = tokio::time::timeout(SURVIVED, heard).await;
                        }
                        let ready = if settings.wait_for_port {
                            if !told {
                                slot.say(90, &format!("Waiting until the server answers on port {}.", record.port));
                                told = true;
                            }
                            let address = (environment::local(settings.ip), record.port);
                            TcpStream::connect(address).await.is_ok()
                        } else {
                            let age = server.age().unwrap_or(SURVIVED);
                            pause = pause.min(SURVIVED.saturating_sub(age)).max(Duration::from_millis(5));
                            age >= SURVIVED
                        };
                        if ready {
                            self.note(uid, &record);
                            return Ok(Started { host: record.host, port: record.port });
                        }
                    }
                    _ if record.has_supervisor() => {}
                    // It may have written and ended since we read: the second look tells.
                    stage => {
                        silence += 1;
                        if silence > 1 {
                            let sentence = match stage {
                                Stage::Preparing => sentences::start_interrupted(),
                                _ => sentences::ended_unseen(),
                            };
                            return Err(self.failed(uid, sentence).await);
                        }
                    }
                },
            }
            tokio::time::sleep(pause).await;
            wait = (wait * 2).min(Duration::from_millis(200));
        }
    }

    /// The error of a start that took too long.
    async fn late(&self, uid: &Uid, time: Duration) -> Error {
        let sentence = match self.look(uid).await {
            Ok(Seen::Record(record)) if record.living_server().is_some() => {
                sentences::never_listened(record.port, time)
            }
            _ => sentences::start_timeout(time),
        };
        self.failed(uid, sentence).await
    }

    async fn failed(&self, uid: &Uid, message: String) -> Error {
        let logs = self.tail(uid, LAST_LINES).await.unwrap_or_default();
        Error::Failed { message, logs }
    }
}

/// Listens to a supervisor until it has nothing more to say, and then waits for it, so that it is no zombie when it ends.
async fn attend(mut child: Child, slot: Hold, uid: &Uid, sender: oneshot::Sender<Option<String>>) {
    let mut lost = None;
    if let Some(output) = child.stdout.take() {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            match serde_json::from_str(&line) {
                Ok(Report::Progress { progress, message }) => slot.say(progress, &message),
                Ok(Report::Lost(sentence)) => lost = Some(sentence),
                Err(_) => tracing::warn!(server.uid = %uid, "a supervisor said something that is no report"),
            }
        }
    }
    drop(slot);
    let _ = sender.send(lost);
    let _ = child.wait().await;
}
