//! How Outpost logs in to an SSH server: where, as whom, and whom it believes there.

use std::path::PathBuf;
use std::sync::Arc;

use russh::keys::{Algorithm, HashAlg, PrivateKey, PublicKey, decode_secret_key, known_hosts};
use secrecy::ExposeSecret as _;

use crate::config::{Secret, read_text};
use crate::model::host_and_port;

/// What a section of the configuration says about an SSH server.
#[derive(Clone, Debug, PartialEq)]
pub struct Login {
    /// Its name or address and port, as `host:port`.
    pub to: String,
    /// The user there.
    pub user: String,
    /// The private key to log in with.
    pub key: Secret,
    /// The server's host keys, as lines of `known_hosts`, with the host or without.
    pub host_keys: Vec<String>,
    /// A `known_hosts` file that has them.
    pub known_hosts: Option<PathBuf>,
}

/// What was read for one connection.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Host of the server.
    pub host: String,
    /// Port of the server.
    pub port: u16,
    /// The key to log in with.
    pub key: Arc<PrivateKey>,
    /// The host keys that are believed.
    pub trusted: Vec<PublicKey>,
}

impl Login {
    /// Checks what needs no file and no network.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        host_and_port(&self.to).ok_or("to: has to be host:port, for example ssh.hub.example.org:22")?;
        if self.user.is_empty() {
            return Err("user: has to be the user at the SSH server".to_owned());
        }
        if self.host_keys.is_empty() && self.known_hosts.is_none() {
            return Err("host_keys: is needed, or known_hosts: the server has to be known".to_owned());
        }
        self.host_keys.iter().try_for_each(|line| read_host_key(line).map(drop))
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn read(&self) -> Result<Credentials, String> {
        let (host, port) = host_and_port(&self.to).ok_or("to: has to be host:port")?;
        let text = self.key.read().map_err(|error| format!("key: {error}"))?;
        let key = decode_secret_key(text.expose_secret(), None).map_err(|error| match error {
            russh::keys::Error::KeyIsEncrypted => {
                format!("key: {} has a passphrase, and nobody is there to type it", self.key)
            }
            // Without its words, which may hold a part of the key.
            _ => format!("key: {} is no private key in OpenSSH's form (ssh-keygen -t ed25519 makes one)", self.key),
        })?;
        let mut trusted = Vec::new();
        for line in &self.host_keys {
            trusted.push(read_host_key(line)?);
        }
        if let Some(path) = &self.known_hosts {
            let text =
                read_text(path).map_err(|error| format!("known_hosts: {} cannot be read: {error}", path.display()))?;
            let found = known_hosts::known_host_keys_path(host, port, path)
                .map_err(|error| format!("known_hosts: {}: {error}", path.display()))?;
            trusted.extend(found.into_iter().map(|(_, key)| key));
            let revoked: Vec<_> = text.lines().filter_map(revoked).collect();
            trusted.retain(|key| !revoked.iter().any(|revoked| revoked.key_data() == key.key_data()));
            if trusted.is_empty() {
                return Err(format!("known_hosts: {} has no key of {}", path.display(), self.to));
            }
        }
        Ok(Credentials { host: host.to_owned(), port, key: Arc::new(key), trusted })
    }
}

impl Credentials {
    /// The algorithms by which the server can show a key that is believed, the best first. It may have other keys, too.
    #[must_use]
    pub fn host_key_algorithms(&self) -> Vec<Algorithm> {
        let mut algorithms = Vec::new();
        for key in &self.trusted {
            let of_key = match key.algorithm() {
                Algorithm::Rsa { .. } => {
                    [HashAlg::Sha512, HashAlg::Sha256].map(|hash| Algorithm::Rsa { hash: Some(hash) }).to_vec()
                }
                other => vec![other],
            };
            algorithms
                .extend(of_key.into_iter().filter(|algorithm| !algorithms.contains(algorithm)).collect::<Vec<_>>());
        }
        algorithms
    }

    /// Whether a host key is believed.
    #[must_use]
    pub fn believes(&self, key: &PublicKey) -> bool {
        self.trusted.iter().any(|trusted| trusted.key_data() == key.key_data())
    }
}

/// Reads a line of `known_hosts`, with the host or without.
fn read_host_key(line: &str) -> Result<PublicKey, String> {
    let line = line.trim();
    let without_host = || {
        let (host, key) = line.split_once(char::is_whitespace)?;
        // What takes a key back, or is a comment, names no host.
        let key = Some(key.trim_start()).filter(|_| !host.starts_with(['@', '#']))?;
        PublicKey::from_openssh(key).ok()
    };
    PublicKey::from_openssh(line)
        .ok()
        .or_else(without_host)
        .ok_or_else(|| format!("host_keys: {line:?} is no public key; expected is, for example, \"ssh-ed25519 AAAA…\""))
}

/// The key of a line that takes it back.
fn revoked(line: &str) -> Option<PublicKey> {
    let mut words = line.split_whitespace();
    if words.next()? != "@revoked" {
        return None;
    }
    let (_hosts, algorithm, key) = (words.next()?, words.next()?, words.next()?);
    PublicKey::from_openssh(&format!("{algorithm} {key}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt";
    const TWO: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    fn login(dir: &std::path::Path, known_hosts: &str) -> Login {
        let key = PrivateKey::random(&mut rand::rng(), Algorithm::Ed25519).unwrap();
        std::fs::write(dir.join("key"), &*key.to_openssh(russh::keys::ssh_key::LineEnding::LF).unwrap()).unwrap();
        std::fs::write(dir.join("known_hosts"), known_hosts).unwrap();
        Login {
            to: "hub:2222".to_owned(),
            user: "outpost".to_owned(),
            key: Secret::File(dir.join("key")),
            host_keys: Vec::new(),
            known_hosts: Some(dir.join("known_hosts")),
        }
    }

    #[test]
    fn a_server_that_is_not_known_is_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let (one, two) = (PublicKey::from_openssh(ONE).unwrap(), PublicKey::from_openssh(TWO).unwrap());
        let known = login(dir.path(), &format!("[hub]:2222 {ONE}\nhub {TWO}\n")).read().unwrap();
        assert!(known.believes(&one) && !known.believes(&two), "the other key is that of another port");
        let mistake = login(dir.path(), &format!("other {ONE}\n")).read().unwrap_err();
        assert!(mistake.contains("has no key of hub:2222"), "{mistake}");
        let revoked = login(dir.path(), &format!("[hub]:2222 {ONE}\n@revoked * {ONE}\n")).read().unwrap_err();
        assert!(revoked.contains("has no key of hub:2222"), "{revoked}");
    }

    #[test]
    fn what_ssh_keyscan_prints_is_a_host_key() {
        let plain = read_host_key(ONE).unwrap();
        assert_eq!(read_host_key(&format!("[hub]:2222 {ONE}\n")).unwrap().key_data(), plain.key_data());
        for bad in [
            format!("@revoked * {ONE}"),
            format!("@cert-authority * {ONE}"),
            format!("# {ONE}"),
            format!("@revoked {ONE}"),
            String::new(),
        ] {
            assert!(read_host_key(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mistakes_name_the_key() {
        let dir = tempfile::tempdir().unwrap();
        let good = login(dir.path(), "");
        for (mistaken, expected) in [
            (Login { to: "hub".to_owned(), ..good.clone() }, "to: "),
            (Login { user: String::new(), ..good.clone() }, "user: "),
            (Login { known_hosts: None, ..good.clone() }, "host_keys: is needed"),
            (Login { host_keys: vec!["hub ssh-ed25519 AAAA".to_owned()], ..good.clone() }, "host_keys: \"hub"),
        ] {
            let mistake = mistaken.check().unwrap_err();
            assert!(mistake.starts_with(expected), "{mistake}");
        }
        std::fs::write(dir.path().join("key"), "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n").unwrap();
        let mistake = good.read().unwrap_err();
        assert!(mistake.contains("is no private key") && !mistake.contains("c2Vj"), "{mistake}");
        assert!(
            Login { key: Secret::File(dir.path().join("none")), ..good }.read().unwrap_err().contains("cannot be read")
        );
    }
}
