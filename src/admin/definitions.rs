//! Flavors and credits.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Admin, Error, Result};
use crate::admission::{Document, Kind};
use crate::error::Error as Failure;
use crate::outpost::{Changed, Expected, change, stored};
use crate::store::{Store, Version};

/// One version of the flavors or of the credits.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct DefinitionVersion {
    /// Counted from 1; 0: nothing was ever defined.
    pub version: i64,
    /// Who made it: `file`, `cli:<Unix user>` or `token:<name>`.
    pub author: Option<String>,
    /// When it was made.
    pub changed_at: Option<DateTime<Utc>>,
    /// What it changed.
    pub summary: Option<String>,
}

/// A version with what it defines.
#[derive(Clone, Debug, PartialEq)]
pub struct Definition {
    /// Which version.
    pub version: DefinitionVersion,
    /// What it defines.
    pub document: Document,
}

impl From<Version> for DefinitionVersion {
    fn from(version: Version) -> Self {
        Self {
            version: version.version,
            author: Some(version.author),
            changed_at: Some(version.changed_at),
            summary: Some(version.summary),
        }
    }
}

/// What is defined, or what was in version `at`. Where nothing was ever defined, that is an empty document.
///
/// # Errors
/// There is no such version.
pub async fn definition(store: &Store, kind: Kind, at: Option<i64>) -> Result<Definition> {
    let version = match at {
        Some(at) => store.definitions_at(kind.as_str(), at).await?,
        None => store.definitions(kind.as_str()).await?,
    };
    match (version, at) {
        (Some(version), _) => {
            let document = stored(kind, &version.document)?;
            Ok(Definition { version: version.into(), document })
        }
        (None, Some(at)) => Err(Error::Missing(format!("there is no version {at} of the {}", kind.as_str()))),
        (None, None) => {
            let version = DefinitionVersion { version: 0, author: None, changed_at: None, summary: None };
            Ok(Definition { version, document: Document::empty(kind).map_err(Failure::internal)? })
        }
    }
}

/// All versions, the newest first.
///
/// # Errors
/// The database does not answer.
pub async fn definition_versions(store: &Store, kind: Kind) -> Result<Vec<DefinitionVersion>> {
    Ok(store.definition_versions(kind.as_str()).await?.into_iter().map(Into::into).collect())
}

impl Admin<'_> {
    /// Replaces everything that is defined.
    ///
    /// # Errors
    /// What is in force is not what is expected.
    pub async fn apply(&self, document: &Document, expected: Expected) -> Result<Changed> {
        let action = match document.kind() {
            Kind::Flavors => "flavors.apply",
            Kind::Credits => "credits.apply",
        };
        self.define(document.kind(), action, "", expected, |_| Ok(document.clone())).await
    }

    /// Defines one flavor or credit, or replaces it.
    ///
    /// # Errors
    /// The entry has a mistake; what is in force is not what is expected.
    pub async fn set_entry(&self, kind: Kind, name: &str, entry: &Value, expected: Expected) -> Result<Changed> {
        let action = match kind {
            Kind::Flavors => "flavors.set",
            Kind::Credits => "credits.set",
        };
        self.define(kind, action, name, expected, |before| match before {
            Some(before) => before.with(name, Some(entry.clone())),
            None => Document::empty(kind)?.with(name, Some(entry.clone())),
        })
        .await
    }

    /// Changes some keys of one flavor or credit, which has to be there unless all that it needs is given. `keys` are paths
    /// like `resources.mem_limit`.
    ///
    /// # Errors
    /// The entry has a mistake then; somebody was faster.
    pub async fn set_keys(&self, kind: Kind, name: &str, keys: &[(String, Value)]) -> Result<Changed> {
        let action = match kind {
            Kind::Flavors => "flavors.set",
            Kind::Credits => "credits.set",
        };
        self.define(kind, action, name, Expected::Whichever, |before| {
            let entry = before.and_then(|before| before.raw().get(kind.as_str())?.get(name));
            let mut entry = entry.cloned().unwrap_or_else(|| json!({}));
            for (path, value) in keys {
                set(&mut entry, path, value.clone())?;
            }
            match before {
                Some(before) => before.with(name, Some(entry)),
                None => Document::empty(kind)?.with(name, Some(entry)),
            }
        })
        .await
    }

    /// Removes one flavor or credit.
    ///
    /// # Errors
    /// There is none of that name, or what is in force is not what is expected.
    pub async fn remove_entry(&self, kind: Kind, name: &str, expected: Expected) -> Result<Changed> {
        let (action, word) = match kind {
            Kind::Flavors => ("flavors.remove", "flavor"),
            Kind::Credits => ("credits.remove", "credit"),
        };
        let newest = definition(self.store, kind, None).await?;
        if newest.document.raw().get(kind.as_str()).and_then(|entries| entries.get(name)).is_none() {
            return Err(Error::Missing(format!("there is no {word} {name:?}")));
        }
        self.define(kind, action, name, expected, |before| match before {
            Some(before) => before.with(name, None),
            None => Document::empty(kind),
        })
        .await
    }

    async fn define(
        &self,
        kind: Kind,
        action: &'static str,
        subject: &str,
        expected: Expected,
        to: impl Fn(Option<&Document>) -> Result<Document, String>,
    ) -> Result<Changed> {
        let author = self.actor.to_string();
        let change = async {
            change(self.store, kind, &author, None, expected, to).await.map_err(|error| match error {
                Failure::Invalid { expected, .. } => Error::Invalid(expected),
                Failure::Refused(sentence) => Error::Outdated(sentence),
                error => error.into(),
            })
        };
        self.audited_as(action, subject, json!({}), change, |changed| {
            let Changed { version, differences, .. } = changed;
            changed.made.then(|| json!({ "version": version, "differences": differences.len() }))
        })
        .await
    }
}

/// Sets the value at a path like `resources.mem_limit`; objects on the way are made. `null` takes the key away.
fn set(entry: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let mut place = entry;
    let mut keys = path.split('.').peekable();
    while let Some(key) = keys.next() {
        if key.is_empty() {
            return Err(format!("{path:?} is no key: names with dots between them are expected"));
        }
        if place.is_null() {
            *place = json!({});
        }
        let Value::Object(object) = place else {
            return Err(format!("{path}: there is a value on the way that has no keys"));
        };
        if value.is_null() && keys.peek().is_none() {
            object.shift_remove(key);
            return Ok(());
        }
        place = object.entry(key).or_insert(Value::Null);
    }
    *place = value;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_set_where_its_path_leads() {
        let mut entry = json!({"max": 5, "resources": {"cpu_limit": 1}});
        set(&mut entry, "resources.mem_limit", json!("4G")).unwrap();
        set(&mut entry, "runtime.hours", json!(2)).unwrap();
        let expected = json!({"max": 5, "resources": {"cpu_limit": 1, "mem_limit": "4G"}, "runtime": {"hours": 2}});
        assert_eq!(entry, expected);
        set(&mut entry, "resources.cpu_limit", Value::Null).unwrap();
        assert_eq!(entry["resources"], json!({"mem_limit": "4G"}));
        for bad in ["", ".", "a..b", "max.x"] {
            assert!(set(&mut entry, bad, json!(1)).is_err(), "{bad}");
        }
    }
}
