//! `outpost forward-agent` as the forced command of OpenSSH's server on a login node, with another one on the hub's side.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::daemon::{OUTPOST, free_port, start_of, text};
use crate::support::eventually;
use crate::support::sshd::{Sshd, make_key};

const UP: Option<i32> = Some(217);

/// A login node and a hub's side. What was started is killed when this is dropped.
struct Site {
    login: Sshd,
    side: Sshd,
    dir: TempDir,
    /// Where servers of the site reach the hub, for each of its tunnels.
    listen: Vec<u16>,
}

/// Something of the hub's network: says what it is told.
async fn echo() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    address
}

/// Whether what is said at this port comes back.
async fn echoes(port: u16) -> bool {
    let said = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        stream.write_all(b"hello").await.ok()?;
        let mut heard = [0; 5];
        stream.read_exact(&mut heard).await.ok()?;
        Some(heard == *b"hello")
    };
    tokio::time::timeout(Duration::from_secs(5), said).await.ok().flatten() == Some(true)
}

impl Site {
    /// With a tunnel for each of `hubs`, to something that echoes.
    async fn start(hubs: &[&str]) -> Option<Self> {
        let (login, side) = (Sshd::start()?, Sshd::start()?);
        let dir = tempfile::tempdir().unwrap();
        let tunnel = dir.path().join("tunnel");
        side.authorize("restrict,port-forwarding", &make_key(&tunnel));
        let (to, listen) = (echo().await, hubs.iter().map(|_| free_port()).collect::<Vec<_>>());
        let mut toml = format!("state_dir = '{}'\n", dir.path().join("state").display());
        for (hub, port) in hubs.iter().zip(&listen) {
            toml.push_str(&format!("[forward_agents.'{hub}']\n{}", side.login(&tunnel)));
            toml.push_str(&format!("listen = '127.0.0.1:{port}'\nforward_to = '{to}'\n"));
        }
        fs::write(dir.path().join("config.toml"), toml).unwrap();
        let site = Self { login, side, dir, listen };
        for (number, hub) in hubs.iter().enumerate() {
            let key = make_key(&site.key(number));
            let config = site.dir.path().join("config.toml");
            let command = format!("{OUTPOST} forward-agent --config {} --hub '{hub}'", config.display());
            site.login.authorize(&format!("command=\"{command}\",restrict"), &key);
        }
        Some(site)
    }

    fn key(&self, number: usize) -> PathBuf {
        self.dir.path().join(format!("hub{number}"))
    }

    /// What a hub does by its SSH key.
    async fn ask(&self, number: usize, command: &str) -> Output {
        self.login.ssh(&self.key(number), &[command]).await
    }

    async fn code(&self, number: usize, command: &str) -> Option<i32> {
        self.ask(number, command).await.status.code()
    }

    /// The processes of this site that were started with this word.
    fn processes(&self, action: &str) -> Vec<i32> {
        let config = self.dir.path().join("config.toml").display().to_string();
        let fits = |entry: &fs::DirEntry| {
            let line = fs::read(entry.path().join("cmdline")).map(|line| text(&line)).unwrap_or_default();
            line.split('\0').any(|word| word == config) && line.split('\0').any(|word| word == action)
        };
        let entries = fs::read_dir("/proc").unwrap().flatten().filter(fits);
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| start_of(*pid).is_some()).collect()
    }

    /// Those that see to it that others keep tunnels.
    fn overseers(&self) -> Vec<i32> {
        self.processes("run")
    }

    /// The processes that keep tunnels of this site.
    fn keepers(&self) -> Vec<i32> {
        self.processes("keep")
    }

    async fn have(&self, tunnels: usize) {
        let each = || [self.overseers().len(), self.keepers().len()] == [tunnels; 2];
        eventually("each tunnel has its processes", || async { each().then_some(()) }).await;
    }

    async fn is_up(&self, number: usize) {
        eventually("the tunnel is there", || async { (self.code(number, "status").await == UP).then_some(()) }).await;
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        for pid in self.overseers().into_iter().chain(self.keepers()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tunnel_serves_all_servers_of_a_hub() {
    let Some(site) = Site::start(&["hub"]).await else { return };
    assert_eq!(site.code(0, "status").await, Some(1));
    assert_eq!(site.code(0, "start").await, UP);
    assert_eq!(site.code(0, "status").await, UP);
    assert!(echoes(site.listen[0]).await);
    // One more server.
    assert_eq!(site.code(0, "start").await, UP);
    site.have(1).await;
    let (overseer, keeper) = (site.overseers()[0], site.keepers()[0]);
    for pid in [overseer, keeper] {
        let session = nix::unistd::getsid(Some(Pid::from_raw(pid)));
        assert_eq!(session, Ok(Pid::from_raw(overseer)), "a session of its own");
    }
    let limits = fs::read_to_string(format!("/proc/{keeper}/limits")).unwrap();
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4], "as many as there may be");
    assert_eq!(fs::read_link(format!("/proc/{keeper}/cwd")).unwrap(), PathBuf::from("/"));
    let line = text(&fs::read(format!("/proc/{keeper}/cmdline")).unwrap());
    assert!(!line.contains("OPENSSH"), "{line}");

    assert_eq!(site.code(0, "stop").await, Some(0));
    assert!(echoes(site.listen[0]).await, "the other server still needs it");
    assert_eq!(site.code(0, "stop").await, Some(0));
    site.have(0).await;
    assert!(TcpListener::bind(("127.0.0.1", site.listen[0])).is_ok());
    assert_eq!(site.code(0, "stop").await, Some(0), "one stop too many is none");
    assert_eq!(site.code(0, "status").await, Some(1));
    assert_eq!(site.code(0, "start").await, UP);
    assert!(echoes(site.listen[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_at_once_make_one_tunnel() {
    let Some(site) = Site::start(&["hub"]).await else { return };
    let starts: Vec<_> = (0..5).map(|_| site.code(0, "start")).collect();
    let codes = futures_util::future::join_all(starts).await;
    assert_eq!(codes, [UP; 5]);
    site.have(1).await;
    for _ in 0..4 {
        assert_eq!(site.code(0, "stop").await, Some(0));
    }
    assert!(echoes(site.listen[0]).await, "the fifth still uses it");
    assert_eq!(site.code(0, "stop").await, Some(0));
    site.have(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_was_killed_begins_again() {
    let Some(mut site) = Site::start(&["hub"]).await else { return };
    assert_eq!(site.code(0, "start").await, UP);
    kill(Pid::from_raw(site.keepers()[0]), Signal::SIGKILL).unwrap();
    eventually("there is another one", || async { echoes(site.listen[0]).await.then_some(()) }).await;
    site.is_up(0).await;
    site.have(1).await;

    // Nobody is left who could begin it again.
    for pid in [site.overseers()[0], site.keepers()[0]] {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    site.have(0).await;
    let status = site.ask(0, "status").await;
    assert_eq!(status.status.code(), Some(1));
    assert!(text(&status.stderr).contains("there is no tunnel"), "{}", text(&status.stderr));
    site.have(0).await;
    assert_eq!(site.code(0, "start").await, UP);
    assert!(echoes(site.listen[0]).await);

    // The hub's side goes away and comes back: nobody has to do anything.
    let keeper = site.keepers();
    site.side.kill();
    eventually("it is noticed", || async { (site.code(0, "status").await == Some(1)).then_some(()) }).await;
    let start = site.ask(0, "start").await;
    assert_eq!(start.status.code(), Some(1));
    assert!(text(&start.stderr).contains("cannot be reached"), "{}", text(&start.stderr));
    site.side.run();
    site.is_up(0).await;
    assert!(echoes(site.listen[0]).await);
    assert_eq!(site.keepers(), keeper);
    // All three starts count, those that failed and those of the one that was killed among them.
    for _ in 0..2 {
        assert_eq!(site.code(0, "stop").await, Some(0));
    }
    assert_eq!(site.code(0, "status").await, UP);
    assert_eq!(site.code(0, "stop").await, Some(0));
    assert_eq!(site.code(0, "status").await, Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn relative_paths_and_a_count_that_nobody_takes_back() {
    let Some(site) = Site::start(&["hub"]).await else { return };
    let (path, dir) = (site.dir.path().join("config.toml"), format!("{}/", site.dir.path().display()));
    let toml = fs::read_to_string(&path).unwrap();
    assert!(toml.contains(&dir));
    fs::write(&path, toml.replace(&dir, "")).unwrap();
    let run = async |words: &[&str]| {
        let mut command = tokio::process::Command::new(OUTPOST);
        command.args(["forward-agent", "--hub=hub", "--config"]).arg(&path).args(words).current_dir(site.dir.path());
        let output = command.stdin(Stdio::null()).output().await.unwrap();
        assert!(matches!(output.status.code(), Some(0 | 217)), "{}", text(&output.stderr));
    };
    for _ in 0..3 {
        run(&["start"]).await;
    }
    assert!(echoes(site.listen[0]).await);
    kill(Pid::from_raw(site.keepers()[0]), Signal::SIGKILL).unwrap();
    eventually("the next one finds its files, too", || async { echoes(site.listen[0]).await.then_some(()) }).await;
    run(&["stop", "--all"]).await;
    site.have(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_have_tunnels_of_their_own() {
    let Some(site) = Site::start(&["hub", "../other hub"]).await else { return };
    assert_eq!((site.code(0, "start").await, site.code(1, "start").await), (UP, UP));
    site.have(2).await;
    assert!(echoes(site.listen[0]).await && echoes(site.listen[1]).await);
    assert_eq!(site.code(0, "stop").await, Some(0));
    assert_eq!((site.code(0, "status").await, site.code(1, "status").await), (Some(1), UP));
    assert!(echoes(site.listen[1]).await);
    let state = site.dir.path().join("state/forward-agent");
    let names = fs::read_dir(fs::read_dir(&state).unwrap().next().unwrap().unwrap().path()).unwrap();
    assert_eq!(names.count(), 2, "names of hubs are no paths");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_three_commands() {
    let Some(site) = Site::start(&["hub"]).await else { return };
    for command in ["", "id", "start; id", "start\nid", "run", "$(id)", "--help", "stop --hub x"] {
        let output = site.ask(0, command).await;
        assert_eq!(output.status.code(), Some(2), "{command:?}: {}", text(&output.stderr));
        let said = text(&output.stderr);
        assert!(said.contains("for the commands start, stop and status only"), "{said}");
        assert!(output.stdout.is_empty(), "{}", text(&output.stdout));
    }
    assert_eq!(site.keepers(), [0; 0]);
    let mut unknown = Command::new(OUTPOST);
    unknown.args(["forward-agent", "--hub", "none", "status", "--config"]).arg(site.dir.path().join("config.toml"));
    let output = unknown.env("SSH_ORIGINAL_COMMAND", "start").stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("[forward_agents.\"none\"]"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_reaches_the_site_through_the_login_node() {
    let Some(site) = Site::start(&["hub"]).await else { return };
    let (port, path) = (free_port(), site.dir.path().join("config.toml"));
    let toml = fs::read_to_string(&path).unwrap();
    let reverse = format!("reverse = [{{ listen = '127.0.0.1:{port}', to = '{}' }}]\n", echo().await);
    fs::write(&path, toml + &reverse).unwrap();
    let taken = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let start = site.ask(0, "start").await;
    assert_eq!(start.status.code(), Some(1));
    assert!(text(&start.stderr).contains(&format!("refuses to listen at 127.0.0.1:{port}")), "{}", text(&start.stderr));
    drop(taken);
    site.is_up(0).await;
    assert!(echoes(port).await && echoes(site.listen[0]).await);
    assert_eq!(site.code(0, "stop").await, Some(0));
    eventually("it is closed", || async { TcpStream::connect(("127.0.0.1", port)).is_err().then_some(()) }).await;
}
