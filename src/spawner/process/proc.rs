//! What Linux tells about processes, and the only place that sends signals. A process is its number together with the
//! tick it started in: a number alone may belong to somebody else by now.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::{Deserialize, Serialize};

use crate::model::Uid;

/// The variable that carries Outpost's identifier of the server, in every process of it.
pub const SERVER_ID: &str = "OUTPOST_SERVER_ID";
/// The variable that carries the Outpost that started it.
pub const INSTANCE: &str = "OUTPOST_INSTANCE";
/// The variable that carries the backend's name.
pub const SPAWNER: &str = "OUTPOST_SPAWNER";

/// One process, for as long as this machine is up.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct ProcessId {
    /// Its number.
    pub pid: i32,
    /// When it started, in clock ticks since the machine did.
    pub start_ticks: u64,
}

/// The fields of `/proc/<pid>/stat` that matter here.
#[derive(Debug, Eq, PartialEq)]
struct Stat {
    state: u8,
    parent: i32,
    group: i32,
    start_ticks: u64,
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The second field is the program's name in parentheses, with whatever characters it likes.
    let (_, rest) = text.rsplit_once(')')?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        group: fields.get(2)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

fn stat(pid: i32) -> Option<Stat> {
    // The name may be no UTF-8.
    parse_stat(&String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/stat")).ok()?))
}

impl Stat {
    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X' | b'x')
    }
}

impl ProcessId {
    /// The process that has this number now.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self { pid, start_ticks: stat.start_ticks })
    }

    /// This process itself.
    #[must_use]
    pub fn own() -> Option<Self> {
        Self::of(Pid::this().as_raw())
    }

    fn stat(self) -> Option<Stat> {
        stat(self.pid).filter(|stat| stat.start_ticks == self.start_ticks)
    }

    /// Whether it runs. One that has ended and that nobody asked for yet (a zombie) does not.
    #[must_use]
    pub fn is_alive(self) -> bool {
        self.stat().is_some_and(|stat| stat.is_alive())
    }

    /// Whether some process has its number: cheap, and sure only when it says no.
    #[must_use]
    pub fn may_be_alive(self) -> bool {
        self.pid > 1 && !matches!(kill(Pid::from_raw(self.pid), None), Err(Errno::ESRCH))
    }

    /// How long it has been running.
    #[must_use]
    pub fn age(self) -> Option<Duration> {
        let uptime: f64 = fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()?;
        let ticks = sysconf(SysconfVar::CLK_TCK).ok()??;
        Duration::try_from_secs_f64(uptime - self.start_ticks as f64 / ticks as f64).ok()
    }

    /// Sends a signal, if it still is that process. Never to the first process, nor to this one.
    pub fn signal(self, signal: Signal) {
        if self.pid > 1 && self.pid != Pid::this().as_raw() && self.is_alive() {
            let _ = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Sends a signal to the group that it leads, if it still is that process and still leads one.
    pub fn signal_group(self, signal: Signal) {
        if self.pid > 1 && self.stat().is_some_and(|stat| stat.group == self.pid) {
            let _ = killpg(Pid::from_raw(self.pid), signal);
        }
    }
}

/// Differs from one start of the machine to the next.
#[must_use]
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pids() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// All living descendants of a process.
#[must_use]
pub fn descendants(root: i32) -> Vec<ProcessId> {
    let mut children: HashMap<i32, Vec<(ProcessId, bool)>> = HashMap::new();
    for pid in pids() {
        if let Some(stat) = stat(pid) {
            let id = ProcessId { pid, start_ticks: stat.start_ticks };
            children.entry(stat.parent).or_default().push((id, stat.is_alive()));
        }
    }
    let (mut found, mut open) = (Vec::new(), vec![root]);
    while let Some(parent) = open.pop() {
        for (id, alive) in children.remove(&parent).unwrap_or_default() {
            open.push(id.pid);
            if alive {
                found.push(id);
            }
        }
    }
    found
}

/// A process that carries the variables of a server.
#[derive(Debug)]
pub struct Carrier {
    /// The server that it belongs to.
    pub uid: Uid,
    /// The backend that started it.
    pub spawner: String,
    /// The process.
    pub process: ProcessId,
}

/// The processes of servers of this Outpost, found by their environment, among those that we may look into.
#[must_use]
pub fn carriers(instance: &str) -> Vec<Carrier> {
    let own = Pid::this().as_raw();
    pids()
        .filter(|pid| *pid > 1 && *pid != own)
        .filter_map(|pid| {
            // First who it is, then what it says: should the number change hands in between, the signal finds nobody.
            let process = ProcessId::of(pid)?;
            let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
            let value = |name: &str| {
                environment.split(|byte| *byte == 0).find_map(|entry| {
                    std::str::from_utf8(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?).ok()
                })
            };
            let uid = Uid::parse(value(SERVER_ID)?)?;
            (value(INSTANCE)? == instance && process.is_alive()).then(|| Carrier {
                uid,
                spawner: value(SPAWNER).unwrap_or_default().to_owned(),
                process,
            })
        })
        .collect()
}

/// Whether anybody on this machine (in this network namespace) listens on the port.
#[must_use]
pub fn listens(port: u16) -> bool {
    ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|path| fs::read_to_string(path).ok())
        .any(|table| table.lines().skip(1).any(|line| listening_port(line) == Some(port)))
}

fn listening_port(line: &str) -> Option<u16> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let _remote = fields.next()?;
    (fields.next()? == LISTEN).then(|| u16::from_str_radix(port, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let line = "42 (a) R 1 (x) S 7 42 42 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        assert_eq!(parse_stat(line), Some(Stat { state: b'S', parent: 7, group: 42, start_ticks: 987_654 }));
        assert_eq!(parse_stat("42 (a"), None);
    }

    #[test]
    fn a_number_alone_is_nobody() {
        let own = ProcessId::own().unwrap();
        assert!(own.is_alive() && own.may_be_alive());
        let other = ProcessId { start_ticks: own.start_ticks + 1, ..own };
        assert!(!other.is_alive());
        // Would end this test if the start did not count.
        other.signal(Signal::SIGKILL);
        other.signal_group(Signal::SIGKILL);
    }

    #[test]
    fn listening_is_seen() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert!(listens(port));
        let six = "   0: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0 0 0";
        assert_eq!(listening_port(six), Some(8080));
        assert_eq!(listening_port(&six.replace(" 0A ", " 01 ")), None);
    }

    #[test]
    fn children_are_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = descendants(Pid::this().as_raw());
        assert!(found.iter().any(|id| id.pid == child.id().cast_signed()));
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
