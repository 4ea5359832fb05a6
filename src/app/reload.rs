//! A changed configuration, without a restart: the file and those that it names are looked at every two seconds and on SIGHUP. A
//! bad file changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::contents::mistakes;
use super::{Applied, Contents, Options, build_spawner, credentials};
use crate::config::Config;
use crate::error::Error;
use crate::http::Tls;
use crate::outpost::{Outpost, ReloadRequest, Reloaded};
use crate::spawner::process;
use crate::ssh;

const PERIOD: Duration = Duration::from_secs(2);

/// Which file it is, when it changed, and how long it is. A symbolic link is followed, since Kubernetes swaps links.
type Stamp = Option<(u64, SystemTime, u64)>;

fn stamp(path: Option<&Path>) -> Stamp {
    let metadata = std::fs::metadata(path?).ok()?;
    Some((metadata.ino(), metadata.modified().ok()?, metadata.len()))
}

/// The configuration file, the certificate and its key, and the files that the configuration names.
#[derive(Clone, Default, PartialEq)]
struct Look {
    config: Stamp,
    certificate: [Stamp; 2],
    named: Vec<Stamp>,
}

/// Looks at all files. It is done beside the workers, since a file system may hang.
async fn look(options: &Options, config: Arc<Config>) -> Look {
    let path = options.path.clone();
    let certificate = [options.config.http.tls_cert.clone(), options.config.http.tls_key.clone()];
    let look = move || Look {
        config: stamp(path.as_deref()),
        certificate: certificate.map(|file| stamp(file.as_deref())),
        named: config.files_read_anew().into_iter().map(|path| stamp(Some(path))).collect(),
    };
    tokio::task::spawn_blocking(look).await.unwrap_or_default()
}

/// Reads the configuration anew whenever it changes or somebody asks for it, until this Outpost is to end: from then on the
/// configuration of others counts.
pub(super) async fn watch(
    outpost: Arc<Outpost>,
    options: Options,
    context: process::Context,
    applied: Applied,
    tls: Option<Tls>,
    requests: mpsc::Receiver<ReloadRequest>,
    shutdown: CancellationToken,
) {
    let ending = outpost.ending.clone();
    tokio::select! {
        biased;
        () = ending.cancelled() => {}
        () = shutdown.cancelled() => {}
        () = watch_until_the_end(outpost, options, context, applied, tls, requests) => {}
    }
}

async fn watch_until_the_end(
    outpost: Arc<Outpost>,
    options: Options,
    context: process::Context,
    applied: Applied,
    tls: Option<Tls>,
    mut requests: mpsc::Receiver<ReloadRequest>,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let mut seen = look(&options, outpost.config.load_full()).await;
    let mut read = seen.clone();
    // What was said of the configuration and of the certificate, as long as it is wrong.
    let (mut mistake, mut bad_certificate) = (None, None);
    let mut whole = false;
    loop {
        let mut request = None;
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            Some(answer) = requests.recv() => {
                request = Some(answer);
                true
            }
            () = tokio::time::sleep(PERIOD) => false,
        };
        // What changed since the last look may still be being written: it is read when it has stayed the same once. What failed
        // may be the database that does not answer, or a file that is not watched yet: it is tried until it works.
        let now = look(&options, outpost.config.load_full()).await;
        let changed = mistake.is_some()
            || now.config == seen.config && now.config != read.config
            || now.named == seen.named && now.named != read.named;
        let certificate_changed =
            bad_certificate.is_some() || now.certificate == seen.certificate && now.certificate != read.certificate;
        seen = now;
        if let Some(tls) = &tls
            && (asked || certificate_changed)
        {
            match tls.reload().await {
                Ok(()) => {
                    read.certificate = seen.certificate;
                    if bad_certificate.take().is_some() {
                        outpost.metrics.configuration_stale.set(i64::from(mistake.is_some()));
                    }
                    tracing::info!("the TLS certificate was read anew");
                }
                Err(error) => {
                    let error = error.to_string();
                    if bad_certificate.as_ref() != Some(&error) {
                        tracing::error!(error, "the TLS certificate cannot be read; the one before stays in force");
                    }
                    bad_certificate = Some(error);
                    outpost.metrics.configuration_stale.set(1);
                }
            }
        }
        if asked || changed {
            (read.config, read.named) = (seen.config, seen.named.clone());
            whole = asked || whole && mistake.is_some();
            let result = reload(&outpost, &options, &context, &applied, whole).await;
            outpost.metrics.configuration_stale.set(i64::from(result.is_err() || bad_certificate.is_some()));
            match &result {
                Ok(_) => tracing::info!("the configuration was read anew"),
                Err(told) if mistake.as_ref() == Some(told) => {}
                Err(mistake) => {
                    tracing::error!(mistake, "the configuration has a mistake; the last good one stays in force");
                }
            }
            mistake = result.as_ref().err().cloned();
            if let Some(request) = request {
                let _ = request.send(result);
            }
        }
    }
}

/// Reads the configuration, and makes the `whole` database agree with it, as somebody who asks for it wants; or only what has
/// changed here since this Outpost did so the last time.
async fn reload(
    outpost: &Arc<Outpost>,
    options: &Options,
    context: &process::Context,
    applied: &Applied,
    whole: bool,
) -> Result<Reloaded, String> {
    let (path, environment) = (options.path.clone(), options.environment.clone());
    // Before anything is touched: a mistake that stays is tried again and again.
    let read = tokio::task::spawn_blocking(move || {
        if let Some(path) = path.as_deref()
            && std::fs::metadata(path).is_ok_and(|file| file.len() == 0)
        {
            return Err(format!("{}: is empty, which is taken for a file that is still being written", path.display()));
        }
        let config = Config::load(path.as_deref(), &environment)?;
        match mistakes(&config).as_slice() {
            [] => Ok((Contents::read(&config)?, config)),
            mistakes => Err(mistakes.join("\n")),
        }
    });
    let (contents, new) = read.await.map_err(|error| error.to_string())??;
    let old = outpost.config.load_full();
    let reloaded = differences(&old, &new);
    let config = Config {
        http: old.http.clone(),
        ssh: ssh::Settings { authorized_keys: new.ssh.authorized_keys.clone(), ..old.ssh.clone() },
        store: old.store.clone(),
        tasks: old.tasks.clone(),
        ..new
    };
    let before = applied.load_full();
    let wanted = credentials::Wanted {
        config: &config,
        contents: &contents,
        before: before.as_deref().filter(|_| !whole),
        environment: None,
    };
    if let Err(mistake) = apply(outpost, context, &old, wanted).await {
        // What was changed before the mistake showed goes back.
        for (name, settings) in &old.spawners {
            if config.spawners.get(name).is_some_and(|new| new != settings) {
                outpost.spawners.get(name).map(|spawner| spawner.reconfigure(settings));
            }
        }
        let _ = outpost.hubs.reconfigure(&old.hubs);
        return Err(mistake);
    }
    for key in &reloaded.at_restart {
        tracing::warn!(key, "this change of the configuration takes effect when Outpost is restarted");
    }
    if let Some(level) = &options.level {
        level.set(&config.log)?;
    }
    if *outpost.loaded.borrow() {
        applied.store(Some(Arc::new(contents)));
    }
    outpost.dials.reconfigure(config.dials());
    outpost.offer_all_again();
    outpost.config.store(Arc::new(config));
    Ok(reloaded)
}

fn differences(old: &Config, new: &Config) -> Reloaded {
    let names =
        |keys: &[(&str, bool)]| keys.iter().filter(|(_, changed)| *changed).map(|(key, _)| (*key).to_owned()).collect();
    Reloaded {
        changed: names(&[
            ("spawner", new.spawner != old.spawner),
            ("log.level", new.log.level != old.log.level),
            ("ssh.authorized_keys", new.ssh.authorized_keys != old.ssh.authorized_keys),
            ("hubs", new.hubs != old.hubs),
            ("spawners", new.spawners != old.spawners),
            ("overrides", new.overrides != old.overrides),
            ("flavors", new.flavors != old.flavors),
        ]),
        at_restart: names(&[
            ("http", new.http != old.http),
            ("ssh", ssh::Settings { authorized_keys: old.ssh.authorized_keys.clone(), ..new.ssh.clone() } != old.ssh),
            ("store", new.store != old.store),
            ("tasks", new.tasks != old.tasks),
            ("state_dir", new.state_dir != old.state_dir),
            ("log.format", new.log.format != old.log.format),
        ]),
    }
}

async fn apply(
    outpost: &Arc<Outpost>,
    context: &process::Context,
    old: &Config,
    wanted: credentials::Wanted<'_>,
) -> Result<(), String> {
    let config = wanted.config;
    outpost.hubs.reconfigure(&config.hubs)?;
    for name in config.hubs.keys() {
        outpost.hubs.get(name).map_err(|error| format!("hubs.{name:?}: {error}"))?;
    }
    for (name, settings) in &config.spawners {
        match outpost.spawners.get(name) {
            Some(spawner) if old.spawners.get(name) != Some(settings) => {
                spawner.reconfigure(settings).map_err(|error| format!("spawners.{name}: {error}"))?;
            }
            Some(_) => {}
            None => {
                let spawner = build_spawner(name, settings, context, &outpost.metrics)
                    .await
                    .map_err(|error| format!("spawners.{name}: {error}"))?;
                outpost.spawners.insert(name, spawner);
            }
        }
    }
    if *outpost.loaded.borrow() {
        let cause = |error: Error| error.cause().map_or_else(|| error.to_string(), str::to_owned);
        credentials::apply(&outpost.store, wanted).await.map_err(cause)?;
        outpost.auth.update(outpost.store.passwords().await.map_err(|error| error.to_string())?);
        outpost.ssh_keys.update(outpost.store.ssh_keys().await.map_err(|error| error.to_string())?);
        let definitions = match wanted.before {
            Some(before) => wanted.contents.changed_definitions(before, &config.flavors),
            None => config.flavors.clone(),
        };
        outpost.apply_files(&definitions).await.map_err(cause)?;
    }
    Ok(())
}
