//! `[[overrides]]`: which options hubs may set.

mod check;
mod constraint;
mod sentences;
mod weigh;

use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::{Map, Value};

use self::constraint::{Constraint, ConstraintFor};
pub use self::weigh::{Scales, Weighed, weigh};
use super::Ask;
use super::expression::{Expression, Purpose, Variables};
use crate::model::Names;
use crate::spawner::options::PROTOCOL;

/// The name that stands for all keys of [`PROTOCOL`] in a rule.
const PROTOCOL_GROUP: &str = "protocol";

/// All rules, in order; the first one that fits a request decides. They are compiled while they are read. Without a fitting
/// rule, what hands over the host or the cluster is refused and resources are held below the flavor's and the site's.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(transparent)]
pub struct Rules(Vec<Rule>);

/// One rule: all conditions that are given have to fit.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    hubs: Option<Names>,
    users: Option<Names>,
    /// One of the user's groups.
    groups: Option<Names>,
    backend: Option<Names>,
    flavor: Option<Names>,
    profile: Option<Names>,
    when: Option<When>,
    allow: Allow,
    #[serde(default)]
    on_refused: Refusal,
    unknown: Option<Refusal>,
}

/// What becomes of an option that is refused.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Refusal {
    /// The start is refused.
    #[default]
    Fail,
    /// The start goes on without the option, and the user is told.
    Drop,
}

#[derive(Clone, Debug, PartialEq)]
struct When(Expression);

/// What a rule allows.
#[derive(Clone, Debug, PartialEq)]
enum Allow {
    /// Every key, the sensitive ones too.
    All,
    /// The keys that are named, if their value fits, and those of the protocol that are not. None of them: `"none"`.
    Keys(Vec<(String, Constraint)>),
}

impl Allow {
    /// What may be set, for an option that may not: a part of a sentence.
    fn instead(&self) -> String {
        let names: Vec<_> = match self {
            Self::All => Vec::new(),
            Self::Keys(keys) => keys.iter().map(|(key, _)| sentences::quoted(key)).collect(),
        };
        match names.as_slice() {
            [] => "no option may be set".to_owned(),
            [only] => format!("only {only} may be set"),
            [first @ .., last] => format!("only {} and {last} may be set", first.join(", ")),
        }
    }
}

/// What rules look at, each once for all of them.
pub struct Facts<'a> {
    ask: &'a Ask<'a>,
    groups: &'a [&'a str],
    profile: &'a str,
    variables: std::cell::OnceCell<Variables>,
}

impl<'a> Facts<'a> {
    /// The facts of a request; `groups` are those of the user, `profile` the one that the backend takes. Where it has none,
    /// what the user chose on the hub counts.
    pub fn new(ask: &'a Ask<'a>, groups: &'a [&'a str], profile: Option<&'a str>) -> Self {
        let chosen = || ask.user_options.get("profile").and_then(Value::as_str).unwrap_or_default();
        Self { ask, groups, profile: profile.unwrap_or_else(chosen), variables: std::cell::OnceCell::new() }
    }

    fn variables(&self) -> &Variables {
        self.variables.get_or_init(|| {
            let mut variables = Variables::default();
            variables.set("hub", &self.ask.hub.into());
            variables.set("user", &self.ask.user.into());
            variables.set("groups", &self.groups.to_vec().into());
            variables.set("misc", &Value::Object(self.ask.misc.clone()));
            variables.set("user_options", &Value::Object(self.ask.user_options.clone()));
            variables.set("flavor", &self.ask.flavor.unwrap_or_default().into());
            variables.set("profile", &self.profile.into());
            variables
        })
    }
}

impl Rules {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rule that decides, with its number from 1 on. A request without options is decided by none.
    ///
    /// # Errors
    /// An expression fails: which and why, for the log.
    pub fn find(&self, facts: &Facts<'_>) -> Result<Option<(usize, &Rule)>, String> {
        if facts.ask.misc.is_empty() {
            return Ok(None);
        }
        for (number, rule) in (1..).zip(&self.0) {
            let fits = rule.fits(facts);
            if fits.map_err(|cause| format!("`when` of rule {number} of [[overrides]] fails: {cause}"))? {
                return Ok(Some((number, rule)));
            }
        }
        Ok(None)
    }
}

impl Rule {
    fn fits(&self, facts: &Facts<'_>) -> Result<bool, String> {
        let fits = |names: &Option<Names>, text: &str| names.as_ref().is_none_or(|names| names.fit(text));
        let ask = facts.ask;
        let named = fits(&self.hubs, ask.hub)
            && fits(&self.users, ask.user)
            && fits(&self.backend, ask.spawner)
            && fits(&self.flavor, ask.flavor.unwrap_or_default())
            && fits(&self.profile, facts.profile)
            && self.groups.as_ref().is_none_or(|names| facts.groups.iter().any(|group| names.fit(group)));
        match &self.when {
            Some(When(expression)) if named => expression.holds(facts.variables()),
            _ => Ok(named),
        }
    }

    /// What the rule says about a key: by its own name, else as one of the protocol's.
    fn constraint(&self, key: &str) -> Option<&Constraint> {
        let Allow::Keys(keys) = &self.allow else { return None };
        let named = |wanted: &str| keys.iter().find(|(key, _)| key == wanted).map(|(_, constraint)| constraint);
        named(key).or_else(|| PROTOCOL.contains(&key).then(|| named(PROTOCOL_GROUP)).flatten())
    }
}

impl fmt::Display for Rule {
    /// As it could be written in the configuration.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("hubs", &self.hubs),
            ("users", &self.users),
            ("groups", &self.groups),
            ("backend", &self.backend),
            ("flavor", &self.flavor),
            ("profile", &self.profile),
        ];
        for (key, names) in lists.iter().filter_map(|(key, names)| Some((key, names.as_ref()?))) {
            write!(f, "{key} = {names}, ")?;
        }
        if let Some(When(expression)) = &self.when {
            write!(f, "when = {:?}, ", expression.source())?;
        }
        match &self.allow {
            Allow::All => f.write_str("allow = \"all\"")?,
            Allow::Keys(keys) if keys.is_empty() => f.write_str("allow = \"none\"")?,
            Allow::Keys(keys) => {
                let keys: Vec<_> = keys.iter().map(|(key, constraint)| format!("{key} = {constraint}")).collect();
                write!(f, "allow = {{ {} }}", keys.join(", "))?;
            }
        }
        if self.on_refused == Refusal::Drop {
            f.write_str(", on_refused = \"drop\"")?;
        }
        match self.unknown {
            Some(Refusal::Fail) => f.write_str(", unknown = \"fail\""),
            Some(Refusal::Drop) => f.write_str(", unknown = \"drop\""),
            None => Ok(()),
        }
    }
}

impl<'de> Deserialize<'de> for When {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WhenVisitor;

        impl Visitor<'_> for WhenVisitor {
            type Value = When;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CEL expression that is true or false")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<When, E> {
                Expression::parse(text, Purpose::Condition).map(When).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(WhenVisitor)
    }
}

impl<'de> Deserialize<'de> for Allow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AllowVisitor;

        impl<'de> Visitor<'de> for AllowVisitor {
            type Value = Allow;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"all\", \"none\" or a table of keys and what each may be")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Allow, E> {
                match text {
                    "all" => Ok(Allow::All),
                    "none" => Ok(Allow::Keys(Vec::new())),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Allow, A::Error> {
                let mut keys: Vec<(String, Constraint)> = Vec::new();
                while let Some(key) = table.next_key::<String>()? {
                    if keys.iter().any(|(other, _)| *other == key) {
                        return Err(A::Error::custom(format!("the key {key:?} is there twice")));
                    }
                    let constraint = table.next_value_seed(ConstraintFor(&key))?;
                    keys.push((key, constraint));
                }
                Ok(Allow::Keys(keys))
            }
        }
        deserializer.deserialize_any(AllowVisitor)
    }
}

/// The texts of an attribute of a user that is a list, each once.
pub fn texts<'a>(attributes: &'a Map<String, Value>, key: &str) -> Vec<&'a str> {
    let mut seen = HashSet::new();
    let texts = attributes.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
    texts.filter(|text| seen.insert(*text)).collect()
}
