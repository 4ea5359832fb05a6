//! What stands before a key.

use chrono::{DateTime, NaiveDate, NaiveDateTime, TimeDelta, TimeZone, Utc};

use super::addresses::Addresses;

/// What a key may be used for.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Options {
    /// From where. `None`: from everywhere.
    pub from: Option<Addresses>,
    /// Whether for forwards at all.
    pub forwarding: bool,
    /// To where; empty: to everywhere.
    pub open: Vec<Destination>,
    /// Until when.
    pub expires: Option<DateTime<Utc>>,
}

/// `host:port` of `permitopen`.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Destination {
    /// As a client has to name it; `*`: any.
    host: String,
    /// `None`: any.
    port: Option<u16>,
}

/// Options of what Outpost gives to nobody: they are right, and change nothing.
const WITHOUT_EFFECT: [&str; 8] = [
    "pty",
    "no-pty",
    "agent-forwarding",
    "no-agent-forwarding",
    "x11-forwarding",
    "no-x11-forwarding",
    "user-rc",
    "no-user-rc",
];

/// Options that ask for something that there is not.
const REFUSED: [(&str, &str); 9] = [
    ("environment", "no command is ever run for a hub"),
    ("tunnel", "there are no tunnel devices"),
    ("permitlisten", "nothing is ever forwarded in the other direction"),
    ("cert-authority", "certificates are not accepted: write the hub's own key"),
    ("principals", "certificates are not accepted: write the hub's own key"),
    ("touch-required", "it is for security keys, which are not accepted"),
    ("no-touch-required", "it is for security keys, which are not accepted"),
    ("verify-required", "it is for security keys, which are not accepted"),
    ("no-verify-required", "it is for security keys, which are not accepted"),
];

impl Default for Options {
    fn default() -> Self {
        Self { from: None, forwarding: true, open: Vec::new(), expires: None }
    }
}

impl Options {
    /// Reads options. As with OpenSSH, the last of several that contradict each other holds, and the earliest end.
    pub(super) fn parse(text: &str, local: &impl TimeZone) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = text;
        while !rest.is_empty() {
            let end = rest.find([',', '=', ' ', '\t']).unwrap_or(rest.len());
            let name = rest[..end].to_ascii_lowercase();
            rest = &rest[end..];
            if let Some((name, reason)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
                return Err(format!("has the option {name}, which cannot be used here: {reason}"));
            }
            match name.as_str() {
                "restrict" | "no-port-forwarding" => options.forwarding = false,
                "port-forwarding" => options.forwarding = true,
                "from" | "permitopen" | "expiry-time" => {
                    let value;
                    (value, rest) = quoted(rest).map_err(|mistake| format!("{}: {mistake}", has(&name)))?;
                    options.set(&name, &value, local).map_err(|mistake| format!("{}, which {mistake}", has(&name)))?;
                }
                // It says what is run instead of what a client asks for, and nothing is run in any case.
                "command" => (_, rest) = quoted(rest).map_err(|mistake| format!("{}: {mistake}", has(&name)))?,
                name if WITHOUT_EFFECT.contains(&name) => {}
                name => return Err(unknown(name)),
            }
            rest = match rest.strip_prefix(',') {
                Some("") => return Err("has a comma after its last option".to_owned()),
                Some(more) => more,
                None if rest.is_empty() => rest,
                None if rest.starts_with('=') => return Err(format!("{}, which takes no value", has(&name))),
                None => return Err(format!("{}, after which there has to be a comma or a space", has(&name))),
            };
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str, local: &impl TimeZone) -> Result<(), String> {
        match name {
            "from" if self.from.is_some() => return Err("can be there once".to_owned()),
            "from" => self.from = Some(Addresses::parse(value)?),
            "permitopen" => self.open.push(Destination::parse(value)?),
            _ => {
                let end = end_of(value, local).ok_or(
                    "has to be a time of the form \"YYYYMMDD\", \"YYYYMMDDHHMM\" or \"YYYYMMDDHHMMSS\", with a Z at its end \
                     if it is UTC",
                )?;
                self.expires = Some(self.expires.map_or(end, |before| before.min(end)));
            }
        }
        Ok(())
    }

    pub(super) fn permits_open(&self, host: &str, port: u16) -> bool {
        let fits = |open: &Destination| {
            (open.host == "*" || open.host == host) && open.port.is_none_or(|permitted| permitted == port)
        };
        self.forwarding && (self.open.is_empty() || self.open.iter().any(fits))
    }
}

impl Destination {
    fn parse(text: &str) -> Result<Self, String> {
        let form = "has to be \"host:port\", with `*` for any port and an IPv6 address in brackets; forbidding all is \
             no-port-forwarding";
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => rest.split_once("]:").filter(|(host, _)| host.parse::<std::net::Ipv6Addr>().is_ok()),
            None => text.split_once(':').filter(|(host, _)| !host.contains(['/', '[', ']'])),
        }
        .filter(|(host, _)| !host.is_empty())
        .ok_or(form)?;
        let port = match port {
            "*" => None,
            port if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                Some(port.parse().ok().filter(|port| *port != 0).ok_or(form)?)
            }
            _ => return Err(form.to_owned()),
        };
        Ok(Self { host: host.to_owned(), port })
    }
}

/// The part of a line that is options: up to the first white space that is not in quotes.
pub(super) fn extent(line: &str) -> Result<&str, String> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, character) in line.char_indices() {
        let after_backslash = std::mem::take(&mut escaped);
        match character {
            '"' if !after_backslash => quoted = !quoted,
            '\\' => escaped = true,
            ' ' | '\t' if !quoted => return Ok(&line[..at]),
            _ => {}
        }
    }
    if quoted { Err("has an option whose closing double quote is missing".to_owned()) } else { Ok(line) }
}

/// The value after `=` and what follows it; `\"` in it is a quote.
fn quoted(text: &str) -> Result<(String, &str), &'static str> {
    let text = text.strip_prefix("=\"").ok_or("its value has to follow after `=` in double quotes")?;
    let mut value = String::new();
    let mut characters = text.char_indices().peekable();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Ok((value, &text[at + 1..])),
            '\\' if characters.next_if(|(_, next)| *next == '"').is_some() => value.push('"'),
            character => value.push(character),
        }
    }
    Err("its closing double quote is missing")
}

fn has(name: &str) -> String {
    format!("has the option {name}")
}

/// A word that is no option is repeated only if it can be no part of a key.
fn unknown(name: &str) -> String {
    let plain = (1..=24).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
    if plain {
        format!("has the option {name}, which is not known")
    } else {
        "begins neither with a key's type, as `ssh-ed25519`, nor with an option that is known".to_owned()
    }
}

/// A time as of sshd(8). One that clocks pass over is read as if they had not been moved yet, and of two the first is taken.
fn end_of(text: &str, local: &impl TimeZone) -> Option<DateTime<Utc>> {
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (digits, utc) = match text.strip_suffix(['Z', 'z']) {
        Some(digits) => (digits, true),
        None => (text, false),
    };
    let time: NaiveDateTime = match digits.len() {
        _ if !is_digits(digits) => return None,
        8 => NaiveDate::parse_from_str(digits, "%Y%m%d").ok()?.and_hms_opt(0, 0, 0)?,
        12 => NaiveDateTime::parse_from_str(&format!("{digits}00"), "%Y%m%d%H%M%S").ok()?,
        14 => NaiveDateTime::parse_from_str(digits, "%Y%m%d%H%M%S").ok()?,
        _ => return None,
    };
    if utc {
        return Some(time.and_utc());
    }
    let hour = TimeDelta::hours(1);
    let end = local.from_local_datetime(&time).earliest().map(|end| end.to_utc());
    end.or_else(|| Some(local.from_local_datetime(&time.checked_sub_signed(hour)?).earliest()?.to_utc() + hour))
}
