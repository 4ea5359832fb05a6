//! A line of `authorized_keys`: a public key and what it may be used for, in the form that sshd(8) describes.
//!
//! What a line says is done or refused by name; nothing in it is passed over. A mistake never repeats what could be a part
//! of a private key.

mod addresses;
mod options;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use chrono::{DateTime, Local, Utc};
use russh::keys::ssh_key::public::KeyData;
use russh::keys::{Algorithm, HashAlg, PublicKey};

use self::addresses::Addresses;
use self::options::Options;

/// The fewest and the most bits of an RSA key: fewer can be broken, more cannot be verified here.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

const FORMS: &str =
    "has to be an SSH public key as in a file that ends in .pub, for example `ssh-ed25519 AAAA… comment`";

/// An SSH public key of a hub.
#[derive(Clone, Debug, PartialEq)]
pub struct AuthorizedKey {
    key: PublicKey,
    options: Options,
    line: String,
    /// Where the options end and where the comment begins in the line.
    parts: (usize, usize),
}

impl AuthorizedKey {
    /// Reads a line. An end that is over is no mistake.
    ///
    /// # Errors
    /// A sentence without its subject: what is not a key that can be used here, or the option that is not known.
    pub fn parse(line: &str) -> Result<Self, String> {
        let line = line.trim();
        refuse_other_formats(line)?;
        if line.chars().any(|character| character.is_control() && character != '\t') {
            return Err("has to be one line without control characters".to_owned());
        }
        if line.is_empty() || line.starts_with('#') {
            return Err(FORMS.to_owned());
        }
        let (first, _) = word(line);
        let text = if looks_like_a_type(first) { "" } else { options::extent(line)? };
        let options = Options::parse(text, &Local)?;
        let (kind, rest) = word(line[text.len()..].trim_start());
        let (data, comment) = word(rest);
        let key = read_key(kind, data)?;
        let parts = (text.len(), line.len() - comment.len());
        Ok(Self { key, options, line: line.to_owned(), parts })
    }

    /// Reads the lines of a file, but for empty ones and comments.
    ///
    /// # Errors
    /// The first mistake and its line.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, String> {
        refuse_other_formats(text.trim_start())?;
        let lines = text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
        let keys = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        keys.map(|(at, line)| Self::parse(line).map_err(|mistake| format!("line {at} {mistake}"))).collect()
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

    /// Its options as they are written; empty: none.
    #[must_use]
    pub fn options(&self) -> &str {
        &self.line[..self.parts.0]
    }

    /// What is written after the key.
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.line[self.parts.1..]
    }

    /// `ssh-ed25519`, `ecdsa-sha2-nistp256`, … or `ssh-rsa`.
    #[must_use]
    pub fn kind(&self) -> String {
        self.key.algorithm().to_string()
    }

    /// How long it is.
    #[must_use]
    pub fn bits(&self) -> usize {
        match self.key.key_data() {
            KeyData::Ecdsa(key) => match key.curve().as_str() {
                "nistp384" => 384,
                "nistp521" => 521,
                _ => 256,
            },
            KeyData::Rsa(key) => rsa_bits(key.n().as_positive_bytes().unwrap_or_default()),
            _ => 256,
        }
    }

    /// `SHA256:…`
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.key)
    }

    /// Whether a client may use it from this address (`from=`).
    #[must_use]
    pub fn permits_from(&self, address: IpAddr) -> bool {
        self.options.from.as_ref().is_none_or(|from| from.permits(address))
    }

    /// Whether it may open this destination (`permitopen=`, `restrict`, `port-forwarding`, `no-port-forwarding`).
    #[must_use]
    pub fn permits_open(&self, host: &str, port: u16) -> bool {
        self.options.permits_open(host, port)
    }

    /// When it ends (`expiry-time=`).
    #[must_use]
    pub fn expires(&self) -> Option<DateTime<Utc>> {
        self.options.expires
    }

    /// Why it is of no use at `now`, although nothing is wrong with it.
    #[must_use]
    pub fn idle(&self, now: DateTime<Utc>) -> Option<&'static str> {
        if self.expires().is_some_and(|end| end <= now) {
            return Some("it has expired");
        }
        if self.options.from.as_ref().is_some_and(Addresses::permits_nobody) {
            return Some("its option from only says who is refused, which permits nobody");
        }
        (!self.options.forwarding).then_some("its options permit no port forwarding")
    }
}

/// A key's fingerprint as `ssh-keygen -l` prints it: `SHA256:…`.
#[must_use]
pub fn fingerprint(key: &PublicKey) -> String {
    key.fingerprint(HashAlg::Sha256).to_string()
}

/// The first word of a text and what comes after the white space that follows it.
fn word(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t']).unwrap_or(text.len());
    (&text[..end], text[end..].trim_start())
}

/// Somebody pastes the wrong file sooner or later.
fn refuse_other_formats(text: &str) -> Result<(), String> {
    // The second is how the content of OpenSSH's own format begins.
    if text.contains("PRIVATE KEY") || text.contains("b3BlbnNzaC1rZXktdj") || text.starts_with("PuTTY-User-Key-File") {
        return Err(
            "is a private key, which must not leave the hub: give the public key, in the file beside it that ends in \
             .pub. Since this one was shown here, make a new pair"
                .to_owned(),
        );
    }
    if text.starts_with("---- BEGIN SSH2") || text.starts_with("-----BEGIN") {
        return Err(format!("{FORMS}; `ssh-keygen -i -f FILE` converts other formats"));
    }
    Ok(())
}

/// Whether a word is meant to be a key's type: no option begins like one.
fn looks_like_a_type(word: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-", "rsa-", "webauthn-"].iter().any(|start| word.starts_with(start))
}

/// Reads a key that follows the options.
fn read_key(kind: &str, data: &str) -> Result<PublicKey, String> {
    if !looks_like_a_type(kind) {
        return Err(FORMS.to_owned());
    }
    let mistake = match Algorithm::new(kind) {
        _ if kind.contains("-cert-") => "is a certificate: give the public key that it was made for",
        Ok(Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { hash: None }) => "",
        Ok(Algorithm::Rsa { .. }) => "has a signature's type: a key of this type begins with ssh-rsa",
        Ok(Algorithm::Dsa) => "is a DSA key (ssh-dss), which nobody should trust any more",
        Ok(Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256) => {
            "is a key of a security key (sk-…), which somebody has to touch: a hub has nobody who could"
        }
        _ => "is of an unknown type: ssh-ed25519, ecdsa-sha2-nistp256, -384, -521 and ssh-rsa can be used",
    };
    if !mistake.is_empty() {
        return Err(mistake.to_owned());
    }
    let key = PublicKey::from_openssh(&format!("{kind} {data}"));
    let key = key.map_err(|_| "is cut off or damaged: what follows the type is no key of that type".to_owned())?;
    if let KeyData::Rsa(rsa) = key.key_data() {
        let bits = rsa_bits(rsa.n().as_positive_bytes().unwrap_or_default());
        if !RSA_BITS.contains(&bits) {
            let (least, most) = RSA_BITS.into_inner();
            return Err(format!("is an RSA key of {bits} bits: it has to have at least {least} and at most {most}"));
        }
    }
    Ok(key)
}

/// How many bits a number has.
fn rsa_bits(bytes: &[u8]) -> usize {
    let bytes = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
    bytes.first().map_or(0, |first| bytes.len() * 8 - first.leading_zeros() as usize)
}
