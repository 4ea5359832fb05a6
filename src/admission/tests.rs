//! Requests as they come, against rules and flavors together.

mod ceilings;
mod decisions;
mod rules;

use serde_json::json;

use super::*;
use crate::spawner::options::KUBESPAWNER_OPTIONS;

/// A backend that knows everything, and one sensitive option.
const TABLE: OptionTable =
    OptionTable { known: KUBESPAWNER_OPTIONS, sensitive: &[("cmd", "it runs any program")], check };

fn check(key: &str, value: &Value) -> Result<(), String> {
    let text = key != "default_url" || value.is_string();
    text.then_some(()).ok_or_else(|| "a text".to_owned())
}

/// A site: what is configured and a backend.
struct Site {
    rules: Rules,
    definitions: Definitions,
    normalise: Normalise,
    table: OptionTable,
    resources: Value,
    /// The profile that the backend takes.
    profile: Option<String>,
}

/// A request, as JSON: `hub`, `user`, `misc`, `user_options`, `flavor`, `authentication`, `backend`.
fn object(request: &Value, key: &str) -> Map<String, Value> {
    request[key].as_object().cloned().unwrap_or_default()
}

impl Site {
    fn new(rules: &str) -> Self {
        #[derive(serde::Deserialize)]
        struct Config {
            #[serde(default)]
            overrides: Rules,
        }
        let config: Config = toml::from_str(rules).unwrap_or_else(|error| panic!("{error}"));
        Self {
            rules: config.overrides,
            definitions: Definitions::default(),
            normalise: Normalise::default(),
            table: TABLE,
            resources: json!({}),
            profile: None,
        }
    }

    fn with_flavors(mut self, yaml: &str) -> Self {
        let document = Document::parse(Kind::Flavors, yaml, Format::Yaml).unwrap_or_else(|error| panic!("{error}"));
        self.definitions.flavors = Some(Arc::new(document));
        self
    }

    fn asked<T>(&self, request: &Value, answer: impl FnOnce(&Policy<'_>, &Ask<'_>) -> T) -> T {
        let text = |key: &'static str, default: &'static str| request[key].as_str().unwrap_or(default).to_owned();
        let policy = Policy { rules: &self.rules, definitions: &self.definitions, normalise: &self.normalise };
        let ask = Ask {
            hub: &text("hub", "hub1"),
            user: &text("user", "ada"),
            user_id: 7,
            misc: &object(request, "misc"),
            user_options: &object(request, "user_options"),
            flavor: request["flavor"].as_str(),
            authentication: &object(request, "authentication"),
            spawner: &text("backend", "local"),
            table: self.table,
            site: &|_| {
                Ok(Offer { resources: self.resources.as_object().unwrap().clone(), profile: self.profile.clone() })
            },
        };
        answer(&policy, &ask)
    }

    fn decide(&self, request: &Value) -> Result<Admitted> {
        self.asked(request, decide)
    }

    fn refusal(&self, request: &Value) -> String {
        match self.decide(request) {
            Err(Error::Refused(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
    }

    fn options(&self, misc: Value) -> Value {
        Value::Object(self.decide(&json!({"misc": misc})).unwrap_or_else(|error| panic!("{error}")).options)
    }

    fn misc_refused(&self, misc: Value) -> String {
        self.refusal(&json!({"misc": misc}))
    }
}
