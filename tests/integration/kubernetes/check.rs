//! The rights that the backend needs are asked for, one by one.

use serde_json::json;

use crate::support::daemon::{Daemon, text};
use crate::support::eventually;
use crate::support::kube::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_right_is_named() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let config = |kubeconfig: &std::path::Path| {
        format!(
            "[spawners.cluster]\ntype = 'kubernetes'\nnamespace = '{namespace}'\nstorage_pvc_ensure = true\n\
             storage_capacity = '1Gi'\ncapacity_check = 'warn'\nkubeconfig = '{}'\n",
            kubeconfig.display()
        )
    };
    let daemon = Daemon::new(&config(&cluster.admin_kubeconfig()));
    let checked = daemon.run(&["check-config", "--cluster"]).await;
    let said = text(&checked.stdout);
    assert!(checked.status.success(), "{said}{}", text(&checked.stderr));
    assert_eq!(said.lines().filter(|line| line.trim_start().starts_with("yes ")).count(), 19, "{said}");

    let rules = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["create", "get", "list", "watch"]},
        {"apiGroups": [""], "resources": ["events", "pods/log", "secrets", "services"], "verbs": ["*"]},
    ]);
    daemon.configure(&config(&cluster.kubeconfig(&cluster.token(&namespace, &rules).await)));
    let expected = [
        format!("delete pods in {namespace}"),
        format!("get persistentvolumeclaims in {namespace}"),
        format!("create persistentvolumeclaims in {namespace}"),
        "list nodes".to_owned(),
        "list pods".to_owned(),
        "list priorityclasses.scheduling.k8s.io".to_owned(),
    ]
    .map(|right| format!("outpost: spawners.cluster: the cluster does not allow Outpost to {right}\n"))
    .concat();
    // The API server's view of roles lags by a moment.
    eventually("all that is missing is named", || async {
        let checked = daemon.run(&["check-config", "--cluster"]).await;
        assert_eq!(checked.status.code(), Some(1));
        (text(&checked.stderr) == expected && text(&checked.stdout).contains("\n NO ")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_does_not_answer_is_no_mistake_without_being_asked() {
    let daemon = Daemon::new("[spawners.cluster]\ntype = 'kubernetes'\nnamespace = 'a'\nkubeconfig = '/no/file'\n");
    assert!(daemon.run(&["check-config"]).await.status.success());
    let checked = daemon.run(&["check-config", "--cluster"]).await;
    let said = text(&checked.stderr);
    assert!(checked.status.code() == Some(1) && said.contains("spawners.cluster: kubeconfig: /no/file"), "{said}");
}
