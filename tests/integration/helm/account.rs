//! What the account of an installed release may do is what the program asks for.

use std::path::Path;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, PostParams};
use rstest::rstest;
use serde_json::json;

use super::mounted::{Mounted, Sources};
use crate::support::daemon::text;
use crate::support::eventually;
use crate::support::helm::{Helm, Release, Rendered};
use crate::support::kube::{Cluster, read};

/// The container of a release whose clusters are reached by a file, since this machine is no pod.
pub fn reaching(rendered: &Rendered, sources: &Sources, kubeconfig: &Path) -> Mounted {
    let mounted = Mounted::deployment(rendered, sources);
    let mut config = mounted.config();
    for (_, spawner) in config["spawners"].as_table_mut().unwrap() {
        spawner.as_table_mut().unwrap().insert("kubeconfig".to_owned(), kubeconfig.to_str().unwrap().into());
    }
    mounted.configure(&config);
    mounted
}

#[rstest]
#[case::nothing("")]
#[case::several_namespaces("singleuser: {namespace: NAMESPACE-a, namespaces: [NAMESPACE-b]}")]
#[case::cluster_wide("config: {spawners: {kubernetes: {capacity_check: warn, enable_user_namespaces: true}}}")]
#[case::more("
config: {spawners: {kubernetes: {storage_retention: 30d, object_kinds: [v1/ConfigMap, networking.k8s.io/v1/NetworkPolicy]}}}")]
#[tokio::test(flavor = "multi_thread")]
async fn the_account_of_a_release_may_do_all_that_is_needed(#[case] values: &str) {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let release = Release::new(&helm, cluster, "outpost").await;
    let values = values.replace("NAMESPACE", &release.namespace);
    let namespaces: Api<Namespace> = Api::all(cluster.admin().await);
    for letter in ["a", "b"] {
        let namespace = json!({"metadata": {"name": format!("{}-{letter}", release.namespace)}});
        namespaces.create(&PostParams::default(), &read(namespace)).await.unwrap();
    }
    release.install(&values).unwrap();
    let kubeconfig = cluster.kubeconfig(&cluster.token_of(&release.namespace, "outpost").await);
    let rendered = release.render(&values);
    let mounted = reaching(&rendered, &Sources::of(&rendered.objects), &kubeconfig);
    // The API server's view of roles lags by a moment.
    let said = eventually("the account may do everything", || async {
        let checked = mounted.command(&["check-config", "--cluster"]).output().unwrap();
        let said = text(&checked.stdout);
        assert!(said.contains("ALLOWED"), "{said}{}", text(&checked.stderr));
        checked.status.success().then_some(said)
    })
    .await;
    assert!(said.lines().filter(|line| line.trim_start().starts_with("yes ")).count() >= 15, "{said}");
    // The account of servers may do none of it.
    let accounts = rendered.of_kind("ServiceAccount").map(|account| &account["metadata"]);
    for account in accounts.filter(|account| account["name"] == "outpost-servers") {
        let token = cluster.token_of(account["namespace"].as_str().unwrap(), "outpost-servers").await;
        let mounted = reaching(&rendered, &Sources::of(&rendered.objects), &cluster.kubeconfig(&token));
        let checked = mounted.command(&["check-config", "--cluster"]).output().unwrap();
        assert!(!text(&checked.stdout).contains("yes "), "{}", text(&checked.stdout));
    }
    release.uninstall().unwrap();
}
