//! The key pairs by which SSH clients know this installation.

use std::fmt;
use std::sync::Arc;

use russh::keys::ssh_key::LineEnding;
use russh::keys::{Algorithm, PrivateKey, PublicKey};
use secrecy::SecretString;

use super::fingerprint;

/// A key pair of the SSH server: Ed25519. Cheap to clone; the private half is wiped from memory with the last clone.
#[derive(Clone)]
pub struct HostKey(Arc<PrivateKey>);

/// What a host key is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostKeyState {
    /// The server proves by it who it is.
    Current,
    /// It takes the current one's place when a rotation is finished; clients are told to trust both until then.
    Next,
}

impl HostKeyState {
    /// The state's name in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next => "next",
        }
    }
}

impl HostKey {
    /// A new one.
    ///
    /// # Errors
    /// What the library says.
    pub fn generate() -> Result<Self, String> {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519);
        key.map(|key| Self(Arc::new(key))).map_err(|error| format!("no host key could be made: {error}"))
    }

    /// Reads what [`Self::to_openssh`] wrote.
    ///
    /// # Errors
    /// A sentence, in which nothing of the text is repeated.
    pub fn from_openssh(text: &str) -> Result<Self, String> {
        let key = PrivateKey::from_openssh(text);
        key.map(|key| Self(Arc::new(key))).map_err(|_| "a host key is no private key in OpenSSH's format".to_owned())
    }

    /// The private key in OpenSSH's format.
    ///
    /// # Errors
    /// What the library says.
    pub fn to_openssh(&self) -> Result<SecretString, String> {
        let text =
            self.0.to_openssh(LineEnding::LF).map_err(|error| format!("a host key cannot be written: {error}"))?;
        Ok(SecretString::from(text.as_str()))
    }

    /// The pair, for the SSH server.
    #[must_use]
    pub fn private(&self) -> Arc<PrivateKey> {
        self.0.clone()
    }

    /// The half that everybody may know.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        self.0.public_key()
    }

    /// That half as in a file that ends in `.pub`.
    #[must_use]
    pub fn public_line(&self) -> String {
        self.public().to_openssh().unwrap_or_default()
    }

    /// `SHA256:…`
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(self.public())
    }
}

/// Public keys are compared, as each has one private half.
impl PartialEq for HostKey {
    fn eq(&self, other: &Self) -> bool {
        self.public().key_data() == other.public().key_data()
    }
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("HostKey").field(&self.fingerprint()).finish()
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret as _;

    use super::*;

    #[test]
    fn a_key_is_read_as_it_was_written_and_never_shown() {
        let key = HostKey::generate().unwrap();
        let text = key.to_openssh().unwrap();
        assert_eq!(HostKey::from_openssh(text.expose_secret()).unwrap(), key);
        assert_ne!(HostKey::generate().unwrap(), key);
        assert_eq!(format!("{key:?}"), format!("HostKey({:?})", key.fingerprint()));
        let mistake = HostKey::from_openssh(&text.expose_secret()[..200]).unwrap_err();
        assert!(!mistake.contains("BEGIN"), "{mistake}");
    }
}
