//! Clients that are not authenticated yet. There is room for so many; the oldest gives way to a new one, so that whoever opens
//! connections and says nothing keeps nobody out who has a key and is quick.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use super::limits::neighbourhood;

/// The room for clients that are not authenticated yet.
#[derive(Debug)]
pub(super) struct Waiting {
    limit: usize,
    per_address: usize,
    gauge: Gauge,
    /// The oldest first.
    places: Mutex<Vec<(IpAddr, CancellationToken)>>,
}

/// A client's place, until this is dropped or a new client needs it.
#[derive(Debug)]
pub(super) struct Place {
    waiting: Arc<Waiting>,
    /// Cancelled when the client has to give way.
    pub(super) lost: CancellationToken,
}

impl Waiting {
    /// Room for `limit` clients, and for `per_address` of one address. Both are at least 1.
    pub(super) fn new(limit: usize, per_address: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { limit, per_address, gauge, places: Mutex::default() })
    }

    /// A place for a new client.
    pub(super) fn take(self: &Arc<Self>, client: IpAddr) -> Place {
        let (from, lost) = (neighbourhood(client), CancellationToken::new());
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let from_there = places.iter().filter(|(other, _)| *other == from).count();
        let oldest = if from_there >= self.per_address {
            places.iter().position(|(other, _)| *other == from)
        } else {
            (places.len() >= self.limit).then_some(0)
        };
        if let Some(oldest) = oldest {
            places.remove(oldest).1.cancel();
        }
        places.push((from, lost.clone()));
        self.gauge.set(places.len() as i64);
        Place { waiting: self.clone(), lost }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whoever gave way is not in there any more.
        if !self.lost.is_cancelled() {
            let mut places = self.waiting.places.lock().unwrap_or_else(PoisonError::into_inner);
            places.retain(|(_, lost)| *lost != self.lost);
            self.waiting.gauge.set(places.len() as i64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        [192, 0, 2, last].into()
    }

    fn lost(places: &[Place]) -> Vec<bool> {
        places.iter().map(|place| place.lost.is_cancelled()).collect()
    }

    #[test]
    fn the_oldest_gives_way() {
        let waiting = Waiting::new(3, 3, Gauge::default());
        let mut places: Vec<_> = (0..5).map(|last| waiting.take(address(last))).collect();
        assert_eq!(lost(&places), [true, true, false, false, false]);
        assert_eq!(waiting.gauge.get(), 3);
        places.pop();
        places.push(waiting.take(address(9)));
        assert_eq!(lost(&places), [true, true, false, false, false], "there was room");
        drop(places);
        assert_eq!(waiting.gauge.get(), 0);
        assert!(waiting.places.lock().unwrap().is_empty());
    }

    #[test]
    fn an_address_makes_room_among_its_own() {
        let waiting = Waiting::new(4, 2, Gauge::default());
        let places: Vec<_> = [1, 2, 2, 2, 2, 3].map(|last| waiting.take(address(last))).into();
        assert_eq!(lost(&places), [false, true, true, false, false, false]);
    }
}
