//! Places where an SSH server listens for Outpost, and where what comes in there is led to.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::model::{host_and_port, is_forbidden};

/// How long a server may take to accept a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// A place where an SSH server listens.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Place {
    /// A port.
    Tcp {
        /// The address to listen at.
        host: String,
        /// The port.
        port: u16,
    },
    /// The path of a Unix socket.
    Unix(String),
}

impl Place {
    /// Reads `host:port` or an absolute path.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.starts_with('/') {
            return (!text.ends_with('/') && !text.contains('\0')).then(|| Self::Unix(text.to_owned()));
        }
        host_and_port(text).map(|(host, port)| Self::Tcp { host: host.to_owned(), port })
    }

    /// The port, if it is one.
    #[must_use]
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp { port, .. } => Some(*port),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => f.write_str(path),
        }
    }
}

/// Which addresses a connection may lead to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    /// Any: the administrator named it.
    Named,
    /// A server of this machine: loopback as well.
    Machine,
    /// A server elsewhere: never this machine's loopback.
    Network,
}

/// Where a connection is led to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// What the host's name may lead to.
    pub reach: Reach,
}

impl Target {
    /// Connects. The name is resolved once, so that what was looked at is what is connected to.
    ///
    /// # Errors
    /// There is nothing, or nothing that may be connected to.
    pub async fn connect(&self) -> io::Result<TcpStream> {
        let connecting = tokio::time::timeout(PATIENCE, self.try_each());
        connecting.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    async fn try_each(&self) -> io::Result<TcpStream> {
        let (host, port) = host_and_port(&self.address).ok_or(io::ErrorKind::InvalidInput)?;
        let mut last = io::Error::other("its name leads to no address that may be connected to");
        for address in tokio::net::lookup_host((host, port)).await?.filter(|address| self.reach.allows(*address)) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

impl Reach {
    fn allows(self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        match self {
            Self::Named => true,
            // What listens everywhere listens on loopback.
            Self::Machine => ip.is_loopback() || ip.is_unspecified() || !is_forbidden(ip),
            Self::Network => !ip.is_loopback() && !is_forbidden(ip),
        }
    }
}

/// What leads where: only what was registered leads anywhere. A server says which port a connection came in at, but the
/// address in words of its own, so that ports and paths alone are looked at.
#[derive(Debug)]
pub struct Routes {
    routes: RwLock<HashMap<Inlet, Route>>,
    ended: CancellationToken,
}

/// Where what comes in at one place is led.
#[derive(Clone, Debug)]
pub struct Route {
    /// To whom.
    pub target: Target,
    /// Cancelled when nothing is led there any more.
    pub ended: CancellationToken,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Inlet {
    Port(u16),
    Path(String),
}

impl From<&Place> for Inlet {
    fn from(place: &Place) -> Self {
        match place {
            Place::Tcp { port, .. } => Self::Port(*port),
            Place::Unix(path) => Self::Path(path.clone()),
        }
    }
}

impl Routes {
    /// Nothing is led anywhere any more once `ended` is cancelled.
    #[must_use]
    pub fn until(ended: CancellationToken) -> Self {
        Self { routes: RwLock::default(), ended }
    }

    /// Leads what comes in at `place` to `target`. `false`: it leads to somebody already, and goes on to.
    pub fn add(&self, place: &Place, target: Target) -> bool {
        match self.routes.write().unwrap_or_else(PoisonError::into_inner).entry(place.into()) {
            Entry::Occupied(_) => false,
            Entry::Vacant(free) => {
                free.insert(Route { target, ended: self.ended.child_token() });
                true
            }
        }
    }

    /// Leads nothing more from `place`, and ends what is led from there.
    pub fn remove(&self, place: &Place) {
        let removed = self.routes.write().unwrap_or_else(PoisonError::into_inner).remove(&Inlet::from(place));
        removed.inspect(|route| route.ended.cancel());
    }

    /// Where a port leads.
    #[must_use]
    pub fn of_port(&self, port: u32) -> Option<Route> {
        self.find(&Inlet::Port(u16::try_from(port).ok()?))
    }

    /// Where a Unix socket leads.
    #[must_use]
    pub fn of_path(&self, path: &str) -> Option<Route> {
        self.find(&Inlet::Path(path.to_owned()))
    }

    fn find(&self, inlet: &Inlet) -> Option<Route> {
        self.routes.read().unwrap_or_else(PoisonError::into_inner).get(inlet).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_of_this_machine_is_for_its_own_servers() {
        let allowed = |reach: Reach, ip: &str| reach.allows(SocketAddr::new(ip.parse().unwrap(), 80));
        for ip in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "0.0.0.0", "::"] {
            assert!(allowed(Reach::Machine, ip) && !allowed(Reach::Network, ip), "{ip}");
        }
        for ip in ["169.254.169.254", "fe80::1", "224.0.0.1", "::ffff:169.254.169.254"] {
            assert!(!allowed(Reach::Machine, ip) && !allowed(Reach::Network, ip), "{ip}");
        }
        for ip in ["10.1.2.3", "192.0.2.1", "2001:db8::1"] {
            assert!(allowed(Reach::Machine, ip) && allowed(Reach::Network, ip), "{ip}");
        }
    }

    #[test]
    fn only_what_was_registered_leads_anywhere() {
        let routes = Routes::until(CancellationToken::new());
        let target = Target { address: "127.0.0.1:1".to_owned(), reach: Reach::Machine };
        let (port, path) = (Place::parse("localhost:42000").unwrap(), Place::parse("/run/x.sock").unwrap());
        let other = Target { address: "127.0.0.1:2".to_owned(), ..target.clone() };
        assert!(routes.add(&port, target.clone()) && routes.add(&path, target.clone()));
        assert!(!routes.add(&port, other.clone()) && !routes.add(&Place::parse("0.0.0.0:42000").unwrap(), other));
        let of_port = |number| routes.of_port(number).map(|route| route.target);
        let of_path = |path| routes.of_path(path).map(|route| route.target);
        assert_eq!((of_port(42000), of_path("/run/x.sock")), (Some(target.clone()), Some(target)));
        assert_eq!((of_port(42001), of_port(42000 + 65536), of_path("/run/y.sock")), (None, None, None));
        let open = routes.of_port(42000).unwrap();
        routes.remove(&port);
        assert_eq!(of_port(42000), None);
        assert!(open.ended.is_cancelled(), "what is open there ends");
    }
}
