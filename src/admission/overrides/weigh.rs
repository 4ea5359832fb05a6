//! What becomes of each option that a hub sent.

use serde_json::{Map, Value};

use super::{Allow, Refusal, Rule, sentences};
use crate::admission::explain::{Asked, Verdict};
use crate::model::{PLACEMENT, RESOURCES, check_resource, quantity};
use crate::spawner::OptionTable;
use crate::spawner::options::{KUBESPAWNER_OPTIONS, PROTOCOL};
use crate::spawner::process;

/// All options, weighed.
#[derive(Debug, Default)]
pub struct Weighed {
    /// Those that are taken.
    pub options: Map<String, Value>,
    /// Each one's fate, in order.
    pub asked: Vec<Asked>,
    /// The lines of progress about those that are left out.
    pub messages: Vec<String>,
    /// The sentence of the refusal, if one of them refuses the start.
    pub refusal: Option<String>,
}

/// What options are held against.
#[derive(Clone, Copy, Debug)]
pub struct Scales<'a> {
    /// The rule that fits.
    pub rule: Option<&'a Rule>,
    /// The backend's options.
    pub table: OptionTable,
    /// The flavor's resources.
    pub flavor: &'a Map<String, Value>,
    /// The site's own settings of resources.
    pub site: &'a Map<String, Value>,
}

/// Weighs the options of a request.
pub fn weigh(misc: &Map<String, Value>, scales: &Scales<'_>) -> Weighed {
    let mut weighed = Weighed::default();
    let mut refused = Vec::new();
    for (key, value) in misc {
        let (verdict, why) = match scales.weigh(key, value) {
            Ok(why) => {
                weighed.options.insert(key.clone(), value.clone());
                (Verdict::Allowed, why)
            }
            Err(Objection { why, what }) => {
                let option = sentences::with_value(key, value);
                match what {
                    Refusal::Drop => {
                        weighed.messages.push(sentences::dropped(&sentences::quoted(key), &why));
                        (Verdict::Dropped, why)
                    }
                    Refusal::Fail => {
                        refused.push((option, why.clone()));
                        (Verdict::Refused, why)
                    }
                }
            }
        };
        weighed.asked.push(Asked { key: key.clone(), verdict, why });
    }
    weighed.refusal = (!refused.is_empty()).then(|| sentences::refusal(&refused));
    weighed
}

struct Objection {
    /// A part of a sentence: "it …".
    why: String,
    what: Refusal,
}

impl Scales<'_> {
    /// Why the option is allowed, or why not and what that means for the start.
    fn weigh(&self, key: &str, value: &Value) -> Result<String, Objection> {
        let on_refused = self.rule.map_or(Refusal::Fail, |rule| rule.on_refused);
        let refused = |why: &str| Objection { why: why.to_owned(), what: on_refused };
        if !PROTOCOL.contains(&key) && !self.table.known.contains(&key) {
            return Err(self.unknown(key, on_refused));
        }
        let mistyped =
            |why: String| Objection { why, what: self.rule.and_then(|rule| rule.unknown).unwrap_or(on_refused) };
        if RESOURCES.contains(&key) && !value.is_null() {
            check_resource(key, value).map_err(|expected| mistyped(as_reason(&expected)))?;
        }
        (self.table.check)(key, value).map_err(|expected| mistyped(format!("it has to be {expected}")))?;
        let Some(rule) = self.rule else { return self.without_rule(key, value).map_err(|why| refused(&why)) };
        match (&rule.allow, rule.constraint(key)) {
            (Allow::All, _) => Ok("the rule allows everything".to_owned()),
            (_, Some(constraint)) if constraint.fits(key, value) => Ok(format!("the rule allows {constraint}")),
            (_, Some(constraint)) => Err(refused(&format!("it may only be {}", constraint.expectation(key)))),
            (_, None) if PROTOCOL.contains(&key) => Ok("every hub sends it".to_owned()),
            (allow, None) => Err(refused(&allow.instead())),
        }
    }

    fn unknown(&self, key: &str, on_refused: Refusal) -> Objection {
        let by_rule = self.rule.and_then(|rule| rule.unknown);
        if KUBESPAWNER_OPTIONS.contains(&key) || process::OPTIONS.known.contains(&key) {
            let why = "this system has no use for it".to_owned();
            Objection { why, what: by_rule.unwrap_or(Refusal::Drop) }
        } else {
            Objection { why: "there is no such option".to_owned(), what: by_rule.unwrap_or(on_refused) }
        }
    }

    fn without_rule(&self, key: &str, value: &Value) -> Result<String, String> {
        if let Some((_, reason)) = self.table.sensitive.iter().find(|(name, _)| *name == key) {
            return Err((*reason).to_owned());
        }
        if PLACEMENT.contains(&key) && self.flavor.contains_key(key) {
            return Err("the flavor of the server says where it runs".to_owned());
        }
        if RESOURCES.contains(&key) {
            return self.below_ceiling(key, value);
        }
        Ok(if PROTOCOL.contains(&key) { "every hub sends it" } else { "no rule fits, and it is harmless" }.to_owned())
    }

    /// Holds a resource, or each of an object of them, below what there is.
    fn below_ceiling(&self, key: &str, value: &Value) -> Result<String, String> {
        match value {
            Value::Object(amounts) => {
                amounts.iter().try_for_each(|(name, amount)| self.not_above(key, Some(name), amount))?;
            }
            value => self.not_above(key, None, value)?,
        }
        Ok("no rule fits, and it is not more than the flavor or this system gives".to_owned())
    }

    fn not_above(&self, key: &str, name: Option<&str>, value: &Value) -> Result<(), String> {
        let unit = name.unwrap_or(key);
        let amount = quantity(unit, value);
        match self.ceiling(key, name) {
            Some((owner, _)) if value.is_null() => Err(format!("{owner} limits it")),
            Some((owner, ceiling)) => match (amount, quantity(unit, ceiling)) {
                (Ok(amount), Ok(most)) if amount <= most => Ok(()),
                (Ok(_), _) => {
                    let most = sentences::amount(unit, ceiling);
                    Err(format!("it may only be up to {most}, which is what {owner} gives"))
                }
                (Err(expected), _) => Err(as_reason(&expected)),
            },
            None => match (name, self.silent_owner(key)) {
                (Some(name), Some(owner)) if amount != Ok(0.0) => Err(format!("{owner} has no {name:?}")),
                _ => Ok(()),
            },
        }
    }

    /// The most that a resource may be, and whose word that is: the flavor's, or the site's where the flavor says nothing. What
    /// is guaranteed is limited, too.
    fn ceiling(&self, key: &str, name: Option<&str>) -> Option<(&'static str, &Value)> {
        let given = |key: &str| {
            entry(self.flavor, key, name)
                .map(|value| (FLAVOR, value))
                .or_else(|| entry(self.site, key, name).map(|value| (SITE, value)))
        };
        let amount = |(_, value): &(&str, &Value)| quantity(name.unwrap_or(key), value).unwrap_or_default();
        [given(key), given(&key.replace("guarantee", "limit"))]
            .into_iter()
            .flatten()
            .min_by(|one, other| amount(one).total_cmp(&amount(other)))
    }

    /// Who says what resources of this kind there are, so that there is nothing of those that are not named.
    fn silent_owner(&self, key: &str) -> Option<&'static str> {
        let flavor = RESOURCES.iter().any(|key| self.flavor.contains_key(*key)).then_some(FLAVOR);
        flavor.or_else(|| self.site.contains_key(key).then_some(SITE))
    }
}

const FLAVOR: &str = "the flavor of the server";
const SITE: &str = "this system";

/// An option, or what it says of one name.
fn entry<'a>(options: &'a Map<String, Value>, key: &str, name: Option<&str>) -> Option<&'a Value> {
    let option = options.get(key)?;
    name.map_or(Some(option), |name| option.get(name))
}

/// "expected a size" as a part of a sentence about an option.
fn as_reason(expected: &str) -> String {
    format!("it has to be {}", expected.trim_start_matches("expected "))
}
