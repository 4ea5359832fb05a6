//! A document of flavors or credits: what is written, checked.

use serde_json::{Map, Value};

/// What a document is about.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Kind {
    /// Flavors.
    Flavors,
    /// Credits.
    Credits,
}

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

/// A checked document.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    kind: Kind,
    raw: Value,
    warnings: Vec<String>,
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

impl Document {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// A sentence with line and column, the key and what was expected.
    pub fn parse(kind: Kind, text: &str, format: Format) -> Result<Self, String> {
        let raw = match format {
            Format::Yaml => serde_saphyr::from_str(text).map_err(|error| error.to_string())?,
            Format::Toml => toml::from_str(text).map_err(|error| error.to_string())?,
            Format::Json => serde_json::from_str(text).map_err(|error| error.to_string())?,
        };
        Self::from_value(kind, raw)
    }

    /// Checks a document.
    ///
    /// # Errors
    /// A sentence with the path of the key and what was expected.
    pub fn from_value(kind: Kind, raw: Value) -> Result<Self, String> {
        Ok(Self { kind, raw, warnings: Vec::new() })
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
        serde_saphyr::to_string(&self.raw).unwrap_or_default()
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
        let mut raw = self.raw.clone();
        if let Value::Object(document) = &mut raw
            && let Value::Object(entries) =
                document.entry(self.kind.as_str()).or_insert_with(|| Value::Object(Map::new()))
        {
            match entry {
                Some(entry) => drop(entries.insert(name.to_owned(), entry)),
                None => drop(entries.shift_remove(name)),
            }
        }
        Self::from_value(self.kind, raw)
    }

    /// What is different in `other`, one line a change: `flavors.small.max: 5 -> 10`.
    #[must_use]
    pub fn differences(&self, _other: &Self) -> Vec<String> {
        Vec::new()
    }
}
