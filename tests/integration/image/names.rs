//! A name server for which every name is this machine's.

use std::net::Ipv4Addr;

use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::support::skipped;

/// No other test has this address, and nobody else: the port is the one that a resolver asks, whatever its configuration.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);

/// Answers until it is dropped.
pub struct NameServer(AbortHandle);

impl NameServer {
    /// `None`: only root may, and the test is skipped.
    pub async fn start() -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            skipped("a name server's port is root's");
            return None;
        }
        let socket = UdpSocket::bind((ADDRESS, 53)).await.unwrap();
        let answering = tokio::spawn(async move {
            let mut query = [0; 512];
            loop {
                let (length, from) = socket.recv_from(&mut query).await.unwrap();
                socket.send_to(&answer(&query[..length]), from).await.unwrap();
            }
        });
        Some(Self(answering.abort_handle()))
    }

    /// The file that leads to it.
    pub fn resolv_conf(&self) -> String {
        format!("nameserver {ADDRESS}\n")
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The answer to a query with one question: its address for the type A, nothing for others.
fn answer(query: &[u8]) -> Vec<u8> {
    let labels = query[12..].iter().position(|byte| *byte == 0).unwrap();
    let question = &query[12..12 + labels + 5];
    let is_address = question[labels + 1..labels + 3] == [0, 1];
    let mut answer = query[..2].to_vec();
    // A response without an error, recursion available; one question, one or no answer.
    answer.extend([0x81, 0x80, 0, 1, 0, u8::from(is_address), 0, 0, 0, 0]);
    answer.extend(question);
    if is_address {
        // The question's name, type A, class IN, a minute, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4]);
        answer.extend(Ipv4Addr::LOCALHOST.octets());
    }
    answer
}
