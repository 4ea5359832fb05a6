//! `[hubs.<name>] ssh_keys`, all hubs together: a key belongs to one.

use std::collections::HashMap;

use super::Config;
use crate::model::AuthorizedKey;

/// A hub's SSH key as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfiguredKey {
    /// The hub's name.
    pub hub: String,
    /// Where it is written, for example `hubs."site".ssh_keys[0]`.
    pub place: String,
    /// The key.
    pub key: AuthorizedKey,
}

impl Config {
    /// The hubs' SSH keys.
    ///
    /// # Errors
    /// Sentences, one a line: what is no key, and what is there twice.
    pub fn ssh_keys(&self) -> Result<Vec<ConfiguredKey>, String> {
        let (mut keys, mut mistakes) = (Vec::<ConfiguredKey>::new(), Vec::new());
        let mut known: HashMap<String, String> = HashMap::new();
        for (hub, settings) in &self.hubs {
            for (at, line) in settings.ssh_keys.iter().enumerate() {
                let place = format!("hubs.{hub:?}.ssh_keys[{at}]");
                match AuthorizedKey::parse(line) {
                    Err(mistake) => mistakes.push(format!("{place}: {mistake}")),
                    Ok(key) => match known.get(&key.fingerprint()) {
                        Some(first) => {
                            mistakes
                                .push(format!("{place}: is the same key as {first}; a key belongs to one hub, once"));
                        }
                        None => {
                            known.insert(key.fingerprint(), place.clone());
                            keys.push(ConfiguredKey { hub: hub.clone(), place, key });
                        }
                    },
                }
            }
        }
        if mistakes.is_empty() { Ok(keys) } else { Err(mistakes.join("\n")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt";

    fn mistakes(toml: &str) -> String {
        Config::parse(toml).unwrap().ssh_keys().unwrap_err()
    }

    #[test]
    fn keys_are_read_with_their_places() {
        let config = Config::parse(&format!("[hubs.a]\nssh_keys = ['restrict,port-forwarding {KEY} a b']")).unwrap();
        let keys = config.ssh_keys().unwrap();
        assert_eq!((keys[0].place.as_str(), keys[0].key.comment()), ("hubs.\"a\".ssh_keys[0]", "a b"));
    }

    #[test]
    fn every_mistake_has_its_place() {
        let found = mistakes(&format!(
            "[hubs.a]\nssh_keys = ['{KEY}', 'ssh-dss AAAA']\n[hubs.\"b c\"]\nssh_keys = ['{KEY} x']"
        ));
        let lines: Vec<_> = found.lines().collect();
        assert!(lines[0].starts_with("hubs.\"a\".ssh_keys[1]: is a DSA key"), "{found}");
        assert!(lines[1].starts_with("hubs.\"b c\".ssh_keys[0]: is the same key as hubs.\"a\".ssh_keys[0]"), "{found}");
    }
}
