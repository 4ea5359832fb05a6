//! What the configuration names: passwords and definitions, read before anything is touched.

use std::collections::BTreeMap;
use std::sync::Arc;

use secrecy::{ExposeSecret as _, SecretString};

use crate::config::{Config, Secret};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::outpost::{FlavorSettings, read_file};

/// What there was when the configuration was read.
#[derive(Debug, Default)]
pub struct Contents {
    /// The passwords of each hub of the configuration.
    passwords: BTreeMap<String, Vec<SecretString>>,
    /// The SSH keys that name no hub, and those of each hub.
    ssh_keys: (Vec<String>, BTreeMap<String, Vec<String>>),
    /// The digests of the files of flavors and credits.
    definitions: BTreeMap<&'static str, String>,
}

impl Contents {
    /// Reads it. A file of flavors or credits that cannot be read is as none.
    ///
    /// # Errors
    /// A sentence: a password cannot be read.
    pub fn read(config: &Config) -> Result<Self, String> {
        let mut contents = Self::default();
        contents.ssh_keys.0.clone_from(&config.ssh.authorized_keys);
        for (name, settings) in &config.hubs {
            let passwords: Result<_, _> = settings.passwords.iter().map(Secret::read).collect();
            let passwords = passwords.map_err(|mistake| format!("hubs.{name:?}.passwords: {mistake}"))?;
            contents.passwords.insert(name.clone(), passwords);
            contents.ssh_keys.1.insert(name.clone(), settings.ssh_keys.clone());
        }
        let digests = config.flavors.files().into_iter();
        contents.definitions =
            digests.filter_map(|(kind, path)| Some((kind.as_str(), read_file(kind, path).ok()?.1))).collect();
        Ok(contents)
    }

    /// The passwords of each hub of the configuration.
    pub(super) const fn passwords(&self) -> &BTreeMap<String, Vec<SecretString>> {
        &self.passwords
    }

    /// Whether a hub has the same passwords here and there.
    pub(super) fn has_passwords_of(&self, other: &Self, hub: &str) -> bool {
        let exposed = |contents: &Self| {
            let passwords = contents.passwords.get(hub)?;
            Some(passwords.iter().map(|password| password.expose_secret().to_owned()).collect::<Vec<_>>())
        };
        exposed(self) == exposed(other)
    }

    /// Whether the SSH keys are the same here and there.
    pub(super) fn has_ssh_keys_of(&self, other: &Self) -> bool {
        self.ssh_keys == other.ssh_keys
    }

    /// Of the files of flavors and credits those that are other ones than `before`.
    pub(super) fn changed_definitions(&self, before: &Self, settings: &FlavorSettings) -> FlavorSettings {
        let mut changed = settings.clone();
        for (kind, file) in [("flavors", &mut changed.file), ("credits", &mut changed.credits_file)] {
            if self.definitions.get(kind) == before.definitions.get(kind) {
                *file = None;
            }
        }
        changed
    }
}

/// What is wrong with the files and variables that are read anew when they change: a sentence each, which names the key.
#[must_use]
pub fn mistakes(config: &Config) -> Vec<String> {
    let mut mistakes = Vec::new();
    for (name, settings) in &config.hubs {
        let tokens = [
            ("flavors_update_token", &settings.flavors_update_token),
            ("ssh_recreate_token", &settings.ssh_recreate_token),
        ];
        let passwords = settings.passwords.iter().map(|secret| ("passwords", secret));
        for (key, secret) in passwords.chain(tokens.into_iter().filter_map(|(key, token)| Some((key, token.as_ref()?))))
        {
            if let Err(mistake) = secret.read() {
                mistakes.push(format!("hubs.{name:?}.{key}: {mistake}"));
            }
        }
        if let Some(Err(mistake)) = settings.dial.as_ref().map(|dial| dial.login().read()) {
            mistakes.push(format!("hubs.{name:?}.dial.{mistake}"));
        }
        if let Err(mistake) = Hub::new(name, settings.clone(), None, Arc::new(Metrics::default())) {
            mistakes.push(format!("hubs.{name:?}.{mistake}"));
        }
    }
    mistakes.extend(config.flavors.check_files().err());
    mistakes
}
