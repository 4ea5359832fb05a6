//! What the options of a key's line permit.

use std::time::Duration;

use chrono::Utc;

use super::start;
use crate::support::eventually;
use crate::support::ssh::{SshClient, admit_line, echo, metric, refusals, server_at, until_metric, works};

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_expires_ends_its_connections() {
    let (outpost, _) = start("[ssh]").await;
    let client = SshClient::new(outpost.ssh.unwrap());
    let end = (Utc::now() + Duration::from_secs(6)).format("%Y%m%d%H%M%SZ");
    admit_line(&outpost.outpost, "hub2", &format!("expiry-time=\"{end}\" {}", client.public_key())).await;
    client.connect().await;
    until_metric(&outpost.outpost, "outpost_ssh_connections{hub=\"hub2\"}", 1).await;
    until_metric(&outpost.outpost, "outpost_ssh_connections{hub=\"hub2\"}", 0).await;
    assert_eq!(client.run(&[]).await.code, Some(255));
    assert!(metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"key_expired\"}") >= 1);
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_the_addresses_and_the_destinations_of_its_line() {
    let (outpost, _) = start("[ssh]").await;
    let (allowed, other) = (echo().await, echo().await);
    server_at(&outpost, "allowed", allowed).await;
    server_at(&outpost, "other", other).await;
    let client = SshClient::new(outpost.ssh.unwrap());
    let options = format!("from=\"127.0.0.8/31\",restrict,port-forwarding,permitopen=\"{allowed}\"");
    admit_line(&outpost.outpost, "hub1", &format!("{options} {}", client.public_key())).await;
    assert_eq!(client.run(&[]).await.code, Some(255));
    assert_eq!(metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"key_address\"}"), 1);
    let connected = client.run(&["-b", "127.0.0.9"]).await;
    assert_eq!(connected.code, Some(0), "{connected:?}");
    let forwarded = client.forward(&allowed.to_string()).await;
    assert!(works(forwarded).await);
    let forwarded = client.forward(&other.to_string()).await;
    assert!(!works(forwarded).await);
    let refusal = ("key_options".to_owned(), other.to_string());
    eventually("it is in the audit table", || async {
        refusals(&outpost.outpost).await.contains(&refusal).then_some(())
    })
    .await;
    outpost.stop().await;
}
