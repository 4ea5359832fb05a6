//! What a client has sent and its server has not taken yet.
//!
//! The library lets a client send more as soon as bytes have come, taken or not, and hands them on one channel after the
//! other: a server that reads slowly would hold up the whole connection, which all users of its hub share. What it leaves is
//! kept here, so that this happens only beyond a bound, and then not for long.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// How many bytes are kept of one channel.
const OF_CHANNEL: usize = 8 * 1024 * 1024;

/// How many bytes are kept of all channels of a hub; beyond them one packet of each.
const OF_HUB: usize = 64 * 1024 * 1024;

/// How many packets are written at once.
const AT_ONCE: usize = 16;

/// What is kept of each hub, in bytes.
#[derive(Debug, Default)]
pub(super) struct Kept {
    hubs: Mutex<HashMap<Arc<str>, Arc<AtomicUsize>>>,
}

impl Kept {
    /// For a new channel of a hub.
    pub(super) fn backlog(&self, hub: &Arc<str>) -> Backlog {
        let mut hubs = self.hubs.lock().unwrap_or_else(PoisonError::into_inner);
        let of_hub = hubs.entry(hub.clone()).or_default().clone();
        Backlog { of_hub, state: Mutex::default(), more: Notify::new(), room: Notify::new() }
    }
}

/// What is kept of one channel: one task puts packets in, another takes them out.
#[derive(Debug)]
pub(super) struct Backlog {
    of_hub: Arc<AtomicUsize>,
    state: Mutex<State>,
    more: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    packets: VecDeque<Bytes>,
    /// In bytes, with what is being written.
    kept: usize,
    /// Nothing more comes.
    complete: bool,
    /// Since when there is no room, or was none again and again while more than half stayed.
    full_since: Option<Instant>,
}

/// The server has held up its hub for too long.
#[derive(Debug)]
pub(super) struct Stalled;

impl Backlog {
    /// Puts a packet in; waits while there is no room.
    ///
    /// # Errors
    /// The server did not take half of it within `patience`.
    pub(super) async fn put(&self, packet: Bytes, patience: Duration) -> Result<(), Stalled> {
        while let Some(since) = self.full_since(packet.len()) {
            timeout_at(since + patience, self.room.notified()).await.map_err(|_| Stalled)?;
        }
        self.of_hub.fetch_add(packet.len(), Ordering::Relaxed);
        let mut state = self.state();
        state.kept += packet.len();
        state.packets.push_back(packet);
        drop(state);
        self.more.notify_one();
        Ok(())
    }

    /// Nothing more comes.
    pub(super) fn complete(&self) {
        self.state().complete = true;
        self.more.notify_one();
    }

    /// Takes the next packets out, to be written and then [`Self::written`]; `None`: that was all.
    pub(super) async fn next(&self) -> Option<Vec<Bytes>> {
        loop {
            {
                let mut state = self.state();
                if !state.packets.is_empty() {
                    let count = state.packets.len().min(AT_ONCE);
                    return Some(state.packets.drain(..count).collect());
                }
                if state.complete {
                    return None;
                }
            }
            self.more.notified().await;
        }
    }

    /// The server has taken so many bytes of what was taken out.
    pub(super) fn written(&self, length: usize) {
        self.of_hub.fetch_sub(length, Ordering::Relaxed);
        let mut state = self.state();
        state.kept -= length;
        if state.kept <= OF_CHANNEL / 2 {
            state.full_since = None;
        }
        drop(state);
        self.room.notify_one();
    }

    /// Whether all came that there is, and not all of it is written.
    pub(super) fn has_rest(&self) -> bool {
        let state = self.state();
        state.complete && state.kept > 0
    }

    /// Since when there has been no room for so many bytes; `None`: there is.
    fn full_since(&self, length: usize) -> Option<Instant> {
        let mut state = self.state();
        let of_hub = self.of_hub.load(Ordering::Relaxed);
        // Whoever leaves nothing may always put in one: it is never others' backlog that a channel is closed for.
        let room = state.kept == 0 || state.kept + length <= OF_CHANNEL && of_hub + length <= OF_HUB;
        (!room).then(|| *state.full_since.get_or_insert_with(Instant::now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        let kept = self.state().kept;
        self.of_hub.fetch_sub(kept, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(300);

    fn packet(length: usize) -> Bytes {
        vec![0; length].into()
    }

    async fn waits(put: impl Future<Output = Result<(), Stalled>>) -> bool {
        tokio::time::timeout(Duration::from_millis(50), put).await.is_err()
    }

    #[tokio::test]
    async fn only_a_full_backlog_waits_and_only_for_a_while() {
        let kept = Kept::default();
        let backlog = kept.backlog(&"hub".into());
        for _ in 0..8 {
            backlog.put(packet(OF_CHANNEL / 8), PATIENCE).await.unwrap();
        }
        assert!(waits(backlog.put(packet(1), PATIENCE)).await);
        // A little now and then is not enough.
        let drip = async {
            loop {
                tokio::time::sleep(Duration::from_millis(120)).await;
                backlog.written(OF_CHANNEL / 8);
            }
        };
        let fill = async { while backlog.put(packet(OF_CHANNEL / 8), PATIENCE).await.is_ok() {} };
        tokio::select! {
            () = fill => {}
            () = drip => {}
        }
        let kept = {
            let mut state = backlog.state();
            state.packets.clear();
            state.kept
        };
        backlog.written(kept);
        backlog.put(packet(OF_CHANNEL), PATIENCE).await.unwrap();
        assert!(!backlog.has_rest());
        backlog.complete();
        assert!(backlog.has_rest());
        backlog.written(backlog.next().await.unwrap()[0].len());
        assert!(!backlog.has_rest() && backlog.next().await.is_none());
    }

    #[tokio::test]
    async fn a_hub_that_leaves_much_still_has_room_for_those_who_leave_nothing() {
        let kept = Kept::default();
        let slow: Vec<Backlog> = (0..OF_HUB / OF_CHANNEL).map(|_| kept.backlog(&"hub".into())).collect();
        for backlog in &slow {
            backlog.put(packet(OF_CHANNEL), PATIENCE).await.unwrap();
        }
        let quick = kept.backlog(&"hub".into());
        quick.put(packet(100), PATIENCE).await.unwrap();
        assert!(waits(quick.put(packet(100), PATIENCE)).await);
        quick.written(quick.next().await.unwrap()[0].len());
        quick.put(packet(100), PATIENCE).await.unwrap();
        let other = kept.backlog(&"other".into());
        other.put(packet(OF_CHANNEL / 2), PATIENCE).await.unwrap();
        other.put(packet(OF_CHANNEL / 2), PATIENCE).await.unwrap();
        drop(slow);
        quick.put(packet(100), PATIENCE).await.unwrap();
        drop(quick);
        assert_eq!(kept.hubs.lock().unwrap()["hub"].load(Ordering::Relaxed), 0);
    }
}
