//! The listener: bound first, served later, so that a port that is taken ends Outpost before it does anything.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::HostKeys;
use super::connection::Connection;
use super::refusals::PERIOD;
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

    /// The next connection. A listener that fails is replaced, and `replaced` is told.
    async fn next(&mut self, replaced: impl Fn() + Sync) -> (TcpStream, SocketAddr) {
        let mut pause = PAUSE.0;
        loop {
            let error = match self.socket.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => error,
            };
            tracing::error!(%error, "an SSH connection could not be accepted; trying again");
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE.1);
            if is_broken(&error) {
                // The port is free only when nothing listens at it any more, and this does not.
                match Self::bind(self.address).await {
                    Ok(listener) => {
                        *self = listener;
                        replaced();
                        tracing::warn!(address = %self.address, "the SSH listener had to be replaced");
                    }
                    Err(mistake) => tracing::error!(mistake, "the SSH listener cannot be replaced yet; trying again"),
                }
            }
        }
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

async fn accept_all(mut listener: Listener, server: &Arc<Server>, connections: &TaskTracker) {
    server.outpost.tunnels.due();
    loop {
        let (socket, client) = listener.next(|| server.outpost.tunnels.due()).await;
        // A failure shows at the first read.
        let _ = socket.set_nodelay(true);
        let place = server.waiting.take(client.ip());
        connections.spawn(Connection::serve(server.clone(), socket, client, place));
    }
}

/// Whether the listener itself is what failed, and not one connection, the system or the network.
fn is_broken(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EBADF | libc::EINVAL | libc::ENOTSOCK))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd as _;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn only_a_broken_listener_is_replaced() {
        let broken = |code| is_broken(&io::Error::from_raw_os_error(code));
        assert!(broken(libc::EBADF) && broken(libc::EINVAL));
        for passing in [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ECONNABORTED, libc::EPERM, libc::ENETDOWN] {
            assert!(!broken(passing));
        }
    }

    #[tokio::test]
    async fn a_broken_listener_is_replaced_at_its_port() {
        let mut listener = Listener::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let replaced = AtomicBool::new(false);
        // SAFETY: the descriptor is open as long as the listener.
        assert_eq!(unsafe { libc::shutdown(listener.socket.as_raw_fd(), libc::SHUT_RDWR) }, 0);
        let address = listener.address();
        let connect = async {
            loop {
                if let Ok(socket) = TcpStream::connect(address).await {
                    return socket;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        let ((accepted, _), connected) =
            tokio::join!(listener.next(|| replaced.store(true, Ordering::Relaxed)), connect);
        assert_eq!(accepted.peer_addr().unwrap(), connected.local_addr().unwrap());
        assert!(replaced.into_inner());
    }
}
