//! The client of JupyterHubs: progress events, flavor updates, tunnel requests.
//!
//! A hub chooses the URLs and the tokens that it is called with, so a URL has to be below that hub's API, nothing is
//! redirected, and link-local addresses (cloud metadata) are never called. Every call is bounded in time, in tries and,
//! per hub, in number: a hub that is down delays nobody else.

mod progress;
mod tunnels;
mod url;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use ::url::Url;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;

pub use self::progress::{Report, Reporter, escape_html};
pub use self::tunnels::Asked;
pub use self::url::{base_url, is_below};
use crate::config::{Secret, read_file};
use crate::dial;
use crate::error::Result;
use crate::metrics::{CallLabels, Metrics};
use crate::model::{Certificates, Environment};

/// The most calls to one hub at once.
const CALLS_AT_ONCE: usize = 16;

/// `[hubs.<name>]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Its passwords, at most two, so that one can be replaced without a gap.
    pub passwords: Vec<Secret>,
    /// Where its API is: Outpost calls no URL of this hub that is not below it. Default: where the first start says.
    pub api_url: Option<String>,
    /// Certificate authorities (PEM) that its certificate may come from, besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Accept any certificate of the hub. Tokens can be stolen then.
    pub insecure_tls: bool,
    /// The backend that starts its servers.
    pub spawner: Option<String>,
    /// How many servers it may start at once.
    pub concurrent_starts: usize,
    /// Whether it gets progress events.
    pub send_events: bool,
    /// Whether it is asked for a tunnel when an asynchronous start is done. A hub that tunnels needs this; one that does not
    /// takes the question for a broken tunnel and stops the server, hence the default.
    pub setup_tunnel: bool,
    /// The token for flavor updates, if the hub sends none with its requests.
    pub flavors_update_token: Option<Secret>,
    /// The SSH public keys that it forwards with: lines of `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// Whether it is asked for the tunnels to its running servers when this Outpost, or its SSH server, was restarted:
    /// `true`, `false`, or a CEL expression over `hub` and `server`. Default: `true` for hubs that have an SSH key here,
    /// `setup_tunnel`, or `ssh_recreate = "hub"`; one that does not tunnel would take the question for a broken tunnel and
    /// stop the server.
    pub ssh_recreate_at_start: Option<Recreate>,
    /// How it is asked.
    pub ssh_recreate: RecreateBy,
    /// With `ssh_recreate = "hub"`: the name of this site on the hub (its users' option `system`).
    pub ssh_recreate_system: Option<String>,
    /// With `ssh_recreate = "hub"`: the token of a service of the hub with the scope `custom:sshnode:restart`.
    pub ssh_recreate_token: Option<Secret>,
    /// The SSH connection that Outpost makes to the hub's side, for a site that lets nothing in.
    pub dial: Option<dial::Settings>,
    /// How long one call to the hub may take, but for the questions for tunnels.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
}

/// Whether tunnels are recreated.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(
    untagged,
    expecting = "has to be true, false or a text with a CEL expression, without quotes in the first two cases"
)]
pub enum Recreate {
    /// All or none.
    Always(bool),
    /// Those for which this CEL expression is true.
    When(String),
}

/// How a hub is asked to recreate tunnels.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum RecreateBy {
    /// For each server, with its own token.
    #[default]
    Server,
    /// Once for all servers.
    Hub,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            passwords: Vec::new(),
            api_url: None,
            ca_file: None,
            insecure_tls: false,
            spawner: None,
            concurrent_starts: 100,
            send_events: true,
            setup_tunnel: false,
            flavors_update_token: None,
            ssh_keys: Vec::new(),
            ssh_recreate_at_start: None,
            ssh_recreate: RecreateBy::default(),
            ssh_recreate_system: None,
            ssh_recreate_token: None,
            dial: None,
            request_timeout: Duration::from_secs(10),
        }
    }
}

impl Settings {
    /// Checks what needs no file and no network.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        if self.passwords.len() > 2 {
            return Err("passwords: there can be at most two, so that one can be replaced without a gap".to_owned());
        }
        if self.concurrent_starts == 0 {
            return Err("concurrent_starts: has to be at least 1".to_owned());
        }
        if self.request_timeout.is_zero() {
            return Err("request_timeout: must not be 0s".to_owned());
        }
        self.check_recreation()?;
        if let Some(dial) = &self.dial {
            dial.check().map_err(|mistake| format!("dial.{mistake}"))?;
        }
        self.api_url
            .as_deref()
            .map_or(Ok(()), |api_url| base_url(api_url).map(drop).map_err(|error| format!("api_url: {error}")))
    }

    /// What is in `ca_file`.
    fn authorities(&self) -> Result<Option<Vec<u8>>, String> {
        let read = |path: &PathBuf| read_file(path).map_err(|error| format!("ca_file: {}: {error}", path.display()));
        self.ca_file.as_ref().map(read).transpose()
    }

    /// A client with these settings; with `certificates` it is also known by the server's own certificate and trusts the
    /// hub's internal authorities: a hub with `internal_ssl` answers nobody else.
    ///
    /// # Errors
    /// A sentence that names the key, if a certificate cannot be used.
    pub fn client(&self, certificates: Option<&Certificates>) -> Result<reqwest::Client, String> {
        #[expect(clippy::disallowed_methods, reason = "the one place that builds clients")]
        let mut builder = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .timeout(self.request_timeout)
            .connect_timeout(self.request_timeout.min(Duration::from_secs(5)))
            .pool_max_idle_per_host(CALLS_AT_ONCE)
            .pool_idle_timeout(Duration::from_secs(30))
            .dns_resolver(url::PublicResolver)
            .user_agent(concat!("outpost/", env!("CARGO_PKG_VERSION")))
            .tls_danger_accept_invalid_certs(self.insecure_tls);
        if let Some((path, pem)) = self.ca_file.as_ref().zip(self.authorities()?) {
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| format!("ca_file: {} holds no PEM certificates: {error}", path.display()))?;
            builder = builder.tls_certs_merge(certificates);
        }
        if let Some(Certificates { keyfile, certfile, cafile, trust_bundles }) = certificates {
            let pem = format!("{}\n{}", keyfile.expose_secret(), certfile.expose_secret());
            let identity =
                reqwest::Identity::from_pem(pem.as_bytes()).map_err(|_| "the server's certificate is no PEM text")?;
            builder = builder.identity(identity);
            for authority in trust_bundles.values().chain([cafile]) {
                let authorities = reqwest::Certificate::from_pem_bundle(authority.expose_secret().as_bytes());
                builder = builder.tls_certs_merge(authorities.map_err(|_| "a certificate authority is no PEM text")?);
            }
        }
        builder.build().map_err(|error| format!("the HTTP client cannot be built: {error}"))
    }
}

/// Checks a hub's name, which is the user name of HTTP Basic.
///
/// # Errors
/// A sentence.
pub fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() || name.len() > 255 {
        return Err("a hub's name has to have 1 to 255 bytes".to_owned());
    }
    if name.contains(|c: char| c == ':' || c.is_control()) {
        return Err(
            "a hub's name is a user name of HTTP Basic: it must not contain a colon or a control character".to_owned()
        );
    }
    Ok(())
}

/// One JupyterHub.
#[derive(Debug)]
pub struct Hub {
    /// Its name.
    pub name: Arc<str>,
    /// Its settings.
    pub settings: Settings,
    /// How many starts it may have at once.
    pub starts: Arc<Semaphore>,
    /// Held by the start that is being weighed against limits.
    pub claims: tokio::sync::Mutex<()>,
    client: reqwest::Client,
    authorities: Option<Vec<u8>>,
    calls: Semaphore,
    pinned: RwLock<Option<Url>>,
    metrics: Arc<Metrics>,
}

/// Where one server's hub wants to be called, as far as it may be, and with what tokens.
#[derive(Clone, Debug, Default)]
pub struct Callbacks {
    /// For progress events and tunnels: the server's own token.
    pub token: SecretString,
    /// For progress events.
    pub events: Option<Url>,
    /// For tunnel requests.
    pub tunnel: Option<Url>,
    /// For flavor updates, with its token.
    pub flavors: Option<(Url, SecretString)>,
    /// The client to call with, if it has to be another than the hub's.
    client: Option<reqwest::Client>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Called {
    /// The hub took it.
    Ok,
    /// The hub answered no, with this status; trying again would not help.
    Refused(u16),
    /// The hub did not answer, or with an error of its own, as often as it was tried.
    Failed,
}

impl Hub {
    /// A hub that may be called.
    ///
    /// # Errors
    /// A sentence: its CA file cannot be used.
    pub fn new(name: &str, settings: Settings, pinned: Option<&str>, metrics: Arc<Metrics>) -> Result<Self, String> {
        Ok(Self {
            name: name.into(),
            client: settings.client(None)?,
            authorities: settings.authorities()?,
            starts: Arc::new(Semaphore::new(settings.concurrent_starts)),
            claims: tokio::sync::Mutex::default(),
            calls: Semaphore::new(CALLS_AT_ONCE),
            pinned: RwLock::new(settings.api_url.as_deref().or(pinned).and_then(|text| base_url(text).ok())),
            settings,
            metrics,
        })
    }

    /// Where this hub's API is, if that is known.
    #[must_use]
    pub fn api_url(&self) -> Option<Url> {
        self.pinned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes where this hub's API is, unless the configuration says.
    pub fn pin(&self, api_url: Option<&str>) {
        if self.settings.api_url.is_none() {
            *self.pinned.write().unwrap_or_else(PoisonError::into_inner) = api_url.and_then(|text| base_url(text).ok());
        }
    }

    /// The callbacks of a server, as its environment names them. A URL that is not below the hub's API is left out, and
    /// the log says so.
    #[must_use]
    pub fn callbacks(&self, environment: &Environment, certificates: Option<&Certificates>) -> Callbacks {
        let Some(base) = self.api_url() else { return Callbacks::default() };
        let below = |variable: &str| {
            let text = environment.get(variable)?;
            match Url::parse(text) {
                Ok(url) if is_below(&base, &url) => Some(url),
                _ => {
                    tracing::warn!(hub.name = ?self.name, variable, api_url = %base, "a hub named a callback that is not below its API; it is not called");
                    None
                }
            }
        };
        let secret = |variable: &str| environment.get(variable).map(SecretString::from);
        let configured = || self.settings.flavors_update_token.as_ref().and_then(|secret| secret.read().ok());
        let token = secret("JUPYTERHUB_API_TOKEN");
        Callbacks {
            events: below("JUPYTERHUB_EVENTS_URL").filter(|_| self.settings.send_events && token.is_some()),
            tunnel: below("JUPYTERHUB_SETUPTUNNEL_URL").filter(|_| token.is_some()),
            flavors: below("JUPYTERHUB_FLAVORS_UPDATE_URL")
                .zip(secret("JUPYTERHUB_FLAVORS_UPDATE_TOKEN").or_else(configured)),
            token: token.unwrap_or_default(),
            client: certificates.and_then(|certificates| {
                let client = self.settings.client(Some(certificates));
                client.inspect_err(|mistake| tracing::warn!(hub.name = ?self.name, mistake, "calls go without it")).ok()
            }),
        }
    }

    /// Tells the hub how its flavors are used.
    pub async fn update_flavors(&self, callbacks: &Callbacks, flavors: &Value) -> Called {
        match &callbacks.flavors {
            Some((url, token)) => self.post("flavors", callbacks, url, token, flavors, 4).await,
            None => Called::Ok,
        }
    }

    /// Posts `body`, at most `tries` times with growing, jittered pauses. Never fails: it says what came of it, in the
    /// log and in the metrics too.
    async fn post(
        &self,
        call: &'static str,
        callbacks: &Callbacks,
        url: &Url,
        token: &SecretString,
        body: &Value,
        tries: u32,
    ) -> Called {
        let client = callbacks.client.as_ref().unwrap_or(&self.client);
        let mut called = Called::Failed;
        for attempt in 0..tries {
            if attempt > 0 {
                let pause = Duration::from_millis(250) * 3u32.pow(attempt - 1);
                tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>())).await;
            }
            called = self.post_once(client, call, url, token, body).await;
            if called != Called::Failed {
                break;
            }
        }
        let outcome = match called {
            Called::Ok => "ok",
            Called::Refused(_) => "refused",
            Called::Failed => "failed",
        };
        self.metrics.hub_calls.get_or_create(&CallLabels { hub: self.name.to_string(), call, outcome }).inc();
        called
    }

    async fn post_once(
        &self,
        client: &reqwest::Client,
        call: &'static str,
        url: &Url,
        token: &SecretString,
        body: &Value,
    ) -> Called {
        let Ok(_permit) = self.calls.acquire().await else { return Called::Failed };
        let Some(request) = authorized(client.post(url.clone()), token) else { return Called::Refused(401) };
        let limit = if call == tunnels::CALL { tunnels::TIMEOUT } else { self.settings.request_timeout };
        match request.timeout(limit).json(body).send().await {
            Ok(response) if response.status().is_success() => Called::Ok,
            Ok(response) => {
                let status = response.status();
                tracing::warn!(hub.name = ?self.name, call, status = status.as_u16(), "a hub refused a call");
                if status.is_server_error() || status.as_u16() == 429 {
                    Called::Failed
                } else {
                    Called::Refused(status.as_u16())
                }
            }
            Err(error) => {
                // Without the URL, which holds the user's name.
                let error = error.without_url();
                tracing::warn!(hub.name = ?self.name, call, error = %chain(&error), "a hub could not be called");
                Called::Failed
            }
        }
    }
}

/// A request with a token; `None`: no token can be like that.
fn authorized(request: reqwest::RequestBuilder, token: &SecretString) -> Option<reqwest::RequestBuilder> {
    let mut authorization = reqwest::header::HeaderValue::try_from(format!("token {}", token.expose_secret())).ok()?;
    authorization.set_sensitive(true);
    Some(request.header("Authorization", authorization).header("Accept", "application/json"))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// All hubs by name.
#[derive(Debug)]
pub struct Hubs {
    hubs: RwLock<HashMap<Arc<str>, Arc<Hub>>>,
    settings: RwLock<BTreeMap<String, Settings>>,
    metrics: Arc<Metrics>,
}

impl Hubs {
    /// The hubs of a configuration.
    #[must_use]
    pub fn new(settings: BTreeMap<String, Settings>, metrics: Arc<Metrics>) -> Self {
        Self { hubs: RwLock::default(), settings: RwLock::new(settings), metrics }
    }

    /// The hub of this name. One that the configuration does not know has default settings.
    ///
    /// # Errors
    /// A sentence: its CA file cannot be used.
    pub fn get(&self, name: &str) -> Result<Arc<Hub>, String> {
        if let Some(hub) = self.hubs.read().unwrap_or_else(PoisonError::into_inner).get(name) {
            return Ok(hub.clone());
        }
        let settings =
            self.settings.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned().unwrap_or_default();
        let hub = Arc::new(Hub::new(name, settings, None, self.metrics.clone())?);
        let mut hubs = self.hubs.write().unwrap_or_else(PoisonError::into_inner);
        Ok(hubs.entry(hub.name.clone()).or_insert(hub).clone())
    }

    /// Takes over changed settings and authorities; hubs of which both are the same stay as they are.
    ///
    /// # Errors
    /// A sentence that names the hub whose settings cannot be used; nothing is changed then.
    pub fn reconfigure(&self, settings: &BTreeMap<String, Settings>) -> Result<(), String> {
        let mut hubs = self.hubs.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = HashMap::new();
        for (name, hub) in &*hubs {
            let new = settings.get(&**name).cloned().unwrap_or_default();
            let authorities = new.authorities().map_err(|error| format!("hubs.{name:?}.{error}"))?;
            if new != hub.settings || authorities != hub.authorities {
                let pinned = hub.api_url();
                let hub = Hub::new(name, new, pinned.as_ref().map(Url::as_str), self.metrics.clone());
                changed.insert(name.clone(), Arc::new(hub.map_err(|error| format!("hubs.{name:?}.{error}"))?));
            }
        }
        hubs.extend(changed);
        settings.clone_into(&mut *self.settings.write().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}
