//! How many of something may be there at once.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::metrics::gauge::Gauge;

/// A limited number of slots for each key.
#[derive(Debug)]
pub struct Slots<K: Eq + Hash> {
    limit: usize,
    taken: Mutex<HashMap<K, usize>>,
}

/// A slot that is taken until this is dropped.
#[derive(Debug)]
pub struct Slot<K: Clone + Eq + Hash> {
    slots: Arc<Slots<K>>,
    key: K,
    gauge: Gauge,
    alone: bool,
}

impl<K: Clone + Eq + Hash> Slots<K> {
    /// `limit` slots for each key.
    #[must_use]
    pub fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, taken: Mutex::default() })
    }

    /// Takes a slot and counts it in `gauge`; `None`: all are taken.
    #[must_use]
    pub fn take(self: &Arc<Self>, key: K, gauge: Gauge) -> Option<Slot<K>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let count = taken.entry(key.clone()).or_default();
        if *count >= self.limit {
            return None;
        }
        *count += 1;
        gauge.inc();
        let alone = *count == 1;
        Some(Slot { slots: self.clone(), key, gauge, alone })
    }
}

impl<K: Clone + Eq + Hash> Slot<K> {
    /// What the slot was taken for.
    #[must_use]
    pub const fn key(&self) -> &K {
        &self.key
    }

    /// Whether no other slot of its key was taken at that moment.
    #[must_use]
    pub const fn was_alone(&self) -> bool {
        self.alone
    }
}

impl<K: Clone + Eq + Hash> Drop for Slot<K> {
    fn drop(&mut self) {
        let mut taken = self.slots.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.gauge.dec();
        // What nobody holds any more is forgotten, so that strangers' addresses do not pile up.
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

/// What counts as one address: whoever has an IPv6 address has all of its /64.
#[must_use]
pub fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() & (u128::MAX << 64)).into()),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_free_again_when_it_is_dropped() {
        let (slots, gauge) = (Slots::new(2), Gauge::default());
        let first = slots.take("one", gauge.clone()).unwrap();
        let second = slots.take("one", gauge.clone()).unwrap();
        assert!(slots.take("one", gauge.clone()).is_none());
        let other = slots.take("two", gauge.clone()).unwrap();
        assert_eq!([first.was_alone(), second.was_alone(), other.was_alone()], [true, false, true]);
        assert_eq!(gauge.get(), 3);
        drop(first);
        assert!(slots.take("one", gauge.clone()).is_some());
        drop((second, other));
        assert_eq!(gauge.get(), 0);
        assert!(slots.taken.lock().unwrap().is_empty());
    }

    #[test]
    fn neighbours_share_an_address() {
        let address = |text: &str| neighbourhood(text.parse().unwrap());
        assert_eq!(address("2001:db8:1:2:3::4"), address("2001:db8:1:2:ffff::1"));
        assert_ne!(address("2001:db8:1:2::"), address("2001:db8:1:3::"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
    }
}
