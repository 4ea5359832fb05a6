//! Slugs: names that Kubernetes takes, for any text, equal for equal texts only. Digit for digit those of KubeSpawner 7, so
//! that the volume claims of its users are found again.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

/// The longest value of one field of a template.
const FIELD: usize = 48;
/// The longest name of an object and value of a label.
pub const LONGEST: usize = 63;
/// Digits of a hash.
const HASH: usize = 8;
/// The longest name of a domain.
const LONGEST_DOMAIN: usize = 253;
/// The longest slug with a hash where no other length is wanted.
const HASHED: usize = 32;

/// The slug of a name for a field of a template: the name itself where it is sound, else a readable part of it and a hash.
#[must_use]
pub fn safe(name: &str) -> String {
    let sound = is_object_name(name) && name.len() <= FIELD && !name.contains("--");
    if sound { name.to_owned() } else { hashed(name, FIELD) }
}

/// The slug of a name for the value of a label, which may be empty and have more signs.
#[must_use]
pub fn label(name: &str) -> String {
    let sound = is_label_value(name) && !name.contains("--");
    if sound { name.to_owned() } else { hashed(name, HASHED) }
}

/// The slugs of a user's name and of a server's name, if that has one, as one.
#[must_use]
pub fn user_server(user: &str, server: &str) -> String {
    let user_slug = safe(user);
    let server_slug = if server.is_empty() { String::new() } else { safe(server) };
    if user_slug.len() + server_slug.len() + 2 > FIELD {
        return pair(user, server);
    }
    if server.is_empty() { user_slug } else { format!("{user_slug}--{server_slug}") }
}

/// The slugs of two names as one, with one hash, where their own would be too long together.
fn pair(user: &str, server: &str) -> String {
    let mut hasher = Sha256::new();
    hasher.update(user.as_bytes());
    // No text in UTF-8 has this byte, so that (`a`, `bc`) and (`ab`, `c`) differ.
    hasher.update([0xff]);
    hasher.update(server.as_bytes());
    let each = (FIELD - HASH - 1) / 2 - 2;
    format!("{}--{}---{}", readable(user, each), readable(server, each), digits(&hasher.finalize()))
}

/// The slug of old versions of KubeSpawner: every byte of a character that is no small letter or digit, as `-` and the byte
/// in hexadecimal. It is not sound for every name.
#[must_use]
pub fn escape(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
            out.push(letter);
        } else {
            let mut bytes = [0; 4];
            for byte in letter.encode_utf8(&mut bytes).bytes() {
                write!(out, "-{byte:x}").unwrap_or_default();
            }
        }
    }
    out
}

/// The first digits of the hash of a text.
#[must_use]
pub fn hash(text: &str) -> String {
    digits(&Sha256::digest(text.as_bytes()))
}

/// Whether Kubernetes takes it for the name of any object: as a DNS label that begins with a letter.
#[must_use]
pub fn is_object_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase()) && is_dns_label(name)
}

/// Whether it is a DNS label.
#[must_use]
pub fn is_dns_label(name: &str) -> bool {
    let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=LONGEST).contains(&name.len())
        && name.bytes().all(|byte| sound(byte) || byte == b'-')
        && name.bytes().next().is_some_and(sound)
        && name.bytes().next_back().is_some_and(sound)
}

/// Whether Kubernetes takes it for the value of a label, which may be empty.
#[must_use]
pub fn is_label_value(text: &str) -> bool {
    let at_the_ends = |byte: &u8| byte.is_ascii_alphanumeric();
    let between = |byte: &u8| at_the_ends(byte) || matches!(byte, b'.' | b'-' | b'_');
    let bytes = text.as_bytes();
    bytes.len() <= LONGEST
        && bytes.iter().all(between)
        && bytes.first().is_none_or(at_the_ends)
        && bytes.last().is_none_or(at_the_ends)
}

/// Whether Kubernetes takes it for the name of a label or of an annotation: `name`, or `example.org/name`.
#[must_use]
pub fn is_label_name(text: &str) -> bool {
    let (domain, name) = text.split_once('/').unwrap_or(("example.org", text));
    !name.is_empty() && is_label_value(name) && domain.len() <= LONGEST_DOMAIN && domain.split('.').all(is_dns_label)
}

fn hashed(name: &str, longest: usize) -> String {
    format!("{}---{}", readable(name, longest - HASH - 3), hash(name))
}

/// What of a name can stay: small letters and digits with single hyphens between, and a letter first.
fn readable(name: &str, longest: usize) -> String {
    let mut out = String::new();
    for letter in name.to_lowercase().chars() {
        if letter.is_ascii_lowercase() || letter.is_ascii_digit() {
            out.push(letter);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.truncate(longest);
    let kept = out.trim_end_matches('-');
    match kept.as_bytes().first() {
        None => "x".to_owned(),
        Some(first) if first.is_ascii_lowercase() => kept.to_owned(),
        Some(_) => format!("x-{}", &kept[..kept.len().min(longest - 2)]),
    }
}

fn digits(hash: &[u8]) -> String {
    hash.iter().take(HASH / 2).fold(String::new(), |mut out, byte| {
        write!(out, "{byte:02x}").unwrap_or_default();
        out
    })
}

#[cfg(test)]
mod tests;
