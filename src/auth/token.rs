//! Tokens of the admin API: `outpost_<id>_<secret>`.
//!
//! The secret is 256 random bits, so that a plain SHA-256 keeps it: nobody can try them all, and a hash that is slow on
//! purpose would only slow down its owner.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};

use super::generate_password;
use crate::model::Uid;

/// What a token may do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, PartialOrd)]
pub enum TokenScope {
    /// Look.
    Read,
    /// Look and change.
    Write,
}

impl TokenScope {
    /// The scope's name.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    /// Reads a scope's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Read, Self::Write].into_iter().find(|scope| scope.as_str() == text)
    }
}

/// A new token with this id, and the hash to keep of it.
#[must_use]
pub fn generate_token(id: &Uid) -> (SecretString, String) {
    let secret = generate_password();
    (format!("outpost_{id}_{secret}").into(), hash_secret(&secret))
}

fn hash_secret(secret: &str) -> String {
    URL_SAFE_NO_PAD.encode(Sha256::digest(secret.as_bytes()))
}

/// The id and the secret in `Bearer outpost_<id>_<secret>`; `None`: it is no token of ours.
#[must_use]
pub fn parse_bearer(header: &[u8]) -> Option<(Uid, &str)> {
    let (scheme, token) = std::str::from_utf8(header).ok()?.trim().split_once(' ')?;
    let (id, secret) = token.trim().strip_prefix("outpost_")?.split_once('_')?;
    scheme.eq_ignore_ascii_case("bearer").then_some((Uid::parse(id)?, secret))
}

/// Whether the secret has this hash. Takes as long wherever they differ.
#[must_use]
pub fn verify_secret(hash: &str, secret: &str) -> bool {
    let given = hash_secret(secret);
    let differences = given.bytes().zip(hash.bytes()).fold(0, |found, (a, b)| black_box(found | (a ^ b)));
    given.len() == hash.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_token_is_verified_by_its_hash() {
        let id = Uid::generate();
        let (token, hash) = generate_token(&id);
        let header = format!("bEaReR {}", token.expose_secret());
        let (found, secret) = parse_bearer(header.as_bytes()).unwrap();
        assert_eq!(found, id);
        assert!(verify_secret(&hash, secret) && !hash.contains(secret));
        assert!(!verify_secret(&hash, &secret[1..]) && !verify_secret(&hash[1..], secret) && !verify_secret("", ""));
        assert!(!verify_secret(&generate_token(&id).1, secret));
    }

    #[test]
    fn other_headers_are_no_tokens() {
        let token = "outpost_01ARZ3NDEKTSV4RRFFQ69G5FAV_x";
        assert!(parse_bearer(format!("Bearer {token}").as_bytes()).is_some());
        let others = ["", "Bearer", "Bearer x", "Bearer outpost_x_y", "Bearer outpost_", token, "Basic b3V0OnBvc3Q="];
        for other in others.iter().map(|text| text.as_bytes()).chain([&b"Bearer \xff"[..]]) {
            assert_eq!(parse_bearer(other), None, "{other:?}");
        }
        assert_eq!(parse_bearer(format!("Basic {token}").as_bytes()), None);
    }
}
