//! `outpost explain`

use std::sync::Arc;

use clap::Args;
use serde_json::{Map, Value};

use super::output::json;
use super::{BAD_CONFIGURATION, Context, FAILED, Failure, Outcome};
use crate::admin::{Question, explain};
use crate::admission::{Definitions, Kind};
use crate::model::printable;
use crate::outpost::{in_force, read_file};

/// A request of a hub that is not made.
#[derive(Args)]
pub(super) struct Explain {
    /// The hub's name.
    #[arg(long)]
    hub: String,
    /// Its name of the user.
    #[arg(long)]
    user: String,
    /// Its number of the user, for what is in use [default: that of the servers that the user has]
    #[arg(long, value_name = "NUMBER")]
    user_id: Option<i64>,
    /// The options for the backend, as JSON.
    #[arg(long, value_name = "JSON", value_parser = object)]
    misc: Option<Value>,
    /// The flavor.
    #[arg(long)]
    flavor: Option<String>,
    /// A group of the user; may be given several times.
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// The profile that the user chose.
    #[arg(long)]
    profile: Option<String>,
    /// What else the user chose on the hub, as JSON.
    #[arg(long, value_name = "JSON", value_parser = object)]
    user_options: Option<Value>,
    /// What the hub tells about the user, as JSON.
    #[arg(long, value_name = "JSON", value_parser = object)]
    authentication: Option<Value>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A JSON object of the command line.
pub(super) fn object(text: &str) -> Result<Value, String> {
    match serde_json::from_str(text) {
        Ok(value @ Value::Object(_)) => Ok(value),
        Ok(_) => Err("has to be an object: {\"key\": value}".to_owned()),
        Err(error) => Err(format!("is no valid JSON: {error}")),
    }
}

fn map(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

pub(super) async fn run(context: &Context, arguments: Explain) -> Outcome {
    let question = Question {
        hub: arguments.hub,
        user: arguments.user,
        user_id: arguments.user_id,
        misc: map(arguments.misc),
        flavor: arguments.flavor,
        groups: (!arguments.groups.is_empty()).then_some(arguments.groups),
        profile: arguments.profile,
        user_options: map(arguments.user_options),
        authentication: map(arguments.authentication),
    };
    let store = if context.has_run()? { Some(context.store().await?) } else { None };
    let definitions = match &store {
        Some(store) => in_force(store).await?.definitions,
        None => of_files(context)?,
    };
    let explained = explain(&context.config, &definitions, store.as_ref(), question).await?;
    if arguments.json {
        json(&explained)?;
    } else {
        for line in explained.to_string().lines() {
            println!("{}", printable(line));
        }
    }
    if explained.explanation.refusal.is_some() { Err(Failure(FAILED, String::new())) } else { Ok(()) }
}

/// What an Outpost would apply that has not run yet.
fn of_files(context: &Context) -> Result<Definitions, Failure> {
    let mut definitions = Definitions::default();
    for (kind, path) in context.config.flavors.files() {
        let (document, _) = read_file(kind, path).map_err(|mistake| Failure(BAD_CONFIGURATION, mistake))?;
        match kind {
            Kind::Flavors => definitions.flavors = Some(Arc::new(document)),
            Kind::Credits => definitions.credits = Some(Arc::new(document)),
        }
    }
    Ok(definitions)
}
