//! One connection of an SSH client: who it is, what it asks for, and when it ends.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use russh::keys::{Algorithm, PublicKey};
use russh::server::{
    Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, RunningSession, Session, VerifiedPublicKey,
    run_stream,
};
use russh::{Channel, ChannelOpenFailure, Disconnect};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::algorithms;
use super::forward::{Forward, prohibited};
use super::limits::Slot;
use super::refusals::{Reason, Refusal, Shown};
use super::server::Server;
use super::stream::Stream;
use super::waiting::Place;
use crate::auth::HubKey;
use crate::model::{fingerprint, with_port};

/// How long a client may take to close a connection that it was told the end of.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often it is looked at whether a key has expired.
const EXPIRY: Duration = Duration::from_secs(1);

/// A connection.
pub(super) struct Connection {
    pub(super) server: Arc<Server>,
    client: SocketAddr,
    /// Cancelled when the connection is over.
    pub(super) ended: CancellationToken,
    channels: TaskTracker,
}

impl Connection {
    /// Serves a client until it goes or has to go. It has its `place` until it is authenticated.
    pub(super) async fn serve(server: Arc<Server>, socket: TcpStream, client: SocketAddr, place: Place) {
        let connection =
            Arc::new(Self { server, client, ended: CancellationToken::new(), channels: TaskTracker::new() });
        let _ended = connection.ended.clone().drop_guard();
        let cut = CancellationToken::new();
        let _cut = cut.clone().drop_guard();
        if let Some((session, key)) = connection.log_in(socket, &cut, place).await {
            let fingerprint = key.key.fingerprint();
            tracing::info!(hub.name = ?key.hub, key = fingerprint, client.address = %client, "an SSH client of a hub has come");
            connection.attend(session, &key, &cut).await;
            tracing::info!(hub.name = ?key.hub, client.address = %client, "an SSH client of a hub has gone");
        }
        connection.ended.cancel();
        connection.channels.close();
        connection.channels.wait().await;
    }

    /// Waits until the client has proved to have a hub's key.
    async fn log_in(
        self: &Arc<Self>,
        socket: TcpStream,
        cut: &CancellationToken,
        place: Place,
    ) -> Option<(RunningSession<Client>, Arc<HubKey>)> {
        let deadline = Instant::now() + self.server.settings.handshake_timeout;
        let lost = place.lost.clone();
        let (logged_in, key) = oneshot::channel();
        let client = Client { connection: self.clone(), waiting: Some((place, logged_in)), key: None, slot: None };
        let stream = Stream::new(socket, cut.clone());
        let talk = async {
            let mut session = run_stream(self.server.config(), stream, client).await?;
            tokio::select! {
                ended = &mut session => ended.map(|()| None),
                key = key => Ok(key.ok().map(|key| (session, key))),
            }
        };
        tokio::select! {
            talked = timeout_at(deadline, talk) => match talked {
                Ok(Ok(authenticated)) => return authenticated,
                // Whoever only looks whether the port is open is no news.
                Ok(Err(russh::Error::IO(_) | russh::Error::Disconnect)) => {}
                Ok(Err(error)) => {
                    tracing::debug!(client.address = %self.client, ?error, "no SSH connection");
                    self.refuse(None, Reason::Protocol, "");
                }
                Err(_) => self.refuse(None, Reason::Handshake, ""),
            },
            () = lost.cancelled() => self.refuse(None, Reason::Unauthenticated, ""),
            () = self.server.shutdown.cancelled() => {}
        }
        None
    }

    /// Waits until the client goes, or has to go.
    async fn attend(&self, mut session: RunningSession<Client>, key: &HubKey, cut: &CancellationToken) {
        let reason = tokio::select! {
            ended = &mut session => {
                if let Err(error) = ended {
                    tracing::debug!(client.address = %self.client, ?error, "an SSH connection ended");
                }
                return;
            }
            reason = self.key_ends(key) => reason,
            () = self.drained() => "Outpost is being restarted",
        };
        tracing::info!(hub.name = ?key.hub, client.address = %self.client, "an SSH connection is ended: {reason}");
        self.ended.cancel();
        let handle: Handle = session.handle();
        // A client that does not listen is cut off.
        let _ = timeout(LAST_WORDS, async {
            if handle.disconnect(Disconnect::ByApplication, reason.to_owned(), "en".to_owned()).await.is_ok() {
                let _ = (&mut session).await;
            }
        })
        .await;
        cut.cancel();
    }

    /// Waits until the client's key is nobody's any more, or not in this way.
    async fn key_ends(&self, key: &HubKey) -> &'static str {
        let (fingerprint, mut known) = (key.key.fingerprint(), self.server.outpost.ssh_keys.subscribe());
        let expires = async {
            while !self.has_expired(key) {
                sleep(EXPIRY).await;
            }
        };
        tokio::select! {
            _ = known.wait_for(|known| known.get(&fingerprint).is_none_or(|known| **known != *key)) => {
                "the hub's key was removed or changed"
            }
            () = expires => "the hub's key has expired",
        }
    }

    fn has_expired(&self, key: &HubKey) -> bool {
        key.key.expires().is_some_and(|expires| expires <= self.server.outpost.clock.now())
    }

    /// Waits until Outpost ends and all channels are closed, or had their time.
    async fn drained(&self) {
        self.server.shutdown.cancelled().await;
        self.channels.close();
        let _ = timeout(self.server.settings.drain_timeout, self.channels.wait()).await;
    }

    /// Notes what was refused.
    pub(super) fn refuse(&self, hub: Option<&Arc<str>>, reason: Reason, target: &str) {
        self.server.refusals.note(Refusal::new(hub.cloned(), reason, target, self.client.ip()));
    }

    /// Whose key this is, if it may be used now.
    fn judge(&self, key: &PublicKey, algorithm: &Algorithm) -> Option<Arc<HubKey>> {
        let known = self.server.outpost.ssh_keys.find(key);
        let reason = match &known {
            None => Reason::UnknownKey,
            Some(_) if !algorithms::may_sign(algorithm) => Reason::Algorithm,
            Some(known) if self.has_expired(known) => Reason::KeyExpired,
            Some(known) if !known.key.permits_from(self.client.ip().to_canonical()) => Reason::KeyAddress,
            Some(_) => return known,
        };
        // Not proved to be the hub yet: a stranger can show its public key.
        let shown = Shown { fingerprint: fingerprint(key), claims: known.map(|known| known.hub.clone()) };
        self.server.refusals.note(Refusal::of_key(reason, shown, self.client.ip()));
        None
    }
}

/// What the session of a connection calls.
pub(super) struct Client {
    connection: Arc<Connection>,
    /// Until the client is authenticated: its place among those that are not, and where to say that it is.
    waiting: Option<(Place, oneshot::Sender<Arc<HubKey>>)>,
    key: Option<Arc<HubKey>>,
    slot: Option<Slot<Arc<str>>>,
}

impl Client {
    fn refuse(&self, reason: Reason, target: &str) -> ChannelOpenFailure {
        self.connection.refuse(self.key.as_ref().map(|key| &key.hub), reason, target);
        prohibited(reason)
    }
}

/// Nothing in here may wait for the session: it is the session that waits for this.
impl Handler for Client {
    type Error = russh::Error;

    async fn auth_publickey_offered(&mut self, _: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, Self::Error> {
        let known = self.connection.judge(offer.public_key, offer.algorithm);
        Ok(known.map_or_else(Auth::reject, |_| Auth::Accept))
    }

    async fn auth_publickey(&mut self, _: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.key = self.connection.judge(key.public_key, key.algorithm);
        let Some(key) = &self.key else { return Ok(Auth::reject()) };
        // Not later: a client that was let in reports success, and goes to the background.
        self.slot = self.connection.server.take_connection(&key.hub);
        if self.slot.is_none() {
            self.refuse(Reason::Connections, "");
            return Ok(Auth::reject());
        }
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, _: &mut Session) -> Result<(), Self::Error> {
        let (Some(key), Some((_, logged_in))) = (&self.key, self.waiting.take()) else {
            return Err(russh::Error::Inconsistent);
        };
        if self.slot.as_ref().is_some_and(Slot::was_alone) {
            self.connection.server.outpost.tunnels.due_for(&key.hub);
        }
        // Nobody listens if the time for it is over; then the connection is cut off.
        let _ = logged_in.send(key.clone());
        Ok(())
    }

    async fn channel_open_direct_tcpip(
        &mut self,
        channel: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        let Some(key) = &self.key else { return Ok(()) };
        if self.connection.server.shutdown.is_cancelled() {
            reply.reject(ChannelOpenFailure::ConnectFailed).await;
        } else if let Some(slot) = self.connection.server.take_channel(&key.hub) {
            let (connection, key) = (self.connection.clone(), key.clone());
            let forward = Forward { connection, key, host: host.to_owned(), port, slot };
            self.connection.channels.spawn(forward.run(channel, reply));
        } else {
            self.refuse(Reason::Channels, &with_port(host, port));
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
        }
        Ok(())
    }

    async fn channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(self.refuse(Reason::Session, "")).await;
        Ok(())
    }

    async fn channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(self.refuse(Reason::X11, "")).await;
        Ok(())
    }

    async fn channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        host: &str,
        port: u32,
        _originator: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(self.refuse(Reason::RemoteForward, &with_port(host, port))).await;
        Ok(())
    }

    async fn channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        path: &str,
        reply: ChannelOpenHandle,
        _: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.reject(self.refuse(Reason::UnixSocket, path)).await;
        Ok(())
    }

    async fn tcpip_forward(&mut self, address: &str, port: &mut u32, _: &mut Session) -> Result<bool, Self::Error> {
        self.refuse(Reason::RemoteForward, &with_port(address, *port));
        Ok(false)
    }

    async fn streamlocal_forward(&mut self, path: &str, _: &mut Session) -> Result<bool, Self::Error> {
        self.refuse(Reason::RemoteForward, path);
        Ok(false)
    }
}
