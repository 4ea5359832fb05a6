//! The container that the server runs in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, ContainerPort, ResourceRequirements, SecurityContext};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{Blueprint, certificates, environment, some, some_map, with};
use crate::error::Result;
use crate::spawner::kubernetes::options::Options;

/// The name of the server's container.
pub const NOTEBOOK: &str = "notebook";

/// The container.
///
/// # Errors
/// As [`environment::list`].
pub fn notebook(blueprint: &Blueprint<'_>) -> Result<Container> {
    let options = blueprint.options;
    let mounts = certificates::volume(blueprint).map(|(_, mount)| mount);
    let container = Container {
        name: NOTEBOOK.to_owned(),
        image: Some(options.image.clone()),
        image_pull_policy: options.image_pull_policy.clone(),
        // The image's entrypoint is kept: it prepares the server.
        args: options.cmd.as_ref().map(|cmd| [cmd.as_slice(), &options.args].concat()),
        working_dir: options.working_dir.clone(),
        ports: Some(vec![ContainerPort {
            name: Some("notebook-port".to_owned()),
            container_port: blueprint.place.port.into(),
            ..ContainerPort::default()
        }]),
        env: some(environment::list(blueprint)?),
        lifecycle: options.lifecycle_hooks.clone(),
        resources: resources(options),
        security_context: security_context(options)?,
        volume_mounts: some(options.volume_mounts.iter().cloned().chain(mounts).collect()),
        ..Container::default()
    };
    let container = with(&container, &options.extra_container_config)?;
    // It is known by its name.
    Ok(Container { name: NOTEBOOK.to_owned(), ..container })
}

fn resources(options: &Options) -> Option<ResourceRequirements> {
    let amounts = |processors: Option<f64>, memory: Option<u64>, others: &BTreeMap<String, Quantity>| {
        let processors = processors.map(|amount| ("cpu".to_owned(), Quantity(amount.to_string())));
        let memory = memory.map(|amount| ("memory".to_owned(), Quantity(amount.to_string())));
        let others = others.iter().map(|(name, amount)| (name.clone(), amount.clone()));
        some_map(processors.into_iter().chain(memory).chain(others).collect())
    };
    let resources = ResourceRequirements {
        limits: amounts(options.cpu_limit, options.mem_limit, &options.extra_resource_limits),
        requests: amounts(options.cpu_guarantee, options.mem_guarantee, &options.extra_resource_guarantees),
        claims: None,
    };
    (resources != ResourceRequirements::default()).then_some(resources)
}

fn security_context(options: &Options) -> Result<Option<SecurityContext>> {
    let context = SecurityContext {
        run_as_user: options.uid,
        run_as_group: options.gid,
        privileged: options.privileged.then_some(true),
        allow_privilege_escalation: options.allow_privilege_escalation,
        ..SecurityContext::default()
    };
    let context = with(&context, &options.container_security_context)?;
    Ok((context != SecurityContext::default()).then_some(context))
}
