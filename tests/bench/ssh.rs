//! Outpost's SSH server beside OpenSSH's, with the same client, the same cipher and the same servers behind them.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use russh::keys::{PrivateKeyWithHashAlg, load_secret_key};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::client::{Connection, basic_auth, post};
use crate::memory::{peak_mib, resident_mib};
use crate::support::daemon::free_port;
use crate::support::provided;
use crate::support::ssh::{SshClient, admit_at, serve};

const ROUNDS: usize = 5;
const MIB: usize = 1024 * 1024;
/// What goes through in one measurement, over all channels.
const AMOUNT: usize = 512 * MIB;
const CIPHERS: [&str; 2] = ["aes128-gcm@openssh.com", "aes256-gcm@openssh.com"];
const OPENING: Duration = Duration::from_secs(2);
const IDLE: (usize, usize) = (500, 2000);

pub async fn measure() {
    let Some(sshd) = provided("OUTPOST_TEST_SSHD", "OpenSSH's server") else { return };
    // The first byte says what is wanted: to be sent much, to be read from, or an answer.
    let server = serve(|mut socket| async move {
        let Ok(wanted) = socket.read_u8().await else { return };
        match wanted {
            b'd' => {
                let Ok(amount) = socket.read_u64().await else { return };
                let block = vec![7; 256 * 1024];
                let mut left = amount as usize;
                while left > 0 && socket.write_all(&block[..left.min(block.len())]).await.is_ok() {
                    left -= left.min(block.len());
                }
            }
            b'u' => {
                let _ = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await;
                let _ = socket.write_all(b"!").await;
            }
            _ => while socket.write_all(b"!").await.is_ok() && socket.read_u8().await.is_ok() {},
        }
    })
    .await;
    let ours = Side::outpost(&server.to_string()).await;
    let theirs = Side::sshd(&sshd);
    println!("SSH forwards, beside OpenSSH's server with the same client");
    for cipher in CIPHERS {
        let (our_port, their_port) = (ours.connect(cipher, &server).await, theirs.connect(cipher, &server).await);
        for channels in [1, 16] {
            for direction in [b'd', b'u'] {
                let (mut us, mut them) = (Vec::new(), Vec::new());
                for _ in 0..ROUNDS {
                    us.push(transfer(our_port, direction, channels).await);
                    them.push(transfer(their_port, direction, channels).await);
                }
                let way = if direction == b'd' { "from" } else { "to" };
                let name = format!("{way} servers, {channels:>2} channels, {}", cipher.split('@').next().unwrap());
                report(&name, "MiB/s", &us, &them, 0.9);
            }
        }
        let (mut us, mut them) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            us.push(opened(our_port).await);
            them.push(opened(their_port).await);
        }
        report(&format!("new channels, {}", cipher.split('@').next().unwrap()), "/s", &us, &them, 1.0);
    }
    let pid = ours.program.id().unwrap();
    println!("  resident after that   {:>9.1} MiB   (most: {:.1})", resident_mib(pid), peak_mib(pid));
    drop((ours, theirs));
    let fresh = Side::outpost(&server.to_string()).await;
    fresh.idle(&server).await;
    println!();
}

fn report(name: &str, unit: &str, us: &[f64], them: &[f64], wanted: f64) {
    let ratio = crate::median(us.iter().zip(them).map(|(us, them)| us / them));
    let (us, them) = (crate::median(us.iter().copied()), crate::median(them.iter().copied()));
    println!(
        "  {name:<52} {us:>8.0} {unit:<5} beside {them:>8.0}   ratio {ratio:>5.2}   (wanted: at least {wanted:.2})"
    );
}

/// A server and a client of it.
struct Side {
    client: SshClient,
    program: Child,
    _dir: TempDir,
}

impl Side {
    async fn outpost(target: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (api, admin, ssh) = (free_port(), free_port(), free_port());
        let file = dir.path().join("outpost_config.toml");
        let config = format!(
            "state_dir = '{}'\n[http]\nlisten = '127.0.0.1:{api}'\nadmin_listen = '127.0.0.1:{admin}'\n[log]\n\
             level = 'warn'\n[tasks]\nrefresh = '200ms'\n[ssh]\nlisten = '127.0.0.1:{ssh}'\nconnections_per_hub = 1000\n\
             unauthenticated_per_address = 100\n[spawners.local]\ntype = 'memory'\n[hubs.bench]\n\
             api_url = 'http://127.0.0.1:1/hub/api'\nsend_events = false\n",
            dir.path().display()
        );
        std::fs::write(&file, config).unwrap();
        let program = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .args(["--config", file.to_str().unwrap(), "serve"])
            .envs([("usernames", "bench"), ("passwords", "s3cret")])
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        until_open(api).await;
        let address = format!("127.0.0.1:{api}");
        let started = Connection::open(&address).await.send(&post(&basic_auth("bench", "s3cret"), "lab", "0")).await;
        assert_eq!(started, 200);
        // Servers in memory are nowhere, so that the row is told where this one is.
        let url = format!("sqlite:{}", dir.path().join("outpost.sqlite").display());
        let client = SshClient::new(([127, 0, 0, 1], ssh).into());
        admit_at(&url, "bench", &client).await;
        let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
        let moved = sqlx::query("UPDATE servers SET address = $1, generation = generation + 1").bind(target);
        assert_eq!(moved.execute(&pool).await.unwrap().rows_affected(), 1);
        until_open(ssh).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Self { client, program, _dir: dir }
    }

    fn sshd(sshd: &str) -> Self {
        let (dir, port) = (tempfile::tempdir().unwrap(), free_port());
        let client = SshClient::new(([127, 0, 0, 1], port).into());
        let host = SshClient::new(([127, 0, 0, 1], port).into());
        let keys = dir.path().join("authorized_keys");
        std::fs::write(&keys, client.public_key()).unwrap();
        let host_key = dir.path().join("host_key");
        std::fs::copy(host.path("key"), &host_key).unwrap();
        let file = dir.path().join("sshd_config");
        let config = format!(
            "ListenAddress 127.0.0.1:{port}\nHostKey {}\nAuthorizedKeysFile {}\nStrictModes no\nUsePAM no\n\
             PermitRootLogin yes\nAllowTcpForwarding yes\nPidFile none\nMaxStartups 1000\nMaxSessions 100000\n",
            host_key.display(),
            keys.display()
        );
        std::fs::write(&file, config).unwrap();
        let program = Command::new(sshd)
            .args(["-D", "-e", "-f", file.to_str().unwrap()])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_secs(1));
        Self { client, program, _dir: dir }
    }

    /// Connects anew with a cipher, and gives a port that leads to the server.
    async fn connect(&self, cipher: &str, server: &std::net::SocketAddr) -> u16 {
        let _ = self.client.run(&["-O", "exit"]).await;
        let user = std::env::var("USER").unwrap_or_else(|_| "root".to_owned());
        let connected = self.client.run(&["-l", &user, "-c", cipher]).await;
        assert_eq!(connected.code, Some(0), "{connected:?}");
        self.client.forward(&server.to_string()).await
    }

    /// Many connections that do nothing.
    async fn idle(&self, server: &std::net::SocketAddr) {
        let pid = self.program.id().unwrap();
        let before = resident_mib(pid);
        let key = Arc::new(load_secret_key(self.client.path("key"), None).unwrap());
        let (mut connections, mut channels) = (Vec::new(), Vec::new());
        for _ in 0..IDLE.0 {
            let config = Arc::new(russh::client::Config::default());
            let mut session = russh::client::connect(config, ("127.0.0.1", self.client.port), Trusting).await.unwrap();
            let key = PrivateKeyWithHashAlg::new(key.clone(), None);
            assert!(session.authenticate_publickey("jhuboutpost", key).await.unwrap().success());
            for _ in 0..IDLE.1 / IDLE.0 {
                let (host, port) = (server.ip().to_string(), server.port().into());
                let mut stream =
                    session.channel_open_direct_tcpip(host, port, "127.0.0.1", 1).await.unwrap().into_stream();
                stream.write_all(b"?").await.unwrap();
                assert_eq!(stream.read_u8().await.unwrap(), b'!');
                channels.push(stream);
            }
            connections.push(session);
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        println!(
            "  {} idle connections, {} channels: {:.1} MiB resident, {before:.1} before   (wanted: at most 150)",
            connections.len(),
            channels.len(),
            resident_mib(pid)
        );
    }
}

struct Trusting;

impl russh::client::Handler for Trusting {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &russh::keys::PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

async fn until_open(port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Moves the amount over so many channels at once; MiB a second.
async fn transfer(port: u16, direction: u8, channels: usize) -> f64 {
    let begun = Instant::now();
    let moving: Vec<_> = (0..channels)
        .map(|_| {
            tokio::spawn(async move {
                let amount = AMOUNT / channels;
                let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                socket.write_u8(direction).await.unwrap();
                if direction == b'd' {
                    socket.write_u64(amount as u64).await.unwrap();
                    let got = tokio::io::copy(&mut socket, &mut tokio::io::sink()).await.unwrap();
                    assert_eq!(got, amount as u64);
                } else {
                    let block = vec![7; 256 * 1024];
                    for _ in 0..amount / block.len() {
                        socket.write_all(&block).await.unwrap();
                    }
                    socket.shutdown().await.unwrap();
                    assert_eq!(socket.read_u8().await.unwrap(), b'!');
                }
            })
        })
        .collect();
    for moving in moving {
        moving.await.unwrap();
    }
    (AMOUNT / MIB) as f64 / begun.elapsed().as_secs_f64()
}

/// Opens channels, each for one byte there and back; how many a second.
async fn opened(port: u16) -> f64 {
    let begun = Instant::now();
    let users: Vec<_> = (0..16)
        .map(|_| {
            tokio::spawn(async move {
                let mut opened = 0;
                while begun.elapsed() < OPENING {
                    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                    socket.write_all(b"?").await.unwrap();
                    assert_eq!(socket.read_u8().await.unwrap(), b'!');
                    opened += 1;
                }
                opened
            })
        })
        .collect();
    let mut opened = 0;
    for user in users {
        opened += user.await.unwrap();
    }
    f64::from(opened) / begun.elapsed().as_secs_f64()
}
