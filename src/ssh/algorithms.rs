//! Which algorithms SSH connections may use.
//!
//! | | |
//! |---|---|
//! | key exchange | `mlkem768x25519-sha256`, `curve25519-sha256`, `curve25519-sha256@libssh.org` |
//! | host key | `ssh-ed25519` |
//! | cipher | `aes256-gcm@openssh.com`, `aes128-gcm@openssh.com` |
//! | MAC | part of the cipher; for form's sake `hmac-sha2-256-etm@openssh.com`, `hmac-sha2-512-etm@openssh.com` |
//! | compression | none |
//! | client key | `ssh-ed25519`, `ecdsa-sha2-nistp256`, `-nistp384`, `-nistp521`, `rsa-sha2-256`, `rsa-sha2-512` |
//!
//! `chacha20-poly1305@openssh.com` is left out, which OpenSSH's client would choose first: all hardware of today speeds AES
//! up, the library does ChaCha20-Poly1305 at about 0.8 of OpenSSH's speed, and it is one of the two ciphers that prefix
//! truncation ("Terrapin") works on with clients that do not know strict key exchange.

use std::borrow::Cow;

use russh::keys::{Algorithm, EcdsaCurve, HashAlg};
use russh::{Preferred, cipher, compression, kex, mac};

/// The algorithms, the preferred ones first.
#[must_use]
pub const fn preferred() -> Preferred {
    Preferred {
        kex: Cow::Borrowed(&[
            kex::MLKEM768X25519_SHA256,
            kex::CURVE25519,
            kex::CURVE25519_PRE_RFC_8731,
            kex::EXTENSION_SUPPORT_AS_SERVER,
            kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
        ]),
        // The host key is the only Ed25519 key of the server; the others are what clients may sign with.
        key: Cow::Borrowed(&[
            Algorithm::Ed25519,
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
            Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
            Algorithm::Rsa { hash: Some(HashAlg::Sha512) },
            Algorithm::Rsa { hash: Some(HashAlg::Sha256) },
        ]),
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Borrowed(&[cipher::AES_256_GCM, cipher::AES_128_GCM]),
        mac: Cow::Borrowed(&[mac::HMAC_SHA256_ETM, mac::HMAC_SHA512_ETM]),
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

/// Whether a client may sign with this algorithm: not with SHA-1, nor with what is not in the list.
#[must_use]
pub fn may_sign(algorithm: &Algorithm) -> bool {
    preferred().key.contains(algorithm)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The documentation has this list; a new version of the library must not add to it.
    #[test]
    fn the_algorithms_are_the_documented_ones() {
        let preferred = preferred();
        let kex: Vec<&str> = preferred.kex.iter().map(AsRef::as_ref).collect();
        assert_eq!(
            kex,
            [
                "mlkem768x25519-sha256",
                "curve25519-sha256",
                "curve25519-sha256@libssh.org",
                "ext-info-s",
                "kex-strict-s-v00@openssh.com"
            ]
        );
        let cipher: Vec<&str> = preferred.cipher.iter().map(AsRef::as_ref).collect();
        assert_eq!(cipher, ["aes256-gcm@openssh.com", "aes128-gcm@openssh.com"]);
        let mac: Vec<&str> = preferred.mac.iter().map(AsRef::as_ref).collect();
        assert_eq!(mac, ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"]);
        let compression: Vec<&str> = preferred.compression.iter().map(AsRef::as_ref).collect();
        assert_eq!(compression, ["none"]);
        let key: Vec<String> = preferred.key.iter().map(ToString::to_string).collect();
        assert_eq!(
            key,
            [
                "ssh-ed25519",
                "ecdsa-sha2-nistp256",
                "ecdsa-sha2-nistp384",
                "ecdsa-sha2-nistp521",
                "rsa-sha2-512",
                "rsa-sha2-256"
            ]
        );
        assert!(!may_sign(&Algorithm::Rsa { hash: None }), "SHA-1");
        assert!(!may_sign(&Algorithm::Dsa));
    }
}
