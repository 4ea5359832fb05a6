//! What all connections share.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use russh::server::Config;
use russh::{Limits, MethodKind, MethodSet, SshId};
use tokio_util::sync::CancellationToken;

use super::backlog::Kept;
use super::limits::{Slot, Slots};
use super::refusals::Refusals;
use super::waiting::Waiting;
use super::{HostKeys, Settings, algorithms};
use crate::metrics::SshLabels;
use crate::outpost::Outpost;

/// What every rejected key costs a client, known or not.
const REJECTION: Duration = Duration::from_millis(100);

/// How often a client that says nothing is asked whether it is there, at most.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How often it may leave that unanswered.
const UNANSWERED: usize = 3;

/// OpenSSH's own sizes: what a client may send before it hears that more is welcome, and in one packet (bytes).
const WINDOW: u32 = 2 * 1024 * 1024;
const PACKET: u32 = 32 * 1024;

/// How many packets of a channel wait for its forwarding task: its backlog is elsewhere.
const CHANNEL_BUFFER: usize = 16;

/// How many packets of all channels together wait for the client.
const SESSION_BUFFER: usize = 64;

/// What connections share.
pub(super) struct Server {
    pub(super) outpost: Arc<Outpost>,
    pub(super) settings: Settings,
    pub(super) host_keys: HostKeys,
    pub(super) refusals: Refusals,
    /// Cancelled when no new connections and channels are wanted.
    pub(super) shutdown: CancellationToken,
    pub(super) waiting: Arc<Waiting>,
    connections: Arc<Slots<Arc<str>>>,
    channels: Arc<Slots<Arc<str>>>,
    pub(super) kept: Kept,
}

impl Server {
    pub(super) fn new(outpost: Arc<Outpost>, host_keys: HostKeys, shutdown: CancellationToken) -> Self {
        let settings = outpost.config.load().ssh.clone();
        Self {
            refusals: Refusals::new(outpost.clone()),
            waiting: Waiting::new(
                settings.unauthenticated,
                settings.unauthenticated_per_address,
                outpost.metrics.ssh_unauthenticated.clone(),
            ),
            connections: Slots::new(settings.connections_per_hub),
            channels: Slots::new(settings.channels_per_hub),
            kept: Kept::default(),
            outpost,
            settings,
            host_keys,
            shutdown,
        }
    }

    /// The library's settings for a new connection. It keeps them, and with them its host key.
    pub(super) fn config(&self) -> Arc<Config> {
        let idle = self.settings.idle_timeout;
        Arc::new(Config {
            server_id: SshId::Standard(Cow::Borrowed("SSH-2.0-Outpost")),
            methods: MethodSet::from(&[MethodKind::PublicKey][..]),
            auth_rejection_time: REJECTION,
            // Clients begin by asking which methods there are, which is no attempt.
            auth_rejection_time_initial: Some(Duration::ZERO),
            max_auth_attempts: self.settings.authentication_attempts.saturating_add(1),
            keys: vec![(*self.host_keys.current()).clone()],
            certificates: Vec::new(),
            limits: Limits::default(),
            window_size: WINDOW,
            maximum_packet_size: PACKET,
            channel_buffer_size: CHANNEL_BUFFER,
            event_buffer_size: SESSION_BUFFER,
            preferred: algorithms::preferred(),
            inactivity_timeout: Some(idle),
            keepalive_interval: Some(KEEPALIVE.min(idle / 4)),
            keepalive_max: UNANSWERED,
            nodelay: true,
        })
    }

    pub(super) fn take_connection(&self, hub: &Arc<str>) -> Option<Slot<Arc<str>>> {
        let labels = SshLabels { hub: hub.as_ref().to_owned() };
        let gauge = self.outpost.metrics.ssh_connections.get_or_create(&labels).clone();
        self.connections.take(hub.clone(), gauge)
    }

    pub(super) fn take_channel(&self, hub: &Arc<str>) -> Option<Slot<Arc<str>>> {
        let labels = SshLabels { hub: hub.as_ref().to_owned() };
        let gauge = self.outpost.metrics.ssh_channels.get_or_create(&labels).clone();
        self.channels.take(hub.clone(), gauge)
    }
}
