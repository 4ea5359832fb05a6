//! The listener: bound first, served later, so that a port that is taken ends Outpost before it does anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HostKeys;
use super::connection::Connection;
use super::refusals::{PERIOD, Reason, Refusal};
use super::server::Server;
use crate::outpost::Outpost;

/// The pauses between tries to get a free file descriptor, or the port again.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A bound port.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds a port.
    ///
    /// # Errors
    /// A sentence that names the address.
    pub async fn bind(address: SocketAddr) -> Result<Self, String> {
        let cannot = |error: io::Error| format!("cannot listen on {address}: {error}");
        let socket = TcpListener::bind(address).await.map_err(cannot)?;
        let address = socket.local_addr().map_err(cannot)?;
        Ok(Self { socket, address })
    }

    /// The address that was bound: of interest with port 0.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown` is cancelled; then open channels have `drain_timeout` to end.
    pub async fn serve(self, outpost: Arc<Outpost>, shutdown: CancellationToken) {
        let Some(host_keys) = host_keys(&outpost, &shutdown).await else { return };
        let server = Arc::new(Server::new(outpost, host_keys, shutdown));
        let connections = TaskTracker::new();
        tracing::info!(address = %self.address, "the SSH server accepts connections");
        tokio::select! {
            () = server.shutdown.cancelled() => {}
            () = accept_all(self, &server, &connections) => {}
            () = tell_refusals(&server) => {}
            () = server.host_keys.watch(&server.outpost.store, &server.shutdown) => {}
        }
        connections.close();
        connections.wait().await;
        server.refusals.tell_again().await;
    }
}

/// The host key, once the rows were read: before that no server is known that could be reached.
async fn host_keys(outpost: &Outpost, shutdown: &CancellationToken) -> Option<HostKeys> {
    let mut loaded = outpost.loaded.subscribe();
    // The sender lives as long as Outpost, so that waiting cannot fail.
    let _ = shutdown.run_until_cancelled(loaded.wait_for(|loaded| *loaded)).await?;
    HostKeys::load_when_possible(&outpost.store, shutdown).await
}

async fn tell_refusals(server: &Server) {
    let mut period = interval(PERIOD);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        period.tick().await;
        server.refusals.tell_again().await;
    }
}

/// Accepts for ever. A listener that fails is replaced.
async fn accept_all(mut listener: Listener, server: &Arc<Server>, connections: &TaskTracker) {
    server.outpost.tunnels.due();
    let mut pause = PAUSE.0;
    loop {
        let error = match listener.socket.accept().await {
            Ok((socket, client)) => {
                pause = PAUSE.0;
                if let Some(waiting) = server.take_unauthenticated(client.ip()) {
                    // A failure shows at the first read.
                    let _ = socket.set_nodelay(true);
                    connections.spawn(Connection::serve(server.clone(), socket, client, waiting));
                } else {
                    let client = client.ip().to_canonical();
                    let reason = Reason::Unauthenticated;
                    server.refusals.note(Refusal { hub: None, reason, target: String::new(), client });
                }
                continue;
            }
            Err(error) => error,
        };
        tracing::error!(%error, "an SSH connection could not be accepted; trying again");
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
        if is_broken(&error) {
            listener = bind_again(listener).await;
            server.outpost.tunnels.due();
            tracing::warn!(address = %listener.address, "the SSH listener had to be replaced");
        }
    }
}

async fn bind_again(listener: Listener) -> Listener {
    let address = listener.address;
    drop(listener);
    let mut pause = PAUSE.0;
    loop {
        match Listener::bind(address).await {
            Ok(listener) => return listener,
            Err(mistake) => tracing::error!(mistake, "the SSH listener cannot be replaced yet; trying again"),
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

/// Whether the listener itself is what failed, and not one connection, the system or the network.
fn is_broken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_broken_listener_is_replaced() {
        let broken = |code| is_broken(&io::Error::from_raw_os_error(code));
        assert!(broken(libc::EBADF) && broken(libc::EINVAL));
        for passing in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ECONNABORTED, libc::EPERM, libc::ENETDOWN] {
            assert!(!broken(passing));
        }
    }
}
