//! Credentials to callers: HTTP Basic, whose user name is the hub's identity.
//!
//! All hashes are in memory, so that a request is authenticated while the database is down. A verified header is
//! remembered by its salted hash, so that a poll costs no argon2; the memory is thrown away whenever a password changes.

mod ssh_keys;
mod token;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arc_swap::ArcSwapOption;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub use self::ssh_keys::{HubKey, KnownKeys, SshKeys};
pub use self::token::{TokenScope, generate_token, parse_bearer, verify_secret};
use crate::error::{Error, Result};
use crate::store::PasswordRow;

/// Without a usable `Authorization` header.
const NOT_AUTHENTICATED: &str = "Not authenticated";
/// With one that is not right.
const INCORRECT: &str = "Incorrect username or password";

/// How many wrong passwords are remembered.
const REMEMBERED: usize = 1024;

/// A second choice of OWASP's password storage recommendations for argon2id: less memory, one more pass. Two at once at
/// most, so that guessing passwords costs the guesser time and this machine 24 MiB.
const MEMORY_KIB: u32 = 12 * 1024;
const PASSES: u32 = 3;
const AT_ONCE: usize = 2;

/// How many requests with passwords that were never seen may wait for one hub: some seconds' work.
const LONGEST_QUEUE: usize = 64;

type Fingerprint = [u8; 32];

/// Knows the hubs' passwords.
#[derive(Debug)]
pub struct Auth {
    known: ArcSwapOption<Known>,
    salt: [u8; 32],
    permits: Arc<Semaphore>,
    /// For names that nobody has: they never stand in the way of those that somebody has.
    nobody: Arc<Semaphore>,
}

/// The passwords of one moment, and what was found out about them.
#[derive(Debug, Default)]
struct Known {
    hubs: HashMap<Arc<str>, Hub>,
    wrong: RwLock<HashSet<Fingerprint>>,
}

#[derive(Debug)]
struct Hub {
    hashes: Vec<String>,
    right: RwLock<HashSet<Fingerprint>>,
    /// One password of a hub is checked at a time: guessing one hub's name does not hold up the others.
    turn: Arc<Semaphore>,
    /// Who waits for it, by what they know.
    waiting: Mutex<HashMap<Fingerprint, usize>>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            known: ArcSwapOption::empty(),
            salt: rand::random(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            nobody: Arc::new(Semaphore::new(1)),
        }
    }
}

fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Auth {
    /// Takes over the passwords of the database. What is known about hubs whose passwords are the same stays known.
    pub fn update(&self, rows: Vec<PasswordRow>) {
        let mut hashes: HashMap<Arc<str>, Vec<String>> = HashMap::new();
        for row in rows {
            hashes.entry(row.hub.into()).or_default().push(row.hash);
        }
        let old = self.known.load_full();
        let same = |hub: &str, hashes: &[String]| {
            old.as_ref().and_then(|old| old.hubs.get(hub)).filter(|known| known.hashes == hashes)
        };
        if old.as_ref().is_some_and(|old| {
            old.hubs.len() == hashes.len() && hashes.iter().all(|(hub, hashes)| same(hub, hashes).is_some())
        }) {
            return;
        }
        let hubs = hashes.into_iter().map(|(hub, hashes)| {
            let right = same(&hub, &hashes).map(|known| read(&known.right).clone()).unwrap_or_default();
            let turn = Arc::new(Semaphore::new(1));
            (hub, Hub { hashes, right: RwLock::new(right), turn, waiting: Mutex::default() })
        });
        self.known.store(Some(Arc::new(Known { hubs: hubs.collect(), ..Known::default() })));
    }

    /// Whether a hub has a password; one that was removed has none. `true` as long as that was never read.
    #[must_use]
    pub fn knows(&self, hub: &str) -> bool {
        self.known.load().as_ref().is_none_or(|known| known.hubs.contains_key(hub))
    }

    /// Who sends this `Authorization` header.
    ///
    /// # Errors
    /// [`Error::Unauthorized`]; [`Error::Unavailable`] as long as the passwords were never read, and while too many wrong
    /// ones are being checked.
    pub async fn authenticate(&self, header: Option<&[u8]>) -> Result<Arc<str>> {
        let header = header.ok_or(Error::Unauthorized(NOT_AUTHENTICATED))?;
        let known = self.known.load_full().ok_or(Error::Unavailable {
            message: "Outpost is starting and has not reached its database yet. Please try again in a minute.",
            cause: "the hubs' passwords were not read yet".to_owned(),
        })?;
        let (name, password) = decode(header).ok_or(Error::Unauthorized(NOT_AUTHENTICATED))?;
        let digest =
            Sha256::new().chain_update(self.salt).chain_update(&name).chain_update([0]).chain_update(&password);
        let fingerprint: Fingerprint = digest.finalize().into();
        let Some((name, hub)) = known.hubs.get_key_value(name.as_str()) else {
            // Takes as long as a wrong password, unless somebody tries many.
            if let Ok(permit) = self.nobody.clone().try_acquire_owned() {
                check(permit, vec![NOBODY.to_owned()], password).await?;
            }
            return Err(Error::Unauthorized(INCORRECT));
        };
        if read(&hub.right).contains(&fingerprint) {
            return Ok(name.clone());
        }
        if read(&known.wrong).contains(&fingerprint) {
            return Err(Error::Unauthorized(INCORRECT));
        }
        let _waiting = Waiting::of(hub, fingerprint)?;
        let _turn = hub.turn.acquire().await.map_err(Error::internal)?;
        // Found out while this one waited?
        if read(&hub.right).contains(&fingerprint) {
            return Ok(name.clone());
        }
        let permit = self.permits.clone().acquire_owned().await.map_err(Error::internal)?;
        if check(permit, hub.hashes.clone(), password).await? {
            write(&hub.right).insert(fingerprint);
            return Ok(name.clone());
        }
        let mut wrong = write(&known.wrong);
        if wrong.len() >= REMEMBERED {
            wrong.clear();
        }
        wrong.insert(fingerprint);
        Err(Error::Unauthorized(INCORRECT))
    }
}

/// A place in a hub's queue. Those who send the same share one.
struct Waiting<'a>(&'a Hub, Fingerprint);

impl<'a> Waiting<'a> {
    fn of(hub: &'a Hub, fingerprint: Fingerprint) -> Result<Self> {
        let mut waiting = hub.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.len() >= LONGEST_QUEUE && !waiting.contains_key(&fingerprint) {
            return Err(Error::Unavailable {
                message: "Outpost is checking too many wrong passwords of this JupyterHub just now. Please try again in a minute.",
                cause: format!("more than {LONGEST_QUEUE} different passwords that were never seen are waiting"),
            });
        }
        *waiting.entry(fingerprint).or_default() += 1;
        Ok(Self(hub, fingerprint))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = waiting.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                waiting.remove(&self.1);
            }
        }
    }
}

/// Compares a password with hashes, away from the threads that answer requests.
async fn check(permit: OwnedSemaphorePermit, hashes: Vec<String>, password: String) -> Result<bool> {
    let right = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        hashes.iter().any(|hash| verify_password(hash, &password))
    });
    right.await.map_err(Error::internal)
}

/// `Basic` in any case, base64, and a colon between name and password.
fn decode(header: &[u8]) -> Option<(String, String)> {
    let header = std::str::from_utf8(header).ok()?;
    let (scheme, token) = header.trim().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(token.trim()).ok()?).ok()?;
    text.split_once(':').map(|(hub, password)| (hub.to_owned(), password.to_owned()))
}

/// A hash to compare with where there is none, so that an unknown hub takes as long as a wrong password.
const NOBODY: &str =
    "$argon2id$v=19$m=12288,t=3,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Hashes a password with argon2id, in PHC form. Takes some tens of milliseconds.
///
/// # Errors
/// [`Error::Internal`]: no memory or no randomness.
pub fn hash_password(password: &str) -> Result<String> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(Error::internal)?;
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    argon2.hash_password(password.as_bytes()).map(|hash| hash.to_string()).map_err(Error::internal)
}

/// Whether the password has this hash. Takes some tens of milliseconds.
#[must_use]
pub fn verify_password(hash: &str, password: &str) -> bool {
    Argon2::default().verify_password(password.as_bytes(), hash).is_ok()
}

/// A new password: 256 random bits as text that needs no quoting anywhere.
#[must_use]
pub fn generate_password() -> String {
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(hub: &str, password: &str) -> PasswordRow {
        PasswordRow {
            id: String::new(),
            hub: hub.to_owned(),
            source: String::new(),
            hash: hash_password(password).unwrap(),
        }
    }

    fn basic(text: &str) -> Vec<u8> {
        format!("bAsIc {}", STANDARD.encode(text)).into_bytes()
    }

    #[tokio::test]
    async fn two_passwords_are_valid_until_they_are_not() {
        let auth = Auth::default();
        let header = basic("hub:old:with:colons");
        assert!(matches!(auth.authenticate(Some(&header)).await, Err(Error::Unavailable { .. })));
        auth.update(vec![row("hub", "old:with:colons"), row("hub", "new"), row("other", "x")]);
        for _ in 0..2 {
            assert_eq!(&*auth.authenticate(Some(&header)).await.unwrap(), "hub");
            assert_eq!(&*auth.authenticate(Some(&basic("hub:new"))).await.unwrap(), "hub");
            for wrong in ["hub:x", "other:new", "nobody:new", ":", "hub:"] {
                assert!(
                    matches!(auth.authenticate(Some(&basic(wrong))).await, Err(Error::Unauthorized(INCORRECT))),
                    "{wrong}"
                );
            }
        }
        auth.update(vec![row("hub", "new")]);
        assert!(auth.authenticate(Some(&header)).await.is_err());
    }

    #[test]
    fn what_is_no_basic_header_is_not_authenticated() {
        for header in [&b""[..], b"Basic", b"Bearer abc", b"Basic !!!", b"Basic aHVi", b"\xff"] {
            assert_eq!(decode(header), None, "{header:?}");
        }
    }

    #[test]
    fn the_hash_of_nobody_can_be_computed() {
        assert!(!verify_password(NOBODY, "x") && argon2::password_hash::phc::PasswordHash::new(NOBODY).is_ok());
    }
}
