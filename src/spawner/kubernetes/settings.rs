//! `[spawners.<name>]` with `type = "kubernetes"`: KubeSpawner's options under their names, and our own keys.

mod shared;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _};
use serde_json::{Map, Value};

use super::names::slugs::is_dns_label;
use super::objects::{self, ObjectKind};
use super::options::{self, Options};
use super::patch::PodPatch;
use super::profiles::Profiles;
use super::{merge, plan, sample};
use crate::error::Error;
use crate::model::{Names, quantity};
use crate::spawner::{Choice, Offer, StartResponse};

/// `type = "kubernetes"`: how servers are started as pods.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(remote = "Self", default, deny_unknown_fields)]
pub struct Settings {
    /// KubeSpawner's options, those that are not written with their defaults.
    #[serde(skip)]
    pub options: Map<String, Value>,
    /// The namespace that Outpost itself runs in.
    #[serde(skip)]
    pub own_namespace: String,
    /// The file that says how the cluster is reached; default: as `kubectl` finds it, or the pod's own service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context in that file; default: its current one.
    pub context: Option<String>,
    /// Namespaces that servers may be in besides that of the option `namespace`.
    pub namespaces: Vec<String>,
    /// The most requests to the API server a second.
    pub api_rate: u32,
    /// The most requests to the API server at once, after a pause.
    pub api_burst: u32,
    /// How long one request to the API server may take.
    #[serde(deserialize_with = "seconds")]
    pub api_timeout: Duration,
    /// How long a stop may take, before the pod is removed by force.
    #[serde(deserialize_with = "seconds")]
    pub stop_timeout: Duration,
    /// Whether the pod of a server that ended by itself is removed some time later.
    pub delete_stopped_pods: bool,
    /// How long what is known about pods counts without a sign of life of the API server.
    #[serde(deserialize_with = "seconds")]
    pub stale_after: Duration,
    /// How long a start goes on after each kind of failure.
    pub fail_after: FailAfter,
    /// Whether nodes are added when pods wait for them: then what cannot be scheduled is waited for.
    pub autoscaler: bool,
    /// What happens before the start of a pod that fits on no node.
    pub capacity_check: CapacityCheck,
    /// After which time without a server a volume claim is deleted.
    #[serde(deserialize_with = "optional_seconds")]
    pub storage_retention: Option<Duration>,
    /// The hub whose users' claims from before, which are not labelled, are taken over.
    pub adopt_claims_of: Option<String>,
    /// The variables whose values are kept in a secret, by their names. URLs with a user or a password are kept there, too.
    pub secret_environment: Names,
    /// The kinds of objects that `pre_start` and `post_stop` may have.
    pub object_kinds: Vec<ObjectKind>,
    /// What is changed about pods beyond all options.
    pub pod_patch: PodPatch,
    /// Objects that are there before the pod, and are removed after it.
    pub pre_start: Vec<Map<String, Value>>,
    /// Objects that are applied after the pod.
    pub post_stop: Vec<Map<String, Value>>,
    /// What users can choose from.
    pub profile_list: Profiles,
    /// What the hub is told: `host:port`, or nothing while that is not known.
    pub start_response: StartResponse,
}

/// How long a start goes on after a failure of each kind, since some pass.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct FailAfter {
    /// The image cannot be pulled.
    #[serde(deserialize_with = "seconds")]
    pub image_pull: Duration,
    /// The name of the image is none.
    #[serde(deserialize_with = "seconds")]
    pub image_name: Duration,
    /// Something that a container needs is missing or wrong: a secret, a configuration map, a user.
    #[serde(deserialize_with = "seconds")]
    pub config_error: Duration,
    /// A container ends again and again.
    #[serde(deserialize_with = "seconds")]
    pub crash_loop: Duration,
    /// The server took more memory than it may have.
    #[serde(deserialize_with = "seconds")]
    pub out_of_memory: Duration,
    /// A container that prepares the server failed.
    #[serde(deserialize_with = "seconds")]
    pub init_container: Duration,
    /// The node put the pod out.
    #[serde(deserialize_with = "seconds")]
    pub evicted: Duration,
    /// No node can take the pod.
    #[serde(deserialize_with = "seconds")]
    pub unschedulable: Duration,
    /// A volume cannot be attached or mounted.
    #[serde(deserialize_with = "seconds")]
    pub volume: Duration,
}

impl Default for FailAfter {
    fn default() -> Self {
        Self {
            image_pull: Duration::from_secs(60),
            image_name: Duration::ZERO,
            config_error: Duration::from_secs(15),
            crash_loop: Duration::ZERO,
            out_of_memory: Duration::ZERO,
            init_container: Duration::ZERO,
            evicted: Duration::ZERO,
            unschedulable: Duration::from_secs(10),
            volume: Duration::from_secs(120),
        }
    }
}

/// What happens before the start of a pod that fits on no node as they are.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum CapacityCheck {
    /// Nobody looks.
    #[default]
    Off,
    /// The user is told, and the pod is created.
    Warn,
    /// The start is refused.
    Fail,
}

impl Default for Settings {
    fn default() -> Self {
        let sound = "a default is sound";
        Self {
            options: options::defaults(),
            own_namespace: own_namespace(),
            kubeconfig: None,
            context: None,
            namespaces: Vec::new(),
            api_rate: 50,
            api_burst: 100,
            api_timeout: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(60),
            delete_stopped_pods: true,
            stale_after: Duration::from_secs(60),
            fail_after: FailAfter::default(),
            autoscaler: false,
            capacity_check: CapacityCheck::Off,
            storage_retention: None,
            adopt_claims_of: None,
            secret_environment: Names::parse([
                "*TOKEN*",
                "*SECRET*",
                "*PASS*",
                "*PWD*",
                "*CREDENTIAL*",
                "*_KEY",
                "*APIKEY*",
                "*AUTH*",
            ])
            .expect(sound),
            object_kinds: Vec::new(),
            pod_patch: PodPatch::default(),
            pre_start: Vec::new(),
            post_stop: Vec::new(),
            profile_list: Profiles::default(),
            start_response: StartResponse::parse("{host}:{port}").expect(sound),
        }
    }
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let written = Map::<String, Value>::deserialize(deserializer)?;
        if let Some((key, instead)) = INSTEAD.iter().find(|(key, _)| written.contains_key(*key)) {
            return Err(D::Error::custom(format!("`{key}` does not exist here: {instead}")));
        }
        let (options, own): (Map<_, _>, Map<_, _>) = written.into_iter().partition(|(key, _)| options::is_option(key));
        let mut path = serde_path_to_error::Track::new();
        let own = Value::Object(own);
        let mut settings =
            Self::deserialize(serde_path_to_error::Deserializer::new(own, &mut path)).map_err(|error| {
                let (path, why) = (path.path().to_string(), error.to_string());
                D::Error::custom(if !why.starts_with("unknown field") || path.contains(['.', '[']) {
                    format!("`{path}`: {why}")
                } else {
                    let options: Vec<_> = options::all().map(|option| format!("`{option}`")).collect();
                    format!("{why}, or one of the options {}", options.join(", "))
                })
            })?;
        settings.options.extend(options);
        Ok(settings)
    }
}

/// What KubeSpawner has and Outpost has in another way.
pub const INSTEAD: [(&str, &str); 15] = [
    ("after_pod_created_hook", "use `pre_start` or `pod_patch`"),
    ("delete_pvc", "Outpost is not told of users who are deleted; use `storage_retention`"),
    ("get_pod_url", "use `pod_connect_ip` or `start_response`"),
    ("handle_legacy_names", "write `pvc_name_template` so that it gives the names that there are"),
    ("internal_ssl", "each JupyterHub says whether it has it"),
    ("k8s_api_host", "write it into the file of `kubeconfig`"),
    ("k8s_api_request_retry_timeout", "requests are tried again until `start_timeout` or `stop_timeout`"),
    ("k8s_api_request_timeout", "use `api_timeout`"),
    ("k8s_api_ssl_ca_cert", "write it into the file of `kubeconfig`"),
    ("k8s_api_verify_ssl", "write it into the file of `kubeconfig`"),
    ("modify_pod_hook", "use `pod_patch`"),
    ("post_stop_hook", "use `post_stop`"),
    ("pre_spawn_hook", "use `pre_start` or `pod_patch`"),
    ("profile_form_template", "the form is the JupyterHub's"),
    ("remember_pvc_name", "the name of a claim is what `pvc_name_template` gives"),
];

impl Settings {
    /// Checks what no single key can know: all options, and those of all profiles, with a sample of a launch.
    ///
    /// # Errors
    /// A sentence that begins with the key.
    pub fn check(&self) -> Result<(), String> {
        let rule = |holds: bool, sentence: &str| if holds { Ok(()) } else { Err(sentence.to_owned()) };
        rule(self.api_rate > 0 && self.api_burst > 0, "`api_rate` and `api_burst` have to be 1 or more")?;
        rule(!self.api_timeout.is_zero(), "`api_timeout` must not be 0s")?;
        rule(!self.stop_timeout.is_zero(), "`stop_timeout` must not be 0s")?;
        rule(self.stale_after >= Duration::from_secs(1), "`stale_after` has to be 1s or more")?;
        let day = Duration::from_secs(24 * 3600);
        rule(self.storage_retention.is_none_or(|time| time >= day), "`storage_retention` has to be 1 day or more")?;
        rule(
            !(self.autoscaler && self.capacity_check == CapacityCheck::Fail),
            "`capacity_check` cannot be \"fail\" with an `autoscaler`, which makes room for what does not fit",
        )?;
        rule(self.namespaces.iter().all(|name| is_dns_label(name)), "`namespaces` has to be names of namespaces")?;
        for (key, list) in [("pre_start", &self.pre_start), ("post_stop", &self.post_stop)] {
            for (at, object) in list.iter().enumerate() {
                objects::check(object, &self.object_kinds).map_err(|why| format!("`{key}[{at}]`: {why}"))?;
            }
        }
        let options = Options::read(&self.options).map_err(|mistake| mistake.to_string())?;
        rule(options.start_timeout >= Duration::from_secs(1), "`start_timeout` has to be 1s or more")?;
        for (limit, guarantee) in [("cpu_limit", "cpu_guarantee"), ("mem_limit", "mem_guarantee")] {
            let amount = |key: &str| quantity(key, self.options.get(key)?).ok();
            let sound = amount(limit).zip(amount(guarantee)).is_none_or(|(limit, guarantee)| guarantee <= limit);
            rule(sound, &format!("`{guarantee}` must not be above `{limit}`"))?;
        }
        let trials: Vec<_> = self.profile_list.all().collect();
        for server in ["", "lab"] {
            let launch = sample::launch("hub", "user", server);
            plan::try_with(self, &launch, &[]).map_err(|error| told(&error))?;
            for (place, overrides) in &trials {
                plan::try_with(self, &launch, overrides).map_err(|error| format!("{place}: {}", told(&error)))?;
            }
        }
        Ok(())
    }

    /// The namespaces that servers can be in. `None`: any, since each user has one.
    #[must_use]
    pub fn all_namespaces(&self) -> Option<BTreeSet<String>> {
        let of_users = |options: &Map<String, Value>| options.get("enable_user_namespaces") == Some(&Value::Bool(true));
        let with_own = of_users(&self.options) || self.overrides().any(|options| of_users(&options));
        (!with_own).then(|| self.site_namespaces())
    }

    /// The namespaces that servers can be in, but for those of one user each.
    #[must_use]
    pub fn site_namespaces(&self) -> BTreeSet<String> {
        let namespace =
            |options: &Map<String, Value>| options.get("namespace").and_then(Value::as_str).map(str::to_owned);
        let own = namespace(&self.options).unwrap_or_else(|| self.own_namespace.clone());
        let of_profiles = self.overrides().filter_map(|options| namespace(&options));
        self.namespaces.iter().cloned().chain([own]).chain(of_profiles).collect()
    }

    /// The options of all profiles and choices.
    fn overrides(&self) -> impl Iterator<Item = Map<String, Value>> {
        self.profile_list.all().flat_map(|(_, overrides)| overrides)
    }

    /// The profile of a request, and the site's resource options with those of the profile.
    ///
    /// # Errors
    /// A sentence for the user: what was chosen cannot be had.
    pub fn offer(&self, choice: &Choice<'_>) -> Result<Offer, String> {
        let profile = self.profile_list.profile(choice)?.map(|profile| profile.slug.clone());
        Ok(Offer { resources: merge::resources(self, choice)?, profile })
    }
}

/// What an administrator reads: no advice for users.
fn told(error: &Error) -> String {
    let sentence = error.cause().map_or_else(|| error.to_string(), str::to_owned);
    sentence
        .strip_suffix(merge::ADVICE)
        .map_or_else(|| sentence.clone(), |mistake| mistake.trim_end_matches(['.', ' ']).to_owned())
}

/// Where a pod reads which namespace it is in.
const OWN_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

fn own_namespace() -> String {
    let namespace = std::fs::read_to_string(OWN_NAMESPACE).unwrap_or_default();
    if namespace.trim().is_empty() { "default".to_owned() } else { namespace.trim().to_owned() }
}

/// A period: a text with a unit (`"60s"`), or a number of seconds as in KubeSpawner.
fn seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let value = Value::deserialize(deserializer)?;
    options::period(&value).ok_or_else(|| D::Error::custom("expected a period like \"60s\" or a number of seconds"))
}

fn optional_seconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    seconds(deserializer).map(Some)
}

#[cfg(test)]
mod tests;
