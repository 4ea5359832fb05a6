//! From a launch to the objects of one server: all decisions, made before anything is asked of the cluster.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, PersistentVolumeClaim, Pod, Secret, Service};
use kube::core::{ApiResource, DynamicObject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::manifest::{self, Blueprint};
use super::names::{self, Names};
use super::options::Options;
use super::settings::Settings;
use super::{merge, objects};
use crate::error::{Error, Result};
use crate::model::{Launch, Template};

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
    /// The user's volume claim, if there is to be one or the pod mounts it. It stays.
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

impl Place {
    /// Whether all objects of the two have the same names.
    fn has_names_of(&self, other: &Self) -> bool {
        let names = |place: &Self| {
            let Self { namespace, pod, secret, claim, extra, .. } = place;
            (namespace.clone(), pod.clone(), secret.clone(), claim.clone(), extra.clone())
        };
        names(self) == names(other)
    }
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
    /// The user's volume claim, if there is to be one or the pod mounts it.
    pub claim: Option<PersistentVolumeClaim>,
    /// Whether that is made where it is not there.
    pub claim_is_made: bool,
    /// Whether one from before Outpost is taken.
    pub claim_is_adopted: bool,
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
    /// What the user hears meanwhile.
    pub telling: Telling,
}

/// What a user hears while a server starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Telling {
    /// Whether the events of the pod are told.
    pub events: bool,
    /// After which time the user is told that the start takes long; zero: never.
    pub slow_after: Duration,
    /// How often that is told.
    pub slow_every: Duration,
    /// In which words, with the field `seconds`.
    pub slow_words: Template,
}

impl Telling {
    /// What the options say.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        Self {
            events: options.events_enabled,
            slow_after: options.slow_spawn_message_threshold,
            slow_every: options.slow_spawn_message_frequency.max(Duration::from_secs(1)),
            slow_words: options.slow_spawn_message.clone(),
        }
    }
}

/// Whose objects are that only show what there would be.
const NOBODY: Identity<'_> = Identity { installation: "x", spawner: "x" };

/// Says where a server will be.
///
/// # Errors
/// [`Error::Refused`] with a sentence for the user; [`Error::Internal`] for a setting that cannot be used.
pub fn place(settings: &Settings, launch: &Launch) -> Result<Place> {
    let (options, names) = merge::effective(settings, launch)?;
    place_of(settings, launch, &options, &names)
}

/// Makes the objects of a server.
///
/// # Errors
/// As [`place`]; [`Error::Failed`]: its objects would have other names today.
pub fn plan(settings: &Settings, launch: &Launch, place: &Place, identity: &Identity<'_>) -> Result<Plan> {
    let (options, names) = merge::effective(settings, launch)?;
    if !place.has_names_of(&place_of(settings, launch, &options, &names)?) {
        return Err(Error::failed(
            "The settings of this system were changed while your server waited. Please start it again.",
        ));
    }
    plan_of(settings, launch, place, identity, &options, &names)
}

/// Makes all that a launch would have with these profiles' overrides, to find mistakes before there is one.
///
/// # Errors
/// As [`place`]; and options that do not go together.
pub fn try_with(settings: &Settings, launch: &Launch, overrides: &[Map<String, Value>]) -> Result<()> {
    let (options, names) = merge::effective_with(settings, overrides, launch)?;
    if options.storage_pvc_ensure && options.storage_capacity.is_none() {
        return Err(Error::internal("`storage_pvc_ensure` needs a `storage_capacity`"));
    }
    if Duration::from_secs(options.delete_grace_period.into()) > settings.stop_timeout {
        return Err(Error::internal("`delete_grace_period` must not be above `stop_timeout`"));
    }
    let place = place_of(settings, launch, &options, &names)?;
    plan_of(settings, launch, &place, &NOBODY, &options, &names).map(drop)
}

fn place_of(settings: &Settings, launch: &Launch, options: &Options, names: &Names) -> Result<Place> {
    let own = BTreeMap::from([
        (names::HUB.to_owned(), names::slugs::label(&launch.id.hub)),
        (names::SERVER.to_owned(), launch.uid.to_string()),
    ]);
    let made = |key: &str, objects: &[Map<String, Value>]| {
        let made = objects.iter().map(|object| objects::make(object, names, &own));
        made.collect::<Result<Vec<_>, _>>().map_err(|why| Error::internal(format!("`{key}`: {why}")))
    };
    let post_stop = made("post_stop", &settings.post_stop)?;
    let by_service = options.services_enabled || launch.certificates.is_some();
    let mut place = Place {
        namespace: names.namespace.clone(),
        pod: names.pod.clone(),
        service: by_service,
        secret: names.secret.clone(),
        claim: None,
        port: options.port,
        host: host(options, names, by_service)?,
        grace_period: options.delete_grace_period,
        extra: made("pre_start", &settings.pre_start)?.iter().map(objects::reference).collect(),
        post_stop: post_stop.iter().map(serde_json::to_value).collect::<Result<_, _>>().map_err(Error::internal)?,
    };
    let pod = pod_of(&Blueprint { settings, options, launch, place: &place, identity: &NOBODY }, names)?;
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
    if on_host && settings.options.get("port").is_none_or(Value::is_null) {
        return Err(Error::internal(
            "`hostNetwork`: servers listen on addresses of nodes, so that the site has to set `port`",
        ));
    }
    let is_wanted = options.storage_pvc_ensure || claims(&pod).any(|claim| claim == names.claim);
    place.claim = is_wanted.then(|| names.claim.clone());
    Ok(place)
}

/// The volume claims that a pod mounts.
fn claims(pod: &Pod) -> impl Iterator<Item = &str> {
    let volumes = pod.spec.iter().flat_map(|spec| &spec.volumes).flatten();
    volumes.filter_map(|volume| volume.persistent_volume_claim.as_ref()).map(|claim| claim.claim_name.as_str())
}

/// The host that hubs are told; `None`: the pod's own address. What the site names is filled in part by part, since a template
/// can leave hyphens at the end of each.
fn host(options: &Options, names: &Names, by_service: bool) -> Result<Option<String>> {
    let host = match &options.pod_connect_ip {
        None if by_service => names.dns_name.clone(),
        None => return Ok(None),
        Some(host) => {
            let fields: Vec<&str> = names.words.keys().copied().collect();
            let parts = host.split('.').map(|part| {
                let template = Template::parse(part, &fields)
                    .map_err(|why| Error::internal(format!("`pod_connect_ip`: {why}")))?;
                names::render(&template, &names.words)
            });
            parts.collect::<Result<Vec<_>>>()?.join(".")
        }
    };
    // Hubs split the answer at its colon, and some put it into a command line.
    if host.starts_with('-') || !host.chars().all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '-') {
        return Err(Error::Refused(format!(
            "The server would be at {host:?}, which is no name of a host. Please ask the administrators of the system."
        )));
    }
    Ok(Some(host))
}

fn plan_of(
    settings: &Settings,
    launch: &Launch,
    place: &Place,
    identity: &Identity<'_>,
    options: &Options,
    names: &Names,
) -> Result<Plan> {
    let labels = names::server_labels(identity, &launch.id.hub, &launch.uid);
    let blueprint = Blueprint { settings, options, launch, place, identity };
    let pre_start = settings.pre_start.iter().map(|object| objects::make(object, names, &labels));
    Ok(Plan {
        namespace: manifest::namespace(&blueprint),
        claim: manifest::claim(&blueprint),
        claim_is_made: options.storage_pvc_ensure,
        claim_is_adopted: settings.adopt_claims_of.as_deref() == Some(&*launch.id.hub),
        pre_start: pre_start.collect::<Result<_, _>>().map_err(|why| Error::internal(format!("`pre_start`: {why}")))?,
        pod: pod_of(&blueprint, names)?,
        secret: manifest::secret(&blueprint),
        service: manifest::service(&blueprint),
        start_timeout: options.start_timeout,
        telling: Telling::of(options),
    })
}

/// The pod, with all that the site changes about it.
fn pod_of(blueprint: &Blueprint<'_>, names: &Names) -> Result<Pod> {
    let Blueprint { settings, launch, place, identity, .. } = blueprint;
    let pod = settings.pod_patch.apply(manifest::pod(blueprint)?, &names.words);
    let mut pod = pod.map_err(|why| Error::internal(format!("`pod_patch`: {why}")))?;
    if !pod.spec.iter().flat_map(|spec| &spec.containers).any(|container| container.name == manifest::NOTEBOOK) {
        return Err(Error::internal(format!("`pod_patch`: it leaves no container {:?}", manifest::NOTEBOOK)));
    }
    pod.metadata.name = Some(place.pod.clone());
    pod.metadata.namespace = Some(place.namespace.clone());
    pod.metadata.labels.get_or_insert_default().extend(names::server_labels(identity, &launch.id.hub, &launch.uid));
    Ok(pod)
}

#[cfg(test)]
mod tests;
