//! `profile_list`: what users can choose from, as in KubeSpawner, and who can.

mod overrides;
mod slug;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

pub use self::overrides::Override;
use crate::model::{FullMatch, Names};
use crate::spawner::Choice;

/// The profiles, in order: a list, or a table whose values count in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profiles(Vec<Profile>);

/// One profile.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// Its name for people, which the hub shows.
    pub display_name: String,
    /// What the hub sends for it; default: made of `display_name`.
    #[serde(default)]
    pub slug: String,
    /// For the hub's form.
    #[serde(default)]
    pub description: String,
    /// Whether it is taken where nothing is chosen; default: the first one.
    #[serde(default)]
    pub default: bool,
    /// The options that it sets.
    #[serde(default, deserialize_with = "overrides::read")]
    pub kubespawner_override: Map<String, Value>,
    /// What can be chosen in it, in order.
    #[serde(default, deserialize_with = "in_order")]
    pub profile_options: Vec<(String, ProfileOption)>,
    /// The hubs that have it; default: all.
    pub hubs: Option<Names>,
    /// The groups whose members have it; default: all.
    pub groups: Option<Names>,
    /// The users who have it; default: all.
    pub users: Option<Names>,
}

/// One thing that can be chosen in a profile.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ProfileOption {
    /// Its name for people.
    #[serde(default)]
    pub display_name: String,
    /// For the hub's form.
    #[serde(default)]
    pub description: String,
    /// The choices, in order.
    #[serde(default, deserialize_with = "in_order")]
    pub choices: Vec<(String, OptionChoice)>,
    /// What else can be written.
    #[serde(default)]
    pub unlisted_choice: UnlistedChoice,
}

/// One choice.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct OptionChoice {
    /// Its name for people.
    #[serde(default)]
    pub display_name: String,
    /// For the hub's form.
    #[serde(default)]
    pub description: String,
    /// Whether it is taken where nothing is chosen; default: the first one.
    #[serde(default)]
    pub default: bool,
    /// The options that it sets.
    #[serde(default, deserialize_with = "overrides::read")]
    pub kubespawner_override: Map<String, Value>,
    /// The hubs that have it; default: all.
    pub hubs: Option<Names>,
    /// The groups whose members have it; default: all.
    pub groups: Option<Names>,
    /// The users who have it; default: all.
    pub users: Option<Names>,
}

/// A choice that a user writes.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct UnlistedChoice {
    /// Whether users can.
    pub enabled: bool,
    /// For the hub's form.
    pub display_name: String,
    /// For the hub's form.
    pub display_name_in_choices: String,
    /// For the hub's form.
    pub description: String,
    /// What all of the text has to fit.
    #[serde(deserialize_with = "regex")]
    pub validation_regex: Option<FullMatch>,
    /// What a user reads whose text does not.
    pub validation_message: String,
    /// The options that it sets: `{value}` in keys and texts is what the user wrote.
    #[serde(deserialize_with = "overrides::read")]
    pub kubespawner_override: Map<String, Value>,
    /// The hubs that have it; default: all.
    pub hubs: Option<Names>,
    /// The groups whose members have it; default: all.
    pub groups: Option<Names>,
    /// The users who have it; default: all.
    pub users: Option<Names>,
}

impl Profiles {
    /// The profile that was chosen, or the default one. `None`, if there are no profiles.
    ///
    /// # Errors
    /// A sentence for the user, with what can be chosen.
    pub fn profile(&self, choice: &Choice<'_>) -> Result<Option<&Profile>, String> {
        let allowed: Vec<&Profile> = self.0.iter().filter(|profile| profile.fits(choice)).collect();
        let chosen = chosen(choice, "profile")?;
        let profile = match chosen {
            _ if self.0.is_empty() => return Ok(None),
            Some(slug) => allowed.iter().find(|profile| profile.slug == slug),
            None => allowed.iter().find(|profile| profile.default).or_else(|| allowed.first()),
        };
        profile.copied().map(Some).ok_or_else(|| {
            let names = names(allowed.iter().map(|profile| &*profile.slug));
            match chosen {
                _ if allowed.is_empty() => "There is no profile for you on this system.".to_owned(),
                Some(slug) => {
                    format!("There is no profile {} for you on this system. You can choose {names}.", quoted(slug))
                }
                None => format!("Please choose a profile of this system: {names}."),
            }
        })
    }

    /// The overrides of what was chosen, in the order in which they count. None, if there are no profiles.
    ///
    /// # Errors
    /// A sentence for the user, with what can be chosen.
    pub fn choose<'a>(&'a self, choice: &Choice<'a>) -> Result<Vec<Override<'a>>, String> {
        let Some(profile) = self.profile(choice)? else { return Ok(Vec::new()) };
        let mut overrides = vec![Override { options: &profile.kubespawner_override, value: None }];
        for (name, option) in &profile.profile_options {
            overrides.push(option.choose(name, profile, choice)?);
        }
        Ok(overrides)
    }

    /// All overrides that can come together, each with where it is written, to try them: a profile and one of its choices.
    pub fn all(&self) -> impl Iterator<Item = (String, Vec<Map<String, Value>>)> {
        self.0.iter().flat_map(|profile| {
            let own = &profile.kubespawner_override;
            let place = format!("the profile {}", quoted(&profile.slug));
            let choices = profile.profile_options.iter().flat_map(|(name, option)| {
                let listed =
                    option.choices.iter().map(|(slug, choice)| (slug.as_str(), choice.kubespawner_override.clone()));
                let unlisted = ("unlisted_choice", overrides::sample(&option.unlisted_choice.kubespawner_override));
                listed.chain([unlisted]).map(move |(slug, options)| (format!("{name}.{slug}"), options))
            });
            let with_choice =
                choices.map(|(name, choice)| (format!(", {name}"), vec![own.clone(), choice])).collect::<Vec<_>>();
            [(String::new(), vec![own.clone()])]
                .into_iter()
                .chain(with_choice)
                .map(move |(name, overrides)| (format!("{place}{name}"), overrides))
        })
    }

    /// Completes what was read and checks it.
    ///
    /// # Errors
    /// What is wrong.
    fn complete(mut self) -> Result<Self, String> {
        for at in 0..self.0.len() {
            let (before, rest) = self.0.split_at_mut(at);
            let Some(profile) = rest.first_mut() else { continue };
            if profile.slug.is_empty() {
                profile.slug = slug::slugify(&profile.display_name);
            }
            if before.iter().any(|other| other.slug == profile.slug) {
                return Err(format!("two profiles have the slug {:?}", profile.slug));
            }
            let idle = profile
                .profile_options
                .iter()
                .find(|(_, option)| option.choices.is_empty() && !option.unlisted_choice.enabled);
            if let Some((name, _)) = idle {
                return Err(format!("the profile {:?} has an option {name:?} without choices", profile.slug));
            }
        }
        Ok(self)
    }
}

impl ProfileOption {
    fn choose<'a>(&'a self, name: &str, profile: &Profile, choice: &Choice<'a>) -> Result<Override<'a>, String> {
        let allowed: Vec<_> = self.choices.iter().filter(|(_, listed)| listed.fits(choice)).collect();
        let unlisted = &self.unlisted_choice;
        if let Some(value) = chosen(choice, &format!("{name}--unlisted-choice"))? {
            if !unlisted.enabled || !unlisted.fits(choice) {
                return Err(format!("You cannot write a value of your own for {}.", self.title(name, profile)));
            }
            let fits = unlisted.validation_regex.as_ref().is_none_or(|regex| regex.matches(value) == Some(true));
            if !fits || value.contains('\0') {
                let why = format!(
                    "What you wrote for {} is not one of the values that it may have.",
                    self.title(name, profile)
                );
                let why = if unlisted.validation_message.is_empty() {
                    why
                } else {
                    format!("{why} {}", unlisted.validation_message)
                };
                return Err(why);
            }
            return Ok(Override { options: &unlisted.kubespawner_override, value: Some(value) });
        }
        let slug = chosen(choice, name)?;
        let found = match slug {
            Some(slug) => allowed.iter().find(|(listed, _)| listed == slug),
            None => allowed.iter().find(|(_, listed)| listed.default).or_else(|| allowed.first()),
        };
        match found {
            Some((_, listed)) => Ok(Override { options: &listed.kubespawner_override, value: None }),
            None => {
                let title = self.title(name, profile);
                let names = names(allowed.iter().map(|(slug, _)| slug.as_str()));
                Err(match slug {
                    _ if allowed.is_empty() => format!("Please write a value for {title}."),
                    Some(slug) => format!("There is no choice {} for {title}. You can choose {names}.", quoted(slug)),
                    None => format!("Please choose a value for {title}: {names}."),
                })
            }
        }
    }

    fn title(&self, name: &str, profile: &Profile) -> String {
        let name = if self.display_name.is_empty() { name } else { &self.display_name };
        format!("{} of the profile {}", quoted(name), quoted(&profile.display_name))
    }
}

macro_rules! restricted {
    ($($kind:ident),*) => {$(
        impl $kind {
            /// Whether this hub, user and one of the groups have it.
            fn fits(&self, choice: &Choice<'_>) -> bool {
                let hub = self.hubs.as_ref().is_none_or(|hubs| hubs.fit(choice.hub));
                let user = self.users.as_ref().is_none_or(|users| users.fit(choice.user));
                let group = self.groups.as_ref();
                hub && user && group.is_none_or(|groups| choice.groups.iter().any(|group| groups.fit(group)))
            }
        }
    )*};
}

restricted!(Profile, OptionChoice, UnlistedChoice);

/// A text that was chosen; what counts as false in Python was not.
fn chosen<'a>(choice: &Choice<'a>, key: &str) -> Result<Option<&'a str>, String> {
    match choice.user_options.get(key) {
        None | Some(Value::Null | Value::Bool(false)) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(format!("The choice {} has to be a text.", quoted(key))),
    }
}

fn names<'a>(slugs: impl Iterator<Item = &'a str>) -> String {
    /// The most choices that are told.
    const MOST: usize = 20;
    let mut names: Vec<_> = slugs.map(quoted).collect();
    if names.len() > MOST {
        let more = names.split_off(MOST).len();
        names.push(format!("and {more} more"));
    }
    names.join(", ")
}

fn quoted(name: &str) -> String {
    /// The most characters of a name that are told.
    const LONGEST: usize = 80;
    let short: String = name.chars().take(LONGEST).collect();
    let dots = if short.len() < name.len() { "…" } else { "" };
    format!("{:?}", format!("{short}{dots}"))
}

fn regex<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<FullMatch>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(None) } else { FullMatch::parse(&text).map(Some).map_err(D::Error::custom) }
}

/// A table as a list of its entries, as they are written.
fn in_order<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<(String, T)>, D::Error> {
    struct Entries<T>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Entries<T> {
        type Value = Vec<(String, T)>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a table")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Self::Value, A::Error> {
            let mut entries = Vec::new();
            while let Some(entry) = table.next_entry()? {
                entries.push(entry);
            }
            Ok(entries)
        }
    }
    deserializer.deserialize_map(Entries(std::marker::PhantomData))
}

impl<'de> Deserialize<'de> for Profiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Both;

        impl<'de> Visitor<'de> for Both {
            type Value = Profiles;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list or a table of profiles")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Profiles, A::Error> {
                let mut profiles = Vec::new();
                while let Some(profile) = list.next_element()? {
                    profiles.push(profile);
                }
                Profiles(profiles).complete().map_err(A::Error::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, mut table: A) -> Result<Profiles, A::Error> {
                let mut profiles = std::collections::BTreeMap::<String, Profile>::new();
                while let Some((key, profile)) = table.next_entry()? {
                    profiles.insert(key, profile);
                }
                Profiles(profiles.into_values().collect()).complete().map_err(A::Error::custom)
            }
        }
        deserializer.deserialize_any(Both)
    }
}

#[cfg(test)]
mod tests;
