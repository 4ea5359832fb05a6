//! The pod.

use k8s_openapi::api::core::v1::{Pod, PodSecurityContext, PodSpec};

use super::{Blueprint, affinity, certificates, container, metadata, some, some_map, with};
use crate::error::Result;
use crate::spawner::kubernetes::options::Options;

/// The pod.
///
/// # Errors
/// [`crate::error::Error::Refused`]: Kubernetes does not take the name of a variable.
pub fn pod(blueprint: &Blueprint<'_>) -> Result<Pod> {
    let options = blueprint.options;
    let certificates = certificates::volume(blueprint).map(|(volume, _)| volume);
    let mut containers = vec![container::notebook(blueprint)?];
    containers.extend(options.extra_containers.iter().cloned());
    let spec = PodSpec {
        containers,
        init_containers: some(options.init_containers.clone()),
        volumes: some(options.volumes.iter().cloned().chain(certificates).collect()),
        restart_policy: Some("OnFailure".to_owned()),
        image_pull_secrets: some(options.image_pull_secrets.clone()),
        security_context: security_context(options)?,
        service_account_name: options.service_account.clone(),
        automount_service_account_token: token(options),
        // Else a server reads the names and addresses of all others in its variables.
        enable_service_links: Some(false),
        node_selector: some_map(options.node_selector.clone()),
        tolerations: some(options.tolerations.clone()),
        affinity: affinity::affinity(options),
        scheduler_name: options.scheduler_name.clone(),
        priority_class_name: options.priority_class_name.clone(),
        ..PodSpec::default()
    };
    Ok(Pod {
        metadata: metadata::of_pod(blueprint),
        spec: Some(with(&spec, &options.extra_pod_config)?),
        ..Pod::default()
    })
}

/// Nobody gets the token of the default service account by accident.
fn token(options: &Options) -> Option<bool> {
    options.automount_service_account_token.or_else(|| options.service_account.is_none().then_some(false))
}

fn security_context(options: &Options) -> Result<Option<PodSecurityContext>> {
    let context = PodSecurityContext {
        fs_group: options.fs_gid,
        supplemental_groups: some(options.supplemental_gids.clone()),
        ..PodSecurityContext::default()
    };
    let context = with(&context, &options.pod_security_context)?;
    Ok((context != PodSecurityContext::default()).then_some(context))
}
