//! How documents are written, and where in a text something is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// How a document is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// YAML, as the Python service reads it.
    Yaml,
    /// TOML.
    Toml,
    /// JSON.
    Json,
}

/// The largest document, in bytes.
const LARGEST: usize = 4 << 20;

/// A line and a column, from 1 on.
type Position = (usize, usize);

struct Fault {
    at: Option<Position>,
    what: String,
}

impl Format {
    /// Reads a text.
    ///
    /// # Errors
    /// A sentence with line and column.
    pub fn read(self, text: &str) -> Result<Value, String> {
        if text.len() > LARGEST {
            return Err(format!("the document has more than {} MiB", LARGEST >> 20));
        }
        self.walk(text, Whole).map_err(|fault| match fault.at {
            Some((line, column)) => format!("line {line}, column {column}: {}", fault.what),
            None => fault.what,
        })
    }

    /// Where the value below these keys is, or the last of them that is there.
    pub fn locate(self, text: &str, path: &[String]) -> Option<Position> {
        (0..=path.len()).rev().find_map(|depth| self.walk(text, At(&path[..depth])).err()?.at)
    }

    fn walk<S: for<'de> DeserializeSeed<'de, Value = T>, T>(self, text: &str, seed: S) -> Result<T, Fault> {
        match self {
            Self::Yaml => yaml(text, seed),
            Self::Toml => {
                let fault = |error: toml::de::Error| Fault {
                    at: error.span().map(|span| position(text, span.start)),
                    what: error.message().to_owned(),
                };
                seed.deserialize(toml::Deserializer::parse(text).map_err(fault)?).map_err(fault)
            }
            Self::Json => {
                let fault = |error: serde_json::Error| {
                    let what = error.to_string();
                    let end = what.rfind(" at line ").unwrap_or(what.len());
                    Fault { at: Some((error.line(), error.column())), what: what[..end].to_owned() }
                };
                let mut json = serde_json::Deserializer::from_str(text);
                let value = seed.deserialize(&mut json).map_err(fault)?;
                json.end().map_err(fault)?;
                Ok(value)
            }
        }
    }
}

fn yaml<S: for<'de> DeserializeSeed<'de, Value = T>, T>(text: &str, seed: S) -> Result<T, Fault> {
    let options = serde_saphyr::options! {
        with_snippet: false,
    };
    serde_saphyr::with_deserializer_from_str_with_options(text, options, |yaml| seed.deserialize(yaml)).map_err(
        |error| {
            let at = error.location().map(|location| (location.line() as usize, location.column() as usize));
            let what = error.render_with_formatter(&serde_saphyr::UserMessageFormatter);
            // It says where once more at the end.
            let end = what.rfind(" at line ").unwrap_or(what.len());
            Fault { at, what: what[..end].to_owned() }
        },
    )
}

fn position(text: &str, offset: usize) -> Position {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Reads a whole document; a key that is there twice is a mistake in every format.
struct Whole;

impl<'de> DeserializeSeed<'de> for Whole {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Whole {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        let number = serde_json::Number::from_f64(value);
        number.map(Value::Number).ok_or_else(|| E::custom("expected a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = list.next_element_seed(Self)? {
            elements.push(element);
        }
        Ok(elements.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Value, A::Error> {
        let mut entries = serde_json::Map::new();
        while let Some(key) = table.next_key::<String>()? {
            if entries.contains_key(&key) {
                return Err(A::Error::custom(format!("the key {key:?} is there twice")));
            }
            let value = table.next_value_seed(Self)?;
            // How TOML's parser hands over a date.
            if key == "$__toml_private_datetime" {
                return Ok(value);
            }
            entries.insert(key, value);
        }
        Ok(entries.into())
    }
}

/// Fails at the value below these keys, so that the parser of whatever format tells where that is.
struct At<'a>(&'a [String]);

impl At<'_> {
    fn found<T, E: serde::de::Error>(&self) -> Result<T, E> {
        Err(E::custom("here"))
    }
}

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

macro_rules! scalars {
    ($($visit:ident: $type:ty),*) => {$(
        fn $visit<E: serde::de::Error>(self, _: $type) -> Result<(), E> {
            if self.0.is_empty() { self.found() } else { Ok(()) }
        }
    )*};
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    scalars! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        if self.0.is_empty() { self.found() } else { Ok(()) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else { return self.found() };
        for at in 0_usize.. {
            let more = if *wanted == at.to_string() {
                list.next_element_seed(At(rest))?.is_some()
            } else {
                list.next_element::<IgnoredAny>()?.is_some()
            };
            if !more {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<(), A::Error> {
        let Some((wanted, rest)) = self.0.split_first() else { return self.found() };
        while let Some(key) = table.next_key::<String>()? {
            if key == *wanted {
                table.next_value_seed(At(rest))?;
            } else {
                table.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}
