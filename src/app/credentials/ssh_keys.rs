//! Puts the hubs' SSH keys of the configuration into the database.

use std::collections::BTreeSet;

use crate::config::{Config, ConfiguredKey, SHARED, of_several};
use crate::error::{Error, Result};
use crate::model::AuthorizedKey;
use crate::store::{Source, SshKeyRow, Store};

/// A configured key and whose it is.
#[derive(Debug, PartialEq)]
pub(super) struct OwnedKey {
    hub: String,
    place: String,
    key: AuthorizedKey,
}

/// Says whose the configured keys are, and what is wrong with those that are left out. A key that names no hub is that of the
/// only one, and stays it whichever hubs there are later: else its holder would get into the servers of another hub.
fn owned(
    configured: Vec<ConfiguredKey>,
    rows: &[SshKeyRow],
    hubs: &Hubs,
) -> Result<(Vec<OwnedKey>, Vec<String>), String> {
    let (mut keys, mut mistakes, mut strays) = (Vec::new(), Vec::new(), false);
    let only_hub = hubs.with_password.first().filter(|_| hubs.with_password.len() == 1);
    for ConfiguredKey { hub, place, key } in configured {
        let row = rows.iter().find(|row| row.fingerprint == key.fingerprint());
        let (hub, key) = match (hub, row) {
            (Some(hub), _) => (hub, key),
            (None, Some(row)) if hubs.with_password.contains(&row.hub) || hubs.configured.contains(&row.hub) => {
                (row.hub.clone(), key)
            }
            (None, Some(row)) => {
                let place_of_others = only_hub.map_or_else(|| "<name>".to_owned(), |hub| format!("{hub:?}"));
                mistakes.push(format!(
                    "{place}: is the key of hub {:?}, which has no password any more. It opens nothing, since a key never \
                     goes over to another hub by itself; to give it to one, write it to hubs.{place_of_others}.ssh_keys \
                     instead",
                    row.hub
                ));
                (row.hub.clone(), closed(&key)?)
            }
            (None, None) => match only_hub {
                Some(hub) => (hub.clone(), key),
                None => {
                    strays = true;
                    continue;
                }
            },
        };
        keys.push(OwnedKey { hub, place, key });
    }
    if strays && !hubs.with_password.is_empty() {
        mistakes.push(format!("{SHARED}: {}", of_several(hubs.with_password.iter())));
    }
    Ok((keys, mistakes))
}

/// The hubs that are there.
#[derive(Default)]
struct Hubs {
    with_password: BTreeSet<String>,
    configured: BTreeSet<String>,
}

/// The same key with options that permit nothing: its row goes on saying whose it is.
fn closed(key: &AuthorizedKey) -> Result<AuthorizedKey, String> {
    let plain = key.key().to_openssh().map_err(|error| error.to_string())?;
    AuthorizedKey::parse(&format!("restrict {plain} {}", key.comment()))
}

/// What is to be done so that the database agrees with the configuration.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes<'a> {
    /// Ids of rows of keys that are not configured any more, or for another hub.
    remove: Vec<&'a str>,
    /// Ids of rows whose options or whose source are others now.
    replace: Vec<(&'a str, &'a AuthorizedKey)>,
    add: Vec<&'a OwnedKey>,
    /// Keys that the command line gave to other hubs: the configured key, and whose it is.
    taken: Vec<(&'a OwnedKey, &'a str)>,
}

impl<'a> Changes<'a> {
    /// Keys of the command line stay, but for those of the same hub that are now in the configuration, which takes them over.
    pub(super) fn between(rows: &'a [SshKeyRow], wanted: &'a [OwnedKey]) -> Self {
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
    let hubs = Hubs {
        with_password: store.passwords().await?.into_iter().map(|row| row.hub).collect(),
        configured: config.hubs.keys().cloned().collect(),
    };
    let rows = store.ssh_keys().await?;
    let configured = config.ssh_keys().map_err(Error::internal)?;
    let (wanted, mistakes) = owned(configured, &rows, &hubs).map_err(Error::internal)?;
    mistakes.iter().for_each(|mistake| tracing::error!("{mistake}"));
    let changes = Changes::between(&rows, &wanted);
    for (OwnedKey { hub, place, key }, owner) in changes.taken {
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
    for OwnedKey { hub, place, key } in changes.add {
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
    use rstest::rstest;

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

    fn wanted(hub: &str, line: &str) -> OwnedKey {
        let place = format!("hubs.{hub:?}.ssh_keys[0]");
        OwnedKey { hub: hub.to_owned(), place, key: AuthorizedKey::parse(line).unwrap() }
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

    /// Whose a key is that names no hub, and whether it opens anything; and the mistakes.
    fn owner(row_of: Option<&str>, with_password: &[&str], configured: &[&str]) -> (Option<(String, bool)>, String) {
        let rows: Vec<_> = row_of.into_iter().map(|hub| row("1", hub, Source::Config, KEYS[0])).collect();
        let place = format!("{SHARED}[0]");
        let key = ConfiguredKey { hub: None, place, key: AuthorizedKey::parse(KEYS[0]).unwrap() };
        let names = |hubs: &[&str]| hubs.iter().map(|hub| (*hub).to_owned()).collect();
        let hubs = Hubs { with_password: names(with_password), configured: names(configured) };
        let (mut keys, mistakes) = owned(vec![key], &rows, &hubs).unwrap();
        let now = chrono::DateTime::UNIX_EPOCH;
        (keys.pop().map(|key| (key.hub, key.key.idle(now).is_none())), mistakes.join("\n"))
    }

    #[rstest]
    #[case::nobody(None, &[], &[], None, "")]
    #[case::the_only_one(None, &["a"], &[], Some(("a", true)), "")]
    #[case::several(None, &["a", "b"], &[], None, "there are several (\"a\", \"b\")")]
    #[case::bound(Some("a"), &["a"], &[], Some(("a", true)), "")]
    #[case::bound_to_one_of_several(Some("a"), &["a", "b"], &[], Some(("a", true)), "")]
    #[case::without_a_password_yet(Some("a"), &["b"], &["a"], Some(("a", true)), "")]
    #[case::another_hub(Some("a"), &["b"], &[], Some(("a", false)), "is the key of hub \"a\"")]
    #[case::where_to_write_it(Some("a"), &["b"], &[], Some(("a", false)), "write it to hubs.\"b\".ssh_keys")]
    #[case::other_hubs(Some("a"), &["b", "c"], &[], Some(("a", false)), "write it to hubs.<name>.ssh_keys")]
    fn a_key_without_a_hub_stays_with_its_first(
        #[case] row_of: Option<&str>,
        #[case] with_password: &[&str],
        #[case] configured: &[&str],
        #[case] expected: Option<(&str, bool)>,
        #[case] mistake: &str,
    ) {
        let (owner, mistakes) = owner(row_of, with_password, configured);
        assert_eq!(owner.as_ref().map(|(hub, is_open)| (hub.as_str(), *is_open)), expected);
        assert!(mistakes.contains(mistake) && mistakes.is_empty() == mistake.is_empty(), "{mistakes}");
    }
}
