//! Forward: which server a hub's SSH client may reach.

use std::sync::Arc;

use super::{Entry, Outpost};
use crate::model::Phase;

/// Why a destination may not be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unreachable {
    /// No running server of this hub has this address.
    NoServer,
    /// It has, but on the loopback of another machine.
    Elsewhere,
}

impl Outpost {
    /// The running server of `hub` whose address, as it was answered to the hub, is this one.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn forward_target(self: &Arc<Self>, hub: &str, host: &str, port: u16) -> Result<Arc<Entry>, Unreachable> {
        let address = format!("{host}:{port}");
        let fits = |entry: &&Arc<Entry>| {
            let state = entry.state();
            state.server.phase == Phase::Running && !state.gone && state.server.address.eq_ignore_ascii_case(&address)
        };
        let entries = self.view.all();
        entries.iter().filter(|entry| &*entry.id.hub == hub).find(fits).cloned().ok_or(Unreachable::NoServer)
    }
}
