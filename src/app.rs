//! Composition: build everything, bind (fail fast), run, stop in order.

mod contents;
mod credentials;
mod reload;
mod state;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use self::contents::{Contents, mistakes};
pub use self::credentials::{FIRST_HUB, Generated};
pub use self::state::StateDir;
use crate::clock::Clock;
use crate::config::{Config, Environment};
use crate::dial::Dials;
use crate::error::Error;
use crate::http::{Listener, Tls};
use crate::hub::Hubs;
use crate::metrics::Metrics;
use crate::model::Uid;
use crate::outpost::{Outpost, ReloadRequest, Reloads};
use crate::spawner::{Changes, Registry, Spawner, SpawnerSettings, kubernetes, memory, process};
use crate::store::{Ring, Store};
use crate::telemetry::Level;
use crate::{http, ssh, tasks};

/// How long a database may take for the first look, before Outpost serves without it.
pub const FIRST_LOOK: Duration = Duration::from_secs(10);

/// How long it may take afterwards: migrations of a large database need their time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// How long background work may take to end once its time is over.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// What of the configuration this Outpost put into the database last; none before it reached it.
type Applied = Arc<ArcSwapOption<Contents>>;

/// What an application is built from.
#[derive(Clone)]
pub struct Options {
    /// The file that the configuration came from, to be watched.
    pub path: Option<PathBuf>,
    /// The variables that Outpost was started with.
    pub environment: Environment,
    /// The configuration.
    pub config: Config,
    /// The program that supervises processes: this one.
    pub supervisor: PathBuf,
    /// How to change the log level.
    pub level: Option<Level>,
    /// Shows the credential that was made because there was none.
    pub announce: fn(&Generated),
}

/// An Outpost that is bound and ready to run.
pub struct App {
    /// The use cases.
    pub outpost: Arc<Outpost>,
    /// Ends the application gently.
    pub shutdown: CancellationToken,
    options: Options,
    api: Option<Listener>,
    admin: Option<Listener>,
    ssh: Option<ssh::Listener>,
    tls: Option<Tls>,
    changes: mpsc::UnboundedReceiver<Uid>,
    reload_requests: mpsc::Receiver<ReloadRequest>,
    context: process::Context,
    applied: Applied,
    _state_dir: StateDir,
}

/// Opens the database of a configuration, as the daemon and the command line do.
///
/// # Errors
/// A sentence that names the key.
pub fn open_store(
    config: &Config,
    environment: &Environment,
    state_dir: &StateDir,
    metrics: Arc<Metrics>,
) -> Result<Store, String> {
    let ring = Ring::new(state_dir.keys(config)?.iter().map(|key| key.expose_secret()))?;
    let password = config
        .store
        .password
        .as_ref()
        .map(|secret| secret.read().map_err(|error| format!("store.password: {error}")))
        .transpose()?;
    let default = format!("sqlite:{}", state_dir.path().join("outpost.sqlite").display());
    let url = environment.get("OUTPOST_DATABASE_URL").or(config.store.url.as_deref()).unwrap_or(&default);
    let password = password.as_ref().map(|password| password.expose_secret());
    Store::open(url, password, config.store.max_connections, ring, Clock::System, metrics)
}

impl App {
    /// Builds everything and binds the listeners. Nothing is asked of the database yet.
    ///
    /// # Errors
    /// A sentence for the administrator.
    pub async fn build(options: Options) -> Result<Self, String> {
        let config = options.config.clone();
        let state_dir = StateDir::open(&config.state_dir(&options.environment)?)?;
        state_dir.lock()?;
        let tls = match (&config.http.tls_cert, &config.http.tls_key) {
            (Some(cert), Some(key)) => Some(Tls::read(cert.clone(), key.clone()).await?),
            _ => None,
        };
        let api = Listener::bind(config.http.listen, tls.clone()).map_err(|error| format!("http.listen: {error}"))?;
        let admin =
            Listener::bind(config.http.admin_listen, None).map_err(|error| format!("http.admin_listen: {error}"))?;
        let ssh = match config.ssh.listen {
            Some(address) => Some(ssh::Listener::bind(address).await.map_err(|error| format!("ssh.listen: {error}"))?),
            None => None,
        };

        let metrics = Arc::new(Metrics::default());
        let store = open_store(&config, &options.environment, &state_dir, metrics.clone())?;
        let (changes, changed) = Changes::channel();
        let (reloads, reload_requests) = Reloads::channel();
        let (shutdown, tracker) = (CancellationToken::new(), TaskTracker::new());
        // What is in flight may still need them when a gentle end has begun: backends, and connections to hubs' sides.
        let abort = CancellationToken::new();
        let context = process::Context {
            state_dir: state_dir.path().to_owned(),
            instance: state_dir.instance()?,
            changes,
            tracker: tracker.clone(),
            shutdown: abort.clone(),
            supervisor: options.supervisor.clone(),
        };
        let spawners = Registry::default();
        for (name, settings) in &config.spawners {
            spawners.insert(
                name,
                build_spawner(name, settings, &context, &metrics)
                    .await
                    .map_err(|error| format!("spawners.{name}: {error}"))?,
            );
        }
        let listening = api.address().map_err(|error| format!("http.listen: {error}"))?;
        let dials = Dials::new(listening, metrics.clone(), tracker.clone(), abort.clone());
        dials.reconfigure(config.dials());
        let hubs = Hubs::new(config.hubs.clone(), metrics.clone());
        for name in config.hubs.keys() {
            hubs.get(name).map_err(|error| format!("hubs.{name:?}: {error}"))?;
        }
        let outpost = Arc::new(Outpost {
            store,
            spawners,
            hubs,
            auth: crate::auth::Auth::default(),
            ssh_keys: crate::auth::SshKeys::default(),
            dials,
            config: ArcSwap::from_pointee(config),
            definitions: ArcSwap::default(),
            view: crate::outpost::View::default(),
            queue: crate::outpost::Queue::default(),
            flavor_updates: tasks::flavor_updates::FlavorUpdates::default(),
            tunnels: tasks::tunnels::Tunnels::new(Clock::System),
            metrics,
            clock: Clock::System,
            instance: context.instance.as_str().into(),
            loaded: watch::Sender::new(false),
            refreshed: AtomicI64::new(0),
            looks: crate::outpost::Looks::default(),
            reloads,
            tracker,
            ending: CancellationToken::new(),
            abort,
        });
        Ok(Self {
            outpost,
            shutdown,
            options,
            api: Some(api),
            admin: Some(admin),
            ssh,
            tls,
            changes: changed,
            reload_requests,
            context,
            applied: Applied::default(),
            _state_dir: state_dir,
        })
    }

    /// Where hubs reach the API, and where probes reach health and metrics.
    ///
    /// # Errors
    /// The system does not know.
    pub fn addresses(&self) -> std::io::Result<(SocketAddr, SocketAddr)> {
        let address = |listener: &Option<Listener>| match listener {
            Some(listener) => listener.address(),
            None => Err(std::io::Error::other("it runs already")),
        };
        Ok((address(&self.api)?, address(&self.admin)?))
    }

    /// Where hubs' SSH clients connect, if anywhere.
    #[must_use]
    pub fn ssh_address(&self) -> Option<SocketAddr> {
        self.ssh.as_ref().map(ssh::Listener::address)
    }

    /// Reads the database for the first time: schema, credentials, servers. A database that does not answer is no error:
    /// it is tried again in the background, and Outpost says that it is not ready. Gives a credential that was made because
    /// there was none.
    ///
    /// # Errors
    /// A sentence: the database cannot be used with this configuration.
    pub async fn connect(&self, patience: Duration) -> Result<Option<Generated>, String> {
        // Bounded here, because nothing is served before this returns; tried again without a bound.
        let connected = tokio::time::timeout(patience, self.try_connect()).await.unwrap_or_else(|_| {
            Err(Error::Unavailable {
                message: "The database does not answer.",
                cause: format!("nothing came in {patience:?}"),
            })
        });
        match connected {
            Ok(generated) => Ok(generated),
            Err(Error::Unavailable { cause, .. }) => {
                tracing::error!(cause, "the database does not answer; Outpost goes on and tries again");
                Ok(None)
            }
            Err(error) => Err(error.cause().map_or_else(|| error.to_string(), str::to_owned)),
        }
    }

    async fn try_connect(&self) -> Result<Option<Generated>, Error> {
        let outpost = &self.outpost;
        let config = outpost.config.load_full();
        outpost.store.migrate().await?;
        let read = tokio::task::spawn_blocking({
            let config = config.clone();
            move || Contents::read(&config)
        });
        let contents = Arc::new(read.await.map_err(Error::internal)?.map_err(Error::internal)?);
        let environment = Some(&self.options.environment);
        let wanted = credentials::Wanted { config: &config, contents: &contents, before: None, environment };
        credentials::apply(&outpost.store, wanted).await?;
        // Before any start can be decided. A file that went bad while the database was away changes nothing.
        match outpost.apply_files(&config.flavors).await {
            Err(error) if outpost.store.newest_definitions().await?.is_empty() => return Err(error),
            Err(error @ Error::Unavailable { .. }) => return Err(error),
            Err(error) => {
                outpost.metrics.configuration_stale.set(1);
                tracing::error!(
                    cause = error.cause(),
                    "a file of flavors has a mistake; the last good ones are in force"
                );
                outpost.refresh_definitions().await?;
            }
            Ok(()) => self.applied.store(Some(contents)),
        }
        outpost.load().await?;
        let generated = credentials::first(&outpost.store, &config).await?;
        // Else it is read a little later; what was made is shown in any case.
        if generated.is_some()
            && let (Ok(passwords), Ok(ssh_keys)) = (outpost.store.passwords().await, outpost.store.ssh_keys().await)
        {
            outpost.auth.update(passwords);
            outpost.ssh_keys.update(ssh_keys);
        }
        Ok(generated)
    }

    /// Serves until `shutdown` is cancelled, then ends in order: no new requests, those in flight and open forwards, background work, the
    /// database. Servers go on.
    ///
    /// # Errors
    /// A sentence: a listener or an essential task ended.
    pub async fn run(mut self) -> Result<(), String> {
        let outpost = self.outpost.clone();
        let settings = outpost.config.load().http.clone();
        if !settings.listen.ip().is_loopback() && self.tls.is_none() {
            tracing::warn!(
                listen = %settings.listen,
                "passwords and tokens cross the network in clear: set http.tls_cert and http.tls_key, or keep a proxy with TLS in front"
            );
        }
        tasks::run_all(&outpost, std::mem::replace(&mut self.changes, mpsc::unbounded_channel().1), &self.shutdown);
        outpost.tracker.spawn(reload::watch(
            outpost.clone(),
            self.options.clone(),
            self.context.clone(),
            self.applied.clone(),
            self.tls.clone(),
            std::mem::replace(&mut self.reload_requests, mpsc::channel(1).1),
            self.shutdown.clone(),
        ));

        let forwards = self
            .ssh
            .take()
            .map(|listener| outpost.tracker.spawn(listener.serve(outpost.clone(), self.shutdown.clone())));
        let (api, admin) = (self.api.take().ok_or("it runs already")?, self.admin.take().ok_or("it runs already")?);
        let patience = settings.request_timeout;
        let api = api.serve(http::router(outpost.clone()), self.shutdown.clone(), patience, settings.shutdown_timeout);
        // Probes are answered as long as hubs' requests are waited for.
        let unprobed = CancellationToken::new();
        let admin = admin.serve(http::admin::router(outpost.clone()), unprobed.clone(), patience, LAST_GRACE);
        let (mut api, mut admin) = (Box::pin(api), Box::pin(admin));
        // It is gone with this block: what it asked of the database would hold up the end.
        let result = {
            let reconnect = self.reconnect();
            tokio::pin!(reconnect);
            let mut connecting = true;
            loop {
                tokio::select! {
                    result = &mut api => {
                        unprobed.cancel();
                        let _ = admin.await;
                        break result.map_err(|error| format!("http.listen: {error}"));
                    }
                    result = &mut admin => break result.map_err(|error| format!("http.admin_listen: {error}")),
                    result = &mut reconnect, if connecting => match result {
                        Ok(()) => connecting = false,
                        Err(error) => break Err(error),
                    },
                }
            }
        };
        outpost.ending.cancel();
        self.shutdown.cancel();
        if let Some(forwards) = forwards {
            // They end by themselves: `ssh.drain_timeout`.
            let _ = forwards.await;
        }
        outpost.abort.cancel();
        outpost.tracker.close();
        if tokio::time::timeout(LAST_GRACE, outpost.tracker.wait()).await.is_err() {
            tracing::warn!("some background work did not end in time; the next start goes on with it");
        }
        if *outpost.loaded.borrow()
            && let Ok(Err(error)) = tokio::time::timeout(LAST_GRACE, outpost.store.leave(&outpost.instance)).await
        {
            tracing::warn!(cause = error.cause(), "other Outposts go on with what was under way a little later");
        }
        if tokio::time::timeout(LAST_GRACE, outpost.store.close()).await.is_err() {
            tracing::warn!("the connections to the database did not end in time");
        }
        result
    }

    /// Tries to reach the database until that worked once, or this Outpost is to end.
    async fn reconnect(&self) -> Result<(), String> {
        let connect = async {
            let mut pause = Duration::from_millis(500);
            while !*self.outpost.loaded.borrow() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_secs(5));
                if let Some(generated) = self.connect(PATIENCE).await? {
                    (self.options.announce)(&generated);
                }
            }
            Ok(())
        };
        tokio::select! {
            result = connect => result,
            () = self.outpost.ending.cancelled() => Ok(()),
            () = self.shutdown.cancelled() => Ok(()),
        }
    }
}

async fn build_spawner(
    name: &str,
    settings: &SpawnerSettings,
    context: &process::Context,
    metrics: &Arc<Metrics>,
) -> Result<Arc<dyn Spawner>, String> {
    Ok(match settings {
        SpawnerSettings::Process(settings) => process::Process::new(name, settings.clone(), context.clone())?,
        SpawnerSettings::Kubernetes(settings) => {
            let context = kubernetes::Context {
                changes: context.changes.clone(),
                tracker: context.tracker.clone(),
                shutdown: context.shutdown.clone(),
                metrics: metrics.clone(),
            };
            kubernetes::Kubernetes::new(name, settings.clone(), context).await?
        }
        SpawnerSettings::Memory(settings) => {
            Arc::new(memory::Memory::new(name, settings.clone(), context.changes.clone()))
        }
    })
}
