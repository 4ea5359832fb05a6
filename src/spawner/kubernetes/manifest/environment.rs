//! The variables of the server's container: layer over layer, secrets apart, in an order in which each can refer to others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};

use super::{Blueprint, certificates};
use crate::error::{Error, Result};
use crate::model::{Names, has_login};
use crate::spawner::singleuser;

/// The longest name that a secret can have a value under.
const LONGEST_NAME: usize = 253;

/// The value of a variable.
#[derive(Clone, Debug)]
enum Variable<'a> {
    /// Text that stands as it is, whatever is in it: all that comes from a hub.
    Plain(String),
    /// Text of the site in which `$(NAME)` is the value of another variable.
    Composed(&'a str),
    /// What Kubernetes itself looks up.
    Found(&'a EnvVarSource),
}

/// The variables by their names.
#[derive(Debug, Default)]
struct Variables<'a>(BTreeMap<String, Variable<'a>>);

/// The container's variables.
///
/// # Errors
/// [`Error::Refused`]: Kubernetes does not take the name of a variable.
pub fn list(blueprint: &Blueprint<'_>) -> Result<Vec<EnvVar>> {
    let variables = Variables::of(blueprint);
    if let Some(name) = variables.0.keys().find(|name| !is_name(name)) {
        return Err(Error::Refused(format!(
            "The variable {name:?} cannot be set in a pod: names of variables consist of letters, digits, `_`, `-` and `.`, do \
             not begin with a digit or a dot, and have at most {LONGEST_NAME} characters."
        )));
    }
    let secret = &blueprint.settings.secret_environment;
    let variable = |name: &str| {
        let (value, value_from) = match &variables.0[name] {
            variable if variable.secret(name, secret).is_some() => (None, Some(reference(blueprint, name))),
            Variable::Plain(text) => (Some(text.replace('$', "$$")), None),
            Variable::Composed(text) => (Some((*text).to_owned()), None),
            Variable::Found(source) => (None, Some((*source).clone())),
        };
        EnvVar { name: name.to_owned(), value, value_from }
    };
    Ok(variables.in_order().into_iter().map(variable).collect())
}

/// The variables whose values are in the secret.
#[must_use]
pub fn secrets(blueprint: &Blueprint<'_>) -> BTreeMap<String, String> {
    let secret = &blueprint.settings.secret_environment;
    let variables = Variables::of(blueprint).0.into_iter();
    variables.filter_map(|(name, variable)| variable.secret(&name, secret).map(|text| (name, text))).collect()
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

impl<'a> Variables<'a> {
    /// All of them, layer over layer.
    fn of(blueprint: &Blueprint<'a>) -> Self {
        let Blueprint { options, launch, .. } = blueprint;
        let mut variables = Self::default();
        for (name, text) in &launch.environment.0 {
            variables.set(name, Some(text));
        }
        if launch.environment.get("JPY_API_TOKEN").is_none() {
            variables.set("JPY_API_TOKEN", launch.environment.get("JUPYTERHUB_API_TOKEN"));
        }
        variables.set("JUPYTER_IMAGE", Some(&options.image));
        variables.set("JUPYTER_IMAGE_SPEC", Some(&options.image));
        variables.set_if("JUPYTERHUB_ROOT_DIR", options.notebook_dir.as_ref());
        variables.set_if("JUPYTERHUB_DEFAULT_URL", options.default_url.as_ref());
        variables.set_if("JUPYTERHUB_DEBUG", options.debug.then_some("1"));
        variables.set_if("JUPYTERHUB_DISABLE_USER_CONFIG", options.disable_user_config.then_some("1"));
        // As Python writes numbers: those of processors have a point.
        variables.set("CPU_LIMIT", options.cpu_limit.map(|cores| format!("{cores:?}")));
        variables.set("CPU_GUARANTEE", options.cpu_guarantee.map(|cores| format!("{cores:?}")));
        variables.set("MEM_LIMIT", options.mem_limit.map(|bytes| bytes.to_string()));
        variables.set("MEM_GUARANTEE", options.mem_guarantee.map(|bytes| bytes.to_string()));
        for (name, text) in &options.hub_environment {
            variables.set(name, text.as_ref());
        }
        for variable in options.environment.values() {
            let value = match (&variable.value_from, &variable.value) {
                (Some(source), _) => Variable::Found(source),
                (None, text) => Variable::Composed(text.as_deref().unwrap_or_default()),
            };
            variables.0.insert(variable.name.clone(), value);
        }
        let address = address(&options.ip, blueprint.place.port);
        variables.set("JUPYTERHUB_SERVICE_URL", Some(singleuser::service_url(launch, address)));
        for (name, path) in certificates::variables(blueprint) {
            variables.set(name, path);
        }
        variables
    }

    /// Sets a variable, or takes it away.
    fn set(&mut self, name: &str, text: Option<impl Into<String>>) {
        match text {
            Some(text) => drop(self.0.insert(name.to_owned(), Variable::Plain(text.into()))),
            None => drop(self.0.remove(name)),
        }
    }

    /// Sets a variable, or leaves what the hub said.
    fn set_if(&mut self, name: &str, text: Option<impl Into<String>>) {
        if text.is_some() {
            self.set(name, text);
        }
    }

    /// The names, so that each comes after those that it refers to, as far as that is possible, and else by the alphabet:
    /// only what comes before can be referred to.
    fn in_order(&self) -> Vec<&str> {
        let mut left: Vec<_> = self.0.iter().map(|(name, variable)| (name.as_str(), variable.others(name))).collect();
        let mut there = BTreeSet::new();
        let mut ordered = Vec::with_capacity(left.len());
        while !left.is_empty() {
            let (mut ready, waiting): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|(_, others)| others.is_subset(&there));
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
}

impl Variable<'_> {
    /// The text of a variable of this name, if it belongs in the secret. What is composed of others stays where Kubernetes
    /// composes it; it finds the secret ones among those others.
    fn secret(&self, name: &str, secret: &Names) -> Option<String> {
        let text = match self {
            Self::Plain(text) => text.clone(),
            Self::Composed(text) if !text.contains("$(") => text.replace("$$", "$"),
            Self::Composed(_) | Self::Found(_) => return None,
        };
        // Programs that read small letters have secrets, too.
        (secret.fit(name) || secret.fit(&name.to_ascii_uppercase()) || has_login(&text)).then_some(text)
    }

    /// The other variables that it refers to.
    fn others(&self, name: &str) -> BTreeSet<&str> {
        let Self::Composed(text) = self else { return BTreeSet::new() };
        let others = text.split("$(").skip(1).filter_map(|rest| rest.split_once(')'));
        others.map(|(other, _)| other).filter(|other| !other.is_empty() && *other != name).collect()
    }
}

/// The address that the server listens on, as in a URL.
fn address(ip: &str, port: u16) -> String {
    match ip.parse() {
        Ok(IpAddr::V6(ip)) => format!("[{ip}]:{port}"),
        _ => format!("{ip}:{port}"),
    }
}

/// Whether all versions of Kubernetes take this as the name of a variable and of a value in a secret.
fn is_name(name: &str) -> bool {
    name.len() <= LONGEST_NAME
        && name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_' || first == '-')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

#[cfg(test)]
mod tests;
