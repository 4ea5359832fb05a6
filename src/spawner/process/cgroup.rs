//! cgroup v2, where the machine hands us a subtree of our own (systemd: `Delegate=yes`).
//!
//! A cgroup that passes controllers on to children can hold no process itself. So Outpost has to be in a leaf:
//! `outpost-daemon`, beside its servers' cgroups. systemd puts it there with `DelegateSubgroup=outpost-daemon`. Elsewhere
//! (a container) Outpost moves itself, if it is alone in its cgroup. It never does so in a unit of systemd: that could
//! not put the next Outpost beside servers that are still there, and a restart would fail.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use super::limits::Limits;

const LEAF: &str = "outpost-daemon";
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "pids"];
/// In microseconds, as the kernel's default.
const CPU_PERIOD: u64 = 100_000;

/// Finds the cgroup below which servers can have theirs, and gets it ready.
///
/// # Errors
/// Why there is none, for the log.
pub fn find() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").map_err(|error| error.to_string())?;
    let root = mount_of_v2(&mounts).ok_or("no cgroup v2 is mounted")?;
    let own = fs::read_to_string("/proc/self/cgroup").map_err(|error| error.to_string())?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).ok_or("this process is in no cgroup v2")?;
    ready(&root.join(own), std::process::id())
}

/// The mount point of the cgroup v2 file system.
fn mount_of_v2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (mount, kind) = line.split_once(" - ")?;
        (kind.split(' ').next() == Some("cgroup2")).then(|| mount.split(' ').nth(4).map(PathBuf::from))?
    })
}

fn ready(own: &Path, pid: u32) -> Result<PathBuf, String> {
    let name = own.file_name().unwrap_or_default().to_string_lossy();
    let parent = if name == LEAF { own.parent().unwrap_or(own) } else { own };
    let read = |file: &str| {
        fs::read_to_string(parent.join(file)).map_err(|error| format!("{}/{file}: {error}", parent.display()))
    };
    if read("cgroup.type").map(|kind| kind.trim() != "domain")? {
        return Err(format!("{} is no domain", parent.display()));
    }
    let available = read("cgroup.controllers")?;
    for controller in CONTROLLERS {
        if !available.split_whitespace().any(|name| name == controller) {
            return Err(format!("{} has no controller `{controller}`", parent.display()));
        }
    }
    if name != LEAF {
        if [".service", ".scope", ".slice"].iter().any(|unit| name.ends_with(unit)) {
            return Err(format!("the unit {name} has no `Delegate=yes` with `DelegateSubgroup={LEAF}`"));
        }
        let inside = read("cgroup.procs")?;
        if inside.split_whitespace().any(|other| other != pid.to_string()) {
            return Err(format!("{} has other processes in it", parent.display()));
        }
        let leaf = parent.join(LEAF);
        make_dir(&leaf)
            .and_then(|()| fs::write(leaf.join("cgroup.procs"), pid.to_string()))
            .map_err(|error| format!("{}: {error}", leaf.display()))?;
    }
    fs::write(parent.join("cgroup.subtree_control"), "+cpu +memory +pids")
        .map_err(|error| format!("{}: {error}", parent.display()))?;
    Ok(parent.to_owned())
}

fn make_dir(path: &Path) -> io::Result<()> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// The cgroup of one server.
#[derive(Debug)]
pub struct Cgroup(PathBuf);

impl Cgroup {
    /// The cgroup at this path, whether or not it exists.
    #[must_use]
    pub fn at(path: PathBuf) -> Self {
        Self(path)
    }

    /// Makes it with its limits.
    ///
    /// # Errors
    /// The kernel does not take them.
    pub fn make(&self, limits: &Limits) -> io::Result<()> {
        make_dir(&self.0)?;
        let set = |file: &str, value: Option<String>| value.map_or(Ok(()), |value| fs::write(self.0.join(file), value));
        set("memory.max", limits.memory.map(|bytes| bytes.to_string()))?;
        set("pids.max", limits.processes.map(|count| count.to_string()))?;
        let quota = limits.cores.map(|cores| ((cores * CPU_PERIOD as f64) as u64).max(1000));
        set("cpu.max", quota.map(|quota| format!("{quota} {CPU_PERIOD}")))
    }

    /// The file that a process enters it by.
    ///
    /// # Errors
    /// It does not exist.
    pub fn door(&self) -> io::Result<File> {
        OpenOptions::new().write(true).open(self.0.join("cgroup.procs"))
    }

    /// Ends all that is in it and removes it. The kernel needs a moment for the first.
    pub fn remove(&self, patience: Duration) {
        // Kernels before 5.14 have no such file; there the caller's own search has to do.
        let _ = OpenOptions::new()
            .write(true)
            .open(self.0.join("cgroup.kill"))
            .and_then(|mut file| io::Write::write_all(&mut file, b"1"));
        let end = Instant::now() + patience;
        while let Err(error) = fs::remove_dir(&self.0) {
            if error.kind() == io::ErrorKind::NotFound || Instant::now() >= end {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory that looks like a cgroup. The kernel's own rules cannot be had like this.
    fn pretend(at: &Path, procs: &str) {
        fs::create_dir_all(at).unwrap();
        for (file, text) in [
            ("cgroup.type", "domain\n"),
            ("cgroup.controllers", "cpuset cpu io memory pids\n"),
            ("cgroup.procs", procs),
            ("cgroup.subtree_control", ""),
        ] {
            fs::write(at.join(file), text).unwrap();
        }
    }

    #[test]
    fn the_mount_is_found_among_others() {
        let mounts = "30 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(mount_of_v2(mounts).unwrap(), Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(mount_of_v2("30 24 0:26 / /x rw - cgroup cgroup rw"), None);
    }

    #[test]
    fn a_leaf_has_servers_beside_it() {
        let root = tempfile::tempdir().unwrap();
        let unit = root.path().join("outpost.service");
        pretend(&unit, "");
        assert!(ready(&unit, 5).unwrap_err().contains("DelegateSubgroup=outpost-daemon"));
        pretend(&unit.join(LEAF), "5\n");
        assert_eq!(ready(&unit.join(LEAF), 5).unwrap(), unit);
        assert_eq!(fs::read_to_string(unit.join("cgroup.subtree_control")).unwrap(), "+cpu +memory +pids");
    }

    #[test]
    fn alone_it_moves_itself() {
        let root = tempfile::tempdir().unwrap();
        let own = root.path().join("container");
        pretend(&own, "5\n6\n");
        assert!(ready(&own, 5).unwrap_err().contains("other processes"));
        pretend(&own, "5\n");
        assert_eq!(ready(&own, 5).unwrap(), own);
        assert_eq!(fs::read_to_string(own.join(LEAF).join("cgroup.procs")).unwrap(), "5");
        fs::write(own.join("cgroup.controllers"), "cpu pids").unwrap();
        assert!(ready(&own, 5).unwrap_err().contains("no controller `memory`"));
    }

    #[test]
    fn limits_are_written() {
        let root = tempfile::tempdir().unwrap();
        let cgroup = Cgroup::at(root.path().join("server"));
        let limits = Limits { memory: Some(1 << 30), cores: Some(1.5), processes: Some(64), cgroup: None };
        cgroup.make(&limits).unwrap();
        let read = |file: &str| fs::read_to_string(root.path().join("server").join(file)).unwrap();
        assert_eq!(read("memory.max"), "1073741824");
        assert_eq!(read("pids.max"), "64");
        assert_eq!(read("cpu.max"), "150000 100000");
        assert!(cgroup.door().is_err());
        for file in ["memory.max", "pids.max", "cpu.max"] {
            fs::remove_file(root.path().join("server").join(file)).unwrap();
        }
        cgroup.remove(Duration::ZERO);
        assert!(!root.path().join("server").exists());
    }
}
