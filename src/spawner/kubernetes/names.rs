//! Names of objects and values of labels, from names of hubs and users that may hold anything.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use super::options::Options;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::model::{Launch, Template, TemplateContext};

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

/// The fields that the templates of most options know.
pub const FIELDS: &[&str] = &["username", "servername", "user_server", "hub", "uid"];

/// The longest value of one field.
const LONGEST_FIELD: usize = 48;
/// The longest name of an object and value of a label.
const LONGEST: usize = 63;

/// How names become slugs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SlugScheme {
    /// Readable where that is unique, else with a hash.
    #[default]
    Safe,
    /// Every other character as `-` and its bytes in hexadecimal digits, as old versions of KubeSpawner have it.
    Escape,
}

impl Names {
    /// The names of a launch.
    ///
    /// # Errors
    /// [`Error::Refused`]: a template gives no name that Kubernetes takes.
    pub fn new(_settings: &Settings, _options: &Options, launch: &Launch) -> Result<Self> {
        let words = TemplateContext::from([
            ("username", safe_slug(&launch.user)),
            ("servername", launch.id.name.to_string()),
            ("user_server", safe_slug(&launch.user)),
            ("hub", safe_slug(&launch.id.hub)),
            ("uid", launch.uid.as_str().to_ascii_lowercase()),
        ]);
        let render = |text: &str| Template::parse(text, FIELDS).map_err(Error::internal)?.render(&words).map(squeeze);
        Ok(Self {
            namespace: "default".to_owned(),
            pod: render("jupyter-{user_server}--{hub}")?,
            claim: render("claim-{user_server}--{hub}")?,
            secret: render("outpost-{uid}")?,
            dns_name: format!("{}.default.svc.cluster.local", render("jupyter-{user_server}--{hub}")?),
            words,
        })
    }
}

/// A name that Kubernetes takes, for any text: itself where it is one, else a readable part of it and a hash.
#[must_use]
pub fn safe_slug(text: &str) -> String {
    let sound = text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.contains("--");
    if sound && text.len() <= LONGEST_FIELD { text.to_owned() } else { format!("x---{}", hash(text)) }
}

fn squeeze(name: String) -> String {
    if name.len() <= LONGEST {
        return name;
    }
    let end = LONGEST - 11;
    format!("{}---{}", name[..end].trim_end_matches('-'), hash(&name))
}

fn hash(text: &str) -> String {
    let mut out = String::new();
    for byte in &Sha256::digest(text.as_bytes())[..4] {
        write!(out, "{byte:02x}").unwrap_or_default();
    }
    out
}
