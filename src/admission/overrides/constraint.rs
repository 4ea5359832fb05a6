//! What the value of one option may be.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::sentences;
use crate::model::{FullMatch, Glob, quantity};
use crate::spawner::options::PATHS;

/// What a value may be.
#[derive(Clone, Debug, PartialEq)]
pub enum Constraint {
    /// Anything.
    Any,
    /// One of these.
    OneOf(Vec<Literal>),
    /// An amount within these bounds; of an object, all its amounts.
    Within {
        /// The least, as it is written and as a number.
        min: Option<(Value, f64)>,
        /// The most.
        max: Option<(Value, f64)>,
    },
    /// A text all of which this fits.
    Matching(FullMatch),
}

/// A value to compare with; a text may be a glob.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// A text.
    Text(Glob),
    /// Anything else.
    Value(Value),
}

impl Literal {
    fn parse(value: Value) -> Result<Self, String> {
        match value {
            Value::String(text) => Glob::parse(&text).map(Self::Text),
            value => Ok(Self::Value(value)),
        }
    }

    fn fits(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Text(glob), Value::String(text)) => glob.matches(text),
            // 2 and 2.0 are one number, whichever a hub's Python makes of it.
            (Self::Value(Value::Number(one)), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
            (Self::Value(allowed), value) => allowed == value,
            (Self::Text(_), _) => false,
        }
    }
}

impl fmt::Display for Literal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(glob) => write!(f, "{:?}", glob.as_str()),
            Self::Value(value) => write!(f, "{value}"),
        }
    }
}

impl Constraint {
    /// Whether the option `key` may have this value.
    pub fn fits(&self, key: &str, value: &Value) -> bool {
        match self {
            Self::Any => true,
            Self::OneOf(_) | Self::Matching(_) if PATHS.contains(&key) && climbs(value) => false,
            Self::OneOf(literals) => literals.iter().any(|literal| literal.fits(value)),
            Self::Matching(regex) => value.as_str().is_some_and(|text| regex.matches(text) == Some(true)),
            Self::Within { min, max } => {
                let within = |key: &str, value: &Value| {
                    quantity(key, value).is_ok_and(|amount| {
                        min.as_ref().is_none_or(|(_, min)| amount >= *min)
                            && max.as_ref().is_none_or(|(_, max)| amount <= *max)
                    })
                };
                match value {
                    Value::Object(amounts) => {
                        !amounts.is_empty() && amounts.iter().all(|(name, amount)| within(name, amount))
                    }
                    value => within(key, value),
                }
            }
        }
    }

    /// What it allows of the option `key`, as the end of "it may only be …".
    pub fn expectation(&self, key: &str) -> String {
        let amount = |(written, _): &(Value, f64)| sentences::amount(key, written);
        let expectation = match self {
            Self::Any => "anything".to_owned(),
            Self::OneOf(literals) => {
                let texts: Vec<_> = literals.iter().map(ToString::to_string).collect();
                texts.join(" or ")
            }
            Self::Matching(regex) => format!("a text of the form {} (a regular expression)", regex.as_str()),
            Self::Within { min: Some(min), max: Some(max) } => format!("from {} to {}", amount(min), amount(max)),
            Self::Within { min: Some(min), max: None } => format!("{} or more", amount(min)),
            Self::Within { min: None, max: Some(max) } => format!("up to {}", amount(max)),
            Self::Within { min: None, max: None } => "an amount".to_owned(),
        };
        if PATHS.contains(&key) { format!("{expectation}, without \"..\"") } else { expectation }
    }
}

/// Whether a path has a segment that leads out of what is before it.
fn climbs(value: &Value) -> bool {
    value.as_str().is_some_and(|path| path.split('/').any(|segment| segment == ".."))
}

impl fmt::Display for Constraint {
    /// As it could be written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("\"any\""),
            Self::OneOf(literals) => {
                let texts: Vec<_> = literals.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", texts.join(", "))
            }
            Self::Matching(regex) => write!(f, "{{ regex = {:?} }}", regex.as_str()),
            Self::Within { min, max } => {
                let bound = |name: &str, bound: &Option<(Value, f64)>| {
                    bound.as_ref().map(|(written, _)| format!("{name} = {written}"))
                };
                let bounds: Vec<_> = [bound("min", min), bound("max", max)].into_iter().flatten().collect();
                write!(f, "{{ {} }}", bounds.join(", "))
            }
        }
    }
}

/// Reads the constraint of the key with this name, on which the units of its bounds depend.
pub struct ConstraintFor<'a>(pub &'a str);

impl<'de> DeserializeSeed<'de> for ConstraintFor<'_> {
    type Value = Constraint;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Constraint, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ConstraintFor<'_> {
    type Value = Constraint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "what {:?} may be: \"any\", a list of values, {{ max = …, min = … }} or {{ regex = \"…\" }}", self.0)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Constraint, E> {
        match text {
            "any" => Ok(Constraint::Any),
            _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Constraint, A::Error> {
        let mut literals = Vec::new();
        while let Some(value) = list.next_element()? {
            literals.push(Literal::parse(value).map_err(A::Error::custom)?);
        }
        if literals.is_empty() {
            return Err(A::Error::custom(format!("expected at least one value that {:?} may be", self.0)));
        }
        Ok(Constraint::OneOf(literals))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Constraint, A::Error> {
        let (mut min, mut max, mut regex) = (None, None, None);
        while let Some(name) = table.next_key::<String>()? {
            match name.as_str() {
                "min" | "max" => {
                    let written: Value = table.next_value()?;
                    let amount = quantity(self.0, &written)
                        .map_err(|expected| A::Error::custom(format!("`{name}` of {:?}: {expected}", self.0)))?;
                    *(if name == "min" { &mut min } else { &mut max }) = Some((written, amount));
                }
                "regex" => {
                    let text: String = table.next_value()?;
                    regex = Some(FullMatch::parse(&text).map_err(A::Error::custom)?);
                }
                _ => return Err(A::Error::unknown_field(&name, &["max", "min", "regex"])),
            }
        }
        match (min, max, regex) {
            (None, None, Some(regex)) => Ok(Constraint::Matching(regex)),
            (Some((_, min)), Some((_, max)), None) if min > max => {
                Err(A::Error::custom(format!("`min` of {:?} is more than `max`", self.0)))
            }
            (min, max, None) if min.is_some() || max.is_some() => Ok(Constraint::Within { min, max }),
            _ => Err(A::Error::custom(format!("expected either `max` and `min` or `regex` of {:?}", self.0))),
        }
    }
}
