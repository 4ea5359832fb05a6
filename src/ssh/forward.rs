//! One forwarded connection: a channel of a hub's SSH client, and a socket to the hub's server.
//!
//! What a server sends is read only when the client takes it. What a client sends is kept up to a bound while the server does
//! not take it ([`Backlog`]).

use std::io::{self, IoSlice};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use prometheus_client::metrics::counter::Counter;
use russh::server::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, Stalled};
use super::connect::connect;
use super::connection::Connection;
use super::limits::Slot;
use super::refusals::Reason;
use super::server::Server;
use crate::auth::HubKey;
use crate::metrics::SshBytesLabels;
use crate::model::{Phase, with_port};
use crate::outpost::{Entry, Unreachable};

/// How much is read from a server at once.
const READ: usize = 64 * 1024;

/// How long a client may take to close a channel that has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);

/// SSH's code for a channel that the administrator does not want.
const PROHIBITED: u32 = 1;

/// A forwarded connection.
pub(super) struct Forward {
    pub(super) connection: Arc<Connection>,
    pub(super) key: Arc<HubKey>,
    pub(super) host: String,
    pub(super) port: u32,
    pub(super) slot: Slot<Arc<str>>,
}

/// Why a forwarded connection ended before both sides were done.
#[derive(Debug)]
enum End {
    /// The client closed the channel or is gone.
    Client,
    /// The server's socket failed.
    Server(io::Error),
    /// The server held up its hub for too long.
    Stalled,
}

impl Forward {
    /// Opens the channel and forwards until it ends.
    pub(super) async fn run(self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let ended = self.connection.ended.clone();
        tokio::select! {
            () = ended.cancelled() => {}
            () = self.open(channel, reply) => {}
        }
    }

    async fn open(&self, channel: Channel<Msg>, reply: ChannelOpenHandle) {
        let entry = match self.server().await {
            Ok(entry) => entry,
            Err(failure) => return reply.reject(failure).await,
        };
        let reached = tokio::select! {
            () = left(&entry) => Err(ChannelOpenFailure::ConnectFailed),
            reached = self.reach(&entry) => reached,
        };
        let socket = match reached {
            Ok(socket) => socket,
            Err(failure) => return reply.reject(failure).await,
        };
        let target = with_port(&self.host, self.port);
        // Whoever uses a notebook waits for single bytes.
        if let Err(error) = socket.set_nodelay(true) {
            tracing::debug!(target, %error, "TCP_NODELAY cannot be set");
        }
        reply.accept().await;
        let (mut from_client, to_client) = channel.split();
        let (from_server, to_server) = socket.into_split();
        let backlog = self.connection.server.kept.backlog(&self.key.hub);
        let (uploaded, downloaded) = (CancellationToken::new(), CancellationToken::new());
        let mut upload = pin!(self.upload(&backlog, to_server, &uploaded).fuse());
        let end = tokio::select! {
            () = left(&entry) => Ok(()),
            Err(end) = &mut upload => Err(end),
            end = async {
                let collect = async {
                    tokio::select! {
                        end = self.collect(&mut from_client, &backlog) => end,
                        // Both are done, and the client is to hear it.
                        () = async { uploaded.cancelled().await; downloaded.cancelled().await } => Ok(()),
                    }
                };
                tokio::try_join!(collect, self.download(from_server, &to_client, &downloaded)).map(drop)
            } => end,
        };
        if matches!(end, Err(End::Client)) && backlog.has_rest() {
            // The client is done, but what it sent before has not arrived.
            let _ = timeout(self.connection.server.settings.stall_timeout, upload).await;
        }
        match end {
            Ok(()) => {}
            Err(End::Client) => return,
            Err(End::Server(error)) => {
                tracing::debug!(hub.name = ?self.key.hub, target, %error, "a server ended a forwarded connection");
            }
            Err(End::Stalled) => {
                tracing::warn!(
                    hub.name = ?self.key.hub, target,
                    "a forwarded connection was closed, since its server read so slowly that it held up its hub's others for \
                     longer than ssh.stall_timeout"
                );
                return close(from_client, &to_client).await;
            }
        }
        // A client closes what it was told the end of. It has its time for that, since a session keeps something of each
        // channel that was closed on this side first.
        let tell = async {
            if !downloaded.is_cancelled() {
                let _ = to_client.eof().await;
            }
            sleep(LAST_WORDS).await;
        };
        tokio::select! {
            () = closed(&mut from_client) => {}
            () = tell => close(from_client, &to_client).await,
        }
    }

    /// The server that is asked for, if it may be had.
    async fn server(&self) -> Result<Arc<Entry>, ChannelOpenFailure> {
        let Ok(port) = u16::try_from(self.port) else { return Err(self.refuse(Reason::NoServer)) };
        if !self.key.key.permits_open(&self.host, port) {
            return Err(self.refuse(Reason::KeyOptions));
        }
        let outpost = &self.connection.server.outpost;
        outpost.forward_target(&self.key.hub, &self.host, port).await.map_err(|why| self.unreachable(why))
    }

    /// Connects to where a server listens. There is one time for it, with the look-up of a name.
    async fn reach(&self, entry: &Entry) -> Result<TcpStream, ChannelOpenFailure> {
        let Server { outpost, settings, .. } = &*self.connection.server;
        let deadline = Instant::now() + settings.connect_timeout;
        let found = timeout_at(deadline, outpost.addresses_of(entry)).await.unwrap_or(Err(Unreachable::Unknown));
        let addresses = found.map_err(|why| self.unreachable(why))?;
        connect(&addresses, deadline).await.map_err(|error| {
            let target = with_port(&self.host, self.port);
            tracing::info!(hub.name = ?self.key.hub, target, %error, "a server does not accept a forwarded connection");
            ChannelOpenFailure::ConnectFailed
        })
    }

    fn unreachable(&self, why: Unreachable) -> ChannelOpenFailure {
        match why {
            Unreachable::NoServer => self.refuse(Reason::NoServer),
            Unreachable::Elsewhere => self.refuse(Reason::Elsewhere),
            Unreachable::Forbidden => self.refuse(Reason::Address),
            Unreachable::Unknown => {
                tracing::info!(hub.name = ?self.key.hub, host = self.host, "the name of a server leads nowhere");
                ChannelOpenFailure::ConnectFailed
            }
        }
    }

    fn refuse(&self, reason: Reason) -> ChannelOpenFailure {
        self.connection.refuse(Some(&self.key.hub), reason, &with_port(&self.host, self.port));
        prohibited(reason)
    }

    fn bytes(&self, direction: &'static str) -> Counter {
        let labels = SshBytesLabels { hub: self.slot.key().as_ref().to_owned(), direction };
        self.connection.server.outpost.metrics.ssh_bytes.get_or_create(&labels).clone()
    }

    /// Takes what the client sends, until it closes the channel.
    async fn collect(&self, from: &mut ChannelReadHalf, backlog: &Backlog) -> Result<(), End> {
        let patience = self.connection.server.settings.stall_timeout;
        loop {
            match from.wait().await {
                Some(ChannelMsg::Data { data }) => {
                    backlog.put(data, patience).await.map_err(|Stalled| End::Stalled)?;
                }
                // The other direction may go on.
                Some(ChannelMsg::Eof) => backlog.complete(),
                Some(ChannelMsg::Close) | None => return Err(End::Client),
                Some(_) => {}
            }
        }
    }

    /// From the client to the server, until the client has no more.
    async fn upload(&self, backlog: &Backlog, mut to: OwnedWriteHalf, uploaded: &CancellationToken) -> Result<(), End> {
        let bytes = self.bytes("to_server");
        while let Some(packets) = backlog.next().await {
            let mut slices: Vec<IoSlice<'_>> = packets.iter().map(|packet| IoSlice::new(packet)).collect();
            let mut rest = slices.as_mut_slice();
            while !rest.is_empty() {
                let count = to.write_vectored(rest).await.map_err(End::Server)?;
                IoSlice::advance_slices(&mut rest, count);
                backlog.written(count);
                bytes.inc_by(count as u64);
            }
        }
        to.shutdown().await.map_err(End::Server)?;
        uploaded.cancel();
        Ok(())
    }

    /// From the server to the client, until the server has no more.
    async fn download(
        &self,
        from: OwnedReadHalf,
        to: &ChannelWriteHalf<Msg>,
        downloaded: &CancellationToken,
    ) -> Result<(), End> {
        let bytes = self.bytes("to_hub");
        loop {
            // Without a buffer while there is nothing to be read: most connections are idle.
            from.readable().await.map_err(End::Server)?;
            let mut buffer = BytesMut::new();
            loop {
                buffer.reserve(READ);
                match from.try_read_buf(&mut buffer) {
                    Ok(0) => {
                        downloaded.cancel();
                        return to.eof().await.map_err(|_| End::Client);
                    }
                    Ok(count) => {
                        // Waits for the client's window.
                        to.data_bytes(buffer.split().freeze()).await.map_err(|_| End::Client)?;
                        bytes.inc_by(count as u64);
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(error) => return Err(End::Server(error)),
                }
            }
        }
    }
}

/// The answer to a client that may not have what it asked for.
pub(super) fn prohibited(reason: Reason) -> ChannelOpenFailure {
    ChannelOpenFailure::Other { code: PROHIBITED, reason: reason.sentence().to_owned() }
}

/// Waits until a server does not run any more.
async fn left(entry: &Entry) {
    let mut state = entry.subscribe();
    // The sender lives as long as the entry, so that waiting cannot fail.
    let _ = state.wait_for(|state| state.gone || state.server.phase != Phase::Running).await;
}

/// Closes a channel. The session may be waiting for it to take what came, and would not hear anything before.
async fn close(from_client: ChannelReadHalf, to_client: &ChannelWriteHalf<Msg>) {
    drop(from_client);
    let _ = to_client.close().await;
}

/// Waits until the client closes the channel.
async fn closed(from: &mut ChannelReadHalf) {
    while !matches!(from.wait().await, Some(ChannelMsg::Close) | None) {}
}
