//! Volume claims: whose they are, and when they go.

use std::sync::Arc;
use std::time::Duration;

use ::kube::api::{Api, ListParams, Patch, PatchParams};
use ::kube::{Client, ResourceExt};
use chrono::{DateTime, TimeDelta, Utc};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota};
use outpost::clock::Clock;
use outpost::metrics::Metrics;
use outpost::spawner::kubernetes::api::{Cluster, Limits, Patience};
use outpost::spawner::kubernetes::claims::{LAST_USED, Terms, ensure, retire};
use outpost::spawner::kubernetes::names::{HUB, INSTALLATION, SPAWNER, USERNAME};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::eventually;
use crate::support::kube::{self, create, read};

/// The backend's own way to ask the API.
fn api(client: Client) -> Cluster {
    let limits = Limits { rate: 1000, burst: 1000, timeout: Duration::from_secs(10) };
    Cluster::new(client, &limits, Arc::new(Metrics::default()))
}

const DAY: TimeDelta = TimeDelta::days(1);

fn claim(namespace: &str, name: &str, user: &str) -> Value {
    json!({
        "metadata": {
            "namespace": namespace, "name": name, "annotations": {USERNAME: user},
            "labels": {INSTALLATION: "one", SPAWNER: "cluster", HUB: "hub"},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

fn terms(used: Option<DateTime<Utc>>) -> Terms {
    Terms { is_made: true, is_adopted: true, used }
}

fn soon() -> Patience {
    Patience::until(Instant::now() + Duration::from_secs(10))
}

/// The claims that are not being deleted: the protection of those in use is a controller's, who is not here.
async fn names(claims: &Api<PersistentVolumeClaim>) -> Vec<String> {
    let all = claims.list(&ListParams::default()).await.unwrap();
    all.iter().filter(|claim| claim.metadata.deletion_timestamp.is_none()).map(ResourceExt::name_any).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_made_once_and_found_again() {
    let Some(cluster) = kube::Cluster::shared().await else { return };
    let (namespace, api) = (cluster.namespace().await, api(cluster.admin().await));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.admin().await, &namespace);
    let wanted = read(claim(&namespace, "ada", "Ada"));
    let soon = soon();
    let unnoted = terms(None);
    let (one, other) = tokio::join!(ensure(&api, &wanted, &unnoted, &soon), ensure(&api, &wanted, &unnoted, &soon));
    one.and(other).unwrap();
    let made = claims.get("ada").await.unwrap();
    ensure(&api, &wanted, &terms(None), &soon).await.unwrap();
    assert_eq!(claims.get("ada").await.unwrap(), made);
    assert!(!made.annotations().contains_key(LAST_USED));
    // Where claims are deleted some day, their use is noted.
    let now = Clock::System.now();
    ensure(&api, &wanted, &terms(Some(now)), &soon).await.unwrap();
    let noted = claims.get("ada").await.unwrap();
    assert!((noted.annotations()[LAST_USED].parse::<DateTime<Utc>>().unwrap() - now).num_seconds().abs() <= 1);
    ensure(&api, &wanted, &terms(Some(now + TimeDelta::hours(1))), &soon).await.unwrap();
    assert_eq!(claims.get("ada").await.unwrap(), noted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_of_somebody_else_is_not_touched() {
    let Some(cluster) = kube::Cluster::shared().await else { return };
    let (namespace, api) = (cluster.namespace().await, api(cluster.admin().await));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.admin().await, &namespace);
    let bobs = create(claims.clone(), claim(&namespace, "home", "Bob")).await;
    let refused = ensure(&api, &read(claim(&namespace, "home", "Ada")), &terms(Some(Clock::System.now())), &soon())
        .await
        .unwrap_err();
    assert_eq!(
        refused.to_string(),
        "The storage \"home\" that your server is to have belongs to somebody else. Please tell the administrators of this \
         system."
    );
    assert_eq!(claims.get("home").await.unwrap(), bobs);
    // What KubeSpawner made for the same user goes on to be used, and stays as it is.
    let mut old = claim(&namespace, "old", "Ada");
    old["metadata"]["labels"] = json!({"component": "singleuser-storage"});
    let old = create(claims.clone(), old).await;
    ensure(&api, &read(claim(&namespace, "old", "Ada")), &terms(Some(Clock::System.now())), &soon()).await.unwrap();
    assert_eq!(claims.get("old").await.unwrap(), old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_quota_is_told_and_does_not_hide_a_claim() {
    let Some(cluster) = kube::Cluster::shared().await else { return };
    let (namespace, api) = (cluster.namespace().await, api(cluster.admin().await));
    let (ada, bob) = (read(claim(&namespace, "ada", "Ada")), read(claim(&namespace, "bob", "Bob")));
    ensure(&api, &ada, &terms(None), &soon()).await.unwrap();
    let quotas: Api<ResourceQuota> = Api::namespaced(cluster.admin().await, &namespace);
    let most = json!({"persistentvolumeclaims": "1"});
    create(quotas.clone(), json!({"metadata": {"name": "storage"}, "spec": {"hard": most}})).await;
    // What its controller does.
    let status = json!({"status": {"hard": most, "used": most}});
    quotas.patch_status("storage", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let refused =
        eventually("the quota is full", || async { ensure(&api, &bob, &terms(None), &soon()).await.err() }).await;
    assert!(refused.to_string().contains("persistentvolumeclaims=1"), "{refused}");
    ensure(&api, &ada, &terms(None), &soon()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_uses_goes_when_its_time_is_over() {
    let Some(cluster) = kube::Cluster::shared().await else { return };
    let (namespace, api) = (cluster.namespace().await, api(cluster.admin().await));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.admin().await, &namespace);
    for name in ["used", "unused"] {
        create(claims.clone(), claim(&namespace, name, name)).await;
    }
    let mut foreign = claim(&namespace, "foreign", "Ada");
    foreign["metadata"]["labels"][INSTALLATION] = json!("two");
    foreign["metadata"]["annotations"][LAST_USED] = json!("2020-01-01T00:00:00Z");
    create(claims.clone(), foreign).await;
    let volume = json!({"name": "home", "persistentVolumeClaim": {"claimName": "used"}});
    let spec = json!({"containers": [{"name": "notebook", "image": "image"}], "volumes": [volume]});
    create::<Pod>(
        Api::namespaced(cluster.admin().await, &namespace),
        json!({"metadata": {"name": "pod"}, "spec": spec}),
    )
    .await;

    // Times are noted in seconds.
    let begun = DateTime::from_timestamp(Clock::System.now().timestamp(), 0).unwrap();
    let selector = format!("{INSTALLATION}=one,{SPAWNER}=cluster");
    let pass = async |now| {
        retire(&api, Some(&namespace), &selector, Duration::from_secs(3 * 24 * 3600), now).await.unwrap();
        names(&claims).await
    };
    // Nothing is known yet; then nobody looks for ten days; then they are watched for three.
    for now in [begun, begun + DAY * 10, begun + DAY * 11, begun + DAY * 12, begun + DAY * 13] {
        assert_eq!(pass(now).await, ["foreign", "unused", "used"], "{now}");
    }
    assert_eq!(pass(begun + DAY * 13 + TimeDelta::hours(1)).await, ["foreign", "used"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_is_taken_meanwhile_stays() {
    let Some(cluster) = kube::Cluster::shared().await else { return };
    let (namespace, api) = (cluster.namespace().await, api(cluster.admin().await));
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(cluster.admin().await, &namespace);
    let seen = create(claims.clone(), claim(&namespace, "ada", "Ada")).await;
    ensure(&api, &read(claim(&namespace, "ada", "Ada")), &terms(Some(Clock::System.now())), &soon()).await.unwrap();
    assert_eq!(api.delete_unchanged(&seen).await.unwrap_err().code(), Some(409));
    api.delete_unchanged(&claims.get("ada").await.unwrap()).await.unwrap();
    assert_eq!(names(&claims).await, [""; 0]);
}
