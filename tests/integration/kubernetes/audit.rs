//! The rights that Outpost says it needs are those that it uses, no more and no less: by the audit log of an API server.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;

use chrono::TimeDelta;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use kube::api::{Api, ListParams};
use outpost::clock::Clock;
use outpost::metrics::Metrics;
use outpost::model::Launch;
use outpost::spawner::kubernetes::claims::{LAST_USED, LOOKED_AT};
use outpost::spawner::kubernetes::names::{HUB, INSTALLATION, MANAGED_BY, SPAWNER};
use outpost::spawner::kubernetes::rights::{Rule, Scope, rules};
use outpost::spawner::kubernetes::settings::Settings;
use outpost::spawner::kubernetes::{Context, Kubernetes};
use outpost::spawner::{Changes, Progress, Spawner};
use rstest::rstest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{launch, settings_of};
use crate::support::eventually;
use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Kubelet, create};

/// All that can be switched on, but for namespaces of users.
const EVERYTHING: &str = "services_enabled = true\nstorage_pvc_ensure = true\nstorage_capacity = '1Gi'\n\
    storage_retention = '30d'\ncapacity_check = 'warn'\nobject_kinds = ['v1/ConfigMap']\n\
    volumes = [{ name = 'home', persistentVolumeClaim = { claimName = 'claim-{username}' } }]\n\
    pvc_name_template = 'claim-{username}'\n\
    pre_start = [{ apiVersion = 'v1', kind = 'ConfigMap', metadata = { name = 'before-{uid}' } }]\n\
    post_stop = [{ apiVersion = 'v1', kind = 'ConfigMap', metadata = { name = 'after-{uid}' } }]\n";

/// Group, resource with its subresource, verb, and namespace; empty: the whole cluster.
type Right = (String, String, String, String);

fn needed(settings: &Settings) -> BTreeSet<Right> {
    let rights = rules(settings).into_iter().flat_map(|Rule { scope, group, resource, verbs, .. }| {
        let places = match scope {
            Scope::Cluster => vec![String::new()],
            Scope::Namespaces(names) => names.into_iter().collect(),
        };
        let of_place = move |place: String| {
            let (group, resource) = (group.clone(), resource.clone());
            verbs.clone().into_iter().map(move |verb| (group.clone(), resource.clone(), verb.to_owned(), place.clone()))
        };
        places.into_iter().flat_map(of_place)
    });
    rights.collect()
}

/// What a user asked for, but for its questions for its own rights.
fn requested(log: &Path, user: &str) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let Ok(event) = serde_json::from_str::<Value>(line) else { continue };
        let (target, verb) = (&event["objectRef"], event["verb"].as_str().unwrap_or_default());
        if event["user"]["username"] != user || target["resource"] == "selfsubjectaccessreviews" {
            continue;
        }
        let text = |key: &str| target[key].as_str().unwrap_or_default().to_owned();
        assert!(!text("resource").is_empty(), "it is about no resource: {line}");
        assert_ne!(event["responseStatus"]["code"], 403, "{line}");
        let resource = [text("resource"), text("subresource")].join("/");
        let right = |verb: &str| {
            let place = if resource == "namespaces/" { String::new() } else { text("namespace") };
            (text("apiGroup"), resource.trim_end_matches('/').to_owned(), verb.to_owned(), place)
        };
        rights.insert(right(verb));
        // An object that is applied and was not there is created, for which the API server asks as well.
        if verb == "patch" && event["responseStatus"]["code"] == 201 {
            rights.insert(right("create"));
        }
    }
    rights
}

/// A backend as an account with the rights that it needs.
async fn backend(settings: Settings) -> (Arc<Kubernetes>, CancellationToken) {
    let end = CancellationToken::new();
    let context = Context {
        changes: Changes::channel().0,
        tracker: TaskTracker::new(),
        shutdown: end.clone(),
        metrics: Arc::new(Metrics::default()),
    };
    let backend = Kubernetes::new("cluster", settings, context).await.unwrap();
    backend.begin("one");
    eventually("it sees its servers", || async { backend.trouble().is_none().then_some(()) }).await;
    (backend, end)
}

async fn start(backend: &Kubernetes, launch: &Launch) {
    let handle = backend.prepare(launch).unwrap();
    backend.start(&handle, launch, &Progress::channel().0).await.unwrap();
}

#[rstest]
#[case::in_namespaces(false)]
#[case::with_namespaces_of_users(true)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_requested_is_what_is_needed(#[case] of_users: bool) {
    let dir = tempfile::tempdir().unwrap();
    let (policy, log) = (dir.path().join("policy.json"), dir.path().join("audit.log"));
    let rules = json!({
        "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}],
    });
    std::fs::write(&policy, rules.to_string()).unwrap();
    let options = [format!("--audit-policy-file={}", policy.display()), format!("--audit-log-path={}", log.display())];
    let Some(cluster) = Cluster::own(&[&options[0], &options[1]]).await else { return };
    let (home, admin) = (cluster.namespace().await, cluster.admin().await);
    let place = if of_users { format!("{home}-ada") } else { home.clone() };
    let toml = if of_users {
        format!("{EVERYTHING}enable_user_namespaces = true\nuser_namespace_template = '{home}-{{username}}'\n")
    } else {
        EVERYTHING.to_owned()
    };
    let settings = settings_of(&home, &toml);
    let account = cluster.permitted(&home, &settings).await;
    let settings = Settings { kubeconfig: Some(account.kubeconfig), ..settings };
    let _kubelet = Kubelet::start(&cluster, &place, |_| starts()).await;

    // A server is started, and once more: what is there is looked at. Its log is read.
    let (first, end) = backend(settings.clone()).await;
    let launch = launch("ada", "");
    start(&first, &launch).await;
    start(&first, &launch).await;
    first.logs(&launch.uid, &first.prepare(&launch).unwrap(), 10).await.unwrap();
    // Another Outpost stops it, who did not make what it finds.
    end.cancel();
    let (second, end) = backend(settings.clone()).await;
    second.stop(&launch.uid, &second.prepare(&launch).unwrap()).await.unwrap();
    let pods: Api<Pod> = Api::namespaced(admin.clone(), &place);
    assert_eq!(pods.list(&ListParams::default()).await.unwrap().items, []);
    // A claim that nobody used for long goes.
    let now = Clock::System.now();
    let claim = json!({
        "metadata": {
            "name": "old", "labels": {MANAGED_BY: "outpost", INSTALLATION: "one", SPAWNER: "cluster", HUB: "hub"},
            "annotations": {LAST_USED: (now - TimeDelta::days(90)).to_rfc3339(), LOOKED_AT: now.to_rfc3339()},
        },
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    create::<PersistentVolumeClaim>(Api::namespaced(admin, &place), claim).await;
    second.tidy(&HashSet::new()).await;
    end.cancel();

    let needed = needed(&settings);
    // With a right for the whole cluster nothing is asked of a namespace's role.
    let requested: BTreeSet<_> = requested(&log, &account.user)
        .into_iter()
        .map(|(group, resource, verb, place)| (group, resource, verb, if of_users { String::new() } else { place }))
        .collect();
    let unused: Vec<_> = needed.difference(&requested).collect();
    let untold: Vec<_> = requested.difference(&needed).collect();
    assert!(unused.is_empty() && untold.is_empty(), "not used: {unused:?}\nnot in the rules: {untold:?}");
}
