//! `from="…"`: from which addresses a key may be used.

use std::net::IpAddr;

use crate::model::Glob;

/// A list of addresses, networks and patterns, as of ssh_config(5).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Addresses(Vec<(Sign, Pattern)>);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Sign {
    Permits,
    Refuses,
}

#[derive(Clone, Debug, PartialEq)]
enum Pattern {
    /// All addresses that begin with these bits.
    Network(IpAddr, u32),
    /// Addresses as texts, with `*` and `?`.
    Text(Glob),
}

impl Addresses {
    /// Reads a list.
    ///
    /// # Errors
    /// A part of a sentence.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let entry = |text: &str| {
            let (sign, text) = text.strip_prefix('!').map_or((Sign::Permits, text), |rest| (Sign::Refuses, rest));
            Pattern::parse(text).map(|pattern| (sign, pattern))
        };
        text.split(',').map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// Whether one permits it and none refuses it.
    pub(super) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let matching = |wanted: Sign| self.0.iter().any(|(sign, pattern)| *sign == wanted && pattern.matches(address));
        matching(Sign::Permits) && !matching(Sign::Refuses)
    }

    /// Whether it only says who is refused, so that nobody is permitted.
    pub(super) fn permits_nobody(&self) -> bool {
        self.0.iter().all(|(sign, _)| *sign == Sign::Refuses)
    }
}

impl Pattern {
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("has an empty entry".to_owned());
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Network(address, length(address)));
        }
        if let Some((address, bits)) = text.split_once('/') {
            let network =
                address.parse::<IpAddr>().ok().zip(bits.parse::<u32>().ok().filter(|_| !bits.starts_with('+')));
            let Some((address, bits)) = network.filter(|(address, bits)| *bits <= length(*address)) else {
                return Err("has an entry with a `/` that is no network like 192.0.2.0/24 or 2001:db8::/32".to_owned());
            };
            if common(address, bits) != number(address) {
                return Err(format!("has the network {address}/{bits}, whose address is longer than its {bits} bits"));
            }
            return Ok(Self::Network(address, bits));
        }
        let is_address = |character: char| character.is_ascii_hexdigit() || ".:*?".contains(character);
        if text.contains(['*', '?']) && text.chars().all(is_address) {
            return Glob::parse(&text.to_ascii_lowercase()).map(Self::Text);
        }
        Err("has an entry that is no address: names of hosts are not looked up here, so write addresses, networks like \
             192.0.2.0/24, or patterns of them like 192.0.2.*"
            .to_owned())
    }

    fn matches(&self, address: IpAddr) -> bool {
        match self {
            Self::Network(network, bits) => {
                // Addresses come in their shortest form.
                network.is_ipv4() == address.is_ipv4() && common(address, *bits) == number(*network)
            }
            Self::Text(glob) => glob.matches(&address.to_string()),
        }
    }
}

/// How many bits an address has.
const fn length(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The first bits of an address, the others 0.
fn common(address: IpAddr, bits: u32) -> u128 {
    let others = length(address) - bits;
    number(address).checked_shr(others).and_then(|first| first.checked_shl(others)).unwrap_or(0)
}
