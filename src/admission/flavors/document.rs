//! A document of flavors or credits: what is written, and what it compiles to.

mod format;

use std::sync::Arc;

use serde_json::{Map, Value, json};

pub use self::format::Format;
use super::changes;
use super::fields::{Fields, Mistake};
use super::sets::Sets;

/// What a document is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Flavors.
    Flavors,
    /// Credits.
    Credits,
}

impl Kind {
    /// The word for it: the name of its main section.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Flavors => "flavors",
            Self::Credits => "credits",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Flavors, Self::Credits].into_iter().find(|kind| kind.as_str() == name)
    }
}

/// A checked document: nothing in it has to be compiled again. Cheap to clone but for what is written.
#[derive(Clone, Debug)]
pub struct Document {
    kind: Kind,
    raw: Value,
    sets: Arc<Sets>,
    warnings: Vec<String>,
}

impl PartialEq for Document {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, &self.raw) == (other.kind, &other.raw)
    }
}

impl Document {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// A sentence with line and column, the key and what was expected.
    pub fn parse(kind: Kind, text: &str, format: Format) -> Result<Self, String> {
        let raw = format.read(text)?;
        Self::checked(kind, raw).map_err(|mistake| located(&mistake, format.locate(text, &mistake.path)))
    }

    /// Reads one flavor or credit, as a document defines it below `name`.
    ///
    /// # Errors
    /// As for [`Document::parse`].
    pub fn parse_entry(kind: Kind, name: &str, text: &str, format: Format) -> Result<Value, String> {
        let entry = format.read(text)?;
        let checked = Self::checked(kind, json!({ kind.as_str(): { name: &entry } }));
        checked.map(|_| entry).map_err(|mistake| {
            // In the text, it is at the top.
            located(&mistake, format.locate(text, mistake.path.get(2..).unwrap_or_default()))
        })
    }

    /// A document that defines nothing.
    ///
    /// # Errors
    /// None that a caller could mend.
    pub fn empty(kind: Kind) -> Result<Self, String> {
        Self::from_value(kind, json!({ kind.as_str(): {} }))
    }

    /// Checks a document.
    ///
    /// # Errors
    /// A sentence with the path of the key and what was expected.
    pub fn from_value(kind: Kind, raw: Value) -> Result<Self, String> {
        Self::checked(kind, raw).map_err(|mistake| sentence(&mistake))
    }

    fn checked(kind: Kind, raw: Value) -> Result<Self, Mistake> {
        let mut warnings = Vec::new();
        let sets = Arc::new(Sets::read(kind, &Fields::top(&raw)?, &mut warnings)?);
        Ok(Self { kind, raw, sets, warnings })
    }

    /// What it is about.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The document as it is written, in its order.
    #[must_use]
    pub const fn raw(&self) -> &Value {
        &self.raw
    }

    /// The document as YAML.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        // JSON is YAML, too.
        serde_saphyr::to_string(&self.raw).unwrap_or_else(|_| self.raw.to_string())
    }

    /// What is allowed but hardly meant, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The document with one flavor (or credit) set, or removed where there is no `entry`; the rest stays as it is.
    ///
    /// # Errors
    /// As for [`Document::from_value`].
    pub fn with(&self, name: &str, entry: Option<Value>) -> Result<Self, String> {
        let mut raw = match &self.raw {
            Value::Object(sections) => sections.clone(),
            _ => Map::new(),
        };
        let section = raw.entry(self.kind.as_str()).or_insert(Value::Null);
        if section.is_null() {
            *section = Value::Object(Map::new());
        }
        if let Value::Object(entries) = section {
            match entry {
                Some(entry) => drop(entries.insert(name.to_owned(), entry)),
                None => drop(entries.shift_remove(name)),
            }
        }
        Self::from_value(self.kind, Value::Object(raw))
    }

    /// What is different in `other`, one line a change: `flavors.small.max: 5 -> 10`.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        changes::between(&self.raw, &other.raw)
    }

    pub(in crate::admission) fn sets(&self) -> &Sets {
        &self.sets
    }
}

fn located(mistake: &Mistake, at: Option<(usize, usize)>) -> String {
    let sentence = sentence(mistake);
    match at {
        Some((line, column)) => format!("line {line}, column {column}: {sentence}"),
        None => sentence,
    }
}

fn sentence(mistake: &Mistake) -> String {
    match &*mistake.path {
        [] => mistake.what.clone(),
        path => format!("{}: {}", changes::dotted(path), mistake.what),
    }
}
