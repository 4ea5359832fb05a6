//! What Outpost may not do is named.

use outpost::error::Error;
use outpost::spawner::kubernetes::rights::{self, Rule};
use rstest::rstest;
use serde_json::{Value, json};

use super::{Site, configuration, launch};
use crate::support::kube::Cluster;
use crate::support::kube::kubelet::starts;
use crate::support::{TestOutpost, eventually};

/// All rights that Outpost says it needs, but for one.
fn rules(without: (&str, &str)) -> Value {
    let needed = rights::rules(&toml::from_str("storage_pvc_ensure = true").unwrap());
    let rule = |mut rule: Rule| {
        rule.verbs.retain(|verb| (*verb, &*rule.resource) != without);
        let written = json!({"apiGroups": [rule.group], "resources": [rule.resource], "verbs": rule.verbs});
        (!rule.verbs.is_empty()).then_some(written)
    };
    needed.into_iter().filter_map(rule).collect()
}

#[rstest]
#[case("create", "pods")]
#[case("create", "secrets")]
#[case("create", "services")]
#[case("get", "persistentvolumeclaims")]
#[case("create", "persistentvolumeclaims")]
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_is_missing_in_a_start_is_named(#[case] verb: &str, #[case] resource: &str) {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let kubeconfig = cluster.kubeconfig(&cluster.token(&namespace, &rules((verb, resource))).await);
    let settings = "services_enabled = true\nstorage_pvc_ensure = true\nstorage_capacity = '1Gi'\n";
    let site = Site::within(cluster, namespace, &kubeconfig, settings, |_| starts()).await;
    let launch = launch("ada", "");
    let error = site.start(&launch).await.unwrap_err();
    let said = format!("{error} {}", error.cause().unwrap_or_default());
    assert!(said.contains(verb) && said.contains(resource), "{said}");
    assert!(!matches!(error, Error::Unavailable { .. }), "trying again does not help: {error:?}");
    site.stop(&launch).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outpost_that_may_not_watch_says_so() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let kubeconfig = cluster.kubeconfig(&cluster.token(&namespace, &rules(("list", "pods"))).await);
    let outpost = TestOutpost::start(&configuration(&kubeconfig, &namespace, "")).await;
    let spawner = outpost.outpost.spawners.get("cluster").unwrap();
    let trouble = eventually("it says so", || async {
        spawner.trouble().filter(|trouble| trouble.contains("list") && trouble.contains("pods"))
    })
    .await;
    assert!(trouble.contains(&namespace), "{trouble}");
    // Nothing is stopped for what cannot be seen.
    let launch = launch("ada", "");
    let handle = spawner.prepare(&launch).unwrap();
    assert_eq!(spawner.status(&launch.uid, &handle).await.unwrap(), outpost::spawner::Status::Unknown);
}
