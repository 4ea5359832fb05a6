use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::spawner::kubernetes::events::Object;

fn pod(status: Value) -> Sighting {
    let spec = json!({"containers": [{"name": "notebook"}]});
    serde_json::from_value(json!({"metadata": {"uid": "1"}, "spec": spec, "status": status})).unwrap()
}

fn container(name: &str, state: Value, last: Value) -> Value {
    json!({
        "name": name, "image": "x:1", "imageID": "", "ready": false, "restartCount": 0, "state": state, "lastState": last,
    })
}

fn notebook(state: Value) -> Sighting {
    pod(json!({"phase": "Running", "containerStatuses": [container(NOTEBOOK, state, json!({}))]}))
}

fn waiting(reason: &str, message: &str) -> Value {
    json!({"waiting": {"reason": reason, "message": message}})
}

fn terminated(code: i32, reason: &str) -> Value {
    json!({"terminated": {"exitCode": code, "reason": reason}})
}

#[rstest]
#[case(json!({"phase": "Pending"}), Status::Starting)]
#[case(json!({"phase": "Running"}), Status::Running)]
#[case(json!({"phase": "Unknown"}), Status::Unknown)]
#[case(json!({}), Status::Starting)]
fn phases_are_states(#[case] status: Value, #[case] expected: Status) {
    assert_eq!(super::status(&pod(status)), expected);
}

#[rstest]
#[case(terminated(0, "Completed"), Some(0), "Your server ended with exit code 0.")]
#[case(terminated(3, "Error"), Some(3), "Your server ended with exit code 3.")]
#[case(terminated(137, "OOMKilled"), Some(137), "Your server was ended because it took more memory than it may have.")]
#[case(
    terminated(137, "Error"),
    Some(137),
    "Your server ended with exit code 137: it was killed. A common cause is that there was not enough memory."
)]
fn ends_have_sentences(#[case] state: Value, #[case] code: Option<i32>, #[case] reason: &str) {
    assert_eq!(status(&notebook(state)), Status::Exited(Exit { code, reason: reason.to_owned(), early: false }));
}

#[test]
fn a_server_that_waits_to_crash_again_has_ended() {
    let crashed = container(NOTEBOOK, waiting("CrashLoopBackOff", "back-off"), terminated(1, "Error"));
    let pod = pod(json!({"phase": "Running", "containerStatuses": [crashed]}));
    assert!(matches!(status(&pod), Status::Exited(Exit { code: Some(1), .. })));
    assert!(ran_before(&pod, NOTEBOOK) && !ran_before(&pod, "other"));
}

#[rstest]
#[case(json!([]), None)]
#[case(json!([container(NOTEBOOK, terminated(137, "Error"), json!({}))]), Some(137))]
fn an_eviction_is_an_end(#[case] containers: Value, #[case] code: Option<i32>) {
    let message = "The node was low on memory.";
    let pod = pod(json!({"phase": "Failed", "reason": "Evicted", "message": message, "containerStatuses": containers}));
    let reason = "Your server was put out of its node by the cluster: The node was low on memory. \
        Please start it again, or tell the administrators of this system.";
    assert_eq!(status(&pod), Status::Exited(Exit { code, reason: reason.to_owned(), early: false }));
    assert_eq!(problem(&pod, &[], false).unwrap().class, Class::Evicted);
}

#[rstest]
#[case(waiting("ContainerCreating", ""), None)]
#[case(waiting("PodInitializing", ""), None)]
#[case(json!({"running": {}}), None)]
#[case(waiting("ErrImagePull", "no such host"), Some((Class::ImagePull, "The image \"x:1\" cannot be pulled: no such host. \
    Please choose another image or tell the administrators of this system.")))]
#[case(waiting("ImagePullBackOff", ""), Some((Class::ImagePull, "The image \"x:1\" cannot be pulled: the cluster gives no \
    reason. Please choose another image or tell the administrators of this system.")))]
#[case(waiting("InvalidImageName", ""),
    Some((Class::ImageName, "\"x:1\" is no name of an image. Please choose another one.")))]
#[case(waiting("CreateContainerConfigError", "secret \"a\" not found"),
    Some((Class::ConfigError, "The container \"notebook\" cannot be started: secret \"a\" not found. \
    Please tell the administrators of this system.")))]
#[case(terminated(1, "Error"), Some((Class::CrashLoop, "Your server ended with exit code 1.")))]
#[case(terminated(137, "OOMKilled"),
    Some((Class::OutOfMemory, "Your server was ended because it took more memory than it may have.")))]
#[case(json!({"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec: \"x\": not found"}}),
    Some((Class::CrashLoop, "Your server could not be started: exec: \"x\": not found. \
    Please tell the administrators of this system.")))]
fn problems_have_sentences(#[case] state: Value, #[case] expected: Option<(Class, &str)>) {
    let found = problem(&notebook(state), &[], false);
    assert_eq!(found.as_ref().map(|found| (found.class, &*found.sentence)), expected);
}

#[test]
fn why_an_image_cannot_be_pulled_is_in_an_event() {
    let object = Object { uid: "1".to_owned(), ..Object::default() };
    let line = Line {
        object,
        reason: "Failed".to_owned(),
        message: "Failed to pull image \"x:1\": manifest unknown".to_owned(),
        ..Line::default()
    };
    let found = problem(&notebook(waiting("ImagePullBackOff", "Back-off")), &[Arc::new(line)], false).unwrap();
    assert!(found.sentence.contains("manifest unknown. Please"), "{}", found.sentence);
}

#[test]
fn preparations_fail_by_name() {
    for (state, class) in [
        (terminated(0, "Completed"), None),
        (terminated(2, "Error"), Some(Class::InitContainer)),
        (terminated(137, "OOMKilled"), Some(Class::OutOfMemory)),
        (waiting("ErrImagePull", ""), Some(Class::ImagePull)),
    ] {
        let pod = pod(json!({"phase": "Pending", "initContainerStatuses": [container("first", state, json!({}))]}));
        let found = problem(&pod, &[], false);
        assert_eq!(found.as_ref().map(|found| found.class), class);
        if let Some(Problem { class: Class::InitContainer, sentence, container }) = found {
            assert_eq!(sentence, "The preparation \"first\" of your server ended with exit code 2.");
            assert_eq!(container.as_deref(), Some("first"));
        }
    }
}

#[rstest]
#[case(
    "0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory.",
    "There is not enough free for your server just now (memory, processors): 0/3 nodes are available: 1 Insufficient cpu, 2 Insufficient memory. Please ask for less, or try again later."
)]
#[case(
    "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.",
    "There is not enough free for your server just now (GPUs): 0/1 nodes are available: 1 Insufficient nvidia.com/gpu. Please ask for less, or try again later."
)]
#[case(
    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.",
    "No node of the cluster can take your server: 0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector. Please tell the administrators of this system."
)]
fn what_fits_nowhere_is_told(#[case] message: &str, #[case] sentence: &str) {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    let pod = pod(json!({"phase": "Pending", "conditions": [condition]}));
    let found = problem(&pod, &[], false).unwrap();
    assert_eq!((found.class, &*found.sentence), (Class::Unschedulable, sentence));
    assert_eq!(problem(&pod, &[], true), None, "a node may come");
}

#[rstest]
#[case(
    "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1 nodes are available."
)]
#[case("0/1 nodes are available: persistentvolumeclaim \"claim-ada\" not found.")]
fn storage_that_is_not_there_yet_is_no_lack_of_nodes(#[case] message: &str, #[values(false, true)] autoscaler: bool) {
    let condition = json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message});
    let pod = pod(json!({"phase": "Pending", "conditions": [condition]}));
    let sentence = format!(
        "The storage of your server is not ready yet: {message} Please tell the administrators of this system."
    );
    assert_eq!(problem(&pod, &[], autoscaler), Some(Problem { class: Class::Volume, sentence, container: None }));
}

#[test]
fn volumes_fail_as_long_as_nothing_runs() {
    let line = |reason: &str| {
        let mut line = Line { reason: reason.to_owned(), message: "timed out".to_owned(), ..Line::default() };
        line.object.uid = "1".to_owned();
        Arc::new(line)
    };
    let mut events = vec![line("SuccessfulAttachVolume"), line("FailedMount"), line("TaintManagerEviction")];
    let found = problem(&notebook(waiting("ContainerCreating", "")), &events, false).unwrap();
    assert_eq!(
        (found.class, &*found.sentence),
        (
            Class::Volume,
            "A volume of your server cannot be used: timed out. \
        Please tell the administrators of this system."
        )
    );
    assert_eq!(problem(&notebook(json!({"running": {}})), &events, false), None);
    for later in ["SuccessfulAttachVolume", "Pulling", "Pulled", "Created", "Started"] {
        events.push(line(later));
        assert_eq!(problem(&notebook(waiting("ContainerCreating", "")), &events, false), None, "{later}");
        events.pop();
    }
}
