//! The one place where a supervisor waits: for signals, for ended children, and for what they write.

use std::io::{PipeReader, Read, Write};
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use super::super::log::Log;
use super::super::spec::Report;
use super::hook::Lines;

/// Where the output of a child goes.
pub enum Sink {
    /// Into the log.
    Log,
    /// Lines of progress to Outpost, the rest into the log.
    Progress(Lines),
    /// Into the log, and the last line is remembered.
    Errors(Lines),
}

/// What goes out of the supervisor.
pub struct Outlet {
    /// The server's log.
    pub log: Log,
    /// Outpost, as long as it listens.
    pub outpost: Option<std::fs::File>,
    /// The last line of the hook's standard error.
    pub last_error: String,
}

impl Outlet {
    /// Tells Outpost, if it is there.
    pub fn report(&mut self, report: &Report) {
        let Ok(mut line) = serde_json::to_vec(report) else { return };
        line.push(b'\n');
        if let Some(outpost) = &mut self.outpost
            && outpost.write_all(&line).is_err()
        {
            self.outpost = None;
        }
    }
}

/// See the module.
pub struct Reactor {
    signals: SignalFd,
    streams: Vec<(PipeReader, Sink)>,
    /// The child that is waited for, and how it ended. Others are orphans that came to us; nobody asks for them.
    child: Option<i32>,
    ended: Option<i32>,
    /// Somebody asked this server to end.
    pub asked_to_stop: bool,
    /// What goes out.
    pub outlet: Outlet,
}

impl Reactor {
    /// Takes over the signals of this process.
    ///
    /// # Errors
    /// The kernel.
    pub fn new(outlet: Outlet) -> nix::Result<Self> {
        let mut heard = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
            heard.add(signal);
        }
        let mut held = heard;
        // Held for good: a closed terminal is no reason to end.
        held.add(Signal::SIGHUP);
        held.thread_block()?;
        let signals = SignalFd::with_flags(&heard, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;
        Ok(Self { signals, streams: Vec::new(), child: None, ended: None, asked_to_stop: false, outlet })
    }

    /// Reads from a child's pipe from now on.
    pub fn listen(&mut self, pipe: PipeReader, sink: Sink) {
        self.streams.push((pipe, sink));
    }

    /// Waits for this child from now on.
    pub fn expect(&mut self, pid: i32) {
        self.child = Some(pid);
        self.ended = None;
    }

    /// The exit code of the expected child, or its signal as a negative number, once it has ended.
    pub fn ended(&self) -> Option<i32> {
        self.ended
    }

    /// Waits for something to happen, no longer than `wait`, and deals with it. Whether something did.
    pub fn turn(&mut self, wait: Duration) -> bool {
        let mut fds: Vec<_> =
            self.streams.iter().map(|(pipe, _)| PollFd::new(pipe.as_fd(), PollFlags::POLLIN)).collect();
        fds.push(PollFd::new(self.signals.as_fd(), PollFlags::POLLIN));
        let wait = PollTimeout::try_from(wait.max(Duration::from_millis(1))).unwrap_or(PollTimeout::MAX);
        let happened = match poll(&mut fds, wait) {
            Ok(count) => count > 0,
            Err(Errno::EINTR) => false,
            Err(_) => {
                // Memory is short: better late than busy.
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        };
        let ready: Vec<_> = fds.iter().map(|fd| fd.any().unwrap_or(false)).collect();
        let mut ready = ready.into_iter();
        let outlet = &mut self.outlet;
        self.streams.retain_mut(|(pipe, sink)| !ready.next().unwrap_or(false) || read(pipe, sink, outlet));
        if ready.next().unwrap_or(false) {
            self.signals();
        }
        happened
    }

    /// Reads what was written until now. Who still has a pipe's other end is not waited for.
    pub fn drain(&mut self) {
        for _ in 0..1000 {
            if self.streams.is_empty() || !self.turn(Duration::ZERO) {
                break;
            }
        }
    }

    /// Forgets all pipes.
    pub fn hang_up(&mut self) {
        let outlet = &mut self.outlet;
        for (_, mut sink) in self.streams.drain(..) {
            sink.take(&[], outlet);
        }
    }

    fn signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            self.asked_to_stop |= signal.ssi_signo != Signal::SIGCHLD as u32;
        }
        // One SIGCHLD may stand for many.
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, -(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(_) => break,
                Ok(_) => continue,
            };
            if self.child == Some(pid.as_raw()) {
                self.ended = Some(code);
            }
        }
    }
}

/// Whether the pipe may have more.
fn read(pipe: &mut PipeReader, sink: &mut Sink, outlet: &mut Outlet) -> bool {
    let mut buffer = [0; 16 << 10];
    match pipe.read(&mut buffer) {
        Ok(0) => {
            sink.take(&[], outlet);
            false
        }
        Ok(length) => {
            sink.take(&buffer[..length], outlet);
            true
        }
        Err(error) => error.kind() == std::io::ErrorKind::Interrupted,
    }
}
