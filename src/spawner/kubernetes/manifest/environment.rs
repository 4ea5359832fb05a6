//! The variables of the server's container: layer over layer, secrets apart, in an order in which each can refer to others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};

use super::{Blueprint, certificates};
use crate::error::{Error, Result};
use crate::spawner::singleuser;

/// The longest name that a secret can have a value under.
const LONGEST_NAME: usize = 253;

/// The value of a variable.
#[derive(Clone, Debug)]
enum Variable {
    /// Text that stands as it is, whatever is in it: all that comes from a hub.
    Plain(String),
    /// Text of the site in which `$(NAME)` is the value of another variable.
    Composed(String),
    /// What Kubernetes itself looks up.
    Found(EnvVarSource),
}

/// The container's variables.
///
/// # Errors
/// [`Error::Refused`]: Kubernetes does not take the name of a variable.
pub fn list(blueprint: &Blueprint<'_>) -> Result<Vec<EnvVar>> {
    let variables = layers(blueprint);
    if let Some(name) = variables.keys().find(|name| !is_name(name)) {
        return Err(Error::Refused(format!(
            "The variable {name:?} cannot be set in a pod: names of variables consist of letters, digits, `_`, `-` and `.`, do \
             not begin with a digit or a dot, and have at most {LONGEST_NAME} characters."
        )));
    }
    let variable = |name: String, variable: &Variable| {
        let (value, value_from) = match variable {
            variable if secret(blueprint, &name, variable).is_some() => (None, Some(reference(blueprint, &name))),
            Variable::Plain(text) => (Some(text.replace('$', "$$")), None),
            Variable::Composed(text) => (Some(text.clone()), None),
            Variable::Found(source) => (None, Some(source.clone())),
        };
        EnvVar { name, value, value_from }
    };
    Ok(in_order(&variables).into_iter().map(|name| variable(name.to_owned(), &variables[name])).collect())
}

/// The variables whose values are in the secret.
#[must_use]
pub fn secrets(blueprint: &Blueprint<'_>) -> BTreeMap<String, String> {
    let mut variables = layers(blueprint);
    variables.retain(|name, _| is_name(name));
    variables
        .into_iter()
        .filter_map(|(name, variable)| Some((name.clone(), secret(blueprint, &name, &variable)?)))
        .collect()
}

/// The text of a variable that belongs in the secret. One that is composed of others stays where Kubernetes composes it; the
/// secret ones among those others are looked up there, too.
fn secret(blueprint: &Blueprint<'_>, name: &str, variable: &Variable) -> Option<String> {
    let text = match variable {
        Variable::Plain(text) => text.clone(),
        Variable::Composed(text) if !text.contains("$(") => text.replace("$$", "$"),
        Variable::Composed(_) | Variable::Found(_) => return None,
    };
    blueprint.settings.secret_environment.fit(name).then_some(text)
}

fn reference(blueprint: &Blueprint<'_>, key: &str) -> EnvVarSource {
    EnvVarSource {
        secret_key_ref: Some(SecretKeySelector {
            name: blueprint.place.secret.clone(),
            key: key.to_owned(),
            ..SecretKeySelector::default()
        }),
        ..EnvVarSource::default()
    }
}

/// All variables; later layers win.
fn layers(blueprint: &Blueprint<'_>) -> BTreeMap<String, Variable> {
    let Blueprint { options, launch, .. } = blueprint;
    let mut variables = BTreeMap::new();
    let mut set = |name: &str, value: Option<String>| match value {
        Some(text) => drop(variables.insert(name.to_owned(), Variable::Plain(text))),
        None => drop(variables.remove(name)),
    };
    for (name, text) in &launch.environment.0 {
        set(name, Some(text.clone()));
    }
    if launch.environment.get("JPY_API_TOKEN").is_none() {
        set("JPY_API_TOKEN", launch.environment.get("JUPYTERHUB_API_TOKEN").map(str::to_owned));
    }
    for name in ["JUPYTER_IMAGE", "JUPYTER_IMAGE_SPEC"] {
        set(name, Some(options.image.clone()));
    }
    let given = [("JUPYTERHUB_ROOT_DIR", &options.notebook_dir), ("JUPYTERHUB_DEFAULT_URL", &options.default_url)];
    let switches =
        [("JUPYTERHUB_DEBUG", options.debug), ("JUPYTERHUB_DISABLE_USER_CONFIG", options.disable_user_config)];
    for (name, text) in given.into_iter().filter(|(_, text)| text.is_some()) {
        set(name, text.clone());
    }
    for (name, _) in switches.into_iter().filter(|(_, on)| *on) {
        set(name, Some("1".to_owned()));
    }
    // As Python writes numbers: those of processors have a point.
    set("CPU_LIMIT", options.cpu_limit.map(|cores| format!("{cores:?}")));
    set("CPU_GUARANTEE", options.cpu_guarantee.map(|cores| format!("{cores:?}")));
    set("MEM_LIMIT", options.mem_limit.map(|bytes| bytes.to_string()));
    set("MEM_GUARANTEE", options.mem_guarantee.map(|bytes| bytes.to_string()));
    for (name, text) in &options.hub_environment {
        set(name, text.clone());
    }
    for variable in options.environment.values() {
        let value = match (&variable.value_from, &variable.value) {
            (Some(source), _) => Variable::Found(source.clone()),
            (None, text) => Variable::Composed(text.clone().unwrap_or_default()),
        };
        variables.insert(variable.name.clone(), value);
    }
    let mut set = |name: &str, text: Option<String>| match text {
        Some(text) => drop(variables.insert(name.to_owned(), Variable::Plain(text))),
        None => drop(variables.remove(name)),
    };
    set("JUPYTERHUB_SERVICE_URL", Some(singleuser::service_url(launch, address(&options.ip, blueprint.place.port))));
    for (name, path) in certificates::variables(blueprint) {
        set(name, path);
    }
    variables
}

/// The address that the server listens on, as in a URL.
fn address(ip: &str, port: u16) -> String {
    match ip.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{ip}:{port}"),
    }
}

/// Names, so that each comes after those that it refers to, as far as that is possible, and else by the alphabet: only what
/// comes before can be referred to.
fn in_order(variables: &BTreeMap<String, Variable>) -> Vec<&str> {
    let mut left: Vec<_> =
        variables.iter().map(|(name, variable)| (name.as_str(), references(name, variable))).collect();
    let mut ordered = Vec::with_capacity(left.len());
    let mut there = BTreeSet::new();
    while !left.is_empty() {
        let (mut ready, waiting): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|(_, others)| others.iter().all(|other| there.contains(other)));
        left = waiting;
        if ready.is_empty() {
            // What is left refers to each other in circles, or to nothing that there is.
            ready.append(&mut left);
        }
        there.extend(ready.iter().map(|(name, _)| *name));
        ordered.extend(ready.into_iter().map(|(name, _)| name));
    }
    ordered
}

/// The other variables in the text of one.
fn references<'a>(name: &str, variable: &'a Variable) -> BTreeSet<&'a str> {
    let Variable::Composed(text) = variable else { return BTreeSet::new() };
    let others = text.split("$(").skip(1).filter_map(|rest| rest.split_once(')'));
    others.map(|(other, _)| other).filter(|other| !other.is_empty() && *other != name).collect()
}

/// Whether all versions of Kubernetes take this as the name of a variable and of a value in a secret.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}
