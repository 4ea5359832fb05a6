//! The real `ssh` client, as OutpostSpawner calls it, and servers for it to reach.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use outpost::clock::Clock;
use outpost::metrics::Metrics;
use outpost::model::AuthorizedKey;
use outpost::outpost::{Entry, Outpost};
use outpost::store::{Ring, Source, Store};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

use super::daemon::free_port;
use super::database::KEY;
use super::eventually;
use super::server::{TestOutpost, body};

/// Where the plugin logs in.
const HUBS_USER: &str = "jhuboutpost@127.0.0.1";

/// A hub's side: a key, and the socket by which its `ssh` commands share a connection.
pub struct SshClient {
    dir: TempDir,
    pub port: u16,
}

/// What an `ssh` command came to.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub said: String,
}

impl SshClient {
    /// A client with a new key for the SSH server at `address`.
    pub fn new(address: SocketAddr) -> Self {
        Self::with_key(address, &["-t", "ed25519"])
    }

    /// A client with a key that `ssh-keygen` makes with these options.
    pub fn with_key(address: SocketAddr, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("ssh-keygen")
            .args(["-q", "-N", "", "-C", "a hub", "-f"])
            .arg(dir.path().join("key"))
            .args(options)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { dir, port: address.port() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The line of `authorized_keys`.
    pub fn public_key(&self) -> String {
        std::fs::read_to_string(self.path("key.pub")).unwrap().trim().to_owned()
    }

    /// `ssh` with the plugin's options.
    pub fn command(&self) -> Command {
        let mut command = Command::new("ssh");
        command.args(["-F", "none", "-n"]);
        for (key, value) in [
            ("ServerAliveInterval", "15"),
            ("StrictHostKeyChecking", "accept-new"),
            ("ControlMaster", "auto"),
            ("ControlPersist", "yes"),
            ("Port", &self.port.to_string()),
            ("ControlPath", self.path("control").to_str().unwrap()),
            ("IdentityFile", self.path("key").to_str().unwrap()),
            // Not the plugin's: the tests' own files, and nobody to ask.
            ("UserKnownHostsFile", self.path("known_hosts").to_str().unwrap()),
            ("IdentitiesOnly", "yes"),
            ("BatchMode", "yes"),
        ] {
            command.arg(format!("-o{key}={value}"));
        }
        command.env_remove("SSH_AUTH_SOCK").stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    /// Runs what the plugin runs, with these arguments more.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        self.end(self.command().args(["-f", "-N"]).args(arguments).arg(HUBS_USER)).await
    }

    /// Asks for a session in which `remote` is run; nothing: a shell.
    pub async fn session(&self, arguments: &[&str], remote: &[&str]) -> Ended {
        self.end(self.command().args(arguments).arg(HUBS_USER).args(remote)).await
    }

    async fn end(&self, command: &mut Command) -> Ended {
        // What goes on in the background keeps the standard error open.
        let log = self.path("log");
        let file = std::fs::File::create(&log).unwrap();
        command.stdout(file.try_clone().unwrap()).stderr(file);
        let status = tokio::time::timeout(Duration::from_secs(60), command.status()).await.unwrap().unwrap();
        Ended { code: status.code(), said: std::fs::read_to_string(&log).unwrap() }
    }

    /// Opens the shared connection, as the plugin does it: it checks, connects and checks again.
    pub async fn connect(&self) {
        let connected = self.run(&[]).await;
        assert_eq!(connected.code, Some(0), "{connected:?}");
        assert_eq!(self.run(&["-O", "check"]).await.code, Some(0));
    }

    /// Forwards a local port to `target` through the shared connection, and gives the port.
    pub async fn forward(&self, target: &str) -> u16 {
        let port = free_port();
        let forwarded = self.run(&["-O", "forward", &format!("-L127.0.0.1:{port}:{target}")]).await;
        assert_eq!(forwarded.code, Some(0), "{forwarded:?}");
        port
    }

    /// The number of the process that has the shared connection.
    pub async fn master(&self) -> i32 {
        let check = self.run(&["-O", "check"]).await;
        let (_, rest) = check.said.split_once("pid=").unwrap_or_else(|| panic!("{check:?}"));
        rest.split(')').next().unwrap().parse().unwrap()
    }
}

impl Drop for SshClient {
    fn drop(&mut self) {
        let control = self.path("control");
        if control.exists() {
            let _ = std::process::Command::new("ssh")
                .args(["-F", "none", "-O", "exit", "-S"])
                .arg(control)
                .arg("127.0.0.1")
                .output();
        }
    }
}

/// Makes a client one of `hub`.
pub async fn admit(outpost: &Outpost, hub: &str, client: &SshClient) {
    admit_line(outpost, hub, &client.public_key()).await;
}

/// Makes whoever has the key of this line a client of `hub`.
pub async fn admit_line(outpost: &Outpost, hub: &str, line: &str) {
    let key = AuthorizedKey::parse(line).unwrap();
    assert!(outpost.store.add_ssh_key(hub, Source::Cli, &key).await.unwrap());
    outpost.ssh_keys.update(outpost.store.ssh_keys().await.unwrap());
}

/// Makes a client one of `hub` in the database of an Outpost that runs elsewhere.
pub async fn admit_at(url: &str, hub: &str, client: &SshClient) {
    let ring = Ring::new([KEY]).unwrap();
    let store = Store::open(url, None, Some(1), ring, Clock::System, Arc::new(Metrics::default())).unwrap();
    let key = AuthorizedKey::parse(&client.public_key()).unwrap();
    assert!(store.add_ssh_key(hub, Source::Cli, &key).await.unwrap());
}

/// Takes a hub's keys away.
pub async fn dismiss(outpost: &Outpost, hub: &str) {
    for key in outpost.store.ssh_keys().await.unwrap() {
        if key.hub == hub {
            assert!(outpost.store.remove_ssh_key(&key.id).await.unwrap());
        }
    }
}

/// A running server of hub1 whose address is that of `listener`.
pub async fn server_at(outpost: &TestOutpost, name: &str, address: SocketAddr) -> Arc<Entry> {
    let reply = outpost.post("/services", &body(name, "0", "http://127.0.0.1:1/hub/api")).await;
    assert_eq!(reply.status, 200, "{reply:?}");
    let entry = outpost.view_entry(name, "0");
    entry.change(|state| state.server.address = address.to_string().into());
    entry
}

/// A server that sends back what it gets, and closes when the client has no more.
pub async fn echo() -> SocketAddr {
    serve(|mut socket| async move {
        let (mut from, mut to) = socket.split();
        let _ = tokio::io::copy(&mut from, &mut to).await;
        let _ = to.shutdown().await;
    })
    .await
}

/// A server that does `talk` with every client.
pub async fn serve<F>(talk: impl Fn(TcpStream) -> F + Send + 'static) -> SocketAddr
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(talk(socket));
        }
    });
    address
}

/// What comes back through a forwarded port, for a client that says that it has no more. Web servers may take that for a client
/// who has gone away: see [`page`].
pub async fn say(port: u16, what: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(what).await?;
    socket.shutdown().await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await??;
    Ok(answer)
}

/// What a web server answers through a forwarded port; an error if there is none.
pub async fn page(port: u16) -> std::io::Result<Vec<u8>> {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await?;
    socket.write_all(b"GET / HTTP/1.0\r\n\r\n").await?;
    let mut answer = Vec::new();
    tokio::time::timeout(Duration::from_secs(60), socket.read_to_end(&mut answer)).await??;
    Ok(answer)
}

/// Whether a forwarded port leads to a server that sends back what it gets.
pub async fn works(port: u16) -> bool {
    say(port, b"hello").await.is_ok_and(|answer| answer == b"hello")
}

/// The value of a metric's line that begins with this.
pub fn metric(outpost: &Outpost, line: &str) -> u64 {
    let text = outpost.metrics.encode();
    let value = text.lines().find_map(|known| known.strip_prefix(line));
    value.map_or(0, |value| value.trim().parse().unwrap())
}

/// Waits until a metric has this value.
pub async fn until_metric(outpost: &Outpost, line: &str, value: u64) {
    let what = format!("{line} is {value}");
    eventually(&what, || async { (metric(outpost, line) == value).then_some(()) }).await;
}

/// What the audit table knows of refusals: reasons and targets, the oldest first.
pub async fn refusals(outpost: &Outpost) -> Vec<(String, String)> {
    let mut deeds = outpost.store.deeds(None, 1000).await.unwrap();
    deeds.reverse();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let refused = deeds.iter().filter(|deed| deed.action == "ssh.refused");
    refused.map(|deed| (text(&deed.detail["reason"]), text(&deed.detail["target"]))).collect()
}
