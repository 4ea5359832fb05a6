//! The command line.

mod definitions;
mod explain;
mod forward_agent;
mod hub;
mod keys;
mod output;
mod rights;
mod serve;
mod service;
mod ssh;
mod token;
mod try_server;
mod usage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::admin::{self, Admin};
use crate::admission::Kind;
use crate::app::{StateDir, open_store};
use crate::config::{Config, Environment};
use crate::error::Error;
use crate::metrics::Metrics;
use crate::model::{Actor, printable};
use crate::store::Store;

/// Something did not work.
const FAILED: u8 = 1;
/// How long what still reads or writes files may take when all else has ended.
const LAST_GRACE: Duration = Duration::from_secs(5);

/// The configuration is not good; also what the command line's own mistakes end with.
const BAD_CONFIGURATION: u8 = 2;

#[derive(Parser)]
#[command(
    version,
    about = "Starts Jupyter servers on this machine or cluster for remote JupyterHubs.",
    long_about = "Starts Jupyter servers on this machine or cluster for remote JupyterHubs.\n\n\
        A JupyterHub with the plugin jupyterhub-outpostspawner sends its requests to `outpost serve`. Without any \
        configuration that listens on loopback, keeps its data in a SQLite file in the state directory, starts \
        `jupyterhub-singleuser` as local processes, and prints the credential for the first hub once.",
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or a mistake in the configuration.\n\
        First steps: `outpost hub add NAME` prints what to paste into jupyterhub_config.py; `outpost serve` runs."
)]
struct Arguments {
    /// The configuration file [default: /etc/outpost/outpost_config.toml if it is there]
    #[arg(long, short, global = true, env = "OUTPOST_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon. Servers go on when it ends, and are found again when it starts.
    Serve,
    /// Read the configuration, its secrets and certificates, and say what is wrong with them.
    CheckConfig {
        /// Ask the clusters of Kubernetes backends, too, whether they allow what Outpost will do.
        #[arg(long)]
        cluster: bool,
    },
    /// Bring the database's schema up to date and end. `serve` does so by itself.
    Migrate,
    /// JupyterHubs and their credentials.
    #[command(subcommand)]
    Hub(hub::Command),
    /// Servers that exist, whichever hub started them.
    #[command(subcommand)]
    Service(service::Command),
    /// Flavors: which there are, who has which, what they limit.
    #[command(subcommand)]
    Flavors(definitions::Command),
    /// Credits, that are shown to users on their hub.
    #[command(subcommand)]
    Credits(definitions::Command),
    /// Show what servers used, for accounting.
    Usage(usage::Usage),
    /// Say how a request of a hub would be decided, and why. Ends with 0 if it is allowed and with 1 if it is refused.
    Explain(Box<explain::Explain>),
    /// Be a hub: start a server at a running Outpost, see it run, stop it. Needs a hub's password and no configuration.
    Try(Box<try_server::Try>),
    /// The SSH server's own keys.
    #[command(subcommand)]
    Ssh(ssh::Command),
    /// Keep a tunnel to the network of a hub: the forced command of that hub's SSH key on a login node.
    ForwardAgent(forward_agent::ForwardAgent),
    /// Tokens of the admin API.
    #[command(subcommand)]
    Token(token::Command),
    /// Keys that encrypt what is stored.
    #[command(subcommand)]
    Keys(keys::Command),
    /// Print the OpenAPI document of the hubs' API and of the admin API.
    Openapi,
}

/// What went wrong, and what the process ends with.
struct Failure(u8, String);

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self(FAILED, error.cause().map_or_else(|| error.to_string(), str::to_owned))
    }
}

impl From<admin::Error> for Failure {
    fn from(error: admin::Error) -> Self {
        match error {
            admin::Error::Failed(error) => error.into(),
            admin::Error::Invalid(text) => Self(BAD_CONFIGURATION, text),
            error => Self(FAILED, error.to_string()),
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(FAILED, text)
    }
}

type Outcome = Result<(), Failure>;

/// Reads the arguments and runs the command.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    // The one place that chooses: everything that speaks TLS uses it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("outpost: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let outcome = runtime.block_on(run(arguments));
    // A file system that hangs does not hold up the end.
    runtime.shutdown_timeout(LAST_GRACE);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, text)) => {
            for line in text.lines() {
                eprintln!("outpost: {}", printable(line));
            }
            ExitCode::from(code)
        }
    }
}

async fn run(arguments: Arguments) -> Outcome {
    if let Command::Openapi = arguments.command {
        end_quietly_on_a_closed_pipe();
        println!("{}", crate::http::openapi_document());
        return Ok(());
    }
    if let Command::Keys(keys::Command::Generate) = arguments.command {
        return keys::generate();
    }
    if let Command::Try(arguments) = arguments.command {
        return try_server::run(*arguments).await;
    }
    let context = Context::new(arguments.config)?;
    if !matches!(arguments.command, Command::Serve | Command::ForwardAgent(_)) {
        end_quietly_on_a_closed_pipe();
    }
    match arguments.command {
        Command::Serve => serve::serve(context).await,
        Command::CheckConfig { cluster } => {
            serve::check_config(&context).await?;
            if cluster { rights::check(&context.config).await } else { Ok(()) }
        }
        Command::Migrate => {
            context.store().await?;
            println!("The database is up to date.");
            Ok(())
        }
        Command::Hub(command) => hub::run(&context, command).await,
        Command::Service(command) => service::run(&context, command).await,
        Command::Flavors(command) => definitions::run(&context, Kind::Flavors, command).await,
        Command::Credits(command) => definitions::run(&context, Kind::Credits, command).await,
        Command::Usage(arguments) => usage::run(&context, arguments).await,
        Command::Explain(arguments) => explain::run(&context, *arguments).await,
        Command::Ssh(command) => ssh::run(&context, command).await,
        Command::ForwardAgent(arguments) => forward_agent::run(&context, arguments).await,
        Command::Token(command) => token::run(&context, command).await,
        Command::Keys(command) => keys::run(&context, command).await,
        Command::Try(_) | Command::Openapi => Ok(()),
    }
}

/// `outpost hub list | head -1` is no reason to panic.
fn end_quietly_on_a_closed_pipe() {
    use nix::sys::signal::{SigHandler, Signal, signal};
    // SAFETY: the default action runs no code of ours.
    let _ = unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) };
}

/// What the commands share.
struct Context {
    path: Option<PathBuf>,
    environment: Environment,
    config: Config,
}

impl Context {
    fn new(path: Option<PathBuf>) -> Result<Self, Failure> {
        let environment = Environment::of_process();
        let config = Config::load(path.as_deref(), &environment).map_err(|text| Failure(BAD_CONFIGURATION, text))?;
        let path = path.or_else(|| Some(PathBuf::from(crate::config::DEFAULT_FILE)).filter(|path| path.exists()));
        Ok(Self { path, environment, config })
    }

    fn state_dir(&self) -> Result<StateDir, Failure> {
        Ok(StateDir::open(&self.config.state_dir(&self.environment)?)?)
    }

    /// The database of an Outpost that has run before: a command that only looks makes nothing.
    async fn existing_store(&self) -> Result<Store, Failure> {
        if !self.has_run()? {
            let text = format!(
                "there is no state directory {}: no Outpost has run here with this configuration and environment",
                self.config.state_dir(&self.environment)?.display()
            );
            return Err(Failure(FAILED, text));
        }
        self.store().await
    }

    /// Whether an Outpost has run with this configuration and environment.
    fn has_run(&self) -> Result<bool, Failure> {
        Ok(self.config.state_dir(&self.environment)?.is_dir())
    }

    /// Whoever runs the command, at work.
    fn admin<'a>(&'a self, store: &'a Store) -> Admin<'a> {
        let id = nix::unistd::getuid();
        let user = nix::unistd::User::from_uid(id).ok().flatten().map_or_else(|| id.to_string(), |user| user.name);
        Admin { store, config: &self.config, actor: Actor::Cli(user.into()) }
    }

    /// Says on which Outpost a command works: another environment can mean another one.
    fn say_where(&self) {
        if let Ok(state_dir) = self.config.state_dir(&self.environment) {
            eprintln!("(The Outpost with the state directory {}.)", state_dir.display());
        }
    }

    /// The database, with its schema up to date.
    async fn store(&self) -> Result<Store, Failure> {
        let store = open_store(&self.config, &self.environment, &self.state_dir()?, Arc::new(Metrics::default()))?;
        store.migrate().await?;
        Ok(store)
    }
}
