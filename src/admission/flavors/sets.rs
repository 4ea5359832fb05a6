//! Who has which flavors: the sets of hubs and users, compiled.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::document::Kind;
use super::fields::{Fields, Mistake};
use super::flavor::Flavor;
use super::limits::Limit;
use crate::admission::matching::Pattern;

/// A document ready to be asked. Each set holds its flavors with its overrides, so that a start clones pointers only.
#[derive(Debug)]
pub struct Sets {
    /// Without a fitting set: all flavors.
    pub all: Set,
    /// The heaviest first, and of equal ones the first in the document.
    hubs: Vec<(Pattern, Set)>,
    /// The heaviest first, and of equal ones the last in the document.
    users: Vec<(Users, Set)>,
    /// The most servers of flavors that are defined nowhere. `None`: not said; -1: any number.
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
    fn fit(&self, hub: &str, authentication: &Map<String, Value>) -> bool {
        if self.attributes.is_empty() || self.hubs.as_ref().is_some_and(|hubs| hubs.iter().all(|name| name != hub)) {
            return false;
        }
        let fits =
            |(key, pattern): &(String, Pattern)| authentication.get(key).is_some_and(|value| pattern.fits(value));
        let all = if self.any { self.attributes.iter().any(fits) } else { self.attributes.iter().all(fits) };
        all != self.negate
    }
}

impl Sets {
    /// The set of a hub, or of a user where `authentication` is not empty and a set of users fits.
    pub fn choose(&self, hub: &str, authentication: &Map<String, Value>) -> &Set {
        let of_user = || self.users.iter().find(|(users, _)| users.fit(hub, authentication)).map(|(_, set)| set);
        let user = if authentication.is_empty() { None } else { of_user() };
        user.unwrap_or_else(|| self.of_hub(hub))
    }

    /// The set of a hub.
    pub fn of_hub(&self, hub: &str) -> &Set {
        self.hubs.iter().find(|(pattern, _)| pattern.fits_text(hub)).map_or(&self.all, |(_, set)| set)
    }

    /// Compiles a document.
    pub fn read(kind: Kind, document: &Fields<'_>, warnings: &mut Vec<String>) -> Result<Self, Mistake> {
        let section = kind.as_str();
        match kind {
            Kind::Flavors => document.only(&[section, "hubs", "users", "undefined_max", "max_per_user", "limits"])?,
            Kind::Credits => document.only(&[section, "hubs", "users"])?,
        }
        let defined = document.tables(section)?;
        let mut reader = Reader { kind, defined: &defined, warnings };
        let flavors = defined.iter().map(|(name, fields)| reader.flavor(name, fields)).collect::<Result<_, _>>()?;
        let all = Set { flavors, ..Set::default() };
        let mut hubs = reader.sets(document, "hubs", &all, |set| {
            let expected = "expected a name, a regular expression, a glob or a list of names";
            let pattern = set.get("jupyterhub_name").and_then(Pattern::of_hub);
            pattern.ok_or_else(|| set.mistake("jupyterhub_name", expected))
        })?;
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
        hubs.sort_by(|(_, one), (_, other)| other.weight.total_cmp(&one.weight));
        users.reverse();
        users.sort_by(|(_, one), (_, other)| other.weight.total_cmp(&one.weight));
        Ok(Self {
            all,
            hubs,
            users,
            undefined_max: undefined_max(document)?,
            max_per_user: document.limit("max_per_user")?,
            limits: document
                .tables("limits")?
                .iter()
                .map(|(name, fields)| Limit::read(name, fields))
                .collect::<Result<_, _>>()?,
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
                    fields.only(&[&own[..], &[list, overrides]].concat())?;
                }
                (_, Kind::Flavors) => {
                    fields.only(&["jupyterhub_name", "weight", list, overrides, "undefined_max"])?;
                }
                (_, Kind::Credits) => fields.only(&["jupyterhub_name", "weight", list, overrides])?,
            }
            let source = format!("{section}.{name}");
            let forbidden = section == "users" && fields.boolean("forbidden")?;
            let names = fields.texts(list)?;
            let flavors = self.members(&source, all, names.as_deref(), fields.table(overrides)?.as_ref())?;
            let set = Set {
                source: Some(source.into()),
                forbidden,
                flavors: if forbidden { Vec::new() } else { flavors },
                undefined_max: undefined_max(&fields)?,
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
