//! The options of a server, under KubeSpawner's names and with its defaults, typed.

mod kinds;
mod reader;
mod table;

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, Lifecycle, LocalObjectReference, NodeSelectorTerm, PodAffinityTerm, PodSecurityContext,
    PreferredSchedulingTerm, SecurityContext, Toleration, Volume, VolumeMount, WeightedPodAffinityTerm,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::{Map, Value, json};

pub use self::kinds::{camel, period, typed};
pub use self::reader::{Mistake, Reader, in_order, plain_variables};
pub use self::table::{OPTIONS, all, find, is_option, is_template};
use crate::model::{Template, quantity};

/// The options of one launch, with all templates in them filled in. What `KubeSpawner` takes as a list or as a table, whose
/// values count in the order of their keys, is a list here.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The image.
    pub image: String,
    /// When the image is pulled: `Always`, `IfNotPresent` or `Never`.
    pub image_pull_policy: Option<String>,
    /// The secrets that images are pulled with.
    pub image_pull_secrets: Vec<LocalObjectReference>,
    /// The program and its first arguments, passed to the image's entrypoint. Without it the image decides, and `args` do
    /// not count.
    pub cmd: Option<Vec<String>>,
    /// More arguments.
    pub args: Vec<String>,
    /// The page that is shown first.
    pub default_url: Option<String>,
    /// The root of the file browser.
    pub notebook_dir: Option<String>,
    /// Whether the server logs more.
    pub debug: bool,
    /// Whether the server ignores configuration of the user.
    pub disable_user_config: bool,
    /// Variables of the site and of the profile, which win over all of the hub.
    pub environment: BTreeMap<String, EnvVar>,
    /// Variables of the hub's options, which win over those of its request; `None` takes one of those away.
    pub hub_environment: BTreeMap<String, Option<String>>,
    /// Where the server starts.
    pub working_dir: Option<String>,
    /// Processors.
    pub cpu_limit: Option<f64>,
    /// Processors.
    pub cpu_guarantee: Option<f64>,
    /// Bytes.
    pub mem_limit: Option<u64>,
    /// Bytes.
    pub mem_guarantee: Option<u64>,
    /// Other resources, such as GPUs.
    pub extra_resource_limits: BTreeMap<String, Quantity>,
    /// Other resources, such as GPUs.
    pub extra_resource_guarantees: BTreeMap<String, Quantity>,
    /// The Unix user in the container.
    pub uid: Option<i64>,
    /// The Unix group in the container.
    pub gid: Option<i64>,
    /// The Unix group of volumes.
    pub fs_gid: Option<i64>,
    /// More Unix groups.
    pub supplemental_gids: Vec<i64>,
    /// Whether the container may do all that its node may.
    pub privileged: bool,
    /// Whether a process can gain more rights than its parent.
    pub allow_privilege_escalation: Option<bool>,
    /// What wins over the five above in the container.
    pub container_security_context: Map<String, Value>,
    /// What wins over them in the pod.
    pub pod_security_context: Map<String, Value>,
    /// The service account.
    pub service_account: Option<String>,
    /// Whether the container gets its token. `None`: no, if there is no service account.
    pub automount_service_account_token: Option<bool>,
    /// Volumes.
    pub volumes: Vec<Volume>,
    /// Where they are mounted in the container.
    pub volume_mounts: Vec<VolumeMount>,
    /// Whether there is a volume claim of the user.
    pub storage_pvc_ensure: bool,
    /// How much it claims.
    pub storage_capacity: Option<Quantity>,
    /// Its storage class. An empty one means none, `None` the cluster's default.
    pub storage_class: Option<String>,
    /// Its access modes.
    pub storage_access_modes: Vec<String>,
    /// Which volumes it can be bound to.
    pub storage_selector: Option<LabelSelector>,
    /// Its labels.
    pub storage_extra_labels: BTreeMap<String, String>,
    /// Its annotations.
    pub storage_extra_annotations: BTreeMap<String, String>,
    /// Containers that end before the server starts.
    pub init_containers: Vec<Container>,
    /// Containers beside the server.
    pub extra_containers: Vec<Container>,
    /// What replaces keys of the pod's `spec`, checked and in the words of the API.
    pub extra_pod_config: Map<String, Value>,
    /// What replaces keys of the server's container, checked and in the words of the API.
    pub extra_container_config: Map<String, Value>,
    /// What the container runs at its start and before its end.
    pub lifecycle_hooks: Option<Lifecycle>,
    /// The labels of nodes.
    pub node_selector: BTreeMap<String, String>,
    /// The taints of nodes that do not matter.
    pub tolerations: Vec<Toleration>,
    /// Nodes that are preferred.
    pub node_affinity_preferred: Vec<PreferredSchedulingTerm>,
    /// Nodes of which it has to be one.
    pub node_affinity_required: Vec<NodeSelectorTerm>,
    /// Pods to be near to.
    pub pod_affinity_preferred: Vec<WeightedPodAffinityTerm>,
    /// Pods to be near to.
    pub pod_affinity_required: Vec<PodAffinityTerm>,
    /// Pods to be away from.
    pub pod_anti_affinity_preferred: Vec<WeightedPodAffinityTerm>,
    /// Pods to be away from.
    pub pod_anti_affinity_required: Vec<PodAffinityTerm>,
    /// The scheduler.
    pub scheduler_name: Option<String>,
    /// The priority class.
    pub priority_class_name: Option<String>,
    /// Labels of all objects, which win over `extra_labels`.
    pub common_labels: BTreeMap<String, String>,
    /// Labels of the pod, the service and the secret.
    pub extra_labels: BTreeMap<String, String>,
    /// Annotations of the pod, the service and the secret.
    pub extra_annotations: BTreeMap<String, String>,
    /// The value of the label `component`.
    pub component_label: String,
    /// The host that hubs are told instead: a template, of which the parts between dots are one each.
    pub pod_connect_ip: Option<String>,
    /// Whether the server is reached by a service.
    pub services_enabled: bool,
    /// The address that the server listens on.
    pub ip: String,
    /// The port that it listens on.
    pub port: u16,
    /// Where the certificates of `internal_ssl` are mounted; ends in a slash.
    pub secret_mount_path: String,
    /// Whether events of the pod are told as progress.
    pub events_enabled: bool,
    /// After which time the user is told that the start takes long; zero: never.
    pub slow_spawn_message_threshold: Duration,
    /// How often that is told.
    pub slow_spawn_message_frequency: Duration,
    /// In which words; `{seconds}` is the time so far.
    pub slow_spawn_message: Template,
    /// How long the server has to end, in seconds.
    pub delete_grace_period: u32,
    /// How long a start may take, without the time in which an image is pulled.
    pub start_timeout: Duration,
    /// Whether each user has a namespace.
    pub enable_user_namespaces: bool,
    /// Labels of that namespace.
    pub user_namespace_labels: BTreeMap<String, String>,
    /// Annotations of that namespace.
    pub user_namespace_annotations: BTreeMap<String, String>,
}

/// Lists that are empty where nobody says.
const LISTS: &[&str] = &[
    "image_pull_secrets",
    "args",
    "supplemental_gids",
    "volumes",
    "volume_mounts",
    "init_containers",
    "extra_containers",
    "tolerations",
    "node_affinity_preferred",
    "node_affinity_required",
    "pod_affinity_preferred",
    "pod_affinity_required",
    "pod_anti_affinity_preferred",
    "pod_anti_affinity_required",
];

/// Tables that are empty where nobody says.
const TABLES: &[&str] = &[
    "environment",
    "extra_resource_limits",
    "extra_resource_guarantees",
    "container_security_context",
    "pod_security_context",
    "storage_selector",
    "storage_extra_labels",
    "storage_extra_annotations",
    "extra_pod_config",
    "extra_container_config",
    "lifecycle_hooks",
    "node_selector",
    "extra_labels",
    "extra_annotations",
    "user_namespace_labels",
    "user_namespace_annotations",
];

/// All options that have a default, as `KubeSpawner` has it.
static DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let labels = json!({
        "app.kubernetes.io/name": "jupyterhub",
        "app": "jupyterhub",
        "heritage": "jupyterhub",
    });
    let mut defaults: Map<String, Value> = [
        ("common_labels", labels),
        ("image", json!("jupyterhub/singleuser:latest")),
        ("debug", json!(false)),
        ("disable_user_config", json!(false)),
        ("privileged", json!(false)),
        ("allow_privilege_escalation", json!(false)),
        ("storage_pvc_ensure", json!(false)),
        ("storage_access_modes", json!(["ReadWriteOnce"])),
        ("component_label", json!("singleuser-server")),
        ("ip", json!("0.0.0.0")),
        ("secret_mount_path", json!("/etc/jupyterhub/ssl/")),
        ("events_enabled", json!(true)),
        ("delete_grace_period", json!(1)),
        ("slow_spawn_message_threshold", json!("60s")),
        ("slow_spawn_message_frequency", json!("5s")),
        (
            "slow_spawn_message",
            json!("Your server needs more time than usual: {seconds} seconds until now. Please be patient."),
        ),
        ("start_timeout", json!("60s")),
        ("slug_scheme", json!("safe")),
        ("pod_name_template", json!("jupyter-{user_server}--{hub}")),
        ("pvc_name_template", json!("claim-{user_server}--{hub}")),
        ("secret_name_template", json!("outpost-{uid}")),
        ("dns_name_template", json!("{name}.{namespace}.svc.cluster.local")),
        ("enable_user_namespaces", json!(false)),
        ("user_namespace_template", json!("{hubnamespace}-{username}--{hub}")),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into_iter()
    .collect();
    defaults.extend(LISTS.iter().map(|key| ((*key).to_owned(), json!([]))));
    defaults.extend(TABLES.iter().map(|key| ((*key).to_owned(), json!({}))));
    defaults
});

/// The options that have a default, with it.
#[must_use]
pub fn defaults() -> Map<String, Value> {
    DEFAULTS.clone()
}

impl Options {
    /// Reads the options; `null` is the default.
    ///
    /// # Errors
    /// A sentence that names the option, the path in it and what was expected, and repeats no value.
    pub fn read(options: &Map<String, Value>) -> Result<Self, Mistake> {
        let read = Reader::new(options);
        Ok(Self {
            image: read.text("image")?.unwrap_or_default(),
            image_pull_policy: read.one_of("image_pull_policy", &["Always", "IfNotPresent", "Never"])?,
            image_pull_secrets: read.references("image_pull_secrets")?,
            cmd: read.command("cmd")?.filter(|cmd| !cmd.is_empty()),
            args: read.command("args")?.unwrap_or_default(),
            default_url: read.text("default_url")?,
            notebook_dir: read.text("notebook_dir")?,
            debug: read.flag("debug")?.unwrap_or_default(),
            disable_user_config: read.flag("disable_user_config")?.unwrap_or_default(),
            environment: read.variables("environment")?,
            hub_environment: BTreeMap::new(),
            working_dir: read.text("working_dir")?,
            cpu_limit: read.amount("cpu_limit")?,
            cpu_guarantee: read.amount("cpu_guarantee")?,
            mem_limit: read.amount("mem_limit")?.map(|bytes| bytes as u64),
            mem_guarantee: read.amount("mem_guarantee")?.map(|bytes| bytes as u64),
            extra_resource_limits: read.resources("extra_resource_limits")?,
            extra_resource_guarantees: read.resources("extra_resource_guarantees")?,
            uid: read.id("uid")?,
            gid: read.id("gid")?,
            fs_gid: read.id("fs_gid")?,
            supplemental_gids: read.ids("supplemental_gids")?,
            privileged: read.flag("privileged")?.unwrap_or_default(),
            // KubeSpawner's default is false, and `null` says that the pod's spec does not have the key.
            allow_privilege_escalation: read.explicit_flag("allow_privilege_escalation")?,
            container_security_context: read.part::<SecurityContext>("container_security_context")?,
            pod_security_context: read.part::<PodSecurityContext>("pod_security_context")?,
            service_account: read.text("service_account")?,
            automount_service_account_token: read.flag("automount_service_account_token")?,
            volumes: read.list("volumes")?,
            volume_mounts: read.list("volume_mounts")?,
            storage_pvc_ensure: read.flag("storage_pvc_ensure")?.unwrap_or_default(),
            storage_capacity: read.storage("storage_capacity")?,
            storage_class: read.any_text("storage_class")?,
            storage_access_modes: read.texts("storage_access_modes")?,
            storage_selector: read.object("storage_selector")?,
            storage_extra_labels: read.labels("storage_extra_labels")?,
            storage_extra_annotations: read.labels("storage_extra_annotations")?,
            init_containers: read.list("init_containers")?,
            extra_containers: read.list("extra_containers")?,
            extra_pod_config: read.part::<k8s_openapi::api::core::v1::PodSpec>("extra_pod_config")?,
            extra_container_config: read.part::<Container>("extra_container_config")?,
            lifecycle_hooks: read.object("lifecycle_hooks")?,
            node_selector: read.exact_labels("node_selector")?,
            tolerations: read.list("tolerations")?,
            node_affinity_preferred: read.list("node_affinity_preferred")?,
            node_affinity_required: read.list("node_affinity_required")?,
            pod_affinity_preferred: read.list("pod_affinity_preferred")?,
            pod_affinity_required: read.list("pod_affinity_required")?,
            pod_anti_affinity_preferred: read.list("pod_anti_affinity_preferred")?,
            pod_anti_affinity_required: read.list("pod_anti_affinity_required")?,
            scheduler_name: read.text("scheduler_name")?,
            priority_class_name: read.text("priority_class_name")?,
            common_labels: read.labels("common_labels")?,
            extra_labels: read.labels("extra_labels")?,
            extra_annotations: read.labels("extra_annotations")?,
            component_label: read.text("component_label")?.unwrap_or_default(),
            pod_connect_ip: read.text("pod_connect_ip")?,
            services_enabled: read.flag("services_enabled")?.unwrap_or_default(),
            ip: read.text("ip")?.unwrap_or_default(),
            port: read.port("port")?,
            secret_mount_path: read.directory("secret_mount_path")?,
            events_enabled: read.flag("events_enabled")?.unwrap_or_default(),
            slow_spawn_message_threshold: read.period("slow_spawn_message_threshold")?,
            slow_spawn_message_frequency: read.period("slow_spawn_message_frequency")?,
            slow_spawn_message: read.template("slow_spawn_message", &["seconds"])?,
            delete_grace_period: read.whole("delete_grace_period")?,
            start_timeout: read.period("start_timeout")?,
            enable_user_namespaces: read.flag("enable_user_namespaces")?.unwrap_or_default(),
            user_namespace_labels: read.labels("user_namespace_labels")?,
            user_namespace_annotations: read.labels("user_namespace_annotations")?,
        })
    }

    /// Lowers guarantees to their limits, where the two come from different places: Kubernetes takes no pod with more.
    pub fn keep_guarantees_below_limits(&mut self) {
        if let (Some(limit), Some(guarantee)) = (self.cpu_limit, &mut self.cpu_guarantee) {
            *guarantee = guarantee.min(limit);
        }
        if let (Some(limit), Some(guarantee)) = (self.mem_limit, &mut self.mem_guarantee) {
            *guarantee = limit.min(*guarantee);
        }
        let amount = |name: &str, Quantity(text): &Quantity| quantity(name, &json!(text)).unwrap_or_default();
        for (name, guarantee) in &mut self.extra_resource_guarantees {
            if let Some(limit) = self.extra_resource_limits.get(name)
                && amount(name, limit) < amount(name, guarantee)
            {
                guarantee.clone_from(limit);
            }
        }
    }
}
