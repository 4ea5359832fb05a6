//! The process beside each server, `outpost supervise`: it starts the server, keeps its log, ends it when told to, and
//! records how it ended. It does not need Outpost to live, so servers outlive Outpost and their exit codes are known.
//!
//! One thread, no runtime: there is one of these per server, so it has to be small.

mod child;
mod hook;
mod reactor;

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, chown, dup2_stderr, dup2_stdin, dup2_stdout, fchown, setsid};

use self::child::{Failure, Program, Started};
use self::hook::Lines;
use self::reactor::{Outlet, Reactor, Sink};
use super::cgroup::Cgroup;
use super::ladder::Ladder;
use super::log::Log;
use super::open_files;
use super::proc::{self, ProcessId, boot_id};
use super::sentences;
use super::spec::{Files, Report, Spec};
use super::state::{self, Record, Seen, Stage};

/// How often a server that has not listened yet is looked at, at first and at last. The kernel walks through all of its
/// connections for it (milliseconds), so looks become rarer; some servers are never seen (containers).
const LISTEN_INTERVAL: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));
/// How long what a server leaves behind has after SIGTERM.
const LEFTOVER_PATIENCE: Duration = Duration::from_secs(2);
/// How long the record of an end is tried to be written.
const RECORD_PATIENCE: Duration = Duration::from_secs(600);

/// The entry of `outpost supervise`: reads a spec from standard input and does not return before its server is gone.
#[must_use]
pub fn main() -> ExitCode {
    let Ok(spec) = Spec::read(io::stdin().lock()) else {
        // Outpost died while it wrote. Nothing has happened yet, and nothing will.
        return ExitCode::FAILURE;
    };
    match run(spec) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn run(mut spec: Spec) -> io::Result<()> {
    let outpost = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    settle(&outpost)?;
    spec.open_files.map_or(Ok(()), open_files::limit)?;
    // An Outpost that does not listen must not hold anything up.
    fcntl(&outpost, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
    let log = Log::new(spec.dir.file("log"), spec.log_size);
    // Signals wait from here on; before the first record, nobody can send any.
    let mut reactor = Reactor::new(Outlet { log, outpost: Some(outpost), last_error: String::new() })?;
    let Some(_lock) = spec.dir.lock()? else { return Ok(()) };
    if spec.dir.look()? != Seen::Empty {
        return Ok(());
    }
    let me = ProcessId::own().ok_or(io::ErrorKind::NotFound)?;
    let record = Record {
        spawner: std::mem::take(&mut spec.spawner),
        boot: boot_id(),
        supervisor: me,
        host: std::mem::take(&mut spec.host),
        port: spec.address.port(),
        stage: Stage::Preparing,
    };
    if let Err(error) = spec.dir.record(&record) {
        reactor.outlet.report(&Report::Lost(sentences::not_recorded(&error)));
        return Err(error);
    }
    Supervisor { spec, record, reactor }.supervise();
    Ok(())
}

/// Makes this process independent of the one that started it.
fn settle(keep: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    // Fails only for a leader of a group, which is independent already.
    let _ = setsid();
    std::env::set_current_dir("/")?;
    let open: Vec<i32> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2 && *fd != keep.as_raw_fd())
        .collect();
    for fd in open {
        // The list's own descriptor is in it and closed already.
        let _ = nix::unistd::close(fd);
    }
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // What a server leaves behind becomes ours instead of the first process', so that it can be found.
    set_child_subreaper(true)?;
    Ok(())
}

struct Supervisor {
    spec: Spec,
    record: Record,
    reactor: Reactor,
}

impl Supervisor {
    fn supervise(mut self) {
        let started = self.prepare().and_then(|()| self.start());
        match started {
            Ok(server) => {
                self.say(80, "The server's process runs.");
                self.reactor.outlet.outpost = None;
                if self.spec.post_stop.is_empty() {
                    // Nobody needs the secrets in it any more.
                    self.spec.environment.clear();
                }
                let (code, early) = self.watch(server);
                self.record_at_last(Stage::Exited { code, early });
            }
            Err(message) => {
                self.record_at_last(Stage::Failed { message });
                self.reactor.outlet.outpost = None;
            }
        }
        self.sweep();
        self.reactor.hang_up();
        let argv = std::mem::take(&mut self.spec.post_stop);
        if !argv.is_empty() {
            if let Err(failure) = self.hook(&argv, false) {
                self.note(&format!("Outpost: the command after the server {}.", failure.in_short()));
            }
            self.sweep();
        }
        if let Some(path) = self.spec.limits.cgroup.take() {
            Cgroup::at(path).remove(self.spec.patience.kill);
        }
    }

    fn say(&mut self, progress: u8, message: &str) {
        self.reactor.outlet.report(&Report::Progress { progress, message: message.to_owned() });
    }

    fn note(&mut self, line: &str) {
        self.reactor.outlet.log.write(format!("{line}\n").as_bytes());
    }

    fn record(&mut self, stage: Stage) -> io::Result<()> {
        self.record.stage = stage;
        self.spec.dir.record(&self.record)
    }

    /// An end is worth waiting for room on the disk. Until then it is not known, which is what a status says.
    fn record_at_last(&mut self, stage: Stage) {
        let end = Instant::now() + RECORD_PATIENCE;
        while let Err(error) = self.record(stage.clone()) {
            if error.kind() == io::ErrorKind::NotFound {
                // Somebody removed the directory: nobody will ever ask.
                return;
            }
            if let Stage::Failed { message } = &stage {
                self.reactor.outlet.report(&Report::Lost(message.clone()));
            }
            if Instant::now() > end || self.reactor.asked_to_stop {
                return;
            }
            self.reactor.turn(Duration::from_secs(1));
        }
    }

    /// All that comes before the server. An error is a sentence.
    fn prepare(&mut self) -> Result<(), String> {
        if self.reactor.asked_to_stop {
            return Err(sentences::cancelled());
        }
        if let Some(files) = self.spec.certificates.take() {
            store(&files, self.spec.switch.as_ref()).map_err(|error| sentences::certificates(&error))?;
        }
        if let Some(home) = &self.spec.home {
            make_private(home)?;
        }
        let argv = std::mem::take(&mut self.spec.pre_start);
        if !argv.is_empty() {
            self.say(20, "Preparing the server.");
            self.hook(&argv, true).map_err(|failure| match failure {
                HookFailure::NotStarted => sentences::pre_start_cannot_start(argv.first().map_or("", String::as_str)),
                HookFailure::Cancelled => sentences::cancelled(),
                HookFailure::Late => sentences::pre_start_timeout(self.spec.hook_timeout),
                HookFailure::Ended(code) => sentences::pre_start_failed(code, &self.reactor.outlet.last_error),
            })?;
        }
        self.spec.auth_state.clear();
        if self.spec.switch.is_none() { make_private(&self.spec.working_dir) } else { Ok(()) }
    }

    fn start(&mut self) -> Result<ProcessId, String> {
        if self.reactor.asked_to_stop {
            return Err(sentences::cancelled());
        }
        if TcpListener::bind(self.spec.address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            return Err(sentences::port_taken(self.spec.address.port()));
        }
        let none = BTreeMap::new();
        let argv = std::mem::take(&mut self.spec.argv);
        let program = argv.first().cloned().unwrap_or_default();
        let started = self.launch(&argv, &none, true, false).map_err(|failure| match failure {
            Failure::Missing => sentences::command_missing(&program),
            Failure::NotExecutable => sentences::not_executable(&program),
            Failure::Interpreter => sentences::interpreter_missing(&program),
            Failure::WorkingDir => sentences::working_dir_missing(&self.spec.working_dir),
            Failure::Switch(error) => sentences::account_switch(&error),
            Failure::Limits(error) => sentences::limits(&error),
            Failure::Other(error) => sentences::cannot_start(&program, &error),
        })?;
        self.reactor.expect(started.pid);
        self.reactor.listen(started.stdout, Sink::Log);
        // Our own child, not waited for yet: it is in the table even if it has ended.
        let server = ProcessId::of(started.pid).ok_or_else(|| {
            sentences::cannot_start(&program, &io::Error::other("its process cannot be found in /proc"))
        })?;
        if let Err(error) = self.record(Stage::Running { server, listened: false }) {
            // What is not recorded could be started twice.
            server.signal_group(Signal::SIGKILL);
            return Err(sentences::not_recorded(&error));
        }
        Ok(server)
    }

    fn launch(
        &self,
        argv: &[String],
        more: &BTreeMap<String, String>,
        joined: bool,
        or_anywhere: bool,
    ) -> Result<Started, Failure> {
        let spec = &self.spec;
        Program {
            argv,
            environment: &spec.environment,
            more,
            path: &spec.path,
            working_dir: &spec.working_dir,
            or_anywhere,
            switch: spec.switch.as_ref(),
            limits: spec.limits.prepare().map_err(Failure::Limits)?,
            joined,
        }
        .start()
    }

    /// Waits for the server's end, and brings it about when asked to: the exit code, and whether it never listened.
    fn watch(&mut self, server: ProcessId) -> (i32, bool) {
        let mut listened = false;
        let start = Instant::now();
        let mut next_look = start;
        let mut ladder = None;
        loop {
            if let Some(code) = self.reactor.ended() {
                self.reactor.drain();
                return (code, !listened);
            }
            let now = Instant::now();
            if self.reactor.asked_to_stop {
                let ladder = ladder.get_or_insert_with(|| Ladder::new(self.spec.patience, now));
                if let Some(signal) = ladder.step(now) {
                    server.signal_group(signal);
                }
            }
            if !listened && now >= next_look {
                listened = proc::listens(self.record.port);
                next_look = now + ((now - start) / 4).clamp(LISTEN_INTERVAL.0, LISTEN_INTERVAL.1);
                if listened {
                    // For Outpost's eyes only: if it is lost, an end is called late instead of early.
                    let _ = self.record(Stage::Running { server, listened });
                }
            }
            let idle = if ladder.is_some() { Duration::from_millis(50) } else { Duration::from_secs(3600) };
            self.reactor.turn(if listened { idle } else { idle.min(next_look.saturating_duration_since(now)) });
        }
    }

    /// Runs a command of the site.
    fn hook(&mut self, argv: &[String], before: bool) -> Result<(), HookFailure> {
        let more = if before { std::mem::take(&mut self.spec.auth_state) } else { BTreeMap::new() };
        let started = self.launch(argv, &more, false, true).map_err(|_| HookFailure::NotStarted)?;
        drop(more);
        self.reactor.expect(started.pid);
        self.reactor.outlet.last_error.clear();
        self.reactor.listen(started.stdout, Sink::Progress(Lines::default()));
        if let Some(stderr) = started.stderr {
            self.reactor.listen(stderr, Sink::Errors(Lines::default()));
        }
        let process = ProcessId::of(started.pid);
        let end = Instant::now() + self.spec.hook_timeout;
        let mut verdict = Ok(());
        let mut ladder: Option<Ladder> = None;
        let code = loop {
            if let Some(code) = self.reactor.ended() {
                break code;
            }
            let now = Instant::now();
            if verdict.is_ok() {
                if before && self.reactor.asked_to_stop {
                    verdict = Err(HookFailure::Cancelled);
                } else if now >= end {
                    verdict = Err(HookFailure::Late);
                }
            }
            if verdict.is_err() {
                let patience = super::ladder::Patience { interrupt: Duration::ZERO, ..self.spec.patience };
                let signal = ladder.get_or_insert_with(|| Ladder::new(patience, now)).step(now);
                if let (Some(signal), Some(process)) = (signal, process) {
                    process.signal_group(signal);
                }
            }
            self.reactor.turn(Duration::from_millis(50));
        };
        self.reactor.drain();
        self.reactor.hang_up();
        verdict?;
        if code == 0 { Ok(()) } else { Err(HookFailure::Ended(code)) }
    }

    /// Ends all that was started here and still runs, wherever it hid.
    fn sweep(&mut self) {
        let start = Instant::now();
        let mut told = Vec::new();
        loop {
            let left = proc::descendants(Pid::this().as_raw());
            let now = Instant::now();
            let gentle = now < start + LEFTOVER_PATIENCE.min(self.spec.patience.term);
            if left.is_empty() || now > start + LEFTOVER_PATIENCE + self.spec.patience.kill {
                break;
            }
            for process in left {
                if !gentle {
                    process.signal(Signal::SIGKILL);
                } else if !told.contains(&process) {
                    process.signal(Signal::SIGTERM);
                    told.push(process);
                }
            }
            self.reactor.turn(Duration::from_millis(20));
        }
        self.reactor.drain();
    }
}

/// Why a command of the site came to nothing.
enum HookFailure {
    NotStarted,
    Cancelled,
    Late,
    Ended(i32),
}

impl HookFailure {
    fn in_short(&self) -> String {
        match self {
            Self::NotStarted => "could not be started".to_owned(),
            Self::Cancelled => "was cancelled".to_owned(),
            Self::Late => "took too long and was ended".to_owned(),
            Self::Ended(code) => sentences::ending(*code),
        }
    }
}

/// A directory of our own user, with those above it. An error is a sentence.
fn make_private(place: &Path) -> Result<(), String> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(place);
    made.map_err(|error| sentences::working_dir_not_creatable(place, &error))
}

/// Writes the certificates for the server's eyes only. Nobody else could put anything into the directory: it is new,
/// and given away last.
fn store(files: &Files, switch: Option<&super::account::Switch>) -> io::Result<()> {
    state::remove(&files.directory)?;
    DirBuilder::new().mode(0o700).create(&files.directory)?;
    let owner = switch.map(super::account::Switch::owner);
    for (name, text) in &files.texts {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(files.directory.join(name))?;
        file.write_all(text.as_bytes())?;
        if let Some((uid, gid)) = owner {
            fchown(&file, Some(uid), Some(gid))?;
        }
    }
    if let Some((uid, gid)) = owner {
        chown(&files.directory, Some(uid), Some(gid))?;
    }
    Ok(())
}
