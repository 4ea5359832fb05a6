//! Ports for servers. They belong to the machine, so all backends of this Outpost share one list of those given away.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::ops::RangeInclusive;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rand::RngExt;

use super::sentences;
use crate::error::{Error, Result};
use crate::model::Uid;

/// Below, only root may listen; a hub's wish must not take the place of a system service.
const FIRST_FREE: u16 = 1024;

/// A server does not listen at once, so that its port looks free for a while.
static GIVEN: Mutex<BTreeMap<u16, Uid>> = Mutex::new(BTreeMap::new());

fn given() -> MutexGuard<'static, BTreeMap<u16, Uid>> {
    GIVEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the server a port: the wished one if it is free, else one of the range, else any free one. Kept until
/// [`give_back`].
///
/// # Errors
/// [`Error::Failed`] with a sentence: there is none.
pub fn take(uid: &Uid, ip: IpAddr, wish: Option<u16>, range: Option<&RangeInclusive<u16>>) -> Result<u16> {
    let mut given = given();
    given.retain(|_, owner| owner != uid);
    let free = |port: &u16| !given.contains_key(port) && is_free(ip, *port);
    let wish = wish.filter(|port| *port >= FIRST_FREE && range.is_none_or(|range| range.contains(port)));
    let port = match (wish.filter(free), range) {
        (Some(port), _) => Some(port),
        (None, Some(range)) => {
            // A random place to begin: a port that was in use a moment ago may still have visitors.
            let start = rand::rng().random_range(range.clone());
            (start..=*range.end()).chain(*range.start()..start).find(free)
        }
        (None, None) => (0..100).find_map(|_| {
            let port = TcpListener::bind((ip, 0)).ok()?.local_addr().ok()?.port();
            (!given.contains_key(&port)).then_some(port)
        }),
    };
    let port = port.ok_or_else(|| {
        Error::failed(match range {
            Some(range) => sentences::ports_exhausted(*range.start(), *range.end()),
            None => sentences::no_port(ip),
        })
    })?;
    given.insert(port, uid.clone());
    Ok(port)
}

/// Notes that a server that was found has this port.
pub fn keep(uid: &Uid, port: u16) {
    given().insert(port, uid.clone());
}

/// Gives all ports of a server back.
pub fn give_back(uid: &Uid) {
    given().retain(|_, owner| owner != uid);
}

/// Whether somebody could listen there now.
#[must_use]
pub fn is_free(ip: IpAddr, port: u16) -> bool {
    TcpListener::bind(SocketAddr::new(ip, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn every_server_gets_its_own() {
        let range = 22_100..=22_104;
        let servers: Vec<_> = (0..5).map(|_| Uid::generate()).collect();
        let mut ports: Vec<_> = servers.iter().map(|uid| take(uid, IP, Some(22_100), Some(&range)).unwrap()).collect();
        assert_eq!(ports[0], 22_100);
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 5);
        let sentence = take(&Uid::generate(), IP, None, Some(&range)).unwrap_err().to_string();
        assert!(sentence.contains("22100 to 22104"), "{sentence}");
        give_back(&servers[2]);
        let late = Uid::generate();
        take(&late, IP, None, Some(&range)).unwrap();
        servers.iter().chain([&late]).for_each(give_back);
    }

    #[test]
    fn a_wish_is_a_wish() {
        let taken = TcpListener::bind((IP, 0)).unwrap();
        let busy = taken.local_addr().unwrap().port();
        let uid = Uid::generate();
        assert_ne!(take(&uid, IP, Some(busy), None).unwrap(), busy);
        assert_ne!(take(&uid, IP, Some(80), None).unwrap(), 80);
        assert!((22_110..=22_111).contains(&take(&uid, IP, Some(22_300), Some(&(22_110..=22_111))).unwrap()));
        give_back(&uid);
    }
}
