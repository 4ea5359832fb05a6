//! Before a client is known: what strangers can do, and what they cannot do to others.

use std::process::Command;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::start;
use crate::support::provided;
use crate::support::ssh::{SshClient, admit, metric, refusals, until_metric};

/// Said of all that clients before OpenSSH 9.9 and this server have in common. Newer ones use the first of the list.
const NOT_POST_QUANTUM: &str = "does not provide protection against post-quantum attacks";

#[tokio::test(flavor = "multi_thread")]
async fn no_algorithm_is_weak() {
    let Some(hub) = provided("OUTPOST_TEST_HUB", "ssh-audit") else { return };
    let (outpost, _) = start("[ssh]\nunauthenticated_per_address = 1000").await;
    let address = outpost.ssh.unwrap().to_string();
    let audit = move || {
        let program = format!("{hub}/venv/bin/ssh-audit");
        Command::new(program).args(["--skip-rate-test", "-j", &address]).output().unwrap()
    };
    let output = tokio::task::spawn_blocking(audit).await.unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(report["banner"]["raw"], "SSH-2.0-Outpost");
    let mut algorithms = Vec::new();
    for kind in ["kex", "key", "enc", "mac"] {
        for algorithm in report[kind].as_array().unwrap_or_else(|| panic!("{report:#}")) {
            let (name, notes) = (algorithm["algorithm"].as_str().unwrap(), &algorithm["notes"]);
            let accepted = if name.starts_with("curve25519-") { json!([NOT_POST_QUANTUM]) } else { Value::Null };
            assert!(notes["fail"].is_null() && notes["warn"] == accepted, "{algorithm:#}");
            algorithms.push(name.to_owned());
        }
    }
    assert_eq!(
        algorithms,
        [
            "mlkem768x25519-sha256",
            "curve25519-sha256",
            "curve25519-sha256@libssh.org",
            "ext-info-s",
            "kex-strict-s-v00@openssh.com",
            "ssh-ed25519",
            "chacha20-poly1305@openssh.com",
            "aes256-gcm@openssh.com",
            "aes128-gcm@openssh.com",
            "hmac-sha2-256-etm@openssh.com",
            "hmac-sha2-512-etm@openssh.com",
        ]
    );
    assert_eq!(report["cves"], Value::Array(Vec::new()));
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_one_connection_and_nothing_else() {
    let (outpost, client) = start("[ssh]").await;
    let address = outpost.ssh.unwrap();
    let long = vec![b'x'; 100_000];
    let binary: Vec<u8> = (0..100_000_u32).map(|number| ((number * 7919) >> 3) as u8).collect();
    let header = b"SSH-2.0-garbage\r\n";
    for garbage in [
        b"GET / HTTP/1.1\r\nHost: outpost\r\n\r\n".to_vec(),
        b"SSH-1.0-old\r\n".to_vec(),
        long.clone(),
        [&header[..], &binary].concat(),
        [&header[..], &[0xff; 64]].concat(),
        [&header[..], &[0; 64]].concat(),
        [&header[..], &long].concat(),
    ] {
        let mut socket = TcpStream::connect(address).await.unwrap();
        let _ = socket.write_all(&garbage).await;
        let _ = socket.shutdown().await;
        let mut answer = Vec::new();
        // The end, in whatever way it comes.
        let _ = socket.read_to_end(&mut answer).await;
    }
    until_metric(&outpost.outpost, "outpost_ssh_unauthenticated", 0).await;
    assert!(metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"protocol\"}") >= 1);
    client.connect().await;
    assert!(refusals(&outpost.outpost).await.is_empty(), "strangers are not in the audit table");
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_open_connections_keep_no_hub_out() {
    let (outpost, client) = start("[ssh]\nhandshake_timeout = '10s'\nunauthenticated_per_address = 1000").await;
    let address = outpost.ssh.unwrap();
    let mut half_open = Vec::new();
    for _ in 0..200 {
        half_open.push(TcpStream::connect(address).await.unwrap());
    }
    until_metric(&outpost.outpost, "outpost_ssh_unauthenticated", 100).await;
    client.connect().await;
    // The oldest gave way, one of them to the hub; the others have their time.
    until_metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"unauthenticated\"}", 101).await;
    until_metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"handshake\"}", 99).await;
    until_metric(&outpost.outpost, "outpost_ssh_unauthenticated", 0).await;
    drop(half_open);
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_address_has_some_of_the_room_and_shares_it() {
    let (outpost, client) = start("[ssh]").await;
    let address = outpost.ssh.unwrap();
    let elsewhere = TcpSocket::new_v4().unwrap();
    elsewhere.bind("127.0.0.9:0".parse().unwrap()).unwrap();
    let mut elsewhere = elsewhere.connect(address).await.unwrap();
    let mut half_open = Vec::new();
    for _ in 0..200 {
        half_open.push(TcpStream::connect(address).await.unwrap());
    }
    until_metric(&outpost.outpost, "outpost_ssh_unauthenticated", 21).await;
    client.connect().await;
    until_metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"unauthenticated\"}", 181).await;
    let mut greeting = [0; 4];
    elsewhere.read_exact(&mut greeting).await.unwrap();
    assert_eq!(&greeting, b"SSH-");
    elsewhere.write_all(b"no SSH\r\n").await.unwrap();
    until_metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"protocol\"}", 1).await;
    drop(half_open);
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_keys_of_hubs_are_let_in() {
    let (outpost, client) = start("[ssh]\nauthentication_attempts = 3").await;
    let stranger = SshClient::new(outpost.ssh.unwrap());
    let refused = stranger.run(&[]).await;
    assert_eq!(refused.code, Some(255));
    assert!(refused.said.contains("Permission denied (publickey)"), "{refused:?}");
    for methods in ["password", "keyboard-interactive", "hostbased", "none"] {
        let refused = client.run(&["-o", &format!("PreferredAuthentications={methods}")]).await;
        assert_eq!(refused.code, Some(255), "{methods}: {refused:?}");
    }
    // Keys are tried in the order in which they are named, and the stranger's own is the first.
    let wrong: Vec<SshClient> = (0..2).map(|_| SshClient::new(outpost.ssh.unwrap())).collect();
    let named = |client: &SshClient| format!("-i{}", client.path("key").display());
    let third = stranger.run(&[&named(&wrong[0]), &named(&client)]).await;
    assert_eq!(third.code, Some(0), "{third:?}");
    let fourth = stranger.run(&["-S", "none", &named(&wrong[0]), &named(&wrong[1]), &named(&client)]).await;
    assert_eq!(fourth.code, Some(255), "{fourth:?}");
    assert!(fourth.said.contains("Too many authentication"), "{fourth:?}");
    assert!(refusals(&outpost.outpost).await.is_empty(), "strangers are not in the audit table");
    outpost.stop().await;
}

/// Hubs have what `ssh-keygen` made for them, some long ago; with SHA-1 nobody signs any more.
#[tokio::test(flavor = "multi_thread")]
async fn hubs_may_have_keys_of_many_kinds() {
    let (outpost, _) = start("[ssh]").await;
    for kind in [&["-t", "rsa", "-b", "2048"][..], &["-t", "ecdsa", "-b", "256"], &["-t", "ecdsa", "-b", "384"]] {
        let client = SshClient::with_key(outpost.ssh.unwrap(), kind);
        admit(&outpost.outpost, "hub1", &client).await;
        client.connect().await;
        if kind[1] == "rsa" {
            let sha1 = client.run(&["-S", "none", "-o", "PubkeyAcceptedAlgorithms=ssh-rsa"]).await;
            assert_eq!(sha1.code, Some(255), "{sha1:?}");
        }
    }
    outpost.stop().await;
}
