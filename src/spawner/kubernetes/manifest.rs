//! The objects of a server, as typed values: what KubeSpawner makes of the same options, and of what differs a test has the
//! list with the reasons. Owners are not in them, since the pod has no identifier yet.

mod affinity;
mod certificates;
mod container;
mod environment;
mod metadata;
mod pod;
mod storage;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{Namespace, Secret, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use self::container::NOTEBOOK;
pub use self::pod::pod;
pub use self::storage::claim;
use super::names::SERVER;
use super::options::Options;
use super::plan::{Identity, Place};
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::model::Launch;

/// What the objects of one server are made of.
#[derive(Clone, Copy, Debug)]
pub struct Blueprint<'a> {
    /// The configuration.
    pub settings: &'a Settings,
    /// The options of this launch: all templates in them are filled in.
    pub options: &'a Options,
    /// The launch.
    pub launch: &'a Launch,
    /// Where the server is.
    pub place: &'a Place,
    /// Whose it is.
    pub identity: &'a Identity<'a>,
}

/// The secret: the variables that are one, and the certificates.
#[must_use]
pub fn secret(blueprint: &Blueprint<'_>) -> Secret {
    let mut data = environment::secrets(blueprint);
    data.extend(certificates::data(blueprint));
    let data = data.into_iter().map(|(name, text)| (name, ByteString(text.into_bytes()))).collect();
    Secret { metadata: metadata::of_part(blueprint, &blueprint.place.secret), data: Some(data), ..Secret::default() }
}

/// The service, if there is to be one. It leads to the one pod that has the server's identifier.
#[must_use]
pub fn service(blueprint: &Blueprint<'_>) -> Option<Service> {
    let place = blueprint.place;
    let port = ServicePort {
        name: Some("http".to_owned()),
        port: place.port.into(),
        target_port: Some(IntOrString::Int(place.port.into())),
        ..ServicePort::default()
    };
    place.service.then(|| Service {
        metadata: metadata::of_part(blueprint, &place.pod),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some([(SERVER.to_owned(), blueprint.launch.uid.to_string())].into()),
            ports: Some(vec![port]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    })
}

/// The namespace, where each user has one. It is shared by all servers of the user and stays.
#[must_use]
pub fn namespace(blueprint: &Blueprint<'_>) -> Option<Namespace> {
    let there = blueprint.options.enable_user_namespaces;
    there.then(|| Namespace { metadata: metadata::of_namespace(blueprint), ..Namespace::default() })
}

/// An object in which these keys replace those that are there, or take them away (`null`).
fn with<T: DeserializeOwned + Serialize>(object: &T, changes: &Map<String, Value>) -> Result<T> {
    let mut value = serde_json::to_value(object).map_err(Error::internal)?;
    if let Value::Object(keys) = &mut value {
        for (key, change) in changes {
            match change {
                Value::Null => drop(keys.shift_remove(key)),
                change => drop(keys.insert(key.clone(), change.clone())),
            }
        }
    }
    serde_json::from_value(value).map_err(Error::internal)
}

/// The list, if there is something in it.
fn some<T>(list: Vec<T>) -> Option<Vec<T>> {
    (!list.is_empty()).then_some(list)
}

/// The map, if there is something in it.
fn some_map<V>(map: BTreeMap<String, V>) -> Option<BTreeMap<String, V>> {
    (!map.is_empty()).then_some(map)
}
