//! A changed configuration, without a restart: the file and those that it names are looked at every two seconds and on SIGHUP. A
//! bad file changes nothing.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Options, build_spawner, credentials};
use crate::config::Config;
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

pub(super) async fn watch(
    outpost: Arc<Outpost>,
    options: Options,
    context: process::Context,
    tls: Option<Tls>,
    mut requests: mpsc::Receiver<ReloadRequest>,
    shutdown: CancellationToken,
) {
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return };
    let path = options.path.as_deref();
    let (certificate, key) = (options.config.http.tls_cert.as_deref(), options.config.http.tls_key.as_deref());
    let look = || {
        let named =
            outpost.config.load().files_read_anew().into_iter().map(|path| stamp(Some(path))).collect::<Vec<_>>();
        ([stamp(path)], [stamp(certificate), stamp(key)], named)
    };
    let (mut seen, mut read) = (look(), look());
    let (mut unread, mut told) = (false, None);
    loop {
        let mut request = None;
        let asked = tokio::select! {
            () = shutdown.cancelled() => return,
            _ = hangup.recv() => true,
            Some(answer) = requests.recv() => {
                request = Some(answer);
                true
            }
            () = tokio::time::sleep(PERIOD) => false,
        };
        // What changed since the last look may still be being written: it is read when it has stayed the same once.
        let now = look();
        let file_changed = unread || now.0 == seen.0 && now.0 != read.0 || now.2 == seen.2 && now.2 != read.2;
        let certificate_changed = now.1 == seen.1 && now.1 != read.1;
        seen = now;
        if asked || file_changed {
            read.0 = seen.0;
            read.2.clone_from(&seen.2);
        }
        if let Some(tls) = &tls
            && (asked || certificate_changed)
        {
            match tls.reload().await {
                Ok(()) => {
                    read.1 = seen.1;
                    tracing::info!("the TLS certificate was read anew");
                }
                Err(error) => {
                    tracing::error!(error = %error, "the TLS certificate cannot be read; the one before stays in force")
                }
            }
        }
        if asked || file_changed {
            let result = reload(&outpost, &options, &context).await;
            // It may be the database that does not answer, or a file that is not watched yet: it is tried until it works.
            unread = result.is_err();
            match &result {
                Ok(_) => {
                    outpost.metrics.configuration_stale.set(0);
                    told = None;
                    tracing::info!("the configuration was read anew");
                }
                Err(mistake) => {
                    outpost.metrics.configuration_stale.set(1);
                    if told.as_ref() != Some(mistake) {
                        tracing::error!(mistake, "the configuration has a mistake; the last good one stays in force");
                    }
                    told = Some(mistake.clone());
                }
            }
            if let Some(request) = request {
                let _ = request.send(result);
            }
        }
    }
}

async fn reload(outpost: &Arc<Outpost>, options: &Options, context: &process::Context) -> Result<Reloaded, String> {
    if let Some(path) = options.path.as_deref()
        && std::fs::metadata(path).is_ok_and(|file| file.len() == 0)
    {
        return Err(format!("{}: is empty, which is taken for a file that is still being written", path.display()));
    }
    let new = Config::load(options.path.as_deref(), &options.environment)?;
    // Before anything is touched: a mistake that stays is tried again and again.
    new.flavors.check_files()?;
    let old = outpost.config.load_full();
    let reloaded = differences(&old, &new);
    for key in &reloaded.at_restart {
        tracing::warn!(key, "this change of the configuration takes effect when Outpost is restarted");
    }
    let config = Config {
        http: old.http.clone(),
        ssh: ssh::Settings { authorized_keys: new.ssh.authorized_keys.clone(), ..old.ssh.clone() },
        store: old.store.clone(),
        tasks: old.tasks.clone(),
        ..new
    };
    if let Err(mistake) = apply(outpost, options, context, &old, &config).await {
        // What was changed before the mistake showed goes back.
        for (name, settings) in &old.spawners {
            outpost.spawners.get(name).map(|spawner| spawner.reconfigure(settings));
        }
        let _ = outpost.hubs.reconfigure(&old.hubs);
        return Err(mistake);
    }
    if let Some(level) = &options.level {
        level.set(&config.log)?;
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
    options: &Options,
    context: &process::Context,
    old: &Config,
    config: &Config,
) -> Result<(), String> {
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
        credentials::apply(&outpost.store, config, &options.environment)
            .await
            .map_err(|error| error.cause().map_or_else(|| error.to_string(), str::to_owned))?;
        outpost.auth.update(outpost.store.passwords().await.map_err(|error| error.to_string())?);
        outpost.ssh_keys.update(outpost.store.ssh_keys().await.map_err(|error| error.to_string())?);
        outpost
            .apply_files(&config.flavors)
            .await
            .map_err(|error| error.cause().map_or_else(|| error.to_string(), str::to_owned))?;
    }
    Ok(())
}
