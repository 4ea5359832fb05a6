//! Pods that come to nothing: their users read why.

use std::time::{Duration, Instant};

use outpost::spawner::Status;
use rstest::rstest;

use super::{Site, launch};
use crate::support::eventually;
use crate::support::kube::Step;
use crate::support::kube::kubelet::{starts, waits};

const HASTY: &str = "services_enabled = true\n\
    fail_after = { image_pull = 0, config_error = 0, crash_loop = 0, unschedulable = 0, init_container = 0 }\n\
    init_containers = [{ name = 'first', image = 'busybox' }]\n";

#[rstest]
#[case::image(waits("ErrImagePull", "manifest for notebook not found"), &["image", "notebook"])]
#[case::image_again(waits("ImagePullBackOff", "Back-off pulling image \"notebook\""), &["image", "notebook"])]
#[case::image_name(waits("InvalidImageName", "couldn't parse image reference"), &["image"])]
#[case::configuration(waits("CreateContainerConfigError", "secret \"nowhere\" not found"), &["secret \"nowhere\" not found"])]
#[case::unschedulable(vec![Step::Unschedulable("0/3 nodes are available: 3 Insufficient nvidia.com/gpu.")], &["GPU"])]
#[case::unschedulable_memory(vec![Step::Unschedulable("0/3 nodes are available: 3 Insufficient memory.")], &["memory"])]
#[case::init(vec![Step::Bind, Step::InitEnds { code: 3 }], &["first", "3"])]
#[case::memory(vec![Step::Bind, Step::Ends { code: 137, reason: "OOMKilled" }], &["memory"])]
#[case::crash(vec![Step::Bind, Step::Says("no such module"), Step::Ends { code: 1, reason: "Error" }], &["1"])]
#[case::evicted(vec![Step::Bind, Step::Evicted("The node was low on resource: ephemeral-storage.")], &["ephemeral-storage"])]
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_cannot_succeed_fails_at_once_with_a_reason(#[case] steps: Vec<Step>, #[case] words: &[&str]) {
    let Some(site) = Site::scripted(HASTY, move |_| steps.clone()).await else { return };
    let launch = launch("ada", "");
    let begun = Instant::now();
    let message = site.failure(&launch).await;
    assert!(words.iter().all(|word| message.contains(word)), "{message}");
    assert!(begun.elapsed() < Duration::from_secs(50), "it was waited for in vain");
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[rstest]
#[case::soon_enough("30s", true)]
#[case::too_late("1s", false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_passes_is_waited_out(#[case] patience: &str, #[case] succeeds: bool) {
    let fails = waits("ErrImagePull", "the registry is busy");
    let passes = if succeeds { vec![Step::Pause(Duration::from_millis(500))] } else { vec![Step::Hold] };
    let steps = [fails, passes, starts().split_off(1)].concat();
    let settings = format!("fail_after = {{ image_pull = '{patience}' }}");
    let Some(site) = Site::scripted(&settings, move |_| steps.clone()).await else { return };
    let launch = launch("ada", "");
    if succeeds {
        site.start(&launch).await.unwrap();
    } else {
        assert!(site.failure(&launch).await.contains("the registry is busy"));
    }
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_reported_with_its_code_and_its_reason() {
    let ends = || [starts(), vec![Step::Hold, Step::Ends { code: 137, reason: "OOMKilled" }]].concat();
    let Some(site) = Site::scripted("", move |_| ends()).await else { return };
    let launch = launch("ada", "");
    let (started, told) = site.told(&launch).await;
    started.unwrap();
    let told: Vec<&str> = told.iter().map(|event| event.message.as_str()).collect();
    assert!(told.iter().any(|message| message.contains("Pulling") || message.contains("pulled")), "{told:?}");
    assert!(told.windows(2).all(|two| two[0] != two[1]), "{told:?}");
    site.kubelet.go_on();
    let exit = eventually("it has ended", || async {
        match site.status(&launch).await {
            Status::Exited(exit) => Some(exit),
            _ => None,
        }
    })
    .await;
    assert_eq!(exit.code, Some(137));
    assert!(exit.reason.contains("memory"), "{exit:?}");
    site.stop(&launch).await;
    site.assert_is_empty().await;
}
