//! What no single rule can know, and what is hardly meant.

use super::constraint::Constraint;
use super::{Allow, PROTOCOL_GROUP, Rule, Rules, When};

use crate::model::RESOURCES;
use crate::spawner::options::{AMOUNTS, KUBESPAWNER_OPTIONS, PROTOCOL};
use crate::spawner::process;

impl Rules {
    /// Checks that the backends that rules name are configured.
    ///
    /// # Errors
    /// A sentence that begins with the number of the rule.
    pub fn check(&self, spawners: &[&str]) -> Result<(), String> {
        for (number, rule) in self.numbered() {
            if let Some(name) = rule.backend.as_ref().and_then(|names| names.idle(spawners).next()) {
                return Err(format!("rule {number}: backend {name:?}: there is no such [spawners.…]"));
            }
        }
        Ok(())
    }

    /// What is allowed but hardly meant, a sentence each.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        for (number, rule) in self.numbered() {
            if let Allow::Keys(keys) = &rule.allow {
                let doubts = keys.iter().filter_map(|(key, constraint)| doubt(key, constraint));
                warnings.extend(doubts.map(|doubt| format!("rule {number} of [[overrides]]: {doubt}")));
            }
        }
        let always = self.numbered().find(|(_, rule)| rule.always_fits());
        if let Some((always, _)) = always.filter(|(always, _)| *always < self.len()) {
            warnings.push(format!(
                "rule {} of [[overrides]] and all behind it never decide, since rule {always} always fits",
                always + 1
            ));
        }
        warnings
    }

    fn numbered(&self) -> impl Iterator<Item = (usize, &Rule)> {
        (1..).zip(&self.0)
    }
}

impl Rule {
    fn always_fits(&self) -> bool {
        let lists = [&self.hubs, &self.users, &self.backend, &self.flavor, &self.profile];
        lists.iter().all(|names| names.as_ref().is_none_or(|names| names.fit_all()))
            // Not everybody has a group.
            && self.groups.is_none()
            && self.when.as_ref().is_none_or(|When(expression)| expression.source().trim() == "true")
    }
}

fn doubt(key: &str, constraint: &Constraint) -> Option<String> {
    let is_known = key == PROTOCOL_GROUP
        || [KUBESPAWNER_OPTIONS, process::OPTIONS.known, &PROTOCOL].iter().any(|known| known.contains(&key));
    let is_amount = RESOURCES.contains(&key) || AMOUNTS.contains(&key);
    match constraint {
        _ if !is_known => Some(format!("no backend has an option {key:?}")),
        Constraint::Within { .. } if !is_amount => {
            Some(format!("{key:?} is no amount, so that nothing is within {constraint}"))
        }
        _ => None,
    }
}
