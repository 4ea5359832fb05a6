//! The rights that the backend needs are asked for, one by one.

use outpost::spawner::kubernetes::Settings;
use outpost::spawner::kubernetes::check::check;
use serde_json::json;

use super::api;
use crate::support::kube::{Cluster, client};
use kube::config::Kubeconfig;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_found() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let settings = format!("namespace = '{namespace}'\ncapacity_check = 'warn'");
    let settings: Settings = toml::from_str(&settings).unwrap();
    let all = check(&api(cluster.admin().await), &settings).await.unwrap();
    assert!(all.len() == 17 && all.iter().all(|right| right.allowed), "{all:?}");

    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["events", "pods/log", "secrets", "services"], "verbs": ["*"]},
    ]);
    let limited = cluster.kubeconfig(&cluster.token(&namespace, &rules).await);
    let limited = api(client(Kubeconfig::read_from(limited).unwrap()).await.unwrap());
    let missing = crate::support::eventually("the role is known", || async {
        let rights = check(&limited, &settings).await.unwrap();
        let missing: Vec<_> = rights.into_iter().filter(|right| !right.allowed).collect();
        (missing.len() < 10).then_some(missing)
    })
    .await;
    let missing: Vec<_> =
        missing.iter().map(|right| (right.verb, right.resource.as_str(), right.namespace.as_deref())).collect();
    assert_eq!(
        missing,
        [
            ("delete", "pods", Some(&*namespace)),
            ("list", "nodes", None),
            ("list", "pods", None),
            ("list", "priorityclasses.scheduling.k8s.io", None),
        ]
    );
}
