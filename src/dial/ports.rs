//! Who has which port at which SSH server, among all hubs of this process: nobody gets a port that another one was told.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Uid;

/// The ports that are taken, by the SSH server as it is configured and the port there.
#[derive(Debug, Default)]
pub struct Ports {
    taken: Mutex<HashMap<(String, u16), Holder>>,
}

/// Who has a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Holder {
    /// The API, as it is offered to this hub.
    Api(Arc<str>),
    /// A server.
    Server(Uid),
}

impl Ports {
    fn taken(&self) -> MutexGuard<'_, HashMap<(String, u16), Holder>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a port at the SSH server `to`. `false`: somebody else has it.
    pub fn take(&self, to: &str, port: u16, holder: &Holder) -> bool {
        match self.taken().entry((to.to_owned(), port)) {
            Entry::Occupied(taken) => taken.get() == holder,
            Entry::Vacant(free) => {
                free.insert(holder.clone());
                true
            }
        }
    }

    /// Gives back all ports that somebody has.
    pub fn free(&self, holder: &Holder) {
        self.taken().retain(|_, taken| taken != holder);
    }
}

/// All numbers in an address that a hub was told, whatever `dial.answer` was then: the port is one of them.
pub fn numbers(address: &str) -> impl Iterator<Item = u16> {
    address.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_belongs_to_one() {
        let ports = Ports::default();
        let (api, server) = (Holder::Api("hub".into()), Holder::Server(Uid::generate()));
        assert!(ports.take("a:22", 80, &api) && ports.take("a:22", 80, &api));
        assert!(!ports.take("a:22", 80, &server));
        assert!(ports.take("b:22", 80, &server) && ports.take("a:22", 81, &server), "another one");
        ports.free(&server);
        assert!(!ports.take("a:22", 80, &server));
        ports.free(&api);
        assert!(ports.take("a:22", 80, &server));
    }

    #[test]
    fn a_port_is_found_wherever_it_is() {
        for address in ["127.0.0.1:42007", "hub:42007", "proxy-42007.hub.svc:80"] {
            assert!(numbers(address).any(|number| number == 42007), "{address}");
        }
    }
}
