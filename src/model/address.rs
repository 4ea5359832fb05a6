//! Addresses of machines.

use std::net::IpAddr;

/// Whether Outpost never connects to this address, whoever asks: link-local ones (cloud metadata among them), multicast and
/// unspecified ones.
#[must_use]
pub fn is_forbidden(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_multicast() || v4.is_broadcast() || v4.is_unspecified(),
        IpAddr::V6(v6) => {
            let aws_metadata = v6.segments() == [0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254];
            v6.is_unicast_link_local() || v6.is_multicast() || v6.is_unspecified() || aws_metadata
        }
    }
}

/// Reads `host:port`, with an IPv6 address in brackets.
#[must_use]
pub fn host_and_port(text: &str) -> Option<(&str, u16)> {
    let (host, port) = text.rsplit_once(':')?;
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let sound = match inner {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty() && !host.contains(|c: char| c == ':' || c == '/' || c.is_whitespace() || c.is_control())
        }
    };
    let port = port.parse().ok().filter(|port| *port > 0)?;
    sound.then_some((inner.unwrap_or(host), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_port() {
        assert_eq!(host_and_port("ssh.example.org:22"), Some(("ssh.example.org", 22)));
        assert_eq!(host_and_port("[::1]:22"), Some(("::1", 22)));
        for bad in ["", "host", "host:", ":22", "host:0", "host:99999", "::1:22", "[::1]", "[x]:1", "a b:1", "/x:1"] {
            assert_eq!(host_and_port(bad), None, "{bad}");
        }
    }
}
