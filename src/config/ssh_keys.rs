//! `[hubs.<name>] ssh_keys`, all hubs together: a key belongs to one. And `[ssh] authorized_keys`, which name no hub.

use std::collections::HashMap;

use super::Config;
use crate::model::AuthorizedKey;

/// The key for the SSH keys of the only hub there is.
pub const SHARED: &str = "ssh.authorized_keys";

/// What to do with such keys where there are several hubs and no hub has them yet.
pub fn of_several<'a>(hubs: impl Iterator<Item = &'a String>) -> String {
    let hubs: Vec<_> = hubs.map(|hub| format!("{hub:?}")).collect();
    format!(
        "keys that no hub has yet are left out, since a key belongs to one hub, and there are several ({}); write them to \
         hubs.<name>.ssh_keys of the hub that is to have them",
        hubs.join(", ")
    )
}

/// A hub's SSH key as the configuration has it.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfiguredKey {
    /// The hub's name, if it is named.
    pub hub: Option<String>,
    /// Where it is written, for example `hubs."site".ssh_keys[0]`.
    pub place: String,
    /// The key.
    pub key: AuthorizedKey,
}

impl Config {
    /// The hubs' SSH keys, and those that name no hub.
    ///
    /// # Errors
    /// Sentences, one a line: what is no key, and what is there twice.
    pub fn ssh_keys(&self) -> Result<Vec<ConfiguredKey>, String> {
        let (mut keys, mut mistakes) = (Vec::<ConfiguredKey>::new(), Vec::new());
        let mut known: HashMap<String, String> = HashMap::new();
        let of_hubs =
            self.hubs.iter().map(|(hub, settings)| (Some(hub), format!("hubs.{hub:?}.ssh_keys"), &settings.ssh_keys));
        for (hub, list, lines) in of_hubs.chain([(None, SHARED.to_owned(), &self.ssh.authorized_keys)]) {
            for (at, line) in lines.iter().enumerate() {
                let place = format!("{list}[{at}]");
                match AuthorizedKey::parse(line) {
                    Err(mistake) => mistakes.push(format!("{place}: {mistake}")),
                    Ok(key) => match known.get(&key.fingerprint()) {
                        Some(first) => {
                            mistakes
                                .push(format!("{place}: is the same key as {first}; a key belongs to one hub, once"));
                        }
                        None => {
                            known.insert(key.fingerprint(), place.clone());
                            keys.push(ConfiguredKey { hub: hub.cloned(), place, key });
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
    fn keys_of_no_hub_are_none_of_another_hub() {
        let config = Config::parse(&format!("[ssh]\nauthorized_keys = ['{KEY}']")).unwrap();
        let keys = config.ssh_keys().unwrap();
        assert_eq!((keys[0].hub.as_deref(), keys[0].place.as_str()), (None, "ssh.authorized_keys[0]"));
        let found =
            mistakes(&format!("[ssh]\nauthorized_keys = ['ssh-dss AAAA', '{KEY}']\n[hubs.a]\nssh_keys = ['{KEY}']"));
        assert!(found.starts_with("ssh.authorized_keys[0]: is a DSA key"), "{found}");
        assert!(found.contains("ssh.authorized_keys[1]: is the same key as hubs.\"a\".ssh_keys[0]"), "{found}");
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
