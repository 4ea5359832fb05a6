//! `[ssh] public_address`: how hubs reach the SSH server.

use std::net::Ipv6Addr;

use super::Settings;

/// The port that SSH clients take when none is named.
const USUAL_PORT: u16 = 22;

impl Settings {
    /// The server's name in a `known_hosts` file: `host`, or `[host]:port` if the port is not 22. `None`: it listens on all
    /// addresses or not at all, and `public_address` does not say more.
    #[must_use]
    pub fn known_as(&self) -> Option<String> {
        let (host, port) = match (&self.public_address, self.listen) {
            (Some(address), listen) => {
                let (host, port) = parse(address).ok()?;
                (host, port.or_else(|| listen.map(|listen| listen.port())).unwrap_or(USUAL_PORT))
            }
            (None, Some(listen)) if !listen.ip().is_unspecified() => (listen.ip().to_string(), listen.port()),
            _ => return None,
        };
        Some(if port == USUAL_PORT { host } else { format!("[{host}]:{port}") })
    }

    pub(super) fn check_public_address(&self) -> Result<(), String> {
        let parsed = self.public_address.as_deref().map_or(Ok(()), |address| parse(address).map(drop));
        parsed.map_err(|mistake| format!("public_address: {mistake}"))
    }
}

/// The host and the port of `host`, `host:port`, `[ipv6]` or `[ipv6]:port`.
fn parse(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').filter(|(host, _)| host.parse::<Ipv6Addr>().is_ok()),
        None => Some(text.split_at(text.find(':').unwrap_or(text.len()))),
    }
    .filter(|(host, _)| {
        let plain = |character: char| character.is_ascii_alphanumeric() || "-._:".contains(character);
        !host.is_empty() && host.chars().all(plain)
    })
    .ok_or_else(expected)?;
    let port = match port.strip_prefix(':') {
        Some(port) => Some(port.parse().ok().filter(|port| *port != 0).ok_or_else(expected)?),
        None if port.is_empty() => None,
        None => return Err(expected()),
    };
    Ok((host.to_ascii_lowercase(), port))
}

fn expected() -> String {
    "has to be a name or an address with a port, for example \"outpost.example.org:2222\" or \"[2001:db8::1]:2222\""
        .to_owned()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("outpost.example.org:2222", Some("[outpost.example.org]:2222"))]
    #[case("Outpost.example.org", Some("outpost.example.org"))]
    #[case("192.0.2.1:22", Some("192.0.2.1"))]
    #[case("[2001:db8::1]:2222", Some("[2001:db8::1]:2222"))]
    #[case("[2001:db8::1]", Some("2001:db8::1"))]
    #[case("2001:db8::1", None)]
    #[case("[outpost]:22", None)]
    #[case("outpost:", None)]
    #[case("outpost:0", None)]
    #[case("outpost:70000", None)]
    #[case("two words:22", None)]
    #[case("a,b:22", None)]
    #[case("", None)]
    fn a_public_address_is_a_name_in_known_hosts(#[case] address: &str, #[case] expected: Option<&str>) {
        let settings = Settings { public_address: Some(address.to_owned()), ..Settings::default() };
        assert_eq!(settings.known_as().as_deref(), expected);
        assert_eq!(settings.check().is_ok(), expected.is_some());
    }

    #[rstest]
    #[case("outpost.example.org", "[outpost.example.org]:2222")]
    #[case("outpost.example.org:22", "outpost.example.org")]
    #[case("[2001:db8::1]", "[2001:db8::1]:2222")]
    fn without_a_port_it_has_the_one_that_is_listened_at(#[case] address: &str, #[case] expected: &str) {
        let listen = Some("0.0.0.0:2222".parse().unwrap());
        let settings = Settings { listen, public_address: Some(address.to_owned()), ..Settings::default() };
        assert_eq!(settings.known_as().as_deref(), Some(expected));
    }

    #[rstest]
    #[case(None, None)]
    #[case(Some("0.0.0.0:2222"), None)]
    #[case(Some("192.0.2.1:2222"), Some("[192.0.2.1]:2222"))]
    #[case(Some("192.0.2.1:22"), Some("192.0.2.1"))]
    #[case(Some("[2001:db8::1]:2222"), Some("[2001:db8::1]:2222"))]
    fn without_one_it_is_where_the_server_listens(#[case] listen: Option<&str>, #[case] expected: Option<&str>) {
        let settings = Settings { listen: listen.map(|listen| listen.parse().unwrap()), ..Settings::default() };
        assert_eq!(settings.known_as().as_deref(), expected);
    }
}
