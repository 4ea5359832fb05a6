//! `outpost serve` and `outpost check-config`.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{BAD_CONFIGURATION, Context, FAILED, Failure, Outcome, hub};
use crate::app::{App, FIRST_LOOK, Generated, Options, mistakes};
use crate::clock::Clock;
use crate::outpost::Outpost;
use crate::spawner::SpawnerSettings;
use crate::spawner::process::open_files;
use crate::store::Ring;
use crate::telemetry;

pub(super) async fn serve(context: Context) -> Outcome {
    // Before all: a container's first process has no other way to be ended than by a signal that it asked for.
    let mut signals = Signals::new().map_err(|error| error.to_string())?;
    check(&context).await?;
    let level = telemetry::init(&context.config.log)?;
    // Each connection is an open file, and systems allow few at first, for the sake of other programs.
    match open_files::raise() {
        Ok(most) => context.config.ssh.warning(most).into_iter().for_each(|warning| tracing::warn!("{warning}")),
        Err(error) => tracing::warn!(%error, "the limit of open files cannot be raised"),
    }
    // From now on SIGHUP does not end this process, though it is only heeded when everything is up.
    let _hangup = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    let build = App::build(Options {
        path: context.path.clone(),
        environment: context.environment.clone(),
        config: context.config.clone(),
        // The running program, even if a newer one has taken its place on the disk.
        supervisor: PathBuf::from("/proc/self/exe"),
        level: Some(level),
        announce,
    });
    let Some(app) = signals.unless_ended(build).await else { return Ok(()) };
    let app = app?;
    let (api, admin) = app.addresses().map_err(|error| error.to_string())?;
    let Some(connected) = signals.unless_ended(app.connect(FIRST_LOOK)).await else { return Ok(()) };
    if let Some(Generated { hub: name, password }) = connected? {
        let scheme = if context.config.http.tls_cert.is_some() { "https" } else { "http" };
        println!("There was no credential yet, so one was made. It is shown this once:\n");
        print!("{}", hub::snippet(&name, password.expose_secret(), &format!("{scheme}://{api}")));
        println!("\nEverything is kept in {}.\n", context.state_dir()?.path().display());
    }
    tracing::info!(api = %api, admin = %admin, version = env!("CARGO_PKG_VERSION"), "Outpost is up");
    #[expect(clippy::disallowed_methods, reason = "it waits for the end of the process, which waits for the tracker")]
    let signals = tokio::spawn(handle_signals(signals, app.outpost.clone(), app.shutdown.clone()));
    let result = app.run().await;
    signals.abort();
    Ok(result?)
}

/// What asks for an end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    /// Waits for something that has to be done before there is anything to end. `None`: the end was asked for.
    async fn unless_ended<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.next() => {
                tracing::info!("ending before it was up; servers go on");
                None
            }
        }
    }
}

/// The first signal ends gently, after `http.drain_delay`, the second at once.
async fn handle_signals(mut signals: Signals, outpost: Arc<Outpost>, shutdown: CancellationToken) {
    signals.next().await;
    let delay = outpost.config.load().http.drain_delay;
    tracing::info!(drain_delay = ?delay, "ending; servers go on");
    outpost.ending.cancel();
    if tokio::time::timeout(delay, signals.next()).await.is_err() {
        shutdown.cancel();
        signals.next().await;
    }
    tracing::info!("ending at once; servers go on");
    outpost.abort.cancel();
    std::process::exit(i32::from(FAILED));
}

/// Shows a credential where the start could not, because the database did not answer then.
fn announce(generated: &Generated) {
    let Generated { hub: name, password } = generated;
    println!("There was no credential yet, so one was made. It is shown this once:\n");
    print!("{}", hub::snippet(name, password.expose_secret(), "http://this-machine:8080"));
}

/// What only reading secrets, certificates and keys can tell.
async fn check(context: &Context) -> Outcome {
    let config = &context.config;
    let mut mistakes = mistakes(config);
    for secret in &config.store.keys {
        let ring =
            |key: SecretString| Ring::new([key.expose_secret()]).map_err(|mistake| format!("{secret}: {mistake}"));
        if let Err(mistake) = secret.read().and_then(ring) {
            mistakes.push(format!("store.keys: {mistake}"));
        }
    }
    if let Some(Err(mistake)) = config.store.password.as_ref().map(crate::config::Secret::read) {
        mistakes.push(format!("store.password: {mistake}"));
    }
    if let (Some(cert), Some(key)) = (&config.http.tls_cert, &config.http.tls_key)
        && let Err(mistake) = crate::http::Tls::read(cert.clone(), key.clone()).await
    {
        mistakes.push(mistake);
    }
    if !mistakes.is_empty() {
        return Err(Failure(BAD_CONFIGURATION, mistakes.join("\n")));
    }
    Ok(())
}

pub(super) async fn check_config(context: &Context) -> Outcome {
    check(context).await?;
    let config = &context.config;
    // The daemon does not need what is for login nodes.
    let agents = config.forward_agents.iter().filter_map(|(name, agent)| {
        agent.login().read().err().map(|mistake| format!("forward_agents.{name:?}.{mistake}"))
    });
    let mistakes: Vec<_> = agents.collect();
    if !mistakes.is_empty() {
        return Err(Failure(BAD_CONFIGURATION, mistakes.join("\n")));
    }
    let state_dir = config.state_dir(&context.environment).map_err(|mistake| Failure(BAD_CONFIGURATION, mistake))?;
    let file = context.path.as_ref().map_or_else(|| "no file, defaults".to_owned(), |path| path.display().to_string());
    println!("The configuration is good ({file}).");
    println!("  state directory  {}", state_dir.display());
    println!("  hubs             {}", list(config.hubs.keys()));
    println!("  backends         {}", list(config.spawners.keys()));
    println!("  hubs reach       {}{}", config.http.listen, config.http.base_path);
    println!("  probes reach     {}", config.http.admin_listen);
    let ssh = config.ssh.listen.map_or_else(|| "no SSH server".to_owned(), |listen| listen.to_string());
    println!("  hubs' ssh        {ssh}");
    for (hub, dial) in config.dials() {
        println!("  dials            {}@{} for hub {hub}", dial.user, dial.to);
    }
    for (hub, agent) in &config.forward_agents {
        println!("  forward agent    {}@{} for hub {hub}", agent.user, agent.to);
    }
    let mut warnings = config.overrides.warnings();
    warnings.extend(config.flavors.check_files()?);
    warnings.extend(open_files::most().ok().and_then(|most| config.ssh.warning(most)));
    warnings.extend(config.ssh_key_warnings(&context.environment, Clock::System.now())?);
    if config.hubs.len() != 1 {
        let of = |(name, settings): (&String, &SpawnerSettings)| {
            settings.warnings().into_iter().map(|warning| format!("[spawners.{name}] {warning}")).collect::<Vec<_>>()
        };
        warnings.extend(config.spawners.iter().flat_map(of));
    }
    for warning in warnings {
        println!("This may not be meant so: {warning}");
    }
    Ok(())
}

fn list<'a>(names: impl Iterator<Item = &'a String>) -> String {
    let names: Vec<_> = names.map(String::as_str).collect();
    if names.is_empty() { "none in the file".to_owned() } else { names.join(", ") }
}
