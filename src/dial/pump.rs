//! The bytes of one channel.

use std::time::Duration;

use russh::ChannelMsg;
use russh::client::Msg;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

/// How long a peer may take no byte. A connection has all channels of a hub on it, and waits for the one that does not read.
const STALL: Duration = Duration::from_secs(10);

/// Moves bytes between a channel and a connection until either is closed, or `ended` is cancelled.
pub(super) async fn pump(channel: russh::Channel<Msg>, mut stream: TcpStream, ended: &CancellationToken) {
    let (mut incoming, outgoing) = channel.split();
    let (mut from_peer, mut to_peer) = stream.split();
    let inwards = async {
        while let Some(message) = incoming.wait().await {
            match message {
                ChannelMsg::Data { data } => match tokio::time::timeout(STALL, to_peer.write_all(&data)).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) => return,
                    Err(_) => {
                        return tracing::warn!(
                            "a forwarded connection was closed, since nothing was read from it for {STALL:?}"
                        );
                    }
                },
                ChannelMsg::Eof => drop(to_peer.shutdown().await),
                ChannelMsg::Close => return,
                _ => {}
            }
        }
    };
    let outwards = async {
        let copied = tokio::io::copy(&mut from_peer, &mut outgoing.make_writer()).await;
        if copied.is_ok() && outgoing.eof().await.is_ok() {
            // The other direction may go on.
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        () = inwards => {}
        () = outwards => {}
        () = ended.cancelled() => {}
    }
    // The session may be waiting for this channel to take what came, and would not hear that it is closed.
    drop(incoming);
    let _ = outgoing.close().await;
}
