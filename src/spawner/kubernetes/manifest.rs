//! The objects of a server, as typed values.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, PersistentVolumeClaim, PersistentVolumeClaimSpec, Pod, PodSpec, Secret, Service,
    ServicePort, ServiceSpec, VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::names::{self, Names};
use super::options::Options;
use super::plan::{Identity, Place};
use super::settings::Settings;
use crate::error::Result;
use crate::model::Launch;

/// What the objects of one server are made of.
#[derive(Clone, Copy, Debug)]
pub struct Blueprint<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// The options of this launch: all templates in them are filled in.
    pub options: &'a Options,
    /// The names of the objects.
    pub names: &'a Names,
    /// The launch.
    pub launch: &'a Launch,
    /// Where the server is.
    pub place: &'a Place,
    /// Whose it is.
    pub identity: &'a Identity<'a>,
}

/// The pod.
///
/// # Errors
/// [`crate::error::Error::Refused`]: options contradict each other.
pub fn pod(blueprint: &Blueprint<'_>) -> Result<Pod> {
    let options = blueprint.options;
    let notebook = Container {
        name: "notebook".to_owned(),
        image: Some(options.image.clone()),
        args: options.cmd.clone(),
        ports: Some(vec![ContainerPort {
            name: Some("notebook-port".to_owned()),
            container_port: blueprint.place.port.into(),
            ..ContainerPort::default()
        }]),
        ..Container::default()
    };
    Ok(Pod {
        metadata: metadata(blueprint, &blueprint.place.pod),
        spec: Some(PodSpec {
            containers: vec![notebook],
            restart_policy: Some("OnFailure".to_owned()),
            ..PodSpec::default()
        }),
        ..Pod::default()
    })
}

/// The secret, with what of the environment is one, and the certificates.
#[must_use]
pub fn secret(blueprint: &Blueprint<'_>) -> Secret {
    let variables = &blueprint.launch.environment.0;
    let secret = variables.iter().filter(|(name, _)| blueprint.settings.secret_environment.fit(name));
    Secret {
        metadata: metadata(blueprint, &blueprint.place.secret),
        data: Some(secret.map(|(name, value)| (name.clone(), ByteString(value.clone().into_bytes()))).collect()),
        ..Secret::default()
    }
}

/// The service, if there is to be one.
#[must_use]
pub fn service(blueprint: &Blueprint<'_>) -> Option<Service> {
    let place = blueprint.place;
    place.service.then(|| Service {
        metadata: metadata(blueprint, &place.pod),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(labels(blueprint)),
            ports: Some(vec![ServicePort { port: place.port.into(), ..ServicePort::default() }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// The volume claim, if one is to be there.
#[must_use]
pub fn claim(blueprint: &Blueprint<'_>) -> Option<PersistentVolumeClaim> {
    let name = blueprint.place.claim.as_ref()?;
    let capacity = blueprint.options.storage_capacity.clone();
    Some(PersistentVolumeClaim {
        metadata: metadata(blueprint, name),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(blueprint.options.storage_access_modes.clone()),
            resources: Some(VolumeResourceRequirements {
                requests: capacity.map(|capacity| [("storage".to_owned(), capacity)].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    })
}

fn metadata(blueprint: &Blueprint<'_>, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(blueprint.place.namespace.clone()),
        labels: Some(labels(blueprint)),
        ..ObjectMeta::default()
    }
}

fn labels(blueprint: &Blueprint<'_>) -> BTreeMap<String, String> {
    names::server_labels(blueprint.identity, &blueprint.launch.id.hub, &blueprint.launch.uid)
}
