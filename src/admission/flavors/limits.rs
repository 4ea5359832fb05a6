//! What is counted when a server starts.

use std::sync::Arc;

use serde_json::Map;

use super::fields::{Fields, Mistake, count};
use super::flavor::Flavor;
use super::sets::Sets;
use crate::model::{Counted, Names, Need, OfFlavor, Quota, Scope, quantity};

/// `limits.<name>`: how much each user, group or hub can have at once.
#[derive(Debug)]
pub struct Limit {
    per: Per,
    hubs: Option<Names>,
    groups: Option<Names>,
    /// What is counted, up to what, and where that is written.
    counted: Vec<(Counted, i64, Arc<str>)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Per {
    User,
    Group,
    Hub,
}

/// Whose server it is.
#[derive(Clone, Copy, Debug)]
pub struct Person<'a> {
    /// The hub.
    pub hub: &'a str,
    /// The hub's number of the user.
    pub user_id: i64,
    /// The user's groups.
    pub groups: &'a [&'a str],
}

impl Limit {
    /// Reads a limit.
    pub fn read(name: &str, fields: &Fields<'_>) -> Result<Self, Mistake> {
        const COUNTED: [(&str, Counted); 4] =
            [("servers", Counted::Servers), ("cpu", Counted::Cpu), ("memory", Counted::Memory), ("gpu", Counted::Gpus)];
        fields.only(&["per", "hubs", "groups", "servers", "cpu", "memory", "gpu"])?;
        let names = |key: &str| {
            let texts = fields.texts(key)?;
            texts.map(Names::parse).transpose().map_err(|what| fields.mistake(key, &what))
        };
        let limit = Self {
            per: match fields.get("per").and_then(|value| value.as_str()) {
                Some("user") => Per::User,
                Some("group") => Per::Group,
                Some("hub") => Per::Hub,
                _ => return Err(fields.mistake("per", "expected \"user\", \"group\" or \"hub\"")),
            },
            hubs: names("hubs")?,
            groups: names("groups")?,
            counted: COUNTED
                .iter()
                .filter_map(|(key, counted)| Some((key, counted, fields.get(key)?)))
                .filter(|(_, _, value)| value.as_i64() != Some(-1))
                .map(|(key, counted, value)| {
                    let amount = match counted {
                        Counted::Servers | Counted::Gpus => count(value, -1),
                        // Here nothing is a limit like others.
                        _ if value.as_i64() == Some(0) => Ok(0),
                        Counted::Cpu => quantity(key, value).map(|cores| (cores * 1000.0) as i64),
                        Counted::Memory => quantity(key, value).map(|bytes| bytes as i64),
                    };
                    let amount = amount.map_err(|expected| fields.mistake(key, &expected))?;
                    Ok((*counted, amount, format!("limits.{name}.{key}").into()))
                })
                .collect::<Result<_, _>>()?,
        };
        if COUNTED.iter().all(|(key, _)| fields.get(key).is_none()) {
            return Err(fields.here("expected at least one of servers, cpu, memory, gpu"));
        }
        if limit.per == Per::Hub && limit.groups.is_some() {
            return Err(fields.mistake("groups", "expected only where the limit is per user or per group"));
        }
        Ok(limit)
    }

    /// Flavors whose servers count as nothing for this limit, unless their backend has a limit of its own.
    pub fn doubts(&self, name: &str, flavors: &[Arc<Flavor>]) -> Vec<String> {
        let counts = |(counted, ..): &&(Counted, i64, Arc<str>)| matches!(counted, Counted::Cpu | Counted::Memory);
        let doubt = |(counted, ..): &(Counted, i64, Arc<str>)| {
            let (word, key) = if *counted == Counted::Cpu { ("cpu", "cpu_limit") } else { ("memory", "mem_limit") };
            let takes_nothing = |flavor: &&Arc<Flavor>| {
                let need = Need::of(flavor.resources.options(), &Map::new());
                counted.of(&need) == 0
            };
            let names: Vec<_> = flavors.iter().filter(takes_nothing).map(|flavor| &*flavor.name).collect();
            (!names.is_empty()).then(|| {
                format!(
                    "limits.{name} counts {word}, but there is no {key} in these flavors: {}; unless the backend has one, their \
                     servers count as 0",
                    names.join(", ")
                )
            })
        };
        self.counted.iter().filter(counts).filter_map(doubt).collect()
    }

    fn scopes(&self, person: &Person<'_>) -> Vec<Scope> {
        if self.hubs.as_ref().is_some_and(|hubs| !hubs.fit(person.hub)) {
            return Vec::new();
        }
        let hub = Scope { hub: Some(person.hub.into()), ..Scope::default() };
        let mut groups = self.groups_of(person.groups).peekable();
        match self.per {
            Per::Hub => vec![hub],
            Per::User if self.groups.is_some() && groups.peek().is_none() => Vec::new(),
            Per::User => vec![Scope { user_id: Some(person.user_id), ..hub }],
            Per::Group => groups.map(|group| Scope { group: Some(group.into()), ..hub.clone() }).collect(),
        }
    }

    fn groups_of<'a>(&self, groups: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
        groups.iter().copied().filter(|group| self.groups.as_ref().is_none_or(|names| names.fit(group)))
    }
}

/// The user's groups that some limit counts.
pub fn counted_groups(sets: &Sets, groups: &[&str]) -> Vec<Arc<str>> {
    let counting = || sets.limits.iter().filter(|limit| limit.per == Per::Group);
    let counted = |group: &&str| counting().any(|limit| limit.groups_of(&[*group]).next().is_some());
    groups.iter().filter(|group| counted(group)).map(|group| Arc::from(*group)).collect()
}

/// The limits of a start, in the order in which they are told.
pub fn quotas(sets: &Sets, flavor: Option<&Flavor>, person: &Person<'_>) -> Vec<Quota> {
    let hub = Scope { hub: Some(person.hub.into()), ..Scope::default() };
    let user = Scope { user_id: Some(person.user_id), ..hub.clone() };
    let servers = |scope: Scope, limit: Option<i64>, source: &dyn Fn() -> String| {
        limit.map(|limit| Quota { scope, counted: Counted::Servers, limit, source: source().into() })
    };
    let mut quotas = Vec::new();
    if let Some(flavor) = flavor {
        let name = &flavor.name;
        let of_flavor = |scope: &Scope| Scope { flavor: Some(OfFlavor::Named(name.clone())), ..scope.clone() };
        let source = |key: &'static str| move || format!("flavors.{name}.{key}");
        quotas.extend(servers(of_flavor(&user), flavor.max_per_user, &source("maxPerUser")));
        quotas.extend(servers(of_flavor(&hub), flavor.max, &source("max")));
        quotas.extend(servers(of_flavor(&Scope::default()), flavor.max_total, &source("max_total")));
    }
    quotas.extend(servers(user, sets.max_per_user, &|| "max_per_user".to_owned()));
    for limit in &sets.limits {
        for scope in limit.scopes(person) {
            quotas.extend(limit.counted.iter().map(|(counted, limit, source)| Quota {
                scope: scope.clone(),
                counted: *counted,
                limit: *limit,
                source: source.clone(),
            }));
        }
    }
    quotas
}
