//! `outpost forward-agent`.

use std::ffi::OsStr;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::{BAD_CONFIGURATION, Context, FAILED, Failure, Outcome};
use crate::forward_agent::{Agent, Status};
use crate::telemetry;

/// What hubs take for "the tunnel is there".
const UP: u8 = 217;

/// What sshd sets to what the client of a forced command asked for.
const ORIGINAL_COMMAND: &str = "SSH_ORIGINAL_COMMAND";

#[derive(clap::Args)]
pub(super) struct ForwardAgent {
    /// The hub, as in `[forward_agents.<hub>]` of the configuration
    #[arg(long, value_name = "NAME")]
    hub: String,
    /// With `stop`: for all servers, whatever the count is
    #[arg(long)]
    all: bool,
    /// What to do, by hand; else what the client of sshd's forced command asked for
    action: Option<Action>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Action {
    /// Have the tunnel be there, for one more server; ends with 217 if it is
    Start,
    /// Have it be there for one server less
    Stop,
    /// Say whether it is there; ends with 217 if it is
    Status,
    /// See to it that a process keeps the tunnel: what `start` starts
    #[value(hide = true)]
    Run,
    /// Keep the tunnel: what `run` starts
    #[value(hide = true)]
    Keep,
}

/// What is asked for. The client of a forced command may ask for three things only; whoever writes the command may write
/// more.
fn asked(argument: Option<Action>, original: Option<&str>) -> Result<Action, String> {
    match (argument, original) {
        (Some(action), _) => Ok(action),
        (None, Some("start")) => Ok(Action::Start),
        (None, Some("stop")) => Ok(Action::Stop),
        (None, Some("status")) => Ok(Action::Status),
        (None, _) => Err("this key is for the commands start, stop and status only".to_owned()),
    }
}

pub(super) async fn run(context: &Context, arguments: ForwardAgent) -> Outcome {
    let original = std::env::var_os(ORIGINAL_COMMAND).map(|command| command.to_string_lossy().into_owned());
    let action = asked(arguments.action, original.as_deref()).map_err(|text| Failure(BAD_CONFIGURATION, text))?;
    let hub = &arguments.hub;
    let settings = context
        .config
        .forward_agents
        .get(hub)
        .cloned()
        .ok_or_else(|| Failure(BAD_CONFIGURATION, format!("the configuration has no [forward_agents.{hub:?}]")))?;
    let agent = Agent::open(&context.config.state_dir(&context.environment)?, hub, settings)?;
    match action {
        Action::Start => told(agent.start(|log| spawn(command(context, hub, "run"), log)).await?),
        Action::Status => told(agent.status()?),
        Action::Stop => Ok(agent.stop(arguments.all).await?),
        Action::Run => {
            telemetry::init(&context.config.log)?;
            Ok(agent.run(async || tokio::process::Command::from(command(context, hub, "keep")).status().await).await?)
        }
        Action::Keep => {
            telemetry::init(&context.config.log)?;
            raise_limit();
            std::env::set_current_dir("/").map_err(|error| format!("/: {error}"))?;
            Ok(agent.keep().await?)
        }
    }
}

fn told(status: Status) -> Outcome {
    Err(match status {
        Status::Up => Failure(UP, String::new()),
        Status::Down(reason) => Failure(FAILED, format!("there is no tunnel: {reason}")),
    })
}

/// Each connection is an open file.
fn raise_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        tracing::warn!(error = %error, "the limit of open files stays as it is");
    }
}

/// This program again, with the same configuration and working directory.
fn command(context: &Context, hub: &str, action: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(["forward-agent", &format!("--hub={hub}"), action]);
    command.args(context.path.iter().flat_map(|path| [OsStr::new("--config"), path.as_os_str()]));
    command
}

/// Starts the process that sees to the tunnel. It has nothing of this one: sshd ends a session when nobody holds its pipes.
fn spawn(mut command: Command, log: std::fs::File) -> Result<(), String> {
    command.env_remove(ORIGINAL_COMMAND).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    let detach = || {
        nix::unistd::setsid()?;
        // SAFETY: a system call that takes numbers only. What is open beyond the three is closed when the program begins.
        match unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(detach) };
    command.spawn().map(drop).map_err(|error| format!("the process that keeps the tunnel cannot be started: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_may_ask_for_three_things() {
        assert_eq!(asked(None, Some("start")), Ok(Action::Start));
        assert_eq!(asked(None, Some("stop")), Ok(Action::Stop));
        assert_eq!(asked(None, Some("status")), Ok(Action::Status));
        assert_eq!(asked(Some(Action::Run), None), Ok(Action::Run));
        for bad in [None, Some(""), Some("run"), Some("start "), Some("start; id"), Some("Start"), Some("--help")] {
            assert!(asked(None, bad).is_err(), "{bad:?}");
        }
    }
}
