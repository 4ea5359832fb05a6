//! What a server can have: by a cgroup of its own where this machine gives us some, else by the limits of a process.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;

/// The limits of one server. Absent: none.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Limits {
    /// Bytes of memory: of all processes together in a cgroup, else of the address space of each.
    pub memory: Option<u64>,
    /// Processors: their time in a cgroup, else the number of those that it may use.
    pub cores: Option<f64>,
    /// Processes: of the server in a cgroup, else of its Unix user (which does not hold root).
    pub processes: Option<u64>,
    /// The cgroup to make for it.
    pub cgroup: Option<PathBuf>,
}

/// Limits as far as they can be worked out before there is a process.
pub struct Prepared {
    cgroup: Option<File>,
    memory: Option<u64>,
    processes: Option<u64>,
    processors: Option<CpuSet>,
}

impl Limits {
    /// Makes the cgroup, if there is to be one, and works out the rest.
    ///
    /// # Errors
    /// The kernel does not take them.
    pub fn prepare(&self) -> io::Result<Prepared> {
        if let Some(path) = &self.cgroup {
            let cgroup = Cgroup::at(path.clone());
            cgroup.make(self)?;
            return Ok(Prepared { cgroup: Some(cgroup.door()?), memory: None, processes: None, processors: None });
        }
        let processors = self.cores.map(processors).transpose()?;
        Ok(Prepared { cgroup: None, memory: self.memory, processes: self.processes, processors })
    }
}

impl Prepared {
    /// Puts the calling process under the limits. Runs between fork and exec: it neither allocates nor locks.
    ///
    /// # Errors
    /// The kernel does not take them.
    pub fn enter(&self) -> io::Result<()> {
        if let Some(mut door) = self.cgroup.as_ref() {
            // 0 is whoever writes it.
            io::Write::write_all(&mut door, b"0")?;
        }
        if let Some(bytes) = self.memory {
            setrlimit(Resource::RLIMIT_AS, bytes, bytes)?;
        }
        if let Some(count) = self.processes {
            setrlimit(Resource::RLIMIT_NPROC, count, count)?;
        }
        if let Some(set) = &self.processors {
            sched_setaffinity(Pid::from_raw(0), set)?;
        }
        Ok(())
    }
}

/// As many of the processors that we may use, from a place on that differs from server to server.
fn processors(cores: f64) -> io::Result<CpuSet> {
    let ours = sched_getaffinity(Pid::from_raw(0))?;
    let all: Vec<_> = (0..CpuSet::count()).filter(|cpu| ours.is_set(*cpu).unwrap_or(false)).collect();
    let first = std::process::id() as usize;
    let wanted = (cores.ceil() as usize).clamp(1, all.len().max(1));
    let mut set = CpuSet::new();
    for offset in 0..wanted.min(all.len()) {
        set.set(all[(first + offset) % all.len()])?;
    }
    Ok(set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_whole() {
        let count = |cores| {
            let set = processors(cores).unwrap();
            (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap()).count()
        };
        assert_eq!(count(0.5), 1);
        assert_eq!(count(1.0), 1);
        assert!(count(1e9) >= 1);
    }
}
