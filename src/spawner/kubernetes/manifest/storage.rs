//! The volume claim of a user.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeClaimSpec, VolumeResourceRequirements};

use super::{Blueprint, metadata};

/// The claim, if one is to be there. It is made once and stays: the server is not in it.
#[must_use]
pub fn claim(blueprint: &Blueprint<'_>) -> Option<PersistentVolumeClaim> {
    let options = blueprint.options;
    let name = blueprint.place.claim.as_ref()?;
    Some(PersistentVolumeClaim {
        metadata: metadata::of_claim(blueprint, name),
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(options.storage_access_modes.clone()),
            resources: Some(VolumeResourceRequirements {
                requests: options.storage_capacity.clone().map(|capacity| [("storage".to_owned(), capacity)].into()),
                limits: None,
            }),
            selector: options.storage_selector.clone(),
            storage_class_name: options.storage_class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    })
}
