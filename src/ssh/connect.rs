//! To connect to one of several addresses.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Connects to the first address that accepts. Each has its part of the time, so that a dead one leaves some to the next.
///
/// # Errors
/// What became of the last one.
pub(super) async fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut error = io::ErrorKind::NotFound.into();
    for (address, left) in addresses.iter().zip((1..=addresses.len() as u32).rev()) {
        let part = deadline.saturating_duration_since(Instant::now()) / left;
        match timeout(part, TcpStream::connect(address)).await {
            Ok(Ok(socket)) => return Ok(socket),
            Ok(Err(mistake)) => error = mistake,
            Err(_) => error = io::ErrorKind::TimedOut.into(),
        }
    }
    Err(error)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::net::{TcpListener, TcpSocket};

    use super::*;

    /// A listener whose queue is full, so that the kernel answers nobody.
    async fn dead() -> TcpListener {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        while let Ok(Ok(_)) = timeout(Duration::from_millis(500), TcpStream::connect(address)).await {}
        listener
    }

    #[tokio::test]
    async fn a_dead_address_leaves_time_to_the_next() {
        let (dead, live) = (dead().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
        let addresses = [dead.local_addr().unwrap(), live.local_addr().unwrap()];
        let deadline = || Instant::now() + Duration::from_secs(2);
        let socket = connect(&addresses, deadline()).await.unwrap();
        assert_eq!(socket.peer_addr().unwrap(), addresses[1]);
        let failed = connect(&addresses[..1], deadline()).await.unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::TimedOut);
    }
}
