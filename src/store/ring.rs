//! Encryption at rest: a ring of Fernet keys, as the Python service's `OUTPOST_CRYPT_KEY`. The first encrypts, all decrypt.

use std::fmt;

use fernet::{Fernet, MultiFernet};

use crate::error::{Error, Result};

/// Several keys in order of age, the newest first.
pub struct Ring {
    fernet: MultiFernet,
    newest: Fernet,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ring")
    }
}

impl Ring {
    /// Reads keys: 32 bytes in URL-safe base64 each. One text may hold several, separated by `,`, `;` or white space.
    ///
    /// # Errors
    /// A sentence; the keys are not repeated in it.
    pub fn new<'a>(keys: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let keys: Vec<Fernet> = keys
            .into_iter()
            .flat_map(|text| text.split([',', ';', ' ', '\n', '\r', '\t']))
            .filter(|key| !key.is_empty())
            .enumerate()
            .map(|(at, key)| {
                Fernet::new(key).ok_or_else(|| {
                    format!("encryption key {} is no Fernet key (32 bytes in URL-safe base64); `outpost keys generate` makes one", at + 1)
                })
            })
            .collect::<Result<_, _>>()?;
        let newest = keys.first().ok_or("there is no encryption key; `outpost keys generate` makes one")?.clone();
        Ok(Self { fernet: MultiFernet::new(keys), newest })
    }

    /// A new key.
    #[must_use]
    pub fn generate_key() -> String {
        Fernet::generate_key()
    }

    /// Encrypts with the newest key.
    #[must_use]
    pub fn encrypt(&self, text: &str) -> String {
        self.newest.encrypt(text.as_bytes())
    }

    /// Decrypts with whichever key fits.
    ///
    /// # Errors
    /// [`Error::Internal`]: none fits.
    pub fn decrypt(&self, token: &str) -> Result<String> {
        self.fernet.decrypt(token).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(|| {
            Error::internal("a value in the database was encrypted with a key that is not configured any more")
        })
    }

    /// Whether the newest key alone can read it.
    #[must_use]
    pub fn is_current(&self, token: &str) -> bool {
        self.newest.decrypt(token).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_rotate() {
        let (old, new) = (Ring::generate_key(), Ring::generate_key());
        let token = Ring::new([old.as_str()]).unwrap().encrypt("s3cret");
        let both = Ring::new([format!("{new};{old}").as_str()]).unwrap();
        assert_eq!(both.decrypt(&token).unwrap(), "s3cret");
        assert!(!both.is_current(&token) && both.is_current(&both.encrypt("s3cret")));
        assert!(Ring::new([new.as_str()]).unwrap().decrypt(&token).is_err());
    }

    #[test]
    fn a_token_of_the_python_service_can_be_read() {
        // Made with Python's cryptography.fernet: the format is the same.
        let ring = Ring::new(["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]).unwrap();
        let token = ring.encrypt("{}");
        assert!(token.starts_with("gAAAA"));
    }

    #[test]
    fn bad_keys_are_not_repeated() {
        let error = Ring::new(["not-a-key"]).unwrap_err();
        assert!(error.contains("key 1") && !error.contains("not-a-key"), "{error}");
        assert!(Ring::new([""]).unwrap_err().contains("no encryption key"));
    }
}
