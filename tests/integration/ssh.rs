//! The SSH server, with the real `ssh` client as OutpostSpawner calls it.

mod ends;
mod handshake;
mod pressure;
mod program;
mod refused;
mod replicas;

use super::support::TestOutpost;
use super::support::ssh::{SshClient, admit, echo, server_at, works};

/// An SSH server on a free port.
pub const LISTEN: &str = "[ssh]\nlisten = '127.0.0.1:0'\n";

/// An Outpost with an SSH server, and a client of hub1.
pub async fn start(toml: &str) -> (TestOutpost, SshClient) {
    let outpost = TestOutpost::start(&toml.replace("[ssh]", LISTEN)).await;
    let client = SshClient::new(outpost.ssh.unwrap());
    admit(&outpost.outpost, "hub1", &client).await;
    (outpost, client)
}

/// The plugin's way: one shared connection, a forward for each server, each taken back at its end.
#[tokio::test(flavor = "multi_thread")]
async fn servers_are_reached_through_one_connection() {
    let (outpost, client) = start("[ssh]").await;
    let (one, two) = (echo().await, echo().await);
    server_at(&outpost, "one", one).await;
    server_at(&outpost, "two", two).await;
    assert_ne!(client.run(&["-O", "check"]).await.code, Some(0), "there is no connection yet");
    client.connect().await;
    let (to_one, to_two) = (client.forward(&one.to_string()).await, client.forward(&two.to_string()).await);
    assert!(works(to_one).await);
    assert!(works(to_two).await);
    let cancelled = client.run(&["-O", "cancel", &format!("-L127.0.0.1:{to_one}:{one}")]).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:?}");
    assert!(!works(to_one).await);
    assert!(works(to_two).await);
    outpost.stop().await;
}
