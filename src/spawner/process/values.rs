//! The types of single settings: each says in its error what belongs there, so that the configuration's reader can add
//! the line.

use std::ops::RangeInclusive;

use serde::de::{Deserializer, Error as _};
use serde::{Deserialize, Serialize};

use crate::model::{Template, quantity};

/// A command: a list, or one text that is the program alone. Never parsed by a shell.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Argv(pub Vec<String>);

impl<'de> Deserialize<'de> for Argv {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "a program, or a list of a program and its arguments")]
        enum Form {
            One(String),
            Many(Vec<String>),
        }
        let argv = match Form::deserialize(deserializer)? {
            Form::One(program) => vec![program],
            Form::Many(argv) => argv,
        };
        if argv.iter().any(|part| part.contains('\0')) {
            return Err(D::Error::custom("a command must not contain a NUL character"));
        }
        Ok(Self(argv))
    }
}

/// A number of bytes, as a number or with one of the units K, M, G, T (powers of 1024), as in `KubeSpawner`: `"1.5G"`.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Bytes(pub u64);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = serde_json::Value::deserialize(deserializer)?;
        quantity("mem_limit", &written).map(|bytes| Self(bytes as u64)).map_err(D::Error::custom)
    }
}

/// A range of ports, both ends included: `"40000-41000"`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Ports(pub RangeInclusive<u16>);

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.split_once('-')
            .and_then(|(first, last)| Some(first.trim().parse::<u16>().ok()?..=last.trim().parse().ok()?))
            .filter(|range| *range.start() > 0 && !range.is_empty())
            .map(Self)
            .ok_or_else(|| D::Error::custom("expected a range of ports like \"40000-41000\""))
    }
}

macro_rules! templates {
    ($($(#[$doc:meta])* $name:ident = $fields:expr;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, Eq, PartialEq)]
        pub struct $name(pub Template);

        impl $name {
            /// The fields that may stand in braces.
            pub const FIELDS: &[&str] = $fields;

            /// Reads the template.
            ///
            /// # Errors
            /// A sentence that names the unknown field or the open brace.
            pub fn parse(text: &str) -> Result<Self, String> {
                if text.contains('\0') {
                    return Err("must not contain a NUL character".to_owned());
                }
                Template::parse(text, Self::FIELDS).map(Self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
            }
        }
    )*};
}

templates! {
    /// An argument or a value of the environment: names of the hub stand in it as they are.
    Text = &["username", "servername", "hub", "user_id", "uid", "unix_user", "home", "ip", "port", "base_url"];
    /// A directory, or a path below one in a URL: names of the hub stand in it as one segment each ([`crate::model::path_segment`]).
    Place = &["username", "servername", "hub", "user_id", "uid", "unix_user", "home"];
    /// A Unix user's name.
    AccountName = &["username", "hub", "user_id"];
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn forms_of_a_setting() {
        assert_eq!(serde_json::from_value::<Argv>(json!("a b")).unwrap().0, ["a b"]);
        assert_eq!(serde_json::from_value::<Argv>(json!(["a", "b"])).unwrap().0, ["a", "b"]);
        assert_eq!(serde_json::from_value::<Bytes>(json!(5)).unwrap(), Bytes(5));
        assert_eq!(serde_json::from_value::<Bytes>(json!("1.5K")).unwrap(), Bytes(1536));
        assert!(serde_json::from_value::<Bytes>(json!(1e9)).unwrap_err().to_string().contains("a size in bytes"));
        assert_eq!(serde_json::from_value::<Ports>(json!("40000 - 40010")).unwrap().0, 40000..=40010);
        for bad in ["0-5", "5", "7-6", "1-70000"] {
            assert!(serde_json::from_value::<Ports>(json!(bad)).is_err(), "{bad}");
        }
        let error = serde_json::from_value::<Place>(json!("/data/{port}")).unwrap_err();
        assert!(error.to_string().contains("`{port}` is no field here"), "{error}");
    }
}
