//! Reading a document's tables, so that every mistake knows where it is.

use std::sync::LazyLock;

use serde_json::{Map, Value};

/// What is wrong and where.
#[derive(Clone, Debug, PartialEq)]
pub struct Mistake {
    /// The keys from the top of the document down, list elements by their number.
    pub path: Vec<String>,
    /// What was expected.
    pub what: String,
}

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
        static EMPTY: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
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

    /// The tables of a section, by name; none if there is no section.
    pub fn tables(&self, section: &str) -> Result<Vec<(&'a str, Self)>, Mistake> {
        let Some(section) = self.table(section)? else { return Ok(Vec::new()) };
        let names = section.map.keys().map(String::as_str);
        names
            .filter_map(|name| Some((name, section.table(name).transpose()?)))
            .map(|(name, table)| Ok((name, table?)))
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
