//! Offer: a hub that cannot reach this site is told an address on its own side.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::{Entry, Outpost};
use crate::dial::{Dial, Reach, Target, numbers};
use crate::error::Result;
use crate::model::Phase;

/// Where a server is reached.
#[derive(Debug, Default)]
pub(super) struct Reached {
    /// The answer to the hub: `host:port`, or empty while the address is not known.
    pub address: String,
    /// Where the server itself listens, if that is another address; else empty.
    pub target: String,
}

impl Outpost {
    /// Gives the address for the hub of a server that listens at `address`: another one if Outpost connects to that hub's
    /// side, which is waited for.
    ///
    /// # Errors
    /// There is no way to the hub's side just now, with a sentence for the user.
    pub(super) async fn offer(self: &Arc<Self>, entry: &Arc<Entry>, address: String) -> Result<Reached> {
        let dial = self.dials.get(&entry.id.hub).filter(|_| !address.is_empty());
        let Some(dial) = dial else { return Ok(Reached { address, target: String::new() }) };
        self.withdraw_at_the_end(entry);
        let told = dial.offer(&entry.uid, self.target(entry, &address), self.told(&dial, entry).await).await?;
        Ok(Reached { address: told, target: address })
    }

    /// Offers a running server whose hub was told an address on its own side before.
    pub(super) fn offer_again(self: &Arc<Self>, entry: &Arc<Entry>) {
        let (address, target) = {
            let state = entry.state();
            (state.server.address.clone(), state.server.target.clone())
        };
        let dial = self.dials.get(&entry.id.hub).filter(|dial| !target.is_empty() && !dial.offers(&entry.uid));
        let Some(dial) = dial else { return };
        dial.offer_again(&entry.uid, self.target(entry, &target), &address);
        self.withdraw_at_the_end(entry);
    }

    /// Offers all running servers that are not: after a start, and where connections to hubs' sides were configured anew.
    pub fn offer_all_again(self: &Arc<Self>) {
        let mut cut_off: BTreeMap<_, u64> = BTreeMap::new();
        for entry in self.view.in_phase(Phase::Running) {
            let (ours, told) = {
                let state = entry.state();
                (state.server.owner == self.instance, !state.server.target.is_empty())
            };
            if ours && told && self.dials.get(&entry.id.hub).is_none() {
                *cut_off.entry(entry.id.hub.clone()).or_default() += 1;
            } else if ours {
                self.offer_again(&entry);
            }
        }
        for (hub, servers) in cut_off {
            tracing::warn!(hub.name = ?hub, servers, "running servers are cut off from their hub, since hubs.<name>.dial is not configured any more");
        }
    }

    /// The ports that hubs were told for other servers at the SSH server of `dial`, also for those of other Outposts: they
    /// stay theirs while nobody listens there, as after a lost connection.
    async fn told(self: &Arc<Self>, dial: &Dial, entry: &Entry) -> HashSet<u16> {
        if self.store.is_shared() {
            self.look_for_news().await;
        }
        let others = self.view.all().into_iter().filter(|other| other.uid != entry.uid);
        let there = others.filter(|other| self.dials.get(&other.id.hub).is_none_or(|other| other.to() == dial.to()));
        let told = there.filter(|other| !other.state().server.target.is_empty());
        told.flat_map(|other| numbers(&other.state().server.address).collect::<Vec<_>>()).collect()
    }

    fn target(&self, entry: &Entry, address: &str) -> Target {
        let handle = entry.state().server.handle.clone();
        let elsewhere = self.spawners.get(&handle.spawner).is_none_or(|spawner| spawner.shared());
        Target { address: address.to_owned(), reach: if elsewhere { Reach::Network } else { Reach::Machine } }
    }

    /// The offer ends with the server, or when another Outpost takes it over.
    fn withdraw_at_the_end(self: &Arc<Self>, entry: &Arc<Entry>) {
        let (this, entry) = (self.clone(), entry.clone());
        self.tracker.spawn(async move {
            let mut changes = entry.subscribe();
            let over = changes.wait_for(|state| {
                state.gone || state.server.phase == Phase::Ended || state.server.owner != this.instance
            });
            tokio::select! {
                () = this.abort.cancelled() => return,
                _ = over => {}
            }
            this.dials.withdraw(&entry.id.hub, &entry.uid);
        });
    }
}
