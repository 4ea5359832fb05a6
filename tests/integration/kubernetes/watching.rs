//! What Outpost knows of its pods, when the API server goes away or forgets.

use futures_util::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, WatchEvent, WatchParams};
use outpost::spawner::Status;

use super::{Site, launch};
use crate::support::eventually;
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Step};

async fn until(site: &Site, launch: &outpost::model::Launch, what: &str, is: impl Fn(&Status) -> bool) {
    eventually(what, || async { is(&site.status(launch).await).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_was_away_and_forgot_is_followed_again() {
    let Some(cluster) = Cluster::own(&["--watch-cache=false"]).await else { return };
    let ends = || [starts(), vec![Step::Hold, Step::Ends { code: 7, reason: "Error" }]].concat();
    let settings = "stale_after = '1s'\nstart_timeout = 10\nstop_timeout = '3s'\nservices_enabled = true\n";
    let site = Site::on(&cluster, settings, move |_| ends()).await;
    let [one, two, three] = ["one", "two", "three"].map(|user| launch(user, ""));
    for launch in [&one, &two] {
        site.start(launch).await.unwrap();
    }

    // While nobody answers, nothing is known, and nothing is taken for ended.
    cluster.kill_server();
    until(&site, &one, "nothing is known", |status| *status == Status::Unknown).await;
    assert!(site.spawner().trouble().is_some());
    assert!(site.start(&three).await.is_err());
    assert!(site.spawner().stop(&three.uid, &site.prepared(&three)).await.is_err());
    assert!(cluster.start_server().await);
    until(&site, &one, "it runs, as is known again", |status| *status == Status::Running).await;
    site.sees().await;
    site.stop(&three).await;

    // What happened meanwhile is found, though the history of it is no more.
    cluster.kill_server();
    assert!(cluster.start_server().await);
    let (pods, pod) = (site.api::<Pod>(), site.pod_of(&two.uid).await.unwrap());
    pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
    cluster.compact().await;
    let old = pods.watch(&WatchParams::default(), &pod.resource_version().unwrap()).await;
    let said = std::pin::pin!(old.unwrap()).next().await.unwrap();
    assert!(matches!(&said, Ok(WatchEvent::Error(status)) if status.code == 410), "{said:?}");
    until(&site, &two, "it is gone", |status| *status == Status::Absent).await;
    cluster.compact().await;
    site.kubelet.go_on();
    until(&site, &one, "it has ended", |status| matches!(status, Status::Exited(exit) if exit.code == Some(7))).await;
    // The kubelet takes its time to come back.
    eventually("a server starts", || async { site.start(&three).await.ok() }).await;
    for launch in [&one, &two, &three] {
        site.stop(launch).await;
    }
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_somebody_deletes_is_noticed() {
    let Some(site) = Site::new("").await else { return };
    let launch = launch("ada", "");
    site.start(&launch).await.unwrap();
    let pod = site.pod_of(&launch.uid).await.unwrap().name_any();
    site.api::<Pod>().delete(&pod, &DeleteParams::default()).await.unwrap();
    until(&site, &launch, "it is gone", |status| *status == Status::Absent).await;
    assert!(site.spawner().list().await.unwrap().is_empty());
    site.stop(&launch).await;
    site.assert_is_empty().await;
}
