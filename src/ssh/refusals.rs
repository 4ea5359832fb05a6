//! What clients were refused: told to the log, the metrics and, for those that are known, the audit table. One that asks
//! again and again is one line and one row a minute, and however many different things it asks for, memory stays bounded.
//! Each hub has a bound of its own, and strangers have one together, so that nobody's noise hides what another was refused.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::limits::neighbourhood;
use crate::metrics::SshRefusalLabels;
use crate::model::Actor;
use crate::outpost::Outpost;

/// How often repeated refusals are told.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// How many different refusals of a hub, or of all strangers, are told apart in that time.
const DISTINCT: usize = 50;

/// How many characters of a target are told.
const TARGET: usize = 255;

/// The target of those that are not told apart.
const REST: &str = "…";

/// Why something is refused.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// A shell, a command, a subsystem: anything in a session.
    Session,
    /// X11 forwarding.
    X11,
    /// A port or a socket on this side.
    RemoteForward,
    /// A Unix socket as the destination.
    UnixSocket,
    /// A destination that is no running server of this hub.
    NoServer,
    /// A server of this hub on the loopback of another machine.
    Elsewhere,
    /// A server whose name leads to addresses that are nobody's: link-local, multicast.
    Address,
    /// A destination that the key's own line does not permit.
    KeyOptions,
    /// The hub has as many connections as it may have.
    Connections,
    /// The hub has as many channels as it may have.
    Channels,
    /// A key that no hub has.
    UnknownKey,
    /// A hub's key that has ended.
    KeyExpired,
    /// A hub's key that may not be used from there.
    KeyAddress,
    /// A signature by an algorithm that is not accepted.
    Algorithm,
    /// The oldest of too many clients that are not authenticated yet.
    Unauthenticated,
    /// Not authenticated in time.
    Handshake,
    /// What was sent is not SSH as it is spoken here.
    Protocol,
}

impl Reason {
    /// The metric's label, and the audit table's word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::X11 => "x11",
            Self::RemoteForward => "remote_forward",
            Self::UnixSocket => "unix_socket",
            Self::NoServer => "no_server",
            Self::Elsewhere => "elsewhere",
            Self::Address => "address",
            Self::KeyOptions => "key_options",
            Self::Connections => "connections",
            Self::Channels => "channels",
            Self::UnknownKey => "unknown_key",
            Self::KeyExpired => "key_expired",
            Self::KeyAddress => "key_address",
            Self::Algorithm => "algorithm",
            Self::Unauthenticated => "unauthenticated",
            Self::Handshake => "handshake",
            Self::Protocol => "protocol",
        }
    }

    /// What the client and the log are told.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Session => "there are no shells, commands and subsystems here, only forwards to servers",
            Self::X11 => "there is no X11 here",
            Self::RemoteForward => "nothing is listened on for SSH clients",
            Self::UnixSocket => "Unix sockets are not forwarded to",
            Self::NoServer => "no running server of this hub has this address",
            Self::Elsewhere => "the server runs on the loopback of another machine",
            Self::Address => "the server's name leads to no address that may be connected to",
            Self::KeyOptions => "the options of the hub's key do not permit this destination",
            Self::Connections => "the hub has as many connections as ssh.connections_per_hub allows",
            Self::Channels => "the hub has as many forwarded connections as ssh.channels_per_hub allows",
            Self::UnknownKey => "no hub has this key",
            Self::KeyExpired => "the hub's key has expired",
            Self::KeyAddress => "the options of the hub's key do not permit it from this address",
            Self::Algorithm => "the signature's algorithm is not accepted",
            Self::Unauthenticated => {
                "it gave way to a newer client, since as many as allowed were not authenticated yet"
            }
            Self::Handshake => "the client did not authenticate in time",
            Self::Protocol => "the client does not speak SSH as it is spoken here",
        }
    }
}

/// What was refused. Those that are equal are told together.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Refusal {
    /// The hub; `None`: a stranger.
    hub: Option<Arc<str>>,
    reason: Reason,
    /// What was asked for: `host:port`, or nothing.
    target: String,
    /// The client's address, of a stranger its neighbourhood; `None`: many strangers.
    client: Option<IpAddr>,
    /// Of a stranger: what it showed.
    shown: Option<Shown>,
}

/// A public key, which anybody can show.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Shown {
    /// `SHA256:…`
    pub(super) fingerprint: String,
    /// The hub that has it.
    pub(super) claims: Option<Arc<str>>,
}

impl Refusal {
    /// A refusal. Of the target, which clients choose, only the beginning is kept.
    pub(super) fn new(hub: Option<Arc<str>>, reason: Reason, target: &str, client: IpAddr) -> Self {
        let target = match target.char_indices().nth(TARGET) {
            Some((end, _)) => format!("{}{REST}", &target[..end]),
            None => target.to_owned(),
        };
        let client = if hub.is_some() { client.to_canonical() } else { neighbourhood(client) };
        Self { hub, reason, target, client: Some(client), shown: None }
    }

    /// A refusal of somebody who showed a public key.
    pub(super) fn of_key(reason: Reason, shown: Shown, client: IpAddr) -> Self {
        Self { shown: Some(shown), ..Self::new(None, reason, "", client) }
    }
}

/// Refusals of the last minute by hub, with how often they came again since they were told.
#[derive(Debug, Default)]
struct Recent {
    again: HashMap<Option<Arc<str>>, HashMap<Refusal, u64>>,
}

impl Recent {
    /// What is to be told at once: a refusal that is new.
    fn note(&mut self, mut refusal: Refusal) -> Option<Refusal> {
        let of_hub = self.again.entry(refusal.hub.clone()).or_default();
        if of_hub.len() >= DISTINCT && !of_hub.contains_key(&refusal) {
            // Too many: what they wanted is not told apart any more. Of a hub's clients the first stands for all.
            let mut rest =
                of_hub.iter_mut().filter(|(known, _)| known.reason == refusal.reason && known.target == REST);
            if let Some((_, again)) = rest.next() {
                *again += 1;
                return None;
            }
            refusal.target = REST.to_owned();
            refusal.client = refusal.client.filter(|_| refusal.hub.is_some());
            refusal.shown = None;
        }
        match of_hub.entry(refusal) {
            Entry::Occupied(mut known) => {
                *known.get_mut() += 1;
                None
            }
            Entry::Vacant(new) => {
                let refusal = new.key().clone();
                new.insert(0);
                Some(refusal)
            }
        }
    }

    /// What came again since it was told. What did not is forgotten.
    fn take(&mut self) -> Vec<(Refusal, u64)> {
        self.again.retain(|_, of_hub| {
            of_hub.retain(|_, again| *again > 0);
            !of_hub.is_empty()
        });
        let all = self.again.values_mut().flatten();
        all.map(|(refusal, again)| (refusal.clone(), std::mem::take(again))).collect()
    }
}

/// Tells what was refused.
#[derive(Debug)]
pub(super) struct Refusals {
    outpost: Arc<Outpost>,
    recent: Mutex<Recent>,
}

impl Refusals {
    pub(super) fn new(outpost: Arc<Outpost>) -> Self {
        Self { outpost, recent: Mutex::default() }
    }

    /// Notes a refusal; it is told in the background.
    pub(super) fn note(&self, refusal: Refusal) {
        let labels = SshRefusalLabels { reason: refusal.reason.as_str() };
        self.outpost.metrics.ssh_refusals.get_or_create(&labels).inc();
        let new = self.recent.lock().unwrap_or_else(PoisonError::into_inner).note(refusal);
        if let Some(refusal) = new {
            let outpost = self.outpost.clone();
            self.outpost.tracker.spawn(async move { tell(&outpost, &refusal, 1).await });
        }
    }

    /// Tells what came again. Called once a minute, and at the end.
    pub(super) async fn tell_again(&self) {
        let again = self.recent.lock().unwrap_or_else(PoisonError::into_inner).take();
        for (refusal, times) in again {
            tell(&self.outpost, &refusal, times).await;
        }
    }
}

async fn tell(outpost: &Outpost, refusal: &Refusal, times: u64) {
    let Refusal { hub, reason, target, client, shown } = refusal;
    let client = client.map(|client| client.to_string());
    let Some(hub) = hub else {
        tracing::info!(
            client.address = client,
            key = shown.as_ref().map(|shown| shown.fingerprint.as_str()),
            claims = shown.as_ref().and_then(|shown| shown.claims.as_deref()),
            reason = reason.as_str(),
            times,
            "an SSH client was refused: {}",
            reason.sentence()
        );
        return;
    };
    tracing::warn!(hub.name = ?hub, client.address = client, target = ?target, reason = reason.as_str(), times, "an SSH client of a hub was refused: {}", reason.sentence());
    let detail = json!({
        "reason": reason.as_str(), "target": target, "client": client, "times": times,
    });
    if let Err(error) = outpost.store.record(&Actor::Hub(hub.clone()), "ssh.refused", hub, &detail).await {
        tracing::warn!(hub.name = ?hub, cause = error.cause(), "the audit table does not know of a refusal");
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));

    fn refusal_of(hub: &str, target: usize) -> Refusal {
        Refusal::new(Some(hub.into()), Reason::NoServer, &target.to_string(), CLIENT)
    }

    fn refusal(target: usize) -> Refusal {
        refusal_of("hub1", target)
    }

    #[test]
    fn a_refusal_is_told_at_once_and_then_once_a_period() {
        let mut recent = Recent::default();
        assert_eq!(recent.note(refusal(1)), Some(refusal(1)));
        assert_eq!(recent.note(refusal(1)), None);
        assert_eq!(recent.note(refusal(1)), None);
        assert_eq!(recent.note(refusal(2)), Some(refusal(2)));
        assert_eq!(recent.take(), [(refusal(1), 2)]);
        assert_eq!(recent.note(refusal(1)), None, "it is still going on");
        assert_eq!(recent.take(), [(refusal(1), 1)]);
        assert_eq!(recent.take(), []);
        assert_eq!(recent.note(refusal(1)), Some(refusal(1)), "it was over");
    }

    #[test]
    fn however_much_is_asked_for_little_is_kept() {
        let mut recent = Recent::default();
        let told = (0..100_000).filter_map(|target| recent.note(refusal(target))).count();
        assert_eq!(told, DISTINCT + 1);
        let again = recent.take();
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].0.target.as_str(), again[0].0.client), (REST, Some(CLIENT)));
        assert_eq!(again[0].1, 100_000 - told as u64);
    }

    #[test]
    fn nobody_hides_what_another_was_refused() {
        let mut recent = Recent::default();
        let stranger = |number: u32| Refusal::new(None, Reason::UnknownKey, "", Ipv4Addr::from_bits(number).into());
        let told: Vec<_> = (0..1000).filter_map(|number| recent.note(stranger(number))).collect();
        assert_eq!(told.len(), DISTINCT + 1);
        assert_eq!(told[DISTINCT].client, None, "they are many");
        let shown = Shown { fingerprint: "SHA256:x".to_owned(), claims: None };
        assert_eq!(recent.note(Refusal::of_key(Reason::UnknownKey, shown, CLIENT)), None, "one of the many");
        for target in 0..1000 {
            recent.note(refusal(target));
        }
        assert_eq!(recent.note(refusal_of("hub2", 1)), Some(refusal_of("hub2", 1)));
    }

    #[test]
    fn a_hub_that_changes_its_address_is_bounded_as_well() {
        let mut recent = Recent::default();
        let from =
            |number: u32| Refusal::new(Some("hub1".into()), Reason::Session, "", Ipv4Addr::from_bits(number).into());
        let told: Vec<_> = (1..1000).filter_map(|number| recent.note(from(number))).collect();
        assert_eq!(told.len(), DISTINCT + 1);
        assert!(told.iter().all(|refusal| refusal.client.is_some()));
    }

    #[test]
    fn of_a_target_the_beginning_is_kept() {
        let long = Refusal::new(None, Reason::UnixSocket, &"ü".repeat(100_000), CLIENT);
        assert_eq!(long.target, format!("{}…", "ü".repeat(TARGET)));
        assert_eq!(refusal(7).target, "7");
    }

    #[test]
    fn strangers_are_told_together_with_their_neighbours() {
        let from = |address: &str| Refusal::new(None, Reason::UnknownKey, "", address.parse().unwrap());
        assert_eq!(from("2001:db8::1"), from("2001:db8::2"));
        assert_eq!(from("::ffff:192.0.2.1").client, Some(CLIENT));
    }
}
