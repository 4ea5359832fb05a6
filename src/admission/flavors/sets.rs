//! Who has which flavors: the sets of hubs and users, compiled.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::document::Kind;
use super::fields::{Fields, Mistake};
use super::flavor::{Flavor, KEYS};
use super::limits::Limit;
use crate::admission::matching::Pattern;

/// A document ready to be asked. Each set holds its flavors with its overrides, so that a start clones pointers only.
#[derive(Debug)]
pub struct Sets {
    /// Without a fitting set: all flavors.
    pub all: Set,
    /// Their names.
    pub defined: Arc<[Arc<str>]>,
    /// The heaviest first, and of equal ones the first in the document.
    hubs: Vec<(Pattern, Set)>,
    /// The heaviest first, and of equal ones the last in the document.
    users: Vec<(Users, Set)>,
    /// The most servers of all flavors that are defined nowhere. `None`: not said; -1: any number.
    pub undefined_max: Option<i64>,
    /// The most servers of one user of one hub.
    pub max_per_user: Option<i64>,
    /// More limits.
    pub limits: Vec<Limit>,
}

/// A set: what those have whom it fits.
#[derive(Clone, Debug, Default)]
pub struct Set {
    /// `hubs.<name>` or `users.<name>`.
    pub source: Option<Arc<str>>,
    /// Whether nothing is allowed.
    pub forbidden: bool,
    /// In the order of the document.
    pub flavors: Vec<Arc<Flavor>>,
    /// As in [`Sets`], for this set alone.
    pub undefined_max: Option<i64>,
    weight: f64,
}

/// Whom a set of users fits.
#[derive(Debug)]
struct Users {
    hubs: Option<Vec<String>>,
    attributes: Vec<(String, Pattern)>,
    any: bool,
    negate: bool,
}

impl Users {
    /// `None`: that cannot be known, since a pattern takes too long.
    fn fit(&self, hub: &str, authentication: &Map<String, Value>) -> Option<bool> {
        if self.hubs.as_ref().is_some_and(|hubs| hubs.iter().all(|name| name != hub)) {
            return Some(false);
        }
        if self.attributes.is_empty() {
            return Some(self.negate);
        }
        let fits = self.attributes.iter().try_fold(!self.any, |before, (key, pattern)| {
            let fits = authentication.get(key).map_or(Some(false), |value| pattern.fits(value))?;
            Some(if self.any { before || fits } else { before && fits })
        });
        fits.map(|fits| fits != self.negate)
    }

    /// Why the set may fit others than those who are meant, or nobody.
    fn doubts(&self) -> Vec<String> {
        let nobody = match &self.hubs {
            _ if self.attributes.is_empty() && !self.negate => {
                Some("this set never fits, since it has no `authentication`".to_owned())
            }
            Some(hubs) if hubs.is_empty() => Some("this set never fits, since its list of `hubs` is empty".to_owned()),
            _ => None,
        };
        let patterns = self.attributes.iter().filter_map(|(key, pattern)| Some(format!("{key}: {}", pattern.doubt()?)));
        nobody.into_iter().chain(patterns).collect()
    }
}

impl Sets {
    /// The set of a hub, or of a user where `authentication` is not empty and a set of users fits.
    pub fn choose(&self, hub: &str, authentication: &Map<String, Value>) -> &Set {
        // What is not known gives nothing, negated or not.
        let fits = |(users, set): &&(Users, Set)| users.fit(hub, authentication).unwrap_or(set.forbidden);
        let of_user = || self.users.iter().find(fits).map(|(_, set)| set);
        let user = if authentication.is_empty() { None } else { of_user() };
        user.unwrap_or_else(|| self.of_hub(hub))
    }

    /// The set of a hub.
    pub fn of_hub(&self, hub: &str) -> &Set {
        self.hubs.iter().find(|(pattern, _)| pattern.fits_text(hub) == Some(true)).map_or(&self.all, |(_, set)| set)
    }

    /// Compiles a document.
    pub fn read(kind: Kind, document: &Fields<'_>, warnings: &mut Vec<String>) -> Result<Self, Mistake> {
        let section = kind.as_str();
        let known: &[&str] = match kind {
            Kind::Flavors => &[section, "hubs", "users", "undefined_max", "max_per_user", "limits"],
            Kind::Credits => &[section, "hubs", "users"],
        };
        document.mostly(known, warnings)?;
        let defined = document.tables(section)?;
        let mut reader = Reader { kind, defined: &defined, warnings };
        let flavors = defined.iter().map(|(name, fields)| reader.flavor(name, fields)).collect::<Result<_, _>>()?;
        defined.iter().for_each(|(_, fields)| reader.look_at(fields));
        let all = Set { flavors, ..Set::default() };
        let mut hubs = reader.sets(document, "hubs", &all, hub_names)?;
        let mut users = reader.sets(document, "users", &all, Users::read)?;
        for (name, set) in document.tables("users")? {
            let attributes = set.table("authentication")?.map_or(0, |attributes| attributes.map.len());
            if attributes > 1 && set.get("match").is_none() {
                reader.warnings.push(format!(
                    "users.{name}: all {attributes} attributes of `authentication` have to fit (for the Python service one \
                     was enough); say `match: all` or `match: any`"
                ));
            }
        }
        for (pattern, set) in &hubs {
            let source = set.source.as_deref().unwrap_or_default();
            reader.warnings.extend(pattern.doubt().map(|doubt| format!("{source}.jupyterhub_name: {doubt}")));
        }
        for (whom, set) in &users {
            let source = set.source.as_deref().unwrap_or_default();
            reader.warnings.extend(whom.doubts().iter().map(|doubt| format!("{source}: {doubt}")));
        }
        hubs.sort_by(|(_, one), (_, other)| other.weight.total_cmp(&one.weight));
        users.reverse();
        users.sort_by(|(_, one), (_, other)| other.weight.total_cmp(&one.weight));
        let mut limits = Vec::new();
        for (name, fields) in document.tables("limits")? {
            let limit = Limit::read(name, &fields)?;
            reader.warnings.extend(limit.doubts(name, &all.flavors));
            limits.push(limit);
        }
        Ok(Self {
            defined: all.flavors.iter().map(|flavor| flavor.name.clone()).collect(),
            all,
            hubs,
            users,
            undefined_max: undefined_max(document)?,
            max_per_user: document.limit("max_per_user")?,
            limits,
        })
    }
}

impl Users {
    fn read(set: &Fields<'_>) -> Result<Self, Mistake> {
        let attributes = set.table("authentication")?;
        let patterns = attributes.iter().flat_map(|fields| fields.map.iter().map(move |entry| (fields, entry)));
        Ok(Self {
            hubs: set.texts("hubs")?.map(|hubs| hubs.into_iter().map(str::to_owned).collect()),
            attributes: patterns
                .map(|(fields, (key, value))| {
                    let pattern = Pattern::of_attribute(value);
                    let expected = "expected a text, a regular expression, a glob or a list of values";
                    Ok((key.clone(), pattern.ok_or_else(|| fields.mistake(key, expected))?))
                })
                .collect::<Result<_, _>>()?,
            any: match set.get("match").map(|value| value.as_str()) {
                None | Some(Some("all")) => false,
                Some(Some("any")) => true,
                Some(_) => return Err(set.mistake("match", "expected \"all\" or \"any\"")),
            },
            negate: set.boolean("negate_authentication")?,
        })
    }
}

fn hub_names(set: &Fields<'_>) -> Result<Pattern, Mistake> {
    let names = set.get("jupyterhub_name").filter(|names| match names {
        Value::String(_) => true,
        Value::Array(names) => !names.is_empty() && names.iter().all(Value::is_string),
        _ => false,
    });
    let expected = "expected a name, a regular expression, a glob or a list of names";
    names.and_then(Pattern::of_hub).ok_or_else(|| set.mistake("jupyterhub_name", expected))
}

/// The number as it is written: here -1 and nothing are not the same.
fn undefined_max(fields: &Fields<'_>) -> Result<Option<i64>, Mistake> {
    let value = fields.get("undefined_max").map(|value| super::fields::count(value, -1));
    value.transpose().map_err(|expected| fields.mistake("undefined_max", &expected))
}

struct Reader<'a, 'w> {
    kind: Kind,
    defined: &'a [(&'a str, Fields<'a>)],
    warnings: &'w mut Vec<String>,
}

impl Reader<'_, '_> {
    fn flavor(&self, name: &str, fields: &Fields<'_>) -> Result<Arc<Flavor>, Mistake> {
        Ok(Arc::new(match self.kind {
            Kind::Flavors => Flavor::read(name, fields)?,
            Kind::Credits => Flavor::credit(name, fields.map),
        }))
    }

    /// Warns of what is written of a flavor and hardly meant.
    fn look_at(&mut self, fields: &Fields<'_>) {
        if self.kind == Kind::Flavors {
            fields.misspelt(&KEYS, self.warnings);
        }
    }

    /// The sets of a section, with what says whom each fits.
    fn sets<T>(
        &mut self,
        document: &Fields<'_>,
        section: &str,
        all: &Set,
        whom: impl Fn(&Fields<'_>) -> Result<T, Mistake>,
    ) -> Result<Vec<(T, Set)>, Mistake> {
        let (list, overrides) = match self.kind {
            Kind::Flavors => ("flavors", "flavorsOverride"),
            Kind::Credits => ("credits", "creditsOverride"),
        };
        let mut sets = Vec::new();
        for (name, fields) in document.tables(section)? {
            match (section, self.kind) {
                ("users", _) => {
                    let own = ["hubs", "authentication", "negate_authentication", "match", "weight", "forbidden"];
                    fields.mostly(&[&own[..], &[list, overrides]].concat(), self.warnings)?;
                }
                (_, Kind::Flavors) => {
                    fields.mostly(&["jupyterhub_name", "weight", list, overrides, "undefined_max"], self.warnings)?;
                }
                (_, Kind::Credits) => {
                    fields.mostly(&["jupyterhub_name", "weight", list, overrides], self.warnings)?;
                }
            }
            let source = format!("{section}.{name}");
            let forbidden = section == "users" && fields.boolean("forbidden")?;
            let names = fields.texts(list)?;
            let flavors = self.members(&source, all, names.as_deref(), fields.table(overrides)?.as_ref())?;
            let set = Set {
                source: Some(source.into()),
                forbidden,
                flavors: if forbidden { Vec::new() } else { flavors },
                undefined_max: if section == "hubs" { undefined_max(&fields)? } else { None },
                weight: fields.number("weight")?.unwrap_or_default(),
            };
            sets.push((whom(&fields)?, set));
        }
        Ok(sets)
    }

    /// The flavors of a set, with its overrides.
    fn members(
        &mut self,
        source: &str,
        all: &Set,
        names: Option<&[&str]>,
        overrides: Option<&Fields<'_>>,
    ) -> Result<Vec<Arc<Flavor>>, Mistake> {
        let kind = self.kind.as_str();
        let is_member = |name: &str| names.is_none_or(|names| names.contains(&name));
        for name in names.unwrap_or_default() {
            if self.defined.iter().all(|(defined, _)| defined != name) {
                self.warnings.push(format!("{source}: {name:?} is not defined in `{kind}`"));
            }
        }
        let overridden = overrides.map_or_else(Vec::new, |overrides| overrides.map.keys().collect());
        for name in overridden {
            if !is_member(name) || self.defined.iter().all(|(defined, _)| defined != name) {
                self.warnings
                    .push(format!("{source}: the override of {name:?} has no effect, since the set is without it"));
            }
        }
        let mut members = Vec::new();
        for flavor in all.flavors.iter().filter(|flavor| is_member(&flavor.name)) {
            let changed = overrides.map_or(Ok(None), |overrides| overrides.table(&flavor.name))?;
            members.push(match changed {
                None => flavor.clone(),
                Some(changes) => {
                    self.look_at(&changes);
                    let mut raw = flavor.raw.as_ref().clone();
                    raw.extend(changes.map.clone());
                    let whole = changes.over(&raw);
                    self.flavor(&flavor.name, &whole)?
                }
            });
        }
        Ok(members)
    }
}
