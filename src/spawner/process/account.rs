//! Unix users: which one a server runs as. The hub's user name is only ever looked up; numbers decide.

use std::ffi::CString;
use std::path::PathBuf;

use nix::unistd::{Gid, Uid, User, geteuid, getgrouplist};
use serde::{Deserialize, Serialize};

use super::sentences;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::model::Launch;

/// A Unix user.
#[derive(Clone, Debug)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its home in the user database.
    pub home: PathBuf,
    /// Its login shell.
    pub shell: PathBuf,
    /// What a process has to become; `None`: it is Outpost's own user already.
    pub switch: Option<Switch>,
}

/// The numbers that a server's process takes on.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Switch {
    /// The user; never 0.
    pub uid: u32,
    /// The user's first group.
    pub gid: u32,
    /// All of its groups.
    pub groups: Vec<u32>,
}

impl Account {
    /// Outpost's own user.
    #[must_use]
    pub fn own() -> Self {
        let user = User::from_uid(geteuid()).ok().flatten();
        let (name, home, shell) = user.map_or_else(
            || (geteuid().to_string(), "/".into(), PathBuf::new()),
            |user| (user.name, user.dir, user.shell),
        );
        Self { name, home, shell, switch: None }
    }

    /// The Unix user of this name. Asks the user database, which may be on a network: not for an async thread.
    ///
    /// # Errors
    /// [`Error::Failed`] with a sentence: there is none, or its number is below `min_uid`.
    pub fn look_up(name: &str, min_uid: u32) -> Result<Self> {
        let failed = |sentence| Err(Error::failed(sentence));
        let user = match User::from_name(name) {
            Ok(Some(user)) => user,
            Ok(None) => return failed(sentences::no_account(name)),
            Err(error) => {
                return Err(Error::Unavailable {
                    message: "This machine's list of users does not answer just now. Please try again in a minute.",
                    cause: format!("getpwnam: {error}"),
                });
            }
        };
        // Names can be aliases; only the number says who is root.
        if user.uid.is_root() || user.uid.as_raw() < min_uid {
            return failed(sentences::system_account(name));
        }
        let groups = CString::new(user.name.as_bytes())
            .ok()
            .and_then(|name| getgrouplist(&name, user.gid).ok())
            .unwrap_or_else(|| vec![user.gid]);
        let switch = Switch {
            uid: user.uid.as_raw(),
            gid: user.gid.as_raw(),
            groups: groups.into_iter().map(Gid::as_raw).collect(),
        };
        Ok(Self { name: user.name, home: user.dir, shell: user.shell, switch: Some(switch) })
    }
}

impl Switch {
    /// Owner and group for files that the server has to read.
    #[must_use]
    pub fn owner(&self) -> (Uid, Gid) {
        (Uid::from_raw(self.uid), Gid::from_raw(self.gid))
    }
}

/// The name of the Unix user for a launch; `None`: Outpost's own.
///
/// # Errors
/// [`Error::Refused`]: nobody says which Unix user this is, or the name can be none.
pub fn name_for(settings: &Settings, launch: &Launch) -> Result<Option<String>> {
    if !settings.switches_user() {
        return Ok(None);
    }
    let name = match (settings.users.get(&*launch.user), &settings.user) {
        (Some(name), _) => name.clone(),
        (None, Some(template)) => template.0.render(
            &[
                ("username", launch.user.to_string()),
                ("hub", launch.id.hub.to_string()),
                ("user_id", launch.user_id.to_string()),
            ]
            .into(),
        )?,
        (None, None) => return Err(Error::Refused(sentences::no_account(&launch.user))),
    };
    // `+` and `-` begin directives, not users, in the user database of old.
    let bad = |c: char| c.is_control() || c.is_whitespace() || ":/,".contains(c);
    if name.is_empty() || name.starts_with(['+', '-']) || name.contains(bad) || name.len() > 256 {
        return Err(Error::Refused(sentences::no_account(&name)));
    }
    Ok(Some(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_decide() {
        assert!(Account::look_up("root", 1).unwrap_err().to_string().contains("belongs to the system"));
        assert!(Account::look_up("daemon", 1000).unwrap_err().to_string().contains("belongs to the system"));
        assert!(Account::look_up("no-such-user", 1).unwrap_err().to_string().contains("no account"));
        let nobody = Account::look_up("nobody", 1000).unwrap();
        assert_eq!(nobody.switch.unwrap().uid, 65534);
    }
}
