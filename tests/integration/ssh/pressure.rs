//! Much data, and sides that do not take it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::start;
use crate::support::eventually;
use crate::support::ssh::{echo, metric, serve, server_at, until_metric, works};

const MIB: usize = 1024 * 1024;

/// Bytes in which an exchanged, lost or doubled packet shows.
fn sample(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut bytes: Vec<u8> = std::iter::repeat_with(&mut next).take(length / 8 + 1).flatten().collect();
    bytes.truncate(length);
    bytes
}

/// Sends and reads at once, as an echo wants it.
async fn exchange(port: u16, bytes: Vec<u8>) {
    let (mut from, mut to) = TcpStream::connect(("127.0.0.1", port)).await.unwrap().into_split();
    let sent = bytes.clone();
    let sending = tokio::spawn(async move {
        to.write_all(&sent).await.unwrap();
        to.shutdown().await.unwrap();
    });
    let mut answer = Vec::new();
    from.read_to_end(&mut answer).await.unwrap();
    sending.await.unwrap();
    assert!(answer == bytes, "{} of {} bytes came back", answer.len(), bytes.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_bytes_arrive_in_their_order_while_keys_are_exchanged_anew() {
    let (outpost, client) = start("[ssh]").await;
    let address = echo().await;
    server_at(&outpost, "one", address).await;
    let connected = client.run(&["-o", "RekeyLimit=1M"]).await;
    assert_eq!(connected.code, Some(0), "{connected:?}");
    let port = client.forward(&address.to_string()).await;
    let exchanges: Vec<_> =
        (1..=4).map(|seed| tokio::spawn(exchange(port, sample(8 * MIB + 4321 * seed, seed as u64)))).collect();
    for exchange in exchanges {
        exchange.await.unwrap();
    }
    let bytes = 32 * MIB as u64 + 43210;
    for direction in ["to_server", "to_hub"] {
        let labels = format!("outpost_ssh_bytes_total{{hub=\"hub1\",direction=\"{direction}\"}}");
        until_metric(&outpost.outpost, &labels, bytes).await;
    }
    until_metric(&outpost.outpost, "outpost_ssh_channels{hub=\"hub1\"}", 0).await;
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_side_may_be_done_before_the_other() {
    let (outpost, client) = start("[ssh]").await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let address = serve(move |mut socket| {
        let told = told.clone();
        async move {
            socket.write_all(b"that is all").await.unwrap();
            socket.shutdown().await.unwrap();
            let mut rest = Vec::new();
            socket.read_to_end(&mut rest).await.unwrap();
            told.send(rest).unwrap();
        }
    })
    .await;
    server_at(&outpost, "one", address).await;
    client.connect().await;
    let port = client.forward(&address.to_string()).await;
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).await.unwrap();
    assert_eq!(answer, b"that is all");
    let late = sample(MIB, 7);
    socket.write_all(&late).await.unwrap();
    drop(socket);
    assert!(heard.recv().await.unwrap() == late);
    until_metric(&outpost.outpost, "outpost_ssh_channels{hub=\"hub1\"}", 0).await;
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_does_not_read_fills_no_memory_and_delays_nobody() {
    let (outpost, client) = start("[ssh]").await;
    let flood = serve(|mut socket| async move { while socket.write_all(&[7; 65536]).await.is_ok() {} }).await;
    let calm = echo().await;
    server_at(&outpost, "flood", flood).await;
    server_at(&outpost, "calm", calm).await;
    client.connect().await;
    let (to_flood, to_calm) = (client.forward(&flood.to_string()).await, client.forward(&calm.to_string()).await);
    let not_read = TcpStream::connect(("127.0.0.1", to_flood)).await.unwrap();
    let taken = until_still(|| taken(&outpost.outpost)).await;
    // The client's window and what the sockets between it and its user hold; how much that is, the kernel decides.
    assert!(taken > 0 && taken < 64 * MIB as u64, "{taken}");
    assert!(works(to_calm).await);
    drop(not_read);
    until_metric(&outpost.outpost, "outpost_ssh_channels{hub=\"hub1\"}", 0).await;

    // And a whole client that does not read.
    let not_read = TcpStream::connect(("127.0.0.1", to_flood)).await.unwrap();
    let master = client.master().await;
    kill(Pid::from_raw(master), Signal::SIGSTOP).unwrap();
    let more = until_still(|| self::taken(&outpost.outpost)).await;
    assert!(more < 128 * MIB as u64, "{more}");
    kill(Pid::from_raw(master), Signal::SIGKILL).unwrap();
    drop(not_read);
    until_metric(&outpost.outpost, "outpost_ssh_channels{hub=\"hub1\"}", 0).await;
    until_metric(&outpost.outpost, "outpost_ssh_connections{hub=\"hub1\"}", 0).await;
    outpost.stop().await;
}

fn taken(outpost: &outpost::outpost::Outpost) -> u64 {
    metric(outpost, "outpost_ssh_bytes_total{hub=\"hub1\",direction=\"to_hub\"}")
}

/// The value of something that grows, once it does not.
async fn until_still(value: impl Fn() -> u64) -> u64 {
    let mut last = u64::MAX;
    eventually("it does not grow any more", || {
        let now = value();
        let still = std::mem::replace(&mut last, now) == now && now > 0;
        async move {
            tokio::time::sleep(Duration::from_millis(300)).await;
            still.then_some(now)
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_read_loses_its_channel_only() {
    let (outpost, client) = start("[ssh]\nstall_timeout = '1s'").await;
    let deaf = serve(|socket| async move {
        let _open = socket;
        std::future::pending::<()>().await;
    })
    .await;
    let calm = echo().await;
    server_at(&outpost, "deaf", deaf).await;
    server_at(&outpost, "calm", calm).await;
    client.connect().await;
    let (to_deaf, to_calm) = (client.forward(&deaf.to_string()).await, client.forward(&calm.to_string()).await);
    // A connection that is only quiet is not cut.
    let quiet = TcpStream::connect(("127.0.0.1", to_deaf)).await.unwrap();
    until_metric(&outpost.outpost, "outpost_ssh_channels{hub=\"hub1\"}", 1).await;
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let mut socket = TcpStream::connect(("127.0.0.1", to_deaf)).await.unwrap();
    let sending = tokio::spawn(async move {
        while let Ok(count) = socket.write(&[7; 65536]).await {
            counted.fetch_add(count as u64, Ordering::Relaxed);
        }
    });
    tokio::time::timeout(Duration::from_secs(30), sending).await.expect("it is cut").unwrap();
    assert!(works(to_calm).await);
    let sent = sent.load(Ordering::Relaxed);
    assert!(sent < 64 * MIB as u64, "{sent}");
    until_metric(&outpost.outpost, "outpost_ssh_channels{hub=\"hub1\"}", 1).await;
    drop(quiet);
    assert_eq!(client.run(&["-O", "check"]).await.code, Some(0));
    outpost.stop().await;
}
