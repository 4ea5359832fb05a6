//! One SSH connection that Outpost made.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use russh::client::{AuthResult, ChannelOpenHandle, Config, Handle, Handler, Msg};
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure, Disconnect, Preferred, cipher, kex, mac};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use super::login::{Credentials, Login};
use super::place::{Place, Route, Routes, Target};
use super::pump::pump;

/// How long it may take until a login is done.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a server may take to answer a request.
const ANSWER: Duration = Duration::from_secs(20);

/// A server that says nothing for four times this long is gone.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// The most channels at once on one connection.
const CHANNELS: usize = 2000;

/// How many messages of a channel, of 32 KiB at most, may wait for a peer that reads slowly.
const BUFFER: usize = 32;

/// Modern algorithms only.
const KEX: &[kex::Name] = &[
    kex::MLKEM768X25519_SHA256,
    kex::CURVE25519,
    kex::CURVE25519_PRE_RFC_8731,
    kex::EXTENSION_SUPPORT_AS_CLIENT,
    kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
];
const CIPHERS: &[cipher::Name] = &[cipher::AES_256_GCM, cipher::CHACHA20_POLY1305];
const MACS: &[mac::Name] = &[mac::HMAC_SHA512_ETM, mac::HMAC_SHA256_ETM];

/// A connection to an SSH server that is logged in.
pub struct Session {
    handle: Handle<Incoming>,
    routes: Arc<Routes>,
    ended: CancellationToken,
}

impl Session {
    /// Connects and logs in. What the server opens is led by what is listened for, and refused otherwise.
    ///
    /// # Errors
    /// A sentence: what is wrong, without a secret.
    pub async fn connect(login: &Login, tracker: &TaskTracker) -> Result<Self, String> {
        let credentials = Arc::new(login.read()?);
        let connecting = tokio::time::timeout(PATIENCE, Self::log_in(login, credentials, tracker));
        connecting.await.unwrap_or_else(|_| Err(format!("{} did not answer in {PATIENCE:?}", login.to)))
    }

    async fn log_in(login: &Login, credentials: Arc<Credentials>, tracker: &TaskTracker) -> Result<Self, String> {
        let to = &login.to;
        let stream = TcpStream::connect((credentials.host.as_str(), credentials.port)).await;
        let stream = stream.map_err(|error| format!("{to} cannot be reached: {error}"))?;
        let config = Config {
            preferred: Preferred {
                kex: Cow::Borrowed(KEX),
                key: Cow::Owned(credentials.host_key_algorithms()),
                cipher: Cow::Borrowed(CIPHERS),
                mac: Cow::Borrowed(MACS),
                ..Preferred::DEFAULT
            },
            channel_buffer_size: BUFFER,
            keepalive_interval: Some(KEEPALIVE),
            nodelay: true,
            ..Config::default()
        };
        let _ = stream.set_nodelay(true);
        let (ended, unknown) = (CancellationToken::new(), Arc::new(OnceLock::new()));
        let routes = Arc::new(Routes::until(ended.clone()));
        let incoming = Incoming {
            credentials: credentials.clone(),
            routes: routes.clone(),
            unknown: unknown.clone(),
            places: Arc::new(Semaphore::new(CHANNELS)),
            tracker: tracker.clone(),
            _guard: ended.clone().drop_guard(),
        };
        let connected = russh::client::connect_stream(Arc::new(config), stream, incoming).await;
        let mut handle = connected.map_err(|error| match (unknown.get(), error) {
            (Some(shown), _) => format!(
                "{to} is not who it should be: it shows the host key {shown}, which is not among those that are configured. \
                 If the key was changed on purpose, put the new one there; else somebody may be in between"
            ),
            (None, russh::Error::NoCommonAlgo { kind, .. }) => {
                format!("{to} has no {kind:?} algorithm that is safe, or no host key of the configured kinds")
            }
            (None, error) => format!("{to} speaks no SSH that can be understood: {error}"),
        })?;
        let hash = if credentials.key.algorithm().is_rsa() {
            let best = handle.best_supported_rsa_hash().await.map_err(|error| format!("{to}: {error}"))?;
            // Never SHA-1.
            Some(best.flatten().unwrap_or(HashAlg::Sha512))
        } else {
            None
        };
        let key = PrivateKeyWithHashAlg::new(credentials.key.clone(), hash);
        match handle.authenticate_publickey(&login.user, key).await {
            Ok(AuthResult::Success) => Ok(Self { handle, routes, ended }),
            Ok(AuthResult::Failure { .. }) => {
                let shown = credentials.key.public_key().fingerprint(HashAlg::Sha256);
                Err(format!("{to} does not let the user {:?} in with the key {shown}", login.user))
            }
            Err(error) => Err(format!("{to} ended the connection: {error}")),
        }
    }

    /// Has the server listen at `place` and leads what comes in there to `target`. `false`: the server refuses, or it listens
    /// there for another target.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn listen(&self, place: &Place, target: Target) -> Result<bool, String> {
        // First, since a connection may come in before the answer is read.
        if !self.routes.add(place, target) {
            return Ok(false);
        }
        let answer = async {
            match place {
                Place::Tcp { host, port } => self.handle.tcpip_forward(host, u32::from(*port)).await.map(drop),
                Place::Unix(path) => self.handle.streamlocal_forward(path).await,
            }
        };
        let answer = tokio::time::timeout(ANSWER, answer).await;
        if !matches!(answer, Ok(Ok(()))) {
            self.routes.remove(place);
        }
        match answer {
            Ok(Ok(())) => Ok(true),
            Ok(Err(russh::Error::RequestDenied)) => Ok(false),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("the server did not answer in {ANSWER:?}")),
        }
    }

    /// Has the server listen at `place` no more.
    pub async fn unlisten(&self, place: &Place) {
        self.routes.remove(place);
        let cancelled = async {
            match place {
                Place::Tcp { host, port } => self.handle.cancel_tcpip_forward(host, u32::from(*port)).await,
                Place::Unix(path) => self.handle.cancel_streamlocal_forward(path).await,
            }
        };
        let _ = tokio::time::timeout(ANSWER, cancelled).await;
    }

    /// Leads a connection through the server to `host:port` on its side, until either end closes it.
    ///
    /// # Errors
    /// The server cannot connect there, or may not.
    pub async fn lead(&self, stream: TcpStream, host: &str, port: u16) -> Result<(), String> {
        let (from, from_port) =
            stream.peer_addr().map_or((String::new(), 0), |peer| (peer.ip().to_string(), peer.port()));
        let opening = self.handle.channel_open_direct_tcpip(host, u32::from(port), from, u32::from(from_port));
        let channel = tokio::time::timeout(ANSWER, opening).await;
        let channel = channel.map_err(|_| format!("the server did not answer in {ANSWER:?}"))?;
        pump(channel.map_err(|error| error.to_string())?, stream, &self.ended).await;
        Ok(())
    }

    /// Waits until the connection has ended.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends the connection.
    pub async fn close(&self) {
        let closing = self.handle.disconnect(Disconnect::ByApplication, "", "en");
        let _ = tokio::time::timeout(Duration::from_secs(1), closing).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ended.cancel();
    }
}

/// Decides about what the server wants.
struct Incoming {
    credentials: Arc<Credentials>,
    routes: Arc<Routes>,
    unknown: Arc<OnceLock<String>>,
    places: Arc<Semaphore>,
    tracker: TaskTracker,
    _guard: DropGuard,
}

impl Incoming {
    /// Connects to where the channel leads, and answers then.
    fn lead(&self, channel: Channel<Msg>, route: Option<Route>, reply: ChannelOpenHandle) {
        let (Some(Route { target, ended }), Ok(place)) = (route, self.places.clone().try_acquire_owned()) else {
            // What is dropped is refused.
            return;
        };
        self.tracker.spawn(async move {
            match target.connect().await {
                Ok(stream) => {
                    reply.accept().await;
                    pump(channel, stream, &ended).await;
                }
                Err(error) => {
                    tracing::debug!(target.address, error = %error, "a forwarded connection leads to nobody");
                    reply.reject(ChannelOpenFailure::ConnectFailed).await;
                }
            }
            drop(place);
        });
    }
}

impl Handler for Incoming {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let key = shown.public_key();
        let believed = shown.certificate().is_none() && self.credentials.believes(&key);
        if !believed {
            let _ = self.unknown.set(format!("{} ({})", key.fingerprint(HashAlg::Sha256), key.algorithm()));
        }
        Ok(believed)
    }

    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        channel: Channel<Msg>,
        _connected_address: &str,
        connected_port: u32,
        _originator_address: &str,
        _originator_port: u32,
        reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        self.lead(channel, self.routes.of_port(connected_port), reply);
        Ok(())
    }

    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        channel: Channel<Msg>,
        socket_path: &str,
        reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        self.lead(channel, self.routes.of_path(socket_path), reply);
        Ok(())
    }

    async fn server_channel_open_agent_forward(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        _reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_tcpip(
        &mut self,
        _channel: Channel<Msg>,
        _host_to_connect: &str,
        _port_to_connect: u32,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _channel: Channel<Msg>,
        _socket_path: &str,
        _reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }

    async fn server_channel_open_x11(
        &mut self,
        _channel: Channel<Msg>,
        _originator_address: &str,
        _originator_port: u32,
        _reply: ChannelOpenHandle,
        _session: &mut russh::client::Session,
    ) -> Result<(), Self::Error> {
        Ok(())
    }
}
