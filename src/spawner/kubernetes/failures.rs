//! What a pod's state says: whether its server runs, how it ended, and what keeps it from starting, as sentences for the
//! user. Pure.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};

use super::api::one_line;
use super::events::Line;
use super::manifest::NOTEBOOK;
use super::settings::FailAfter;
use super::view::Sighting;
use crate::model::Exit;
use crate::spawner::Status;

/// The kinds of failures. Some pass: each has its own patience.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Class {
    /// The image cannot be pulled.
    ImagePull,
    /// The name of the image is none.
    ImageName,
    /// Something that a container needs is missing or wrong.
    ConfigError,
    /// A container ends again and again.
    CrashLoop,
    /// A container took more memory than it may have.
    OutOfMemory,
    /// A container that prepares the server failed.
    InitContainer,
    /// The node put the pod out.
    Evicted,
    /// No node can take the pod.
    Unschedulable,
    /// A volume cannot be attached or mounted.
    Volume,
    /// The pod ended, or is being deleted by somebody.
    Over,
}

impl Class {
    /// How long a start goes on with it.
    #[must_use]
    pub const fn patience(self, fail_after: &FailAfter) -> Duration {
        match self {
            Self::ImagePull => fail_after.image_pull,
            Self::ImageName => fail_after.image_name,
            Self::ConfigError => fail_after.config_error,
            Self::CrashLoop => fail_after.crash_loop,
            Self::OutOfMemory => fail_after.out_of_memory,
            Self::InitContainer => fail_after.init_container,
            Self::Evicted => fail_after.evicted,
            Self::Unschedulable => fail_after.unschedulable,
            Self::Volume => fail_after.volume,
            Self::Over => Duration::ZERO,
        }
    }
}

/// What keeps a server from starting.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// Its kind.
    pub class: Class,
    /// What the user reads.
    pub sentence: String,
    /// The container whose log tells more.
    pub container: Option<String>,
}

/// What a user can do about most failures.
pub const TELL: &str = "Please tell the administrators of this system.";

/// What is wrong, the cluster's own words for it, and what the user can do.
#[must_use]
pub fn said_by_cluster(what: &str, said: &str, advice: &str) -> String {
    let said = if said.is_empty() { "the cluster gives no reason" } else { said };
    let stop = if said.ends_with(['.', '!', '?', '…']) { "" } else { "." };
    format!("{what}: {said}{stop} {advice}")
}

/// What is known of a server from its pod.
#[must_use]
pub fn status(pod: &Sighting) -> Status {
    let end = notebook(pod).and_then(end_of);
    // How the container ended is of no interest where the cluster ended the pod.
    if was_put_out(pod) {
        let code = end.map(|end| end.exit_code);
        return Status::Exited(Exit { code, reason: over(pod), early: false });
    }
    if let Some(end) = end {
        let (code, reason) = (Some(end.exit_code), ended("Your server", end));
        return Status::Exited(Exit { code, reason, early: false });
    }
    match &*pod.status.phase {
        "Succeeded" | "Failed" => Status::Exited(Exit { code: None, reason: over(pod), early: false }),
        "Running" => Status::Running,
        "Unknown" => Status::Unknown,
        _ => Status::Starting,
    }
}

/// Whether the cluster ended it, and says why: its node was out of memory, or is shut down.
fn was_put_out(pod: &Sighting) -> bool {
    pod.status.phase == "Failed" && pod.status.reason.as_ref().is_some_and(|reason| !reason.is_empty())
}

fn notebook(pod: &Sighting) -> Option<&ContainerStatus> {
    pod.status.container_statuses.iter().find(|container| container.name == NOTEBOOK)
}

/// The end of a container that does not run, if it ever ran.
fn end_of(container: &ContainerStatus) -> Option<&ContainerStateTerminated> {
    let state = container.state.as_ref()?;
    if state.terminated.is_some() {
        return state.terminated.as_ref();
    }
    let waiting = state.waiting.as_ref()?.reason.as_deref();
    container.last_state.as_ref()?.terminated.as_ref().filter(|_| waiting == Some("CrashLoopBackOff"))
}

/// Whether a container does not run now, but did.
#[must_use]
pub fn ran_before(pod: &Sighting, container: &str) -> bool {
    let statuses = pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses);
    statuses.filter(|status| status.name == container).any(|status| {
        let waits = status.state.as_ref().is_some_and(|state| state.waiting.is_some());
        waits && status.last_state.as_ref().is_some_and(|state| state.terminated.is_some())
    })
}

fn ended(what: &str, end: &ContainerStateTerminated) -> String {
    let code = end.exit_code;
    match end.reason.as_deref() {
        Some("OOMKilled") => format!("{what} was ended because it took more memory than it may have."),
        Some("ContainerCannotRun" | "StartError") => {
            let said = end.message.as_deref().map(one_line).unwrap_or_default();
            said_by_cluster(&format!("{what} could not be started"), &said, TELL)
        }
        _ if code == 137 => {
            format!(
                "{what} ended with exit code {code}: it was killed. A common cause is that there was not enough memory."
            )
        }
        _ => format!("{what} ended with exit code {code}."),
    }
}

/// Why a pod ended, where no container tells.
fn over(pod: &Sighting) -> String {
    let message = pod.status.message.as_deref().map(one_line).filter(|message| !message.is_empty());
    match (pod.status.reason.as_deref(), message) {
        (Some("Evicted"), Some(message)) => {
            let advice = "Please start it again, or tell the administrators of this system.";
            said_by_cluster("Your server was put out of its node by the cluster", &message, advice)
        }
        (Some("Evicted"), None) => "Your server was put out of its node by the cluster.".to_owned(),
        (_, Some(message)) => said_by_cluster("Your server was ended by the cluster", &message, TELL),
        (Some(reason), None) => format!("Your server was ended by the cluster ({}).", one_line(reason)),
        (None, None) => "Your server has ended, and the cluster does not tell how.".to_owned(),
    }
}

/// What keeps a pod from becoming ready, if it is more than time.
#[must_use]
pub fn problem(pod: &Sighting, events: &[Arc<Line>], autoscaler: bool) -> Option<Problem> {
    if pod.is_going() {
        let sentence = "Your server was removed from the cluster while it started.".to_owned();
        return Some(Problem { class: Class::Over, sentence, container: None });
    }
    if was_put_out(pod) {
        return of_pod(pod);
    }
    // Those of an earlier pod of its name do not count.
    let events: Vec<_> = events.iter().filter(|line| line.object.uid == pod.metadata.uid).collect();
    let inits = pod.status.init_container_statuses.iter().map(|container| (container, true));
    let containers = pod.status.container_statuses.iter().map(|container| (container, false));
    let found = inits.chain(containers).find_map(|(container, init)| of_container(container, init, &events));
    found
        .or_else(|| of_pod(pod))
        .or_else(|| unschedulable(pod).filter(|problem| !autoscaler || problem.class != Class::Unschedulable))
        .or_else(|| volume(pod, &events))
}

fn of_container(container: &ContainerStatus, init: bool, events: &[&Arc<Line>]) -> Option<Problem> {
    let found = |class, sentence| Some(Problem { class, sentence, container: Some(container.name.clone()) });
    let waiting = container.state.as_ref().and_then(|state| state.waiting.as_ref());
    let said = waiting.and_then(|waiting| waiting.message.as_deref()).map(one_line).unwrap_or_default();
    let image = one_line(&container.image);
    match waiting.and_then(|waiting| waiting.reason.as_deref()).unwrap_or_default() {
        "InvalidImageName" => {
            return found(Class::ImageName, format!("\"{image}\" is no name of an image. Please choose another one."));
        }
        "ErrImagePull"
        | "ImagePullBackOff"
        | "ErrImageNeverPull"
        | "RegistryUnavailable"
        | "ImageInspectError"
        | "SignatureValidationFailed" => {
            // "Back-off pulling image" is not why.
            let failed =
                events.iter().rev().find(|line| line.reason == "Failed" && line.message.contains(&container.image));
            let cause = failed.map_or(said, |line| one_line(&line.message));
            let what = format!("The image \"{image}\" cannot be pulled");
            let advice = "Please choose another image or tell the administrators of this system.";
            return found(Class::ImagePull, said_by_cluster(&what, &cause, advice));
        }
        "CreateContainerConfigError"
        | "CreateContainerError"
        | "RunContainerError"
        | "PostStartHookError"
        | "PreCreateHookError"
        | "PreStartHookError" => {
            let what = format!("The container \"{}\" cannot be started", container.name);
            return found(Class::ConfigError, said_by_cluster(&what, &said, TELL));
        }
        _ => {}
    }
    let end = end_of(container).or_else(|| {
        // It runs again, but has not become ready since.
        container.last_state.as_ref()?.terminated.as_ref().filter(|_| !container.ready)
    })?;
    let what = match (init, &*container.name) {
        (true, name) => format!("The preparation \"{name}\" of your server"),
        (false, NOTEBOOK) => "Your server".to_owned(),
        (false, name) => format!("The container \"{name}\" of your server"),
    };
    let class = match (init, end.reason.as_deref()) {
        (true, _) if end.exit_code == 0 => return None,
        (_, Some("OOMKilled")) => Class::OutOfMemory,
        (true, _) => Class::InitContainer,
        (false, _) => Class::CrashLoop,
    };
    found(class, ended(&what, end))
}

fn of_pod(pod: &Sighting) -> Option<Problem> {
    let class = match (&*pod.status.phase, pod.status.reason.as_deref()) {
        ("Failed" | "Succeeded", Some("Evicted" | "Preempting" | "NodeShutdown" | "Terminated")) => Class::Evicted,
        ("Failed" | "Succeeded", _) => Class::Over,
        _ => return None,
    };
    Some(Problem { class, sentence: over(pod), container: None })
}

fn unschedulable(pod: &Sighting) -> Option<Problem> {
    let condition = pod.status.conditions.iter().find(|condition| condition.type_ == "PodScheduled")?;
    if condition.status != "False" || condition.reason.as_deref() != Some("Unschedulable") {
        return None;
    }
    let message = condition.message.as_deref().map(one_line).unwrap_or_default();
    let mut scarce: Vec<&str> = message
        .split("Insufficient ")
        .skip(1)
        .filter_map(|rest| rest.split([',', ' ', ';']).next().map(|word| word.trim_end_matches('.')))
        .map(|resource| match resource {
            "cpu" => "processors",
            "memory" => "memory",
            resource if resource.contains("gpu") => "GPUs",
            resource => resource,
        })
        .collect();
    scarce.sort_unstable();
    scarce.dedup();
    let (class, sentence) = if !scarce.is_empty() {
        let what = format!("There is not enough free for your server just now ({})", scarce.join(", "));
        (Class::Unschedulable, said_by_cluster(&what, &message, "Please ask for less, or try again later."))
    } else if message.to_ascii_lowercase().contains("persistentvolumeclaim") {
        (Class::Volume, said_by_cluster("The storage of your server is not ready yet", &message, TELL))
    } else {
        (Class::Unschedulable, said_by_cluster("No node of the cluster can take your server", &message, TELL))
    };
    Some(Problem { class, sentence, container: None })
}

fn volume(pod: &Sighting, events: &[&Arc<Line>]) -> Option<Problem> {
    let runs = |container: &ContainerStatus| container.state.as_ref().is_some_and(|state| state.running.is_some());
    if pod.status.init_container_statuses.iter().chain(&pod.status.container_statuses).any(runs) {
        return None;
    }
    // What comes after the volumes tells that they came after all.
    let failed = |line: &Line| match &*line.reason {
        "FailedMount" | "FailedAttachVolume" | "FailedMapVolume" => Some(true),
        "SuccessfulAttachVolume" | "Pulling" | "Pulled" | "Created" | "Started" => Some(false),
        _ => None,
    };
    let (line, _) = events.iter().rev().find_map(|line| Some((line, failed(line)?))).filter(|(_, failed)| *failed)?;
    let sentence = said_by_cluster("A volume of your server cannot be used", &one_line(&line.message), TELL);
    Some(Problem { class: Class::Volume, sentence, container: None })
}

#[cfg(test)]
mod tests;
