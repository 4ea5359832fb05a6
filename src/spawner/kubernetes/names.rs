//! Names of objects and values of labels, from names of hubs and users that may hold anything.

pub mod slugs;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::options::{Mistake, Reader};
use super::plan::Identity;
use crate::error::{Error, Result};
use crate::model::{Launch, Template, TemplateContext, Uid};

/// What the names of Outpost's own labels and annotations begin with.
pub const PREFIX: &str = "outpost.jupyter.org/";
/// The label of all objects of this installation: its identifier.
pub const INSTALLATION: &str = "outpost.jupyter.org/installation";
/// The label with the backend's name, as a slug.
pub const SPAWNER: &str = "outpost.jupyter.org/spawner";
/// The label with the hub's name, as a slug.
pub const HUB: &str = "outpost.jupyter.org/hub";
/// The label with Outpost's identifier of the server.
pub const SERVER: &str = "outpost.jupyter.org/server";
/// The label (as a slug) and the annotation (as it is) with the user's name.
pub const USERNAME: &str = "hub.jupyter.org/username";
/// The label (as a slug) and the annotation (as it is) with the server's name on the hub.
pub const SERVERNAME: &str = "hub.jupyter.org/servername";
/// The label that says who takes care of an object.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// The fields of templates that are known before any name.
const WORDS: [&str; 15] = [
    "userid",
    "username",
    "servername",
    "user_server",
    "unescaped_username",
    "unescaped_servername",
    "safe_username",
    "safe_servername",
    "safe_user_server",
    "escaped_username",
    "escaped_servername",
    "escaped_user_server",
    "hubnamespace",
    "hub",
    "uid",
];

/// The labels by which objects of a backend are told from all others: what the views of the cluster select.
#[must_use]
pub fn backend_labels(identity: &Identity<'_>) -> BTreeMap<String, String> {
    [
        (MANAGED_BY, "outpost".to_owned()),
        (INSTALLATION, slugs::label(identity.installation)),
        (SPAWNER, slugs::label(identity.spawner)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The labels of all objects of a server, over all others.
#[must_use]
pub fn server_labels(identity: &Identity<'_>, hub: &str, uid: &Uid) -> BTreeMap<String, String> {
    let mut labels = backend_labels(identity);
    labels.insert(HUB.to_owned(), slugs::label(hub));
    labels.insert(SERVER.to_owned(), uid.to_string());
    labels
}

/// The names of a server's objects, and the values of the fields of templates.
#[derive(Clone, Debug, PartialEq)]
pub struct Names {
    /// The namespace of all objects.
    pub namespace: String,
    /// The pod and its service.
    pub pod: String,
    /// The volume claim.
    pub claim: String,
    /// The secret.
    pub secret: String,
    /// The service's name in the cluster's DNS.
    pub dns_name: String,
    /// The fields of templates.
    pub words: TemplateContext<'static>,
}

/// The options that names are made of.
#[derive(Clone, Debug)]
pub struct Naming {
    escape: bool,
    own_namespace: String,
    namespace: Template,
    pod: Template,
    claim: Template,
    secret: Template,
    dns_name: Template,
}

impl Naming {
    /// Reads them, with the namespace that Outpost itself runs in.
    ///
    /// # Errors
    /// The option, and what was expected.
    pub fn read(options: &Map<String, Value>, own_namespace: &str) -> Result<Self, Mistake> {
        let read = Reader::new(options);
        let template = |key: &'static str, more: &[&str]| {
            read.template(key, &WORDS.iter().chain(more).copied().collect::<Vec<_>>())
        };
        let namespace = if read.flag("enable_user_namespaces")?.unwrap_or_default() {
            template("user_namespace_template", &[])?
        } else {
            let namespace = read.text("namespace")?.unwrap_or_else(|| own_namespace.to_owned());
            Template::parse(&namespace, &[]).map_err(|_| Mistake { key: "namespace", expected: "a name".to_owned() })?
        };
        Ok(Self {
            escape: read.one_of("slug_scheme", &["safe", "escape"])?.is_some_and(|scheme| scheme == "escape"),
            own_namespace: own_namespace.to_owned(),
            namespace,
            pod: template("pod_name_template", &["namespace"])?,
            claim: template("pvc_name_template", &["namespace", "pod_name"])?,
            secret: template("secret_name_template", &["namespace", "pod_name"])?,
            dns_name: read.template("dns_name_template", &["name", "namespace"])?,
        })
    }

    /// The names of a launch.
    ///
    /// # Errors
    /// [`Error::Refused`]: a template gives no name that Kubernetes takes.
    pub fn names(&self, launch: &Launch) -> Result<Names> {
        let mut words = self.words(launch);
        let namespace = object_name("namespace", &render(&self.namespace, &words)?, slugs::is_dns_label)?;
        words.insert("namespace", namespace.clone());
        // A service has the pod's name, which in some clusters has to begin with a letter.
        let pod = object_name("pod", &render(&self.pod, &words)?, slugs::is_object_name)?;
        words.insert("pod_name", pod.clone());
        let claim = object_name("volume claim", &render(&self.claim, &words)?, slugs::is_dns_label)?;
        words.insert("pvc_name", claim.clone());
        let secret = object_name("secret", &render(&self.secret, &words)?, slugs::is_dns_label)?;
        let own = [("name", pod.clone()), ("namespace", namespace.clone())].into();
        let dns_name = self.dns_name.render(&own)?;
        Ok(Names { namespace, pod, claim, secret, dns_name, words })
    }

    fn words(&self, launch: &Launch) -> TemplateContext<'static> {
        let (user, server) = (&*launch.user, &*launch.id.name);
        let safe_username = slugs::safe(user);
        let safe_servername = if server.is_empty() { String::new() } else { slugs::safe(server) };
        let safe_user_server = slugs::user_server(user, server);
        let (escaped_username, escaped_servername) = (slugs::escape(user), slugs::escape(server));
        let escaped_user_server = format!("{escaped_username}--{escaped_servername}");
        let (username, servername, user_server) = if self.escape {
            let user_server = escaped_user_server.strip_suffix("--").filter(|_| server.is_empty());
            let user_server = user_server.unwrap_or(&escaped_user_server).to_owned();
            (escaped_username.clone(), escaped_servername.clone(), user_server)
        } else {
            (safe_username.clone(), safe_servername.clone(), safe_user_server.clone())
        };
        let hub_namespace = if self.own_namespace == "default" { "user" } else { &self.own_namespace };
        [
            ("userid", launch.user_id.to_string()),
            ("username", username),
            ("servername", servername),
            ("user_server", user_server),
            ("unescaped_username", user.to_owned()),
            ("unescaped_servername", server.to_owned()),
            ("safe_username", safe_username),
            ("safe_servername", safe_servername),
            ("safe_user_server", safe_user_server),
            ("escaped_username", escaped_username),
            ("escaped_servername", escaped_servername),
            ("escaped_user_server", escaped_user_server),
            ("hubnamespace", hub_namespace.to_owned()),
            ("hub", slugs::safe(&launch.id.hub)),
            ("uid", launch.uid.as_str().to_ascii_lowercase()),
        ]
        .into()
    }
}

/// Fills in a template. Hyphens at the end go, unless the template itself ends in one: an empty server name leaves some.
///
/// # Errors
/// [`Error::Internal`] for a field without a value.
pub fn render(template: &Template, words: &TemplateContext<'_>) -> Result<String> {
    let text = template.render(words)?;
    Ok(if template.as_str().ends_with('-') { text } else { text.trim_end_matches('-').to_owned() })
}

/// The text as a name: a long one is cut, with a hash of the whole behind it.
fn object_name(kind: &str, text: &str, is_sound: impl Fn(&str) -> bool) -> Result<String> {
    let mut name = text.to_owned();
    if name.is_ascii() && name.len() > slugs::LONGEST {
        let hash = slugs::hash(text);
        name.truncate(slugs::LONGEST - hash.len() - "---".len());
        name = format!("{}---{hash}", name.trim_end_matches('-'));
    }
    if is_sound(&name) {
        return Ok(name);
    }
    Err(Error::Refused(format!(
        "The name of the {kind} on this system would be {name:?}, which Kubernetes does not take. Please ask the administrators \
         of the system."
    )))
}

#[cfg(test)]
mod tests;
