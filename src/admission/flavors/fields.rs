//! Reading a document's tables, so that every mistake knows where it is.

use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::changes::dotted;

/// What is wrong and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// The keys from the top of the document down, list elements by their number.
    pub path: Vec<String>,
    /// What was expected.
    pub what: String,
}

static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);

/// One table of a document. `null` counts as absent everywhere.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    path: Vec<String>,
    /// The table itself.
    pub map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    /// The whole document.
    pub fn top(value: &'a Value) -> Result<Self, Mistake> {
        match value {
            Value::Object(map) => Ok(Self { path: Vec::new(), map }),
            // An empty file.
            Value::Null => Ok(Self { path: Vec::new(), map: &EMPTY }),
            _ => Err(Mistake { path: Vec::new(), what: "expected a table of sections".to_owned() }),
        }
    }

    /// A table made of this one and another, whose mistakes are here.
    pub fn over<'b>(self, map: &'b Map<String, Value>) -> Fields<'b> {
        Fields { path: self.path, map }
    }

    /// A mistake of the table itself.
    pub fn here(&self, what: &str) -> Mistake {
        Mistake { path: self.path.clone(), what: what.to_owned() }
    }

    /// A mistake below a key.
    pub fn mistake(&self, key: &str, what: &str) -> Mistake {
        Mistake { path: self.below(key), what: what.to_owned() }
    }

    /// Refuses all other keys.
    pub fn only(&self, known: &[&str]) -> Result<(), Mistake> {
        match self.map.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(self.mistake(key, &format!("unknown key, expected one of {}", known.join(", ")))),
            None => Ok(()),
        }
    }

    /// Warns of keys that mean nothing here, but refuses those that look like one that does.
    pub fn mostly(&self, known: &[&str], warnings: &mut Vec<String>) -> Result<(), Mistake> {
        for key in self.map.keys().filter(|key| !known.contains(&key.as_str())) {
            if let Some(meant) = meant(key, known) {
                return Err(self.mistake(key, &format!("unknown key, expected {meant}")));
            }
            warnings.push(format!("{}: this key means nothing here", dotted(&self.below(key))));
        }
        Ok(())
    }

    /// Warns of keys that look like one that means something.
    pub fn misspelt(&self, known: &[&str], warnings: &mut Vec<String>) {
        for key in self.map.keys().filter(|key| !known.contains(&key.as_str())) {
            if let Some(meant) = meant(key, known) {
                warnings
                    .push(format!("{}: only the hub reads this key; {meant} may be meant", dotted(&self.below(key))));
            }
        }
    }

    /// A value that is there.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null())
    }

    /// A table below this one.
    pub fn table(&self, key: &str) -> Result<Option<Self>, Mistake> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(Self { path: self.below(key), map })),
            Some(other) => Err(self.mistake(key, &format!("expected a table, found {}", kind(other)))),
        }
    }

    /// The tables of a section, by name; none if there is no section. A name without anything is an empty table.
    pub fn tables(&self, section: &str) -> Result<Vec<(&'a str, Self)>, Mistake> {
        let Some(section) = self.table(section)? else { return Ok(Vec::new()) };
        let names = section.map.keys().map(String::as_str);
        names
            .map(|name| {
                let empty = || Self { path: section.below(name), map: &EMPTY };
                Ok((name, section.table(name)?.unwrap_or_else(empty)))
            })
            .collect()
    }

    /// A list of texts.
    pub fn texts(&self, key: &str) -> Result<Option<Vec<&'a str>>, Mistake> {
        let expected = |found: &Value| format!("expected a list of texts, found {}", kind(found));
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(elements)) => {
                let texts = elements.iter().enumerate().map(|(at, element)| {
                    let mut path = self.below(key);
                    path.push(at.to_string());
                    let what = format!("expected a text, found {}", kind(element));
                    element.as_str().ok_or(Mistake { path, what })
                });
                texts.collect::<Result<_, _>>().map(Some)
            }
            Some(other) => Err(self.mistake(key, &expected(other))),
        }
    }

    /// A switch, off where there is none.
    pub fn boolean(&self, key: &str) -> Result<bool, Mistake> {
        match self.get(key) {
            None => Ok(false),
            Some(value) => {
                let what = format!("expected true or false, found {}", kind(value));
                value.as_bool().ok_or_else(|| self.mistake(key, &what))
            }
        }
    }

    /// A number of any kind.
    pub fn number(&self, key: &str) -> Result<Option<f64>, Mistake> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let what = format!("expected a number, found {}", kind(value));
        value.as_f64().map(Some).ok_or_else(|| self.mistake(key, &what))
    }

    /// A limit, which -1 is none.
    pub fn limit(&self, key: &str) -> Result<Option<i64>, Mistake> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let limit = count(value, -1).map_err(|expected| self.mistake(key, &expected))?;
        Ok(Some(limit).filter(|limit| *limit >= 0))
    }

    fn below(&self, key: &str) -> Vec<String> {
        let mut path = self.path.clone();
        path.push(key.to_owned());
        path
    }
}

/// The known key that this one looks like: but for case, `-`, `_` and one letter it is the same.
fn meant<'a>(key: &str, known: &[&'a str]) -> Option<&'a str> {
    let plain = |key: &str| key.chars().filter(|c| !matches!(c, '-' | '_')).map(|c| c.to_ascii_lowercase()).collect();
    let written: Vec<char> = plain(key);
    known.iter().copied().find(|known| {
        let known: Vec<char> = plain(known);
        written == known || (known.len() >= 4 && is_slip(&written, &known))
    })
}

/// Whether one text is the other with a letter more, less or different, or with two that changed places.
fn is_slip(one: &[char], other: &[char]) -> bool {
    let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
    let Some(at) =
        short.iter().zip(long).position(|(a, b)| a != b).or((short.len() < long.len()).then_some(short.len()))
    else {
        return false;
    };
    if short.len() < long.len() {
        return short[at..] == long[at + 1..];
    }
    short[at + 1..] == long[at + 1..]
        || (short.len() > at + 1
            && (short[at], short[at + 1]) == (long[at + 1], long[at])
            && short[at + 2..] == long[at + 2..])
}

/// A whole number that is not less than `least`.
pub fn count(value: &Value, least: i64) -> Result<i64, String> {
    let none = if least < 0 { " (-1: no limit)" } else { "" };
    let expected = format!("expected a whole number, {} or more{none}", least.max(0));
    value.as_i64().filter(|number| *number >= least).ok_or(expected)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("maxperuser", Some("maxPerUser"))]
    #[case("max-per-user", Some("maxPerUser"))]
    #[case("Queue", Some("queue"))]
    #[case("ressources", Some("resources"))]
    #[case("resource", Some("resources"))]
    #[case("wieght", Some("weight"))]
    #[case("weigth", Some("weight"))]
    #[case("weihgtt", None)]
    #[case("man", None)]
    #[case("description", None)]
    #[case("", None)]
    fn slips(#[case] key: &str, #[case] expected: Option<&str>) {
        assert_eq!(meant(key, &["max", "maxPerUser", "queue", "resources", "weight"]), expected);
    }
}
