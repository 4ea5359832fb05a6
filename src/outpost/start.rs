//! Start: decide, write, then drive.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::{Entry, Outpost};
use crate::admission::{self, Ask, Definitions, Normalise, Policy};
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::model::{AuthState, Handle, Launch, Phase, Server, ServerId, StartRequest, StoredRequest, Uid};
use crate::store::Outcome;

/// The pause between tries to write down that a start never was.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a start waits for the end of the one before with the same identity.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often another Outpost may be faster and then gone again.
const ROUNDS: usize = 5;

impl Outpost {
    /// Starts a server, or joins the start that is under way, or gives the answer of the one that runs: the same request
    /// never starts a second server. Gives `host:port`, or an empty text for an asynchronous start, which goes on in the
    /// background once its row is stored.
    ///
    /// # Errors
    /// [`Error::Refused`], [`Error::Failed`], [`Error::Cancelled`] or [`Error::Unavailable`].
    pub async fn start(
        self: &Arc<Self>,
        hub: &Arc<str>,
        request: StartRequest,
        auth_state: AuthState,
        asynchronous: bool,
    ) -> Result<Arc<str>> {
        self.ensure_loaded()?;
        let id = ServerId {
            hub: hub.clone(),
            name: request.name.as_str().into(),
            start_id: request.start_id.as_str().into(),
        };
        let mut superseded = false;
        for _ in 0..ROUNDS {
            let found = if superseded { self.find_stored(&id).await? } else { self.find(&id).await? };
            let entry = match found {
                Some(entry) => entry,
                None => self.begin(&id, &request, &auth_state, asynchronous)?,
            };
            if entry.is_leaving() {
                let gone = tokio::time::timeout(PATIENCE, entry.gone()).await;
                gone.map_err(|_| {
                    Error::Refused("This server is still being stopped. Please try again in a minute.".to_owned())
                })?;
                continue;
            }
            entry.stored().await?;
            superseded = entry.state().superseded;
            if superseded {
                continue;
            }
            let phase = entry.state().server.phase;
            return if asynchronous && phase != Phase::Ended { Ok(Arc::from("")) } else { entry.started().await };
        }
        Err(Error::Unavailable {
            message: "Outpost could not settle who starts this server. Please try again in a minute.",
            cause: "the row of this server came and went several times".to_owned(),
        })
    }

    /// Decides about a new server and hands it to the background, so that a caller who goes away changes nothing.
    fn begin(
        self: &Arc<Self>,
        id: &ServerId,
        request: &StartRequest,
        auth_state: &AuthState,
        asynchronous: bool,
    ) -> Result<Arc<Entry>> {
        let config = self.config.load();
        let hub = self.hubs.get(&id.hub).map_err(Error::internal)?;
        let (name, spawner) = config
            .spawner_of(&id.hub)
            .and_then(|name| Some((name, self.spawners.get(name)?)))
            .ok_or_else(|| Error::internal(format!("hub {:?} has no backend", id.hub)))?;
        let policy =
            Policy { rules: &config.overrides, definitions: &Definitions::default(), normalise: &Normalise::default() };
        let admitted = admission::decide(
            &policy,
            &Ask {
                hub: &id.hub,
                user: request.user(),
                user_id: request.user_id,
                misc: &request.misc,
                user_options: &request.user_options,
                flavor: request.flavor.as_deref(),
                authentication: &request.authentication,
                spawner: name,
                table: spawner.options(),
                site: &spawner.resources(),
            },
        )?;
        let options = admitted.options;
        let launch = Launch {
            uid: Uid::generate(),
            user: request.user().into(),
            user_id: request.user_id,
            environment: request.env.clone(),
            options: options.clone(),
            certificates: request.certificates.clone(),
            auth_state: auth_state.clone(),
            id: id.clone(),
        };
        let handle = spawner.prepare(&launch)?;
        tracing::debug!(server.uid = %launch.uid, spawner = name, "a start was admitted");
        let stored = StoredRequest {
            env: request.env.clone(),
            options,
            user_options: request.user_options.clone(),
            had_certificates: request.certificates.is_some(),
        };
        let server = self.new_server(&launch, handle, request.flavor.as_deref(), asynchronous);
        let entry = Arc::new(Entry::new(server, false));
        entry.set_auth_state(auth_state.clone());
        if let Err(existing) = self.view.reserve(entry.clone()) {
            return Ok(existing);
        }
        let Ok(permit) = hub.starts.clone().try_acquire_owned() else {
            let limit = hub.settings.concurrent_starts;
            let error = Error::Refused(format!(
                "This JupyterHub is already starting {limit} servers on this system, which is the most it may start at once. \
                 Please try again in a minute."
            ));
            self.forget(&entry, error.clone());
            return Err(error);
        };
        let this = self.clone();
        let begun = entry.clone();
        self.tracker.spawn(async move { this.insert_and_drive(begun, hub, launch, stored, permit).await });
        Ok(entry)
    }

    fn new_server(&self, launch: &Launch, handle: Handle, flavor: Option<&str>, asynchronous: bool) -> Server {
        let now = self.clock.now();
        Server {
            uid: launch.uid.clone(),
            id: launch.id.clone(),
            user_id: launch.user_id,
            user: launch.user.clone(),
            flavor: flavor.map(Into::into),
            phase: Phase::Starting,
            generation: 0,
            owner: self.instance.clone(),
            handle,
            asynchronous,
            address: "".into(),
            exit: None,
            start_date: now,
            end_date: None,
            last_update: now,
        }
    }

    async fn insert_and_drive(
        self: Arc<Self>,
        entry: Arc<Entry>,
        hub: Arc<Hub>,
        launch: Launch,
        stored: StoredRequest,
        permit: OwnedSemaphorePermit,
    ) {
        let server = entry.state().server.clone();
        match self.insert(&hub, &server, &stored).await {
            Ok(true) => {
                entry.change(|state| state.stored = true);
                self.metrics.servers.set(i64::try_from(self.view.len()).unwrap_or(i64::MAX));
                tracing::info!(
                    server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, user = ?server.user,
                    spawner = ?server.handle.spawner, asynchronous = server.asynchronous, "a server is starting"
                );
                self.drive(entry, hub, launch).await;
                drop(permit);
            }
            // Another Outpost was faster: its row is the one to wait for.
            Ok(false) => {
                entry.change(|state| state.superseded = true);
                self.view.remove(&entry);
            }
            // Not "no" but "unknown": the row may be there, or still come. Those who wait are answered now.
            Err(error) => {
                drop(permit);
                entry.move_to(Phase::Stopping, |_| ());
                entry.change(|state| state.failure = Some(error.clone()));
                let outcome = Outcome { kind: "failed", reason: Some(error.to_string()) };
                while self.store.bury(&server, &outcome).await.is_err() {
                    tokio::select! {
                        () = self.abort.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
                self.view.remove(&entry);
            }
        }
    }

    async fn insert(&self, hub: &Hub, server: &Server, request: &StoredRequest) -> Result<bool> {
        if hub.api_url().is_none()
            && let Some(api_url) = request.env.get("JUPYTERHUB_API_URL")
        {
            self.pin(hub, api_url).await?;
        }
        self.store.insert_server(server, request).await
    }

    /// The first start of a hub that the configuration says nothing about fixes where its API is.
    async fn pin(&self, hub: &Hub, api_url: &str) -> Result<()> {
        match crate::hub::base_url(api_url) {
            Ok(url) => {
                let pinned = self.store.pin_api_url(&hub.name, url.as_str()).await?;
                hub.pin(pinned.as_deref());
                tracing::info!(
                    hub.name = ?hub.name, api_url = pinned,
                    "pinned this hub's API: only URLs below it are called (set hubs.<name>.api_url to choose it)"
                );
            }
            Err(mistake) => {
                tracing::warn!(hub.name = ?hub.name, mistake, "this hub's JUPYTERHUB_API_URL cannot be called; it gets no events");
            }
        }
        Ok(())
    }

    /// Takes back a server that has no row.
    fn forget(&self, entry: &Entry, why: Error) {
        entry.change(|state| state.failure = Some(why));
        self.view.remove(entry);
    }
}
