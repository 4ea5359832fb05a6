//! Addresses of machines.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Deserializer, de};

/// Where clouds answer machines about themselves, outside of the link-local addresses: Alibaba, Azure, Oracle and (IPv6) AWS.
const METADATA: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// The network by which translators (NAT64) lead to IPv4 addresses.
const NAT64: [u16; 6] = [0x64, 0xff9b, 0, 0, 0, 0];

/// Whether Outpost never connects to this address, whoever asks: link-local ones and those of clouds' metadata, multicast, and
/// those of no machine; nor to an IPv6 address that stands for such an IPv4 address, or for loopback.
#[must_use]
pub fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => is_forbidden_v4(v4),
        IpAddr::V6(v6) => {
            let forbidden = v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified() || v6 == METADATA_V6;
            forbidden || embedded(v6).is_some_and(|v4| v4.is_loopback() || is_forbidden_v4(v4))
        }
    }
}

fn is_forbidden_v4(address: Ipv4Addr) -> bool {
    let of_no_machine = address.octets()[0] == 0 || address.is_broadcast();
    of_no_machine || address.is_link_local() || address.is_multicast() || METADATA.contains(&address)
}

/// The IPv4 address that an IPv6 address stands for, where the system does not take one for the other by itself.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let [head @ .., high, low] = address.segments();
    let compatible = head == [0; 6] && !address.is_loopback();
    (compatible || head == NAT64).then(|| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
}

/// Reads `host:port`, with an IPv6 address in brackets.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && !host.contains(|c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control())
        }
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    sound.then_some((inner.unwrap_or(host), port))
}

/// `host:port`, with an IPv6 address in brackets.
#[must_use]
pub fn with_port(host: &str, port: u32) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

/// Whether two sockets cannot listen side by side, since both would get the same connections. Port 0 is any that is free.
#[must_use]
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let same = one.ip() == other.ip() || one.ip().is_unspecified() || other.ip().is_unspecified();
    one.port() == other.port() && one.port() != 0 && same
}

/// Reads a setting that is where to listen, optional or not.
///
/// # Errors
/// A sentence without its subject.
pub fn listen<'de, D: Deserializer<'de>, T: From<SocketAddr>>(deserializer: D) -> Result<T, D::Error> {
    let address = String::deserialize(deserializer)?.parse::<SocketAddr>();
    address.map(T::from).map_err(|_| {
        de::Error::custom("has to be an IP address with a port, for example \"0.0.0.0:2222\" or \"[::1]:2222\"")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("0.0.0.0")]
    #[case("0.1.2.3")]
    #[case("100.100.100.200")]
    #[case("168.63.129.16")]
    #[case("169.254.169.254")]
    #[case("192.0.0.192")]
    #[case("224.0.0.1")]
    #[case("255.255.255.255")]
    #[case("::")]
    #[case("::169.254.169.254")]
    #[case("::127.0.0.1")]
    #[case("::ffff:100.100.100.200")]
    #[case("64:ff9b::169.254.169.254")]
    #[case("64:ff9b::127.0.0.1")]
    #[case("fd00:ec2::254")]
    #[case("fe80::1")]
    #[case("ff02::1")]
    fn nobody_is_connected_to(#[case] address: IpAddr) {
        assert!(is_forbidden(address));
    }

    #[rstest]
    #[case("10.0.0.7")]
    #[case("100.100.100.201")]
    #[case("127.0.0.1")]
    #[case("192.0.2.1")]
    #[case("::1")]
    #[case("::ffff:10.0.0.7")]
    #[case("64:ff9b::192.0.2.1")]
    #[case("2001:db8::1")]
    #[case("fd00:ec2::1")]
    fn machines_are_connected_to(#[case] address: IpAddr) {
        assert!(!is_forbidden(address));
    }

    #[test]
    fn a_host_has_a_port() {
        assert_eq!(host_and_port("ssh.example.org:22"), Some(("ssh.example.org", 22)));
        assert_eq!(host_and_port("[::1]:22"), Some(("::1", 22)));
        for bad in ["", "host", "host:", ":22", "host:0", "host:99999", "::1:22", "[::1]", "[x]:1", "a b:1", "/x:1"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
        for good in ["ssh.example.org:22", "192.0.2.1:22", "[2001:db8::1]:22"] {
            let (host, port) = host_and_port(good).unwrap();
            assert_eq!(with_port(host, port.into()), good);
        }
    }

    #[rstest]
    #[case("127.0.0.1:80", "127.0.0.1:80", true)]
    #[case("0.0.0.0:80", "127.0.0.1:80", true)]
    #[case("127.0.0.1:80", "[::]:80", true)]
    #[case("127.0.0.1:80", "127.0.0.2:80", false)]
    #[case("127.0.0.1:80", "127.0.0.1:81", false)]
    #[case("127.0.0.1:0", "127.0.0.1:0", false)]
    fn one_socket_gets_a_connection(#[case] one: SocketAddr, #[case] other: SocketAddr, #[case] expected: bool) {
        assert_eq!(overlap(one, other), expected);
    }
}
