//! When connections and channels end, and how many there may be.

use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::start;
use crate::support::ssh::{SshClient, admit, echo, metric, refusals, server_at, until_metric, works};
use crate::support::{TestOutpost, eventually};

const CHANNELS: &str = "outpost_ssh_channels{hub=\"hub1\"}";
const CONNECTIONS: &str = "outpost_ssh_connections{hub=\"hub1\"}";

/// A connection through a forwarded port that has carried something.
async fn open(port: u16) -> TcpStream {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(b"x").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'x');
    socket
}

/// Waits for the end of a connection.
async fn ended(mut socket: TcpStream) {
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(30), socket.read_to_end(&mut rest));
    let _ = read.await.expect("it ends");
    assert_eq!(rest, b"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_ends_with_its_service() {
    let (outpost, client) = start("[ssh]").await;
    let (one, two) = (echo().await, echo().await);
    server_at(&outpost, "one", one).await;
    server_at(&outpost, "two", two).await;
    client.connect().await;
    let (to_one, to_two) = (client.forward(&one.to_string()).await, client.forward(&two.to_string()).await);
    let (of_one, mut of_two) = (open(to_one).await, open(to_two).await);
    until_metric(&outpost.outpost, CHANNELS, 2).await;
    assert!(outpost.delete("/services/one/0").await.status.is_success());
    ended(of_one).await;
    assert!(!works(to_one).await);
    of_two.write_all(b"y").await.unwrap();
    assert_eq!(of_two.read_u8().await.unwrap(), b'y');
    until_metric(&outpost.outpost, CHANNELS, 1).await;
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_has_so_many_connections_and_channels() {
    let (outpost, client) = start("[ssh]\nconnections_per_hub = 2\nchannels_per_hub = 2").await;
    let address = echo().await;
    server_at(&outpost, "one", address).await;
    let others: Vec<SshClient> = (0..2).map(|_| SshClient::new(outpost.ssh.unwrap())).collect();
    for other in &others {
        admit(&outpost.outpost, "hub1", other).await;
    }
    client.connect().await;
    others[0].connect().await;
    let third = others[1].run(&[]).await;
    assert_eq!(third.code, Some(255), "{third:?}");
    until_metric(&outpost.outpost, "outpost_ssh_unauthenticated", 0).await;
    let other_hub = SshClient::new(outpost.ssh.unwrap());
    admit(&outpost.outpost, "hub2", &other_hub).await;
    other_hub.connect().await;

    let port = client.forward(&address.to_string()).await;
    let port_of_other = others[0].forward(&address.to_string()).await;
    let open = [open(port).await, open(port_of_other).await];
    assert!(!works(port).await && !works(port_of_other).await, "over all connections of the hub");
    let refused = ["connections", "channels"];
    eventually("it is in the audit table", || async {
        let known = refusals(&outpost.outpost).await;
        refused.iter().all(|reason| known.iter().any(|(known, _)| known == reason)).then_some(())
    })
    .await;
    drop(open);
    until_metric(&outpost.outpost, CHANNELS, 0).await;
    assert!(works(port).await);
    drop(client);
    until_metric(&outpost.outpost, CONNECTIONS, 1).await;
    others[1].connect().await;
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_leaves_nothing() {
    let (outpost, client) = start("[ssh]").await;
    let address = echo().await;
    server_at(&outpost, "one", address).await;
    client.connect().await;
    let port = client.forward(&address.to_string()).await;
    let open = open(port).await;
    until_metric(&outpost.outpost, CHANNELS, 1).await;
    kill(Pid::from_raw(client.master().await), Signal::SIGKILL).unwrap();
    ended(open).await;
    until_metric(&outpost.outpost, CHANNELS, 0).await;
    until_metric(&outpost.outpost, CONNECTIONS, 0).await;
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_answer_is_dropped_and_one_that_does_may_stay() {
    let (outpost, client) = start("[ssh]\nidle_timeout = '2s'").await;
    let deaf = SshClient::new(outpost.ssh.unwrap());
    admit(&outpost.outpost, "hub2", &deaf).await;
    client.connect().await;
    deaf.connect().await;
    let master = Pid::from_raw(deaf.master().await);
    kill(master, Signal::SIGSTOP).unwrap();
    until_metric(&outpost.outpost, "outpost_ssh_connections{hub=\"hub2\"}", 0).await;
    kill(master, Signal::SIGKILL).unwrap();
    // Longer than the time after which a silent one would have been dropped.
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(client.run(&["-O", "check"]).await.code, Some(0));
    assert_eq!(metric(&outpost.outpost, CONNECTIONS), 1);
    outpost.stop().await;
}

async fn one_open_channel(toml: &str) -> (TestOutpost, SshClient, TcpStream) {
    let (outpost, client) = start(toml).await;
    let address = echo().await;
    server_at(&outpost, "one", address).await;
    client.connect().await;
    let socket = open(client.forward(&address.to_string()).await).await;
    (outpost, client, socket)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_may_go_on_for_a_while_when_outpost_ends() {
    let (outpost, client, mut socket) = one_open_channel("[ssh]\ndrain_timeout = '60s'").await;
    let address = outpost.ssh.unwrap();
    let stopping = tokio::spawn(outpost.stop());
    eventually("nobody listens any more", || async { TcpStream::connect(address).await.is_err().then_some(()) }).await;
    socket.write_all(b"y").await.unwrap();
    assert_eq!(socket.read_u8().await.unwrap(), b'y');
    assert!(!stopping.is_finished());
    drop(socket);
    tokio::time::timeout(Duration::from_secs(30), stopping).await.expect("nothing is open any more").unwrap();
    eventually("the client has gone", || async { (client.run(&["-O", "check"]).await.code != Some(0)).then_some(()) })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_cut_when_its_time_is_over() {
    let (outpost, _client, socket) = one_open_channel("[ssh]\ndrain_timeout = '1s'").await;
    tokio::time::timeout(Duration::from_secs(30), outpost.stop()).await.expect("it ends");
    ended(socket).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_channels_does_not_delay_the_end() {
    let (outpost, client) = start("[ssh]\ndrain_timeout = '1h'").await;
    client.connect().await;
    tokio::time::timeout(Duration::from_secs(30), outpost.stop()).await.expect("it ends");
}
