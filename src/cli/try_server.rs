//! `outpost try`: plays a hub that starts one server, sees it run and stops it.
//!
//! It is a client like any hub: it reads no configuration and opens no database. What it started it stops, whatever happens.

use std::io::Write as _;
use std::path::PathBuf;
use std::pin::{Pin, pin};
use std::time::{Duration, Instant};

use clap::Args;
use futures_util::future::{MaybeDone, maybe_done};
use reqwest::header::LOCATION;
use reqwest::{Method, RequestBuilder, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};
use url::Url;

use super::explain::object;
use super::{BAD_CONFIGURATION, FAILED, Failure, Outcome};
use crate::auth::generate_password;
use crate::config::{Environment, Secret};
use crate::hub::{Settings, check_name};
use crate::model::printable;

/// The pause between two looks at a server that starts.
const LOOK: Duration = Duration::from_secs(5);

/// How long one answer may take, but for that to a start.
const ANSWER: Duration = Duration::from_secs(60);

/// How long a stop may take, with all its tries.
const STOP: Duration = Duration::from_secs(300);

/// The pause between two tries of it.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a start that is stopped may take to say so.
const LAST_ANSWER: Duration = Duration::from_secs(20);

/// The arguments.
#[derive(Args)]
pub(super) struct Try {
    /// Where the Outpost is, with its base path if it has one.
    #[arg(long, default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The hub to be [default: the first name of the variable `usernames`].
    #[arg(long, value_name = "NAME")]
    hub: Option<String>,
    /// The file with its password [default: what the variable `passwords` has for it].
    #[arg(long, value_name = "FILE", requires = "hub")]
    password_file: Option<PathBuf>,
    /// How long the server may take until it runs.
    #[arg(long, default_value = "10m", value_name = "LENGTH", value_parser = humantime_serde::re::humantime::parse_duration)]
    timeout: Duration,
    /// The user to start it for.
    #[arg(long, value_name = "NAME", default_value = "outpost-try")]
    user: String,
    /// The flavor.
    #[arg(long)]
    flavor: Option<String>,
    /// The options for the backend, as JSON.
    #[arg(long, value_name = "JSON", value_parser = object)]
    misc: Option<Value>,
    /// Certificate authorities (PEM) that Outpost's certificate may come from, besides the system's.
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Accept any certificate. The password can be stolen then.
    #[arg(long)]
    insecure_tls: bool,
}

/// Not read by clap, which would repeat a password that somebody wrote into it.
fn address(text: &str) -> Result<Url, String> {
    let is_plain = |url: &Url| {
        let login = !url.username().is_empty() || url.password().is_some();
        !login && url.query().is_none() && url.fragment().is_none()
    };
    match Url::parse(text.trim_end_matches('/')) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && is_plain(&url) => Ok(url),
        _ => Err("--url: has to be an http or https URL without a user name, a password, a query and a fragment, for example \
                  https://outpost.example.org:8443"
            .to_owned()),
    }
}

/// Why there was no server.
enum Mishap {
    /// Nothing was started that could be stopped.
    Refused(String),
    /// Something may have been.
    Failed(String),
}

/// One server, and whose it is.
struct Trial {
    client: reqwest::Client,
    url: Url,
    hub: String,
    password: SecretString,
    name: String,
    start_id: String,
}

/// An answer to a start: the address.
type Started = Result<String, Mishap>;

pub(super) async fn run(arguments: Try) -> Outcome {
    let trial = Trial::new(&arguments).map_err(|mistake| Failure(BAD_CONFIGURATION, mistake))?;
    let mut signals = Signals::listen()?;
    say(&format!("Starting server {:?} of hub {:?} at {}.", trial.name, trial.hub, trial.url));
    let mut start = pin!(maybe_done(trial.start(&arguments)));
    let result = tokio::select! {
        signal = signals.next() => Err(Mishap::Failed(format!("{signal} came before the server ran"))),
        () = sleep(arguments.timeout) => {
            Err(Mishap::Failed(format!("the server did not run within {:?}", arguments.timeout)))
        }
        result = trial.until_it_runs(start.as_mut()) => result,
    };
    let mistake = match result {
        Err(Mishap::Refused(mistake)) => return Err(Failure(FAILED, mistake)),
        Err(Mishap::Failed(mistake)) => Some(mistake),
        Ok(()) => None,
    };
    let stopped = tokio::select! {
        stopped = timeout(STOP, trial.stop(start)) => {
            stopped.unwrap_or_else(|_| Err(format!("the server was not stopped within {STOP:?}")))
        }
        signal = signals.second() => Err(format!("{signal} came while the server was being stopped")),
    };
    match stopped {
        Ok(logs) => {
            if mistake.is_some() && !logs.is_empty() {
                say("The last that it wrote:");
                logs.iter().for_each(|line| say(&format!("  {line}")));
            }
            say("Nothing of it is left.");
        }
        Err(error) => {
            let mistakes = mistake.into_iter().chain([error, trial.rest()]);
            return Err(Failure(FAILED, mistakes.collect::<Vec<_>>().join("\n")));
        }
    }
    mistake.map_or(Ok(()), |mistake| Err(Failure(FAILED, mistake)))
}

/// The signals that ask for the end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Whether one came already.
    heard: bool,
}

impl Signals {
    fn listen() -> Result<Self, String> {
        let listen = |kind| signal(kind).map_err(|error| format!("signals cannot be listened for: {error}"));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, heard: false })
    }

    /// The name of the next one.
    async fn next(&mut self) -> &'static str {
        let name = tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        };
        self.heard = true;
        name
    }

    /// The name of the second one of all: a stop is worth waiting for, once.
    async fn second(&mut self) -> &'static str {
        if !self.heard {
            let first = self.next().await;
            say(&format!("{first} came. The server is being stopped; a second signal leaves it behind."));
        }
        self.next().await
    }
}

/// A line for whoever watches, who may have gone: that is no reason to leave a server behind.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{}", printable(line));
}

impl Trial {
    fn new(arguments: &Try) -> Result<Self, String> {
        let url = address(&arguments.url)?;
        let (hub, password) = credential(arguments)?;
        // The same rules as for calls to a hub: certificates are checked, redirects are not followed.
        let settings = Settings {
            ca_file: arguments.ca_file.clone(),
            insecure_tls: arguments.insecure_tls,
            request_timeout: ANSWER,
            ..Settings::default()
        };
        Ok(Self {
            client: settings.client(None)?,
            url,
            hub,
            password,
            name: format!("outpost-try-{:08x}", rand::random::<u32>()),
            start_id: format!("{:032x}", rand::random::<u128>()),
        })
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url.as_str().trim_end_matches('/'));
        self.client.request(method, url).basic_auth(&self.hub, Some(self.password.expose_secret()))
    }

    fn path(&self) -> String {
        format!("/services/{}/{}", self.name, self.start_id)
    }

    /// Asks for the server. The answer comes when it runs or cannot. No address of a hub is named, which Outpost would
    /// keep as this hub's.
    async fn start(&self, arguments: &Try) -> Started {
        let prefix = format!("/user/{}/{}/", arguments.user, self.name);
        let body = json!({
            "name": self.name,
            "env": {
                "JUPYTERHUB_USER": arguments.user,
                "JUPYTERHUB_SERVER_NAME": self.name,
                "JUPYTERHUB_API_TOKEN": generate_password(),
                "JUPYTERHUB_CLIENT_ID": format!("jupyterhub-user-{}", arguments.user),
                "JUPYTERHUB_BASE_URL": "/",
                "JUPYTERHUB_SERVICE_PREFIX": prefix,
                "JUPYTERHUB_OAUTH_CALLBACK_URL": format!("{prefix}oauth_callback"),
            },
            "user_options": { "start_id": self.start_id },
            "flavor": arguments.flavor,
            "misc": arguments.misc,
        });
        let request =
            self.request(Method::POST, "/services").timeout(arguments.timeout.saturating_add(ANSWER)).json(&body);
        let response = request.send().await.map_err(|error| {
            let mistake = format!("the start got no answer: {}", with_causes(&error));
            if error.is_connect() { Mishap::Refused(mistake) } else { Mishap::Failed(mistake) }
        })?;
        let status = response.status();
        let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok()).map(str::to_owned);
        let answer = response.text().await.map_err(|error| Mishap::Failed(with_causes(&error)))?;
        match status {
            StatusCode::OK => {
                let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
                Ok(answer["service"].as_str().unwrap_or_default().to_owned())
            }
            StatusCode::UNAUTHORIZED => {
                Err(Mishap::Refused(format!("Outpost does not accept this password of hub {:?} (401)", self.hub)))
            }
            status if status.is_redirection() => {
                let there = location.as_deref().unwrap_or("another place");
                let there = there.strip_suffix("/services").unwrap_or(there);
                Err(Mishap::Refused(format!("{} redirects to {there} ({}): use that URL", self.url, status.as_u16())))
            }
            StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => Err(Mishap::Refused(format!(
                "{} is no Outpost ({}): is that the right URL, with its base path?",
                self.url,
                status.as_u16()
            ))),
            status if status.is_client_error() => Err(Mishap::Failed(format!(
                "Outpost did not start the server ({}): {}",
                status.as_u16(),
                sentence(status, &answer)
            ))),
            status => {
                Err(Mishap::Failed(format!("the start failed ({}): {}", status.as_u16(), sentence(status, &answer))))
            }
        }
    }

    /// Waits for the answer to the start, looks after the server meanwhile, and once more when it is there.
    async fn until_it_runs(&self, mut start: Pin<&mut MaybeDone<impl Future<Output = Started>>>) -> Result<(), Mishap> {
        let begun = Instant::now();
        while timeout(LOOK, start.as_mut()).await.is_err() {
            match self.poll().await {
                Ok(_) => say(&format!("It is starting, for {} s now.", begun.elapsed().as_secs())),
                Err(mistake) => say(&format!("A poll failed: {mistake}")),
            }
        }
        let address = match start.as_mut().take_output() {
            Some(started) => started?,
            None => return Err(Mishap::Failed("the start has no answer".to_owned())),
        };
        match self.poll().await.map_err(Mishap::Failed)? {
            Some(Value::Null) => {}
            Some(code) => return Err(Mishap::Failed(format!("the server has ended already, with exit code {code}"))),
            None => return Err(Mishap::Failed("Outpost does not know the server that it has just started".to_owned())),
        }
        let place = if address.is_empty() { String::new() } else { format!(" at {address}") };
        say(&format!("It runs{place}, after {:.1} s.", begun.elapsed().as_secs_f64()));
        Ok(())
    }

    /// The status: null if it runs or starts, else the exit code. `None`: there is no such server.
    async fn poll(&self) -> Result<Option<Value>, String> {
        let response = self.request(Method::GET, &self.path()).send().await.map_err(|error| with_causes(&error))?;
        let status = response.status();
        let answer = response.text().await.map_err(|error| with_causes(&error))?;
        match status {
            StatusCode::OK => {
                let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
                Ok(Some(answer["status"].clone()))
            }
            StatusCode::NOT_FOUND => Ok(None),
            status => Err(format!("{}: {}", status.as_u16(), sentence(status, &answer))),
        }
    }

    /// Stops the server, if there is one, and sees that it is gone. Gives the last lines that it wrote.
    async fn stop(&self, start: Pin<&mut MaybeDone<impl Future<Output = Started>>>) -> Result<Vec<String>, String> {
        say("Stopping it.");
        let logs = self.delete().await?;
        if let MaybeDone::Future(_) = *start {
            // It may have been on its way, and come only now.
            let _ = timeout(LAST_ANSWER, start).await;
            self.delete().await?;
        }
        match self.poll().await? {
            None => Ok(logs),
            Some(_) => Err("the server was stopped, and Outpost still knows it".to_owned()),
        }
    }

    /// What to do about a server that may still be there.
    fn rest(&self) -> String {
        format!(
            "the server {:?} of hub {:?} may be left; stop it with `outpost service stop ID`, where Outpost runs; `outpost \
             service list` shows the ID",
            self.name, self.hub
        )
    }

    /// Stops the server; one that is not there is stopped. Only what can pass is waited for.
    async fn delete(&self) -> Result<Vec<String>, String> {
        loop {
            let path = format!("{}?collect_logs=true", self.path());
            let request = self.request(Method::DELETE, &path).timeout(STOP);
            let mistake = match request.send().await {
                Ok(response) if response.status() == StatusCode::NOT_FOUND => return Ok(Vec::new()),
                Ok(response) => {
                    let status = response.status();
                    let answer = response.text().await.unwrap_or_default();
                    if status.is_success() {
                        let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
                        let lines = answer["logs"].as_array().into_iter().flatten();
                        return Ok(lines.filter_map(Value::as_str).map(str::to_owned).collect());
                    }
                    let mistake = format!("{}: {}", status.as_u16(), sentence(status, &answer));
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
                        return Err(format!("the server was not stopped ({mistake})"));
                    }
                    mistake
                }
                Err(error) => with_causes(&error),
            };
            say(&format!("The stop failed, and is tried again: {mistake}"));
            sleep(AGAIN).await;
        }
    }
}

/// The hub's name and password: of the file, else of the variables.
fn credential(arguments: &Try) -> Result<(String, SecretString), String> {
    if let (Some(hub), Some(file)) = (&arguments.hub, &arguments.password_file) {
        check_name(hub).map_err(|mistake| format!("--hub: {mistake}"))?;
        let password = Secret::File(file.clone()).read().map_err(|mistake| format!("--password-file: {mistake}"))?;
        return Ok((hub.clone(), password));
    }
    let mut known = Environment::of_process().credentials()?.into_iter();
    let found = known.find(|credential| arguments.hub.as_ref().is_none_or(|hub| *hub == credential.hub));
    found.map(|credential| (credential.hub, credential.password)).ok_or_else(|| match &arguments.hub {
        Some(hub) => {
            format!("the variable `usernames` has no hub {hub:?}; --password-file names a file with its password")
        }
        None => "there is no credential: give --hub and --password-file, or the variables `usernames` and `passwords`"
            .to_owned(),
    })
}

/// What an answer says to a person; without a text, what its status means.
fn sentence(status: StatusCode, answer: &str) -> String {
    if answer.trim().is_empty() {
        return status.canonical_reason().unwrap_or("there is no more to it").to_owned();
    }
    let parsed: Value = serde_json::from_str(answer).unwrap_or_default();
    let text = parsed["args"][0].as_str().or_else(|| parsed["detail"].as_str());
    text.map_or_else(|| answer.chars().take(500).collect(), str::to_owned)
}

/// An error with its causes, since the first one says only that something failed.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
