//! Options over options: the site's, the hub's, and those of what the user chose. Later ones win, objects merge, `null`
//! deletes, lists replace. What a server takes up and where it runs is the other way round: admission counted what the
//! hub's options say, so that they win over a profile's.

mod root;

use serde_json::{Map, Value};

use super::names::{Names, Naming, render};
use super::options::{self, Mistake, Options, in_order};
use super::profiles::Override;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::model::{Launch, PLACEMENT, RESOURCES, Template, TemplateContext, merge, without_nulls};
use crate::spawner::{Choice, singleuser};

/// What a hub's plugin sends with every request, so that it counts only where the site says nothing.
const OF_PLUGIN: [&str; 2] = ["port", "services_enabled"];

/// What labels begin with that services and network policies select by. A hub sets none of these.
const SELECTED_PREFIXES: [&str; 3] = ["hub.jupyter.org/", "outpost.jupyter.org/", "app.kubernetes.io/"];

/// Labels of the same kind without a prefix.
const SELECTED: [&str; 3] = ["app", "component", "release"];

/// Options that JupyterHub itself fills in, with fields of its own: those of a hub are no templates any more.
const OF_JUPYTERHUB: [&str; 2] = ["default_url", "notebook_dir"];

/// The options of a launch and the names of its objects.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user.
pub fn effective(settings: &Settings, launch: &Launch) -> Result<(Options, Names)> {
    let groups: Vec<&str> = launch.groups.iter().map(String::as_str).collect();
    let choice =
        Choice { hub: &launch.id.hub, user: &launch.user, groups: &groups, user_options: &launch.user_options };
    let overrides = settings.profile_list.choose(&choice).map_err(Error::Refused)?;
    let overrides: Vec<_> = overrides.iter().map(Override::filled).collect();
    effective_with(settings, &overrides, launch)
}

/// The same, with what was chosen.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user.
pub fn effective_with(
    settings: &Settings,
    overrides: &[Map<String, Value>],
    launch: &Launch,
) -> Result<(Options, Names)> {
    let (options, names) = combine(settings, overrides, launch)?;
    let namespace = &names.namespace;
    let is_of_site = settings.site_namespaces().contains(namespace);
    if options.enable_user_namespaces && (is_of_site || is_of_others(settings, namespace)) {
        return Err(Error::Refused(format!(
            "The namespace {namespace:?}, which your servers would be in on this system, cannot be that of one user. Please ask \
             the administrators of the system."
        )));
    }
    if !options.enable_user_namespaces && !is_of_site {
        return Err(Error::Refused(format!(
            "The namespace {namespace:?} is none of those that servers can be in on this system."
        )));
    }
    Ok((options, names))
}

/// Whether a namespace is for something else than servers: Outpost's own, and those that every cluster has.
fn is_of_others(settings: &Settings, namespace: &str) -> bool {
    namespace == settings.own_namespace || namespace == "default" || namespace.starts_with("kube-")
}

/// The resource options of the site with those of what a user chose, as admission bounds and counts them.
///
/// # Errors
/// A sentence for the user: what was chosen cannot be had.
pub fn resources(settings: &Settings, choice: &Choice<'_>) -> Result<Map<String, Value>, String> {
    let mut resources = only_resources(settings.options.clone());
    for chosen in settings.profile_list.choose(choice)? {
        merge(&mut resources, only_resources(chosen.filled()));
    }
    without_nulls(&mut resources);
    Ok(resources)
}

fn only_resources(mut options: Map<String, Value>) -> Map<String, Value> {
    options.retain(|key, _| RESOURCES.contains(&key.as_str()));
    options
}

fn combine(settings: &Settings, overrides: &[Map<String, Value>], launch: &Launch) -> Result<(Options, Names)> {
    let mut site = settings.options.clone();
    let mut hub = Hub::new(settings, &launch.options);

    let mut raw = site.clone();
    merge(&mut raw, hub.options.clone());
    overrides.iter().for_each(|chosen| merge(&mut raw, chosen.clone()));
    let names = Naming::read(&raw, &settings.own_namespace).map_err(refused)?.names(launch)?;

    // A hub adds labels to those of the site, and replaces none.
    let words = Words::new(&names, launch);
    words
        .fill_in(&mut hub.options)
        .map_err(|Mistake { key, .. }| refused(Mistake { key, expected: TEMPLATE.to_owned() }))?;
    words.fill_in(&mut site).map_err(refused)?;
    let labels = site.shift_remove("extra_labels").and_then(|labels| labels.as_object().cloned());
    root::merge(&mut site, hub.options);
    if let (Some(labels), Some(all)) = (labels, object(&mut site, "extra_labels")) {
        all.extend(labels);
    }
    for mut chosen in overrides.iter().cloned() {
        words.fill_in(&mut chosen).map_err(refused)?;
        root::merge(&mut site, chosen);
    }
    if let Some(more) = hub.counted.shift_remove("tolerations") {
        join(&mut site, "tolerations", &more);
    }
    merge(&mut site, hub.counted);
    site.values_mut().filter_map(Value::as_object_mut).for_each(without_nulls);

    let mut options = Options::read(&site).map_err(refused)?;
    options.hub_environment = options::plain_variables(&hub.environment).map_err(refused)?;
    options.keep_guarantees_below_limits();
    Ok((options, names))
}

/// What a hub's template has to be; what it is may be a secret.
const TEMPLATE: &str = "texts in whose braces are fields that this system knows";

/// The options of a hub, by how they count.
struct Hub {
    options: Map<String, Value>,
    /// What admission counted: it wins over what was chosen.
    counted: Map<String, Value>,
    environment: Map<String, Value>,
}

impl Hub {
    fn new(settings: &Settings, options: &Map<String, Value>) -> Self {
        let mut hub = Self { options: Map::new(), counted: Map::new(), environment: Map::new() };
        let silent = |key: &str| settings.options.get(key).is_none_or(Value::is_null);
        for (key, value) in options.iter().filter(|(key, _)| options::OPTIONS.known.contains(&key.as_str())) {
            let key_ = key.as_str();
            if RESOURCES.contains(&key_) || PLACEMENT.contains(&key_) {
                hub.counted.insert(key.clone(), value.clone());
            } else if key == "environment" {
                hub.environment = value.as_object().cloned().unwrap_or_default();
            } else if key == "extra_labels" {
                hub.options.insert(key.clone(), without_selected(value));
            } else if OF_JUPYTERHUB.contains(&key_) {
                hub.options.insert(key.clone(), without_fields(value));
            } else if !OF_PLUGIN.contains(&key_) || silent(key) {
                hub.options.insert(key.clone(), value.clone());
            }
        }
        hub
    }
}

fn without_selected(labels: &Value) -> Value {
    let mut labels = labels.clone();
    if let Value::Object(labels) = &mut labels {
        let selected = |name: &str| SELECTED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
        labels.retain(|name, _| !selected(name) && !SELECTED.contains(&name.as_str()));
    }
    labels
}

fn without_fields(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace('{', "{{").replace('}', "}}")),
        other => other.clone(),
    }
}

fn object<'a>(options: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    options.entry(key).or_insert_with(|| Value::Object(Map::new())).as_object_mut()
}

/// Adds to a list what is not in it yet.
fn join(options: &mut Map<String, Value>, key: &str, more: &Value) {
    let Some(more) = in_order(more) else { return };
    let mut all: Vec<Value> = options.get(key).and_then(in_order).unwrap_or_default().into_iter().cloned().collect();
    for value in more {
        if !all.contains(value) {
            all.push(value.clone());
        }
    }
    options.insert(key.to_owned(), Value::Array(all));
}

/// The fields of templates.
struct Words<'a> {
    of_most: &'a TemplateContext<'static>,
    of_variables: TemplateContext<'static>,
    of_jupyterhub: TemplateContext<'static>,
}

impl<'a> Words<'a> {
    fn new(names: &'a Names, launch: &Launch) -> Self {
        let mut of_jupyterhub = names.words.clone();
        of_jupyterhub.insert("username", launch.user.to_string());
        of_jupyterhub.insert("base_url", singleuser::base_url(launch).to_owned());
        Self { of_most: &names.words, of_variables: literal(&names.words), of_jupyterhub }
    }

    /// Fills in the templates in all options that have some.
    fn fill_in(&self, options: &mut Map<String, Value>) -> Result<(), Mistake> {
        for (key, value) in options {
            if options::is_template(key)
                && let Some(key) = options::find(key)
            {
                let words = match key {
                    "environment" => &self.of_variables,
                    key if OF_JUPYTERHUB.contains(&key) => &self.of_jupyterhub,
                    _ => self.of_most,
                };
                expand_value(value, words, "")
                    .map_err(|why| Mistake { key, expected: format!("made of templates, but {why}") })?;
            }
        }
        Ok(())
    }
}

/// The fields as they are written where `$(NAME)` is the value of a variable: what a user is called names none.
fn literal<'a>(words: &TemplateContext<'a>) -> TemplateContext<'a> {
    words.iter().map(|(name, text)| (*name, text.replace('$', "$$"))).collect()
}

/// Whether this is a place in a container where Kubernetes fills in variables, as `[0].args[1]` or `/containers/0/env/-`.
fn has_variables(path: &str) -> bool {
    let parts: Vec<&str> = path.split(['.', '[', ']', '/']).filter(|part| !part.is_empty()).collect();
    let is_element = |part: &&str| part.bytes().all(|digit| digit.is_ascii_digit());
    let Some(element) = parts.iter().position(is_element) else { return false };
    let within = &parts[element..];
    let filled = ["args", "command", "env", "subPathExpr", "sub_path_expr"];
    within.iter().any(|part| filled.contains(part)) && !within.iter().any(|part| ["exec", "_exec"].contains(part))
}

/// Fills in the templates in all texts of a value. The names of its keys stay.
///
/// # Errors
/// Which field is unknown, or which brace is open, and where.
pub fn expand_value(value: &mut Value, words: &TemplateContext<'_>, path: &str) -> Result<(), String> {
    match value {
        Value::String(text) => {
            let fields: Vec<&str> = words.keys().copied().collect();
            let template = Template::parse(text, &fields).map_err(|why| match path {
                "" => why,
                path => format!("in `{path}` {why}"),
            })?;
            let rendered =
                if has_variables(path) { render(&template, &literal(words)) } else { render(&template, words) };
            *text = rendered.map_err(|error| error.to_string())?;
            Ok(())
        }
        Value::Array(list) => {
            list.iter_mut().enumerate().try_for_each(|(at, value)| expand_value(value, words, &format!("{path}[{at}]")))
        }
        Value::Object(object) => object.iter_mut().try_for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            expand_value(value, words, &path)
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => Ok(()),
    }
}

/// What ends a user's sentence about an option.
pub const ADVICE: &str = "Please choose other options or ask the administrators of the system.";

fn refused(mistake: Mistake) -> Error {
    Error::Refused(format!("The option {mistake}. {ADVICE}"))
}

#[cfg(test)]
mod tests;
