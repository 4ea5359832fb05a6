//! From a launch to the objects of one server: all decisions, made before anything is asked of the cluster.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, Service};
use kube::core::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::manifest::{self, Blueprint};
use super::names::{Names, Naming};
use super::options::Options;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::model::Launch;

/// What is kept of a server ([`crate::model::Handle`]): enough to find and to remove everything without the
/// configuration of today.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Place {
    /// The namespace of all objects.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// Whether there is a service, which has the pod's name.
    pub service: bool,
    /// The secret.
    pub secret: String,
    /// The volume claim, which stays.
    pub claim: Option<String>,
    /// The port that the server listens on.
    pub port: u16,
    /// The host that hubs are told; `None`: the pod's own address.
    pub host: Option<String>,
    /// How long the server has to end, in seconds.
    pub grace_period: u32,
    /// Objects besides those that go with the pod.
    pub extra: Vec<ObjectRef>,
    /// Objects that are applied after the end of the server.
    pub post_stop: Vec<Value>,
}

/// One object of any kind, in the server's namespace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ObjectRef {
    /// The group and version of its kind: `v1`, `apps/v1`.
    pub api_version: String,
    /// Its kind: `ConfigMap`.
    pub kind: String,
    /// The plural in URLs: `configmaps`.
    pub plural: String,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// Its kind, for requests.
    #[must_use]
    pub fn resource(&self) -> ApiResource {
        let (group, version) = self.api_version.split_once('/').unwrap_or(("", &self.api_version));
        ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: self.api_version.clone(),
            kind: self.kind.clone(),
            plural: self.plural.clone(),
        }
    }
}

/// Who a server's objects belong to.
#[derive(Clone, Copy, Debug)]
pub struct Identity<'a> {
    /// The installation's identifier.
    pub installation: &'a str,
    /// The backend's name.
    pub spawner: &'a str,
}

/// The objects of a server.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// The namespace, where users have their own.
    pub namespace: Option<Namespace>,
    /// The volume claim, if one is to be there.
    pub claim: Option<PersistentVolumeClaim>,
    /// Objects that are there before the pod.
    pub pre_start: Vec<DynamicObject>,
    /// The pod.
    pub pod: Pod,
    /// The secret that the pod refers to.
    pub secret: Secret,
    /// The service.
    pub service: Option<Service>,
    /// How long the start may take, without the time in which an image is pulled.
    pub start_timeout: Duration,
}

/// Says where a server will be.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user.
pub fn place(settings: &Settings, launch: &Launch) -> Result<Place> {
    let options = options_of(settings, launch)?;
    let names = names_of(settings, launch)?;
    Ok(Place {
        namespace: names.namespace,
        pod: names.pod,
        service: options.services_enabled,
        secret: names.secret,
        claim: options.storage_pvc_ensure.then_some(names.claim),
        port: options.port,
        host: options.services_enabled.then_some(names.dns_name),
        grace_period: options.delete_grace_period,
        extra: Vec::new(),
        post_stop: Vec::new(),
    })
}

/// Makes the objects of a server.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user.
pub fn plan(settings: &Settings, launch: &Launch, place: &Place, identity: &Identity<'_>) -> Result<Plan> {
    let options = options_of(settings, launch)?;
    let names = names_of(settings, launch)?;
    let blueprint = Blueprint { settings, options: &options, names: &names, launch, place, identity };
    Ok(Plan {
        namespace: manifest::namespace(&blueprint),
        claim: manifest::claim(&blueprint),
        pre_start: Vec::new(),
        pod: manifest::pod(&blueprint)?,
        secret: manifest::secret(&blueprint),
        service: manifest::service(&blueprint),
        start_timeout: options.start_timeout,
    })
}

fn options_of(settings: &Settings, launch: &Launch) -> Result<Options> {
    let mut options = settings.options.clone();
    crate::model::merge(&mut options, launch.options.clone());
    Options::read(&options).map_err(|mistake| Error::Refused(mistake.to_string()))
}

fn names_of(settings: &Settings, launch: &Launch) -> Result<Names> {
    let naming = Naming::read(&settings.options, &settings.own_namespace);
    naming.map_err(|mistake| Error::Refused(mistake.to_string()))?.names(launch)
}
