//! What is in the way: names that others have, and limits of the namespace.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use outpost::model::{Handle, Launch};
use outpost::spawner::{Progress, SpawnerSettings, Status};
use rstest::rstest;
use serde_json::{Value, json};

use super::{Site, launch};
use crate::support::eventually;
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Step, create};

const NAMED: &str = "pod_name_template = 'pod-{username}'\nsecret_name_template = 'secret-{username}'\n\
    pvc_name_template = 'claim-{username}'\nservices_enabled = true\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_belongs_to_others_is_in_the_way_and_stays() {
    let Some(site) = Site::new(NAMED).await else { return };
    let container = json!([{"name": "c", "image": "image"}]);
    let pod = json!({"metadata": {"name": "pod-ada"}, "spec": {"containers": container}});
    create::<Pod>(site.api(), pod).await;
    create::<Secret>(site.api(), json!({"metadata": {"name": "secret-bob"}})).await;
    create::<Service>(site.api(), json!({"metadata": {"name": "pod-carol"}, "spec": {"ports": [{"port": 1}]}})).await;
    for (user, name) in [("ada", "pod-ada"), ("bob", "secret-bob"), ("carol", "pod-carol")] {
        let launch = launch(user, "");
        let message = site.failure(&launch).await;
        assert!(message.contains(name), "{message}");
        site.stop(&launch).await;
    }
    assert_eq!(site.names::<Pod>().await, ["pod-ada"]);
    assert_eq!(site.names::<Secret>().await, ["secret-bob"]);
    assert_eq!(site.names::<Service>().await, ["pod-carol"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_server_gives_way_whether_or_not_it_runs() {
    let settings = format!("{NAMED}start_timeout = 10\n");
    let ends = || [starts(), vec![Step::Hold, Step::Ends { code: 1, reason: "Error" }]].concat();
    let Some(site) = Site::scripted(&settings, move |_| ends()).await else { return };
    let mut launches = [(); 3].map(|()| launch("ada", "lab"));
    // Who came first is told by the identifiers.
    launches.sort_by(|one, other| one.uid.cmp(&other.uid));
    let [first, second, third] = launches;
    site.start(&first).await.unwrap();
    site.start(&second).await.unwrap();
    is_alone(&site, &second).await;
    let message = site.failure(&first).await;
    assert!(message.contains("was started once more"), "{message}");
    is_alone(&site, &second).await;

    site.kubelet.go_on();
    let ended = || async { matches!(site.status(&second).await, Status::Exited(_)).then_some(()) };
    eventually("it has ended", ended).await;
    site.start(&third).await.unwrap();
    // The others' stops come late: they find nothing of their own.
    for launch in [&first, &second] {
        site.stop(launch).await;
        assert_eq!(site.status(launch).await, Status::Absent);
    }
    is_alone(&site, &third).await;
    site.stop(&third).await;
    site.assert_is_empty().await;
}

/// It runs, and what has its user's names is its own.
async fn is_alone(site: &Site, launch: &Launch) {
    assert_eq!(site.status(launch).await, Status::Running);
    let pod = site.pod_of(&launch.uid).await.unwrap();
    for owners in [
        site.api::<Secret>().get("secret-ada").await.unwrap().owner_references()[0].uid.clone(),
        site.api::<Service>().get("pod-ada").await.unwrap().owner_references()[0].uid.clone(),
    ] {
        assert_eq!(Some(owners), pod.uid());
    }
}

/// The API server counts by a quota's status, which a controller would write.
async fn limit(site: &Site, hard: Value) {
    let quotas: Api<ResourceQuota> = site.api();
    create(quotas.clone(), json!({"metadata": {"name": "quota"}, "spec": {"hard": hard}})).await;
    let used: serde_json::Map<_, _> = hard.as_object().unwrap().keys().map(|key| (key.clone(), json!("0"))).collect();
    let status = Patch::Merge(json!({"status": {"hard": hard, "used": used}}));
    quotas.patch_status("quota", &PatchParams::default(), &status).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_of_the_namespace_is_told() {
    let Some(site) = Site::new("mem_limit = '1G'").await else { return };
    limit(&site, json!({"limits.memory": "512Mi"})).await;
    let launch = launch("ada", "");
    let message = site.failure(&launch).await;
    assert!(message.contains("quota") && message.contains("memory"), "{message}");
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_is_none_is_told_by_the_field() {
    let Some(site) = Site::new("extra_pod_config = { dnsPolicy = 'Sometimes' }").await else { return };
    let launch = launch("ada", "");
    let message = site.failure(&launch).await;
    assert!(message.contains("spec.dnsPolicy"), "{message}");
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

fn a_claim(annotations: Value) -> Value {
    json!({
        "metadata": {"name": "claim-ada", "annotations": annotations},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

const STORAGE: &str = "storage_pvc_ensure = true\nstorage_capacity = '1Gi'\npvc_name_template = 'claim-{username}'\n\
    volumes = [{ name = 'home', persistentVolumeClaim = { claimName = 'claim-{username}' } }]\n";

#[rstest]
#[case::of_the_user(json!({"hub.jupyter.org/username": "ada"}), "hub", true)]
#[case::of_a_user_of_that_name(json!({"hub.jupyter.org/username": "ada"}), "other", false)]
#[case::of_another(json!({"hub.jupyter.org/username": "bob"}), "hub", false)]
#[case::of_nobody(json!({}), "hub", false)]
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_from_before_is_used_by_its_user_only(
    #[case] annotations: Value,
    #[case] hub: &str,
    #[case] starts: bool,
) {
    let Some(site) = Site::new(&format!("{STORAGE}adopt_claims_of = '{hub}'\n")).await else { return };
    create::<PersistentVolumeClaim>(site.api(), a_claim(annotations)).await;
    // Nothing more can be claimed, which does not matter to what is there.
    limit(&site, json!({"persistentvolumeclaims": "0"})).await;
    let launch = launch("ada", "");
    if starts {
        site.start(&launch).await.unwrap();
    } else {
        let message = site.failure(&launch).await;
        assert!(message.contains("claim-ada"), "{message}");
    }
    site.stop(&launch).await;
    site.assert_is_empty().await;
    assert_eq!(site.names::<PersistentVolumeClaim>().await, ["claim-ada"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_made_once_and_stays() {
    let Some(site) = Site::new(STORAGE).await else { return };
    let mut uids = Vec::new();
    for _ in 0..2 {
        let launch = launch("ada", "");
        site.start(&launch).await.unwrap();
        site.stop(&launch).await;
        uids.push(site.api::<PersistentVolumeClaim>().get("claim-ada").await.unwrap().uid().unwrap());
    }
    assert_eq!(uids[0], uids[1]);
    // A start in which the namespace is full: nothing is left of it.
    limit(&site, json!({"persistentvolumeclaims": "0"})).await;
    let launch = launch("bob", "");
    let message = site.failure(&launch).await;
    assert!(message.contains("quota"), "{message}");
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_mounted_is_the_users_though_nobody_makes_it() {
    let settings = STORAGE.replace("storage_pvc_ensure = true", "storage_pvc_ensure = false");
    let Some(site) = Site::new(&settings).await else { return };
    let launch = launch("ada", "");
    assert!(site.failure(&launch).await.contains("\"claim-ada\" that your server is to have is not there"));
    create::<PersistentVolumeClaim>(site.api(), a_claim(json!({"hub.jupyter.org/username": "bob"}))).await;
    assert!(site.failure(&launch).await.contains("belongs to somebody else"));
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_nobody_is_no_users() {
    let Some(cluster) = Cluster::shared().await else { return };
    let (own, namespace) = (cluster.namespace().await, cluster.namespace().await);
    let settings = format!("enable_user_namespaces = true\nuser_namespace_template = '{own}'\n");
    let site = Site::permitted(cluster, namespace, &settings, |_| starts()).await;
    let message = site.failure(&launch("ada", "")).await;
    assert!(message.contains(&own) && message.contains("not known as yours"), "{message}");
    assert_eq!(Api::<Pod>::namespaced(site.admin.clone(), &own).list(&ListParams::default()).await.unwrap().items, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_goes_on_with_other_settings_follows_its_pod() {
    let Some(site) = Site::new("").await else { return };
    let (started, waiting) = (launch("ada", ""), launch("bob", ""));
    let handles = [&started, &waiting].map(|launch| site.prepared(launch));
    let before = site.start(&started).await.unwrap();

    let mut changed = site.outpost.outpost.config.load().spawners["cluster"].clone();
    let SpawnerSettings::Kubernetes(settings) = &mut changed else { unreachable!() };
    settings.options.insert("pod_name_template".to_owned(), json!("other-{uid}"));
    site.spawner().reconfigure(&changed).unwrap();
    let start =
        async |launch: &Launch, handle: &Handle| site.spawner().start(handle, launch, &Progress::channel().0).await;
    let after = start(&started, &handles[0]).await.unwrap();
    assert_eq!((after.host, after.port), (before.host, before.port));
    let refused = start(&waiting, &handles[1]).await.unwrap_err().to_string();
    assert!(refused.contains("were changed while your server waited"), "{refused}");
    for (launch, handle) in [&started, &waiting].into_iter().zip(&handles) {
        site.spawner().stop(&launch.uid, handle).await.unwrap();
    }
    site.assert_is_empty().await;
}
