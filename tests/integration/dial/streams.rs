//! What passes through one connection.

use std::time::Duration;

use outpost::config::Secret;
use outpost::dial::{Login, Place, Reach, Session, Target};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::TaskTracker;

use super::*;
use crate::support::sshd::{make_key_of, user};

fn login(sshd: &Sshd, key: &Path) -> Login {
    Login {
        to: format!("127.0.0.1:{}", sshd.port),
        user: user(),
        key: Secret::File(key.to_owned()),
        host_keys: vec![sshd.host_key()],
        known_hosts: None,
    }
}

/// A session that has the SSH server listen for `listener`, and where.
async fn offered(session: &Session, listener: &TcpListener) -> u16 {
    let port = free_port();
    let target = Target { address: listener.local_addr().unwrap().to_string(), reach: Reach::Machine };
    assert_eq!(session.listen(&Place::parse(&format!("127.0.0.1:{port}")).unwrap(), target).await, Ok(true));
    port
}

async fn echoing() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

async fn echo(listener: TcpListener) {
    while let Ok((mut stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let (mut reader, mut writer) = stream.split();
            let _ = tokio::io::copy(&mut reader, &mut writer).await;
        });
    }
}

async fn echoes(port: u16) -> Option<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
    stream.write_all(b"hello").await.ok()?;
    stream.shutdown().await.ok()?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await.ok()?;
    (heard == b"hello").then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_every_kind_log_in() {
    let Some(sshd) = Sshd::start() else { return };
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let key = sshd.path(kind);
        sshd.authorize("", &make_key_of(&key, kind));
        let session = Session::connect(&login(&sshd, &key), &TaskTracker::new()).await;
        session.unwrap_or_else(|mistake| panic!("{kind}: {mistake}")).close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_bytes_arrive_as_they_were() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.authorize("", &make_key(&sshd.path("key")));
    let session = Session::connect(&login(&sshd, &sshd.path("key")), &TaskTracker::new()).await.unwrap();
    let listener = echoing().await;
    let port = offered(&session, &listener).await;
    tokio::spawn(echo(listener));
    let sent: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
    let streams = (0..4).map(|_| async {
        let (mut reader, mut writer) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
        let sending = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        tokio::join!(sending, async { reader.read_to_end(&mut heard).await.unwrap() });
        assert!(heard == sent, "{} of {} bytes", heard.len(), sent.len());
    });
    futures_util::future::join_all(streams).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_ends_with_the_offer() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.authorize("", &make_key(&sshd.path("key")));
    let session = Session::connect(&login(&sshd, &sshd.path("key")), &TaskTracker::new()).await.unwrap();
    let listener = echoing().await;
    let port = offered(&session, &listener).await;
    tokio::spawn(echo(listener));
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut heard = [0; 5];
    stream.write_all(b"hello").await.unwrap();
    stream.read_exact(&mut heard).await.unwrap();
    session.unlisten(&Place::parse(&format!("127.0.0.1:{port}")).unwrap()).await;
    let ended = tokio::time::timeout(Duration::from_secs(20), stream.read(&mut heard)).await.expect("it is closed");
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
}

/// A server that reads nothing, or a client that reads nothing, does not take the others' connection away.
#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_stops_nobody_else() {
    let Some(sshd) = Sshd::start() else { return };
    sshd.authorize("", &make_key(&sshd.path("key")));
    let session = Session::connect(&login(&sshd, &sshd.path("key")), &TaskTracker::new()).await.unwrap();
    let (listener, deaf, talker) = (echoing().await, echoing().await, echoing().await);
    let (port, to_deaf) = (offered(&session, &listener).await, offered(&session, &deaf).await);
    let to_talker = offered(&session, &talker).await;
    tokio::spawn(echo(listener));
    tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = deaf.accept().await {
            held.push(stream);
        }
    });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = talker.accept().await {
            tokio::spawn(async move { while stream.write_all(&[0; 65536]).await.is_ok() {} });
        }
    });

    let _listens_to_nothing = TcpStream::connect(("127.0.0.1", to_talker)).await.unwrap();
    eventually("the others go on", || echoes(port)).await;

    let mut flooding = TcpStream::connect(("127.0.0.1", to_deaf)).await.unwrap();
    let flood = async { while flooding.write_all(&[0; 65536]).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(60), flood)
        .await
        .expect("the connection that nobody reads from is closed");
    eventually("the others go on", || echoes(port)).await;
}
