//! Puts the hubs' SSH keys of the configuration into the database.

use std::collections::BTreeSet;

use crate::config::{Config, ConfiguredKey, SHARED, of_several};
use crate::error::{Error, Result};
use crate::model::AuthorizedKey;
use crate::store::{Source, SshKeyRow, Store};

/// What is to be done so that the database agrees with the configuration.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes<'a> {
    /// Ids of rows of keys that are not configured any more, or for another hub.
    remove: Vec<&'a str>,
    /// Ids of rows whose options or whose source are others now.
    replace: Vec<(&'a str, &'a AuthorizedKey)>,
    add: Vec<&'a ConfiguredKey>,
    /// Keys that the command line gave to other hubs: the configured key, and whose it is.
    taken: Vec<(&'a ConfiguredKey, &'a str)>,
}

impl<'a> Changes<'a> {
    /// Keys of the command line stay, but for those of the same hub that are now in the configuration, which takes them over.
    pub(super) fn between(rows: &'a [SshKeyRow], wanted: &'a [ConfiguredKey]) -> Self {
        let mut changes = Self::default();
        for configured in wanted {
            let fingerprint = configured.key.fingerprint();
            let config = Source::Config.as_str();
            match rows.iter().find(|row| row.fingerprint == fingerprint) {
                None => changes.add.push(configured),
                Some(row) if row.hub == configured.hub => {
                    if row.line != configured.key.line() || row.source != config {
                        changes.replace.push((&row.id, &configured.key));
                    }
                }
                Some(row) if row.source == config => changes.add.push(configured),
                Some(row) => changes.taken.push((configured, &row.hub)),
            }
        }
        let is_wanted = |row: &SshKeyRow| {
            wanted.iter().any(|wanted| wanted.hub == row.hub && wanted.key.fingerprint() == row.fingerprint)
        };
        let gone = rows.iter().filter(|row| row.source == Source::Config.as_str() && !is_wanted(row));
        changes.remove.extend(gone.map(|row| row.id.as_str()));
        changes
    }
}

/// Makes the database agree with the configuration. A key that another hub has stays that hub's, and the log says so: the
/// command line can give it away at any time, which is no reason for an Outpost not to start.
pub(super) async fn apply(store: &Store, config: &Config) -> Result<()> {
    let hubs: BTreeSet<_> = store.passwords().await?.into_iter().map(|row| row.hub).collect();
    let only_hub = hubs.first().filter(|_| hubs.len() == 1).map(String::as_str);
    if !config.ssh.authorized_keys.is_empty() && hubs.len() > 1 {
        tracing::error!("{SHARED}: {}", of_several(hubs.iter()));
    }
    let wanted = config.ssh_keys(only_hub).map_err(Error::internal)?;
    let rows = store.ssh_keys().await?;
    let changes = Changes::between(&rows, &wanted);
    for (ConfiguredKey { hub, place, key }, owner) in changes.taken {
        tracing::error!(
            hub.name = ?hub,
            key = key.fingerprint(),
            "{place}: is a key of hub {owner:?} already, and a key belongs to one hub, so it is left out here. Take it away \
             there with `outpost hub ssh-key remove`, and reload the configuration; or take it out of the file"
        );
    }
    for id in changes.remove {
        store.remove_ssh_key(id).await?;
    }
    for (id, key) in changes.replace {
        store.replace_ssh_key(id, Source::Config, key).await?;
    }
    for ConfiguredKey { hub, place, key } in changes.add {
        store.add_hub(hub).await?;
        if !store.add_ssh_key(hub, Source::Config, key).await? {
            tracing::warn!(
                key = place,
                "somebody else has just added this SSH key; it is compared again at the next reload"
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 2] = [
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
    ];

    fn row(id: &str, hub: &str, source: Source, line: &str) -> SshKeyRow {
        let fingerprint = AuthorizedKey::parse(line).unwrap().fingerprint();
        let created_at = chrono::DateTime::UNIX_EPOCH;
        let (id, hub, source) = (id.to_owned(), hub.to_owned(), source.as_str().to_owned());
        SshKeyRow { id, hub, source, fingerprint, line: line.to_owned(), created_at }
    }

    fn wanted(hub: &str, line: &str) -> ConfiguredKey {
        let place = format!("hubs.{hub:?}.ssh_keys[0]");
        ConfiguredKey { hub: hub.to_owned(), place, key: AuthorizedKey::parse(line).unwrap() }
    }

    #[test]
    fn what_is_there_stays() {
        let rows = [row("1", "a", Source::Config, KEYS[0]), row("2", "b", Source::Cli, KEYS[1])];
        assert_eq!(Changes::between(&rows, &[wanted("a", KEYS[0])]), Changes::default());
    }

    #[test]
    fn what_is_not_configured_any_more_goes() {
        let rows = [row("1", "a", Source::Config, KEYS[0]), row("2", "a", Source::Cli, KEYS[1])];
        assert_eq!(Changes::between(&rows, &[]), Changes { remove: vec!["1"], ..Changes::default() });
    }

    #[test]
    fn other_options_replace_a_line_and_the_configuration_takes_over_a_key_of_the_command_line() {
        let rows = [row("1", "a", Source::Config, KEYS[0]), row("2", "a", Source::Cli, KEYS[1])];
        let wanted = [wanted("a", &format!("no-pty {}", KEYS[0])), wanted("a", KEYS[1])];
        let replace = vec![("1", &wanted[0].key), ("2", &wanted[1].key)];
        assert_eq!(Changes::between(&rows, &wanted), Changes { replace, ..Changes::default() });
    }

    #[test]
    fn a_key_moves_to_another_hub_of_the_configuration_but_not_away_from_the_command_line() {
        let wanted = [wanted("b", KEYS[0])];
        let rows = [row("1", "a", Source::Config, KEYS[0])];
        let moved = Changes { remove: vec!["1"], add: vec![&wanted[0]], ..Changes::default() };
        assert_eq!(Changes::between(&rows, &wanted), moved);
        let rows = [row("1", "a", Source::Cli, KEYS[0])];
        let taken = vec![(&wanted[0], "a")];
        assert_eq!(Changes::between(&rows, &wanted), Changes { taken, ..Changes::default() });
    }
}
