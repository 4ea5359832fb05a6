//! Two Outposts that share a database.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use sqlx::{Connection as _, PgConnection};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::LISTEN;
use crate::support::server::{body, options};
use crate::support::ssh::{SshClient, admit, refusals, works};
use crate::support::{Kind, TestDb, TestOutpost, eventually};

/// An address of this machine that is not loopback; what goes there does not leave the machine.
fn own_address() -> IpAddr {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent by this: the system chooses the address that it would send from.
    socket.connect("192.0.2.1:9").unwrap();
    socket.local_addr().unwrap().ip()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_through_either_of_two() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let one = TestOutpost::start_in(dirs[0].path(), &db.url, LISTEN).await;
    let mut client = SshClient::new(one.ssh.unwrap());
    admit(&one.outpost, "hub1", &client).await;
    let mut of_two = options(dirs[1].path(), &db.url, LISTEN);
    // It learns of a server when it is asked for it, or not at all.
    of_two.config.tasks.refresh = Duration::from_secs(3600);
    let two = TestOutpost::run(of_two).await;

    let listener = TcpListener::bind((own_address(), 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = socket.split();
                let _ = tokio::io::copy(&mut from, &mut to).await;
                let _ = to.shutdown().await;
            });
        }
    });
    for name in ["one", "here"] {
        assert_eq!(one.post("/services", &body(name, "0", "http://127.0.0.1:1/hub/api")).await.status, 200);
    }
    let mut connection = PgConnection::connect(&db.url).await.unwrap();
    sqlx::query("UPDATE servers SET address = $1, generation = generation + 1 WHERE name = 'one'")
        .bind(address.to_string())
        .execute(&mut connection)
        .await
        .unwrap();

    // Whoever trusts the host key of the one trusts that of the other.
    let connected = client.run(&["-o", "HostKeyAlias=outpost"]).await;
    assert_eq!(connected.code, Some(0), "{connected:?}");
    client.run(&["-O", "exit"]).await;
    client.port = two.ssh.unwrap().port();
    let connected = client.run(&["-o", "HostKeyAlias=outpost"]).await;
    assert_eq!(connected.code, Some(0), "{connected:?}");
    let forwarded = client.forward(&address.to_string()).await;
    assert!(works(forwarded).await);

    // That one is on the loopback of the other machine, as far as this one can know.
    let forwarded = client.forward("127.0.0.1:8888").await;
    assert!(!works(forwarded).await);
    eventually("it is in the audit table", || async {
        refusals(&two.outpost).await.iter().any(|(reason, _)| reason == "elsewhere").then_some(())
    })
    .await;
    two.stop().await;
    one.stop().await;
}
