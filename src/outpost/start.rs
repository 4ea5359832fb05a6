//! Start: decide, write, then drive.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::OwnedSemaphorePermit;

use super::{Entry, Outpost};
use crate::admission::{self, Admitted, Ask, OwnServer};
use crate::error::{Error, Result};
use crate::hub::{Hub, Report, Reporter};
use crate::metrics::RefusalLabels;
use crate::model::{
    AuthState, Certificates, Environment, Launch, Phase, Server, ServerId, StartRequest, StoredRequest, Uid,
};
use crate::store::{Claim, Claimed, Full, Outcome, end_of};

/// The pause between tries to write down that a start never was.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a start waits for those of its hub before it to be decided.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a start waits for the end of the one before with the same identity.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often another Outpost may be faster and then gone again.
const ROUNDS: usize = 5;

/// A start that was admitted and has no row yet.
struct Begun {
    server: Server,
    launch: Launch,
    stored: StoredRequest,
    /// Where it may wait for its turn: what is known about its user.
    queue: Option<Map<String, Value>>,
    admitted: Admitted,
}

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
                // It leaves the view next: not before that anybody finds the row of the other.
                entry.gone().await;
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
        let hub = self.hubs.get(&id.hub).map_err(Error::internal)?;
        let begun = match self.admit(id, request, auth_state, asynchronous) {
            Ok(begun) => begun,
            Err(error) => {
                self.refused(&hub, &request.env, request.certificates.as_ref(), "rule", &error);
                return Err(error);
            }
        };
        let entry = Arc::new(Entry::new(begun.server.clone(), false));
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
        let (this, inserted) = (self.clone(), entry.clone());
        self.tracker.spawn(async move { this.insert_and_drive(inserted, hub, begun, permit).await });
        Ok(entry)
    }

    /// Weighs a request against rules and flavors, and makes the row of its server.
    fn admit(
        &self,
        id: &ServerId,
        request: &StartRequest,
        auth_state: &AuthState,
        asynchronous: bool,
    ) -> Result<Begun> {
        let (config, in_force) = (self.config.load(), self.definitions.load());
        let (name, spawner) = config
            .spawner_of(&id.hub)
            .and_then(|name| Some((name, self.spawners.get(name)?)))
            .ok_or_else(|| Error::internal(format!("hub {:?} has no backend", id.hub)))?;
        let admitted = admission::decide(
            &self.policy(&config, &in_force),
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
                site: &|choice| spawner.offer(choice),
            },
        )?;
        let launch = Launch {
            uid: Uid::generate(),
            user: request.user().into(),
            user_id: request.user_id,
            environment: request.env.clone(),
            options: admitted.options.clone(),
            user_options: request.user_options.clone(),
            groups: admitted.groups.clone(),
            certificates: request.certificates.clone(),
            auth_state: auth_state.clone(),
            id: id.clone(),
        };
        let handle = spawner.prepare(&launch)?;
        tracing::debug!(server.uid = %launch.uid, spawner = name, "a start was admitted");
        let queue = admitted.flavor.as_ref().is_some_and(|flavor| flavor.queue);
        let queue = queue.then(|| without_tokens(&request.authentication));
        let stored = StoredRequest {
            env: request.env.clone(),
            options: admitted.options.clone(),
            user_options: request.user_options.clone(),
            groups: admitted.groups.clone(),
            authentication: None,
            had_certificates: request.certificates.is_some(),
        };
        let now = self.clock.now();
        let mut server = Server {
            uid: launch.uid.clone(),
            id: launch.id.clone(),
            user_id: launch.user_id,
            user: launch.user.clone(),
            flavor: request.flavor.as_deref().map(Into::into),
            need: admitted.need,
            runtime: admitted.flavor.as_ref().and_then(|flavor| flavor.runtime),
            phase: Phase::Starting,
            generation: 0,
            owner: self.instance.clone(),
            handle,
            asynchronous,
            address: "".into(),
            target: "".into(),
            tunnel: crate::model::Tunnel::default(),
            exit: None,
            start_date: now,
            end_date: None,
            last_update: now,
        };
        server.end_date = end_of(&server, now);
        Ok(Begun { server, launch, stored, queue, admitted })
    }

    async fn insert_and_drive(
        self: Arc<Self>,
        entry: Arc<Entry>,
        hub: Arc<Hub>,
        begun: Begun,
        permit: OwnedSemaphorePermit,
    ) {
        let Begun { server, launch, stored, queue, admitted } = begun;
        let claim = Claim {
            server: &server,
            request: &stored,
            quotas: &admitted.quotas,
            groups: &admitted.counted_groups,
            queue: queue.as_ref(),
        };
        match self.insert(&hub, &claim).await {
            Ok(claimed @ (Claimed::Starting | Claimed::Queued)) => {
                let queued = claimed == Claimed::Queued;
                // It may have been told to stop meanwhile.
                entry.change(|state| {
                    state.stored = true;
                    state.begun = !queued;
                    if queued && state.server.phase == Phase::Starting {
                        state.server.phase = Phase::Queued;
                        state.server.end_date = None;
                    }
                });
                self.metrics.servers.set(i64::try_from(self.view.len()).unwrap_or(i64::MAX));
                tracing::info!(
                    server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, user = ?server.user,
                    spawner = ?server.handle.spawner, flavor = server.flavor.as_deref(), queued,
                    asynchronous = server.asynchronous, "a server is starting"
                );
                // One that waits is not being started.
                let permit = (!queued).then_some(permit);
                self.drive(entry, hub, launch, admitted.messages).await;
                drop(permit);
            }
            // Another Outpost was faster: its row is the one to wait for.
            Ok(Claimed::Exists) => {
                entry.change(|state| state.superseded = true);
                self.view.remove(&entry);
            }
            Ok(Claimed::Full(full)) => {
                drop(permit);
                let error = Error::Refused(sentence(&full, &server, &admitted));
                self.refused(&hub, &stored.env, launch.certificates.as_ref(), "limit", &error);
                self.forget(&entry, error);
            }
            Err(error @ Error::Refused(_)) => self.forget(&entry, error),
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

    /// Shows a refusal on the hub's page of the start, which does not show the answer to the request.
    fn refused(
        self: &Arc<Self>,
        hub: &Arc<Hub>,
        env: &Environment,
        certificates: Option<&Certificates>,
        reason: &'static str,
        error: &Error,
    ) {
        if let Error::Refused(_) = error {
            self.metrics.refusals.get_or_create(&RefusalLabels { hub: hub.name.to_string(), reason }).inc();
        }
        let (this, hub, env, certificates) = (self.clone(), hub.clone(), env.clone(), certificates.cloned());
        let report = Report::Failed { message: error.to_string(), logs: Vec::new(), asynchronous: false };
        self.tracker.spawn(async move {
            if let Some(api_url) = env.get("JUPYTERHUB_API_URL")
                && hub.api_url().is_none()
                && this.pin(&hub, api_url).await.is_err()
            {
                return;
            }
            let callbacks = hub.callbacks(&env, certificates.as_ref());
            Reporter { hub, callbacks, clock: this.clock.clone() }.last_word(&report).await;
        });
    }

    async fn insert(&self, hub: &Hub, claim: &Claim<'_>) -> Result<Claimed> {
        if hub.api_url().is_none()
            && let Some(api_url) = claim.request.env.get("JUPYTERHUB_API_URL")
        {
            self.pin(hub, api_url).await?;
        }
        if claim.quotas.is_empty() {
            return self.store.claim(claim).await;
        }
        // One at a time: they would wait for each other in the database, with a connection each.
        let turn = tokio::time::timeout(CLAIM_TIMEOUT, hub.claims.lock()).await;
        let _turn = turn.map_err(|_| Error::Unavailable {
            message: "Outpost is busy with other starts of this JupyterHub. Please try again in a minute.",
            cause: format!("the claims before this one took longer than {CLAIM_TIMEOUT:?}"),
        })?;
        self.store.claim(claim).await
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

/// What is known about a user, without the tokens among it.
fn without_tokens(authentication: &Map<String, Value>) -> Map<String, Value> {
    let is_token = |key: &str| key == "token" || key.ends_with("_token");
    authentication.iter().filter(|(key, _)| !is_token(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// What a user reads where there is no place.
fn sentence(full: &Full, server: &Server, admitted: &Admitted) -> String {
    if full.queue_is_full {
        return "There is no free place, and too many starts wait for one already. Please try again later.".to_owned();
    }
    if full.exceeded.is_empty() {
        let others = if full.waiting == 1 {
            "1 other start waits".to_owned()
        } else {
            format!("{} other starts wait", full.waiting)
        };
        return format!("What is free is taken by those who came first: {others} for it. Please try again later.");
    }
    // Users without a number are counted as one: what they have is not told to each other.
    let own = if server.user_id == 0 { &[] } else { full.own.as_slice() };
    let own: Vec<_> = own.iter().map(|(name, flavor)| OwnServer { name, flavor: flavor.as_deref() }).collect();
    let flavor = admitted.flavor.as_ref().map(|flavor| flavor.display_name());
    admission::refusal(&full.exceeded, &admitted.need, &own, flavor)
}
