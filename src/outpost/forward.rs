//! Forward: which server a hub's SSH client may reach, and where.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::{Entry, Outpost};
use crate::model::{Phase, is_forbidden};

/// The least time between two looks into a shared database for a server that is not known here.
const PAUSE: Duration = Duration::from_millis(100);

/// Rows that were written this long before the last look are read again: clocks differ, and transactions end late.
const OVERLAP: TimeDelta = TimeDelta::seconds(20);

/// Why a destination may not be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreachable {
    /// No running server of this hub has this address.
    NoServer,
    /// It has, but on the loopback of another machine.
    Elsewhere,
    /// Its name leads only to addresses that are no server's: link-local ones (cloud metadata among them), multicast.
    Forbidden,
    /// Its name leads nowhere.
    Unknown,
}

/// How many names are looked up at once: each takes one of the threads that all of Outpost shares, for as long as the system
/// tries.
const LOOK_UPS: usize = 32;

/// What is looked for because it is not known: rows, and addresses of names.
#[derive(Debug)]
pub struct Looks {
    /// When rows were looked for the last time.
    last: Mutex<Option<Instant>>,
    names: Arc<Semaphore>,
}

impl Default for Looks {
    fn default() -> Self {
        Self { last: Mutex::default(), names: Arc::new(Semaphore::new(LOOK_UPS)) }
    }
}

impl Looks {
    /// The addresses of `host:port`. Who does not wait any longer leaves a look-up behind, which counts until it ends.
    async fn resolve(&self, target: Arc<str>) -> io::Result<Vec<SocketAddr>> {
        if let Ok(address) = target.parse() {
            return Ok(vec![address]);
        }
        let counted = self.names.clone().acquire_owned().await.map_err(io::Error::other)?;
        let look_up = move || {
            let _counted = counted;
            Ok(target.to_socket_addrs()?.collect())
        };
        tokio::task::spawn_blocking(look_up).await?
    }
}

impl Outpost {
    /// The running server of `hub` whose address, as it was answered to the hub, is this one. A server that another Outpost
    /// has just started is looked for in the database.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn forward_target(self: &Arc<Self>, hub: &str, host: &str, port: u16) -> Result<Arc<Entry>, Unreachable> {
        let address = format!("{host}:{port}");
        if let Some(entry) = self.running_at(hub, &address) {
            return Ok(entry);
        }
        if self.store.is_shared() {
            self.look_for_news().await;
        }
        self.running_at(hub, &address).ok_or(Unreachable::NoServer)
    }

    /// Where a server listens. Loopback means this machine, so that it is only for servers that run here.
    ///
    /// # Errors
    /// Why it cannot be connected to.
    pub async fn addresses_of(&self, entry: &Entry) -> Result<Vec<SocketAddr>, Unreachable> {
        let (target, here) = {
            let server = &entry.state().server;
            let spawner = self.spawners.get(&server.handle.spawner);
            let target = if server.target.is_empty() { &server.address } else { &server.target };
            let here = server.owner == self.instance && spawner.is_some_and(|spawner| !spawner.shared());
            (target.clone(), here)
        };
        choose(self.looks.resolve(target).await.map_err(|_| Unreachable::Unknown)?, here)
    }

    fn running_at(&self, hub: &str, address: &str) -> Option<Arc<Entry>> {
        let runs_there = |entry: &Entry| {
            let state = entry.state();
            state.server.phase == Phase::Running && !state.gone && state.server.address.eq_ignore_ascii_case(address)
        };
        self.view.find(|entry| &*entry.id.hub == hub && runs_there(entry))
    }

    /// Reads rows that others moved. Those who wait for it at the same time share one look.
    async fn look_for_news(self: &Arc<Self>) {
        let asked = Instant::now();
        let mut last = self.looks.last.lock().await;
        match *last {
            Some(last) if last >= asked => return,
            Some(last) => tokio::time::sleep_until(last + PAUSE).await,
            None => {}
        }
        *last = Some(Instant::now());
        if let Err(error) = self.refresh(self.refreshed() - OVERLAP).await {
            tracing::warn!(cause = error.cause(), "a server for an SSH client could not be looked for in the database");
        }
    }
}

/// The addresses that may be connected to, in their order; `here`: the server runs on this machine.
fn choose(found: Vec<SocketAddr>, here: bool) -> Result<Vec<SocketAddr>, Unreachable> {
    let mut reason = Unreachable::Unknown;
    let mut chosen = Vec::new();
    for address in found {
        match judge(address.ip(), here) {
            Ok(()) => chosen.push(address),
            Err(why) => reason = why,
        }
    }
    if chosen.is_empty() { Err(reason) } else { Ok(chosen) }
}

fn judge(address: IpAddr, here: bool) -> Result<(), Unreachable> {
    let address = address.to_canonical();
    // To connect to no address is to connect to oneself.
    if address.is_loopback() || address.is_unspecified() {
        return if here { Ok(()) } else { Err(Unreachable::Elsewhere) };
    }
    if is_forbidden(address) { Err(Unreachable::Forbidden) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1", Unreachable::Elsewhere)]
    #[case("127.8.9.1", Unreachable::Elsewhere)]
    #[case("::1", Unreachable::Elsewhere)]
    #[case("::ffff:127.0.0.1", Unreachable::Elsewhere)]
    #[case("0.0.0.0", Unreachable::Elsewhere)]
    #[case("::", Unreachable::Elsewhere)]
    fn loopback_is_for_servers_that_run_here(#[case] address: IpAddr, #[case] elsewhere: Unreachable) {
        assert_eq!(judge(address, true), Ok(()));
        assert_eq!(judge(address, false), Err(elsewhere));
    }

    #[rstest]
    #[case("169.254.169.254")]
    #[case("::ffff:169.254.169.254")]
    #[case("fe80::1")]
    #[case("fd00:ec2::254")]
    #[case("224.0.0.1")]
    #[case("ff02::1")]
    #[case("255.255.255.255")]
    fn some_addresses_are_no_servers(#[case] address: IpAddr) {
        assert_eq!(judge(address, true), Err(Unreachable::Forbidden));
        assert_eq!(judge(address, false), Err(Unreachable::Forbidden));
    }

    #[tokio::test]
    async fn few_names_are_looked_up_at_once_and_addresses_need_none() {
        let looks = Looks::default();
        let others = looks.names.clone().acquire_many_owned(LOOK_UPS as u32).await.unwrap();
        let address: SocketAddr = "[2001:db8::1]:80".parse().unwrap();
        assert_eq!(looks.resolve("[2001:db8::1]:80".into()).await.unwrap(), [address]);
        let mut waiting = Box::pin(looks.resolve("localhost:80".into()));
        tokio::select! {
            biased;
            found = &mut waiting => panic!("{found:?}"),
            () = tokio::task::yield_now() => {}
        }
        drop(others);
        assert!(waiting.await.unwrap().iter().all(|found| found.ip().is_loopback() && found.port() == 80));
    }

    #[test]
    fn of_the_addresses_of_a_name_only_those_that_may_be_are_tried() {
        let parse = |text: &[&str]| text.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let found = || parse(&["169.254.169.254:80", "10.0.0.7:80", "127.0.0.1:80"]);
        assert_eq!(choose(found(), false), Ok(parse(&["10.0.0.7:80"])));
        assert_eq!(choose(found(), true), Ok(parse(&["10.0.0.7:80", "127.0.0.1:80"])));
        assert_eq!(choose(parse(&["169.254.169.254:80"]), true), Err(Unreachable::Forbidden));
        assert_eq!(choose(Vec::new(), true), Err(Unreachable::Unknown));
    }
}
