//! Who and what is not believed.

use std::sync::Arc;

use outpost::config::Secret;
use outpost::dial::{Login, Place, Reach, Session, Target};
use russh::keys::{Algorithm, PrivateKey};
use russh::server::{Auth, Handle, Handler, Msg, Server as _, VerifiedPublicKey};
use russh::{Channel, ChannelOpenFailure};
use tokio::net::TcpListener;
use tokio_util::task::TaskTracker;

use super::*;

/// How often a line of the log has these words.
fn lines(daemon: &Daemon, words: &str) -> usize {
    daemon.stderr().lines().filter(|line| line.contains(words)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_another_host_key_is_refused() {
    let Some(mut side) = Side::start(1) else { return };
    let (daemon, key) = (Daemon::new(&side.toml()), side.sshd.path("host_key"));
    side.sshd.kill();
    std::fs::remove_file(&key).unwrap();
    make_key(&key);
    side.sshd.run();
    daemon.spawn();
    daemon.up().await;
    eventually("it is said", || async { (lines(&daemon, "is not who it should be") > 0).then_some(()) }).await;
    // A start waits, for the server could be there again; then its user is told.
    let reply = send(daemon.post(&body("one"), false)).await.unwrap();
    assert!(reply.body.to_string().contains("cannot reach your JupyterHub's network"), "{:?}", reply.body);
    assert_eq!(lines(&daemon, "is not who it should be"), 1, "{}", daemon.stderr());
    assert!(!side.sshd.log().contains("Accepted publickey"), "{}", side.sshd.log());
    assert_eq!(daemon.rows().await, Vec::<Value>::new(), "nothing of it is left");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_not_let_in_is_said() {
    let Some(side) = Side::start(1) else { return };
    std::fs::write(side.sshd.path("authorized_keys"), "").unwrap();
    let daemon = Daemon::start(&side.toml()).await;
    eventually("it is said", || async { (lines(&daemon, "does not let the user") == 1).then_some(()) }).await;
    let private = std::fs::read_to_string(side.sshd.path("outpost")).unwrap();
    assert!(!daemon.stderr().contains(private.lines().nth(1).unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_checked() {
    let Some(side) = Side::start(1) else { return };
    let daemon = Daemon::new(&side.toml());
    let output = daemon.run(&["check-config"]).await;
    let said = crate::support::daemon::text(&output.stdout);
    assert!(
        output.status.success() && said.contains("\n  dials            ") && said.contains(" for hub hub1\n"),
        "{said}"
    );
    std::fs::write(side.sshd.path("outpost"), "no key").unwrap();
    let output = daemon.run(&["check-config"]).await;
    let said = crate::support::daemon::text(&output.stderr);
    assert!(said.contains("hubs.\"hub1\".dial.key: ") && said.contains("is no private key"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

/// An SSH server that opens what nobody asked for.
struct Hostile {
    seen: tokio::sync::mpsc::UnboundedSender<Handle>,
}

impl russh::server::Server for Hostile {
    type Handler = Opener;

    fn new_client(&mut self, _: Option<std::net::SocketAddr>) -> Opener {
        Opener { seen: self.seen.clone() }
    }
}

struct Opener {
    seen: tokio::sync::mpsc::UnboundedSender<Handle>,
}

impl Handler for Opener {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn tcpip_forward(
        &mut self,
        _: &str,
        _: &mut u32,
        session: &mut russh::server::Session,
    ) -> Result<bool, Self::Error> {
        let _ = self.seen.send(session.handle());
        Ok(true)
    }
}

fn opened(channel: Result<Channel<Msg>, russh::Error>) -> bool {
    match channel {
        Ok(_) => true,
        Err(russh::Error::ChannelOpenFailure(failure)) => failure == ChannelOpenFailure::ConnectFailed,
        Err(error) => panic!("{error}"),
    }
}

/// The hub's side may be anybody's one day: it reaches what was offered, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_what_was_offered_is_reached() {
    let host_key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
    let dir = tempfile::tempdir().unwrap();
    make_key(&dir.path().join("key"));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let login = Login {
        to: listener.local_addr().unwrap().to_string(),
        user: "outpost".to_owned(),
        key: Secret::File(dir.path().join("key")),
        host_keys: vec![host_key.public_key().to_openssh().unwrap()],
        known_hosts: None,
    };
    let (seen, mut handles) = tokio::sync::mpsc::unbounded_channel();
    let config = Arc::new(russh::server::Config { keys: vec![host_key], ..Default::default() });
    let serving = tokio::spawn(async move { Hostile { seen }.run_on_socket(config, &listener).await });

    let offered = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let session = Session::connect(&login, &TaskTracker::new()).await.unwrap();
    let (place, other) = (Place::parse("127.0.0.1:42000").unwrap(), Place::parse("127.0.0.1:42001").unwrap());
    let target = |reach| Target { address: offered.local_addr().unwrap().to_string(), reach };
    assert_eq!(session.listen(&place, target(Reach::Machine)).await, Ok(true));
    assert_eq!(session.listen(&other, target(Reach::Network)).await, Ok(true));
    let handle = handles.recv().await.unwrap();

    let tcp = |port: u32| handle.channel_open_forwarded_tcpip("127.0.0.1", port, "127.0.0.1", 1);
    assert!(tcp(42000).await.is_ok());
    assert!(opened(tcp(42001).await) && tcp(42001).await.is_err(), "this machine's loopback is not the network's");
    for port in [42002, 22, 0, 42000 + 65536] {
        assert!(!opened(tcp(port).await), "{port}");
    }
    assert!(!opened(handle.channel_open_forwarded_streamlocal("/run/x.sock").await));
    assert!(!opened(handle.channel_open_agent().await));
    assert!(!opened(handle.channel_open_session().await));
    assert!(!opened(handle.channel_open_x11("127.0.0.1", 1).await));
    assert!(!opened(handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await));
    session.unlisten(&place).await;
    assert!(!opened(tcp(42000).await));
    session.close().await;
    serving.abort();
}
