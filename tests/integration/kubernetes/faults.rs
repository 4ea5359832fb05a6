//! Every request of a start and of a stop fails once, in every way; every start is given up, and every Outpost ends, at
//! every step. What comes out is always the same: one server, and then nothing.

mod limits;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use outpost::error::Error;
use outpost::metrics::Metrics;
use outpost::model::{Environment, Launch, ServerId, Uid};
use outpost::spawner::kubernetes::{Context, Kubernetes};
use outpost::spawner::{Changes, Progress, Spawner, Status};
use rstest::rstest;
use serde_json::{Map, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::eventually;
use crate::support::fake_kube::{FakeKube, Fault};

/// More requests than a start and a stop ever make.
const STEPS: usize = 20;

/// The objects that a start creates.
const CREATED: usize = 5;

/// All that a server can have.
const RICH: &str = "storage_pvc_ensure = true\nstorage_capacity = '1Gi'\nobject_kinds = ['v1/ConfigMap']\n\
    pre_start = [{apiVersion = 'v1', kind = 'ConfigMap', metadata = {name = 'of-{uid}'}}]\n";

fn launch() -> Launch {
    Launch {
        uid: Uid::generate(),
        id: ServerId::new("hub", "ada", "0"),
        user: "ada".into(),
        user_id: 1,
        environment: Environment([("JUPYTERHUB_API_TOKEN".to_owned(), "s3cret".to_owned())].into()),
        options: Map::new(),
        user_options: Map::new(),
        groups: Vec::new(),
        certificates: None,
        auth_state: [].into(),
    }
}

/// One life of an Outpost on a cluster.
struct Life {
    backend: Arc<Kubernetes>,
    end: CancellationToken,
}

impl Life {
    fn begin(kube: &FakeKube, settings: &str) -> Self {
        let end = CancellationToken::new();
        let context = Context {
            changes: Changes::channel().0,
            tracker: TaskTracker::new(),
            shutdown: end.clone(),
            metrics: Arc::new(Metrics::default()),
        };
        let settings = format!("namespace = 'default'\nservices_enabled = true\napi_timeout = '200ms'\n{settings}");
        let settings = toml::from_str(&settings).unwrap();
        let backend = Kubernetes::with_client("cluster", settings, context, kube.client()).unwrap();
        backend.begin("installation");
        Self { backend, end }
    }

    async fn sees(&self) {
        eventually("the pods are seen", || async { self.backend.trouble().is_none().then_some(()) }).await;
    }

    async fn start(&self, launch: &Launch) -> Result<(), Error> {
        let handle = self.backend.prepare(launch)?;
        self.backend.start(&handle, launch, &Progress::channel().0).await.map(drop)
    }

    /// As the outpost takes it: nothing is known where nobody answers.
    async fn status(&self, launch: &Launch) -> Status {
        let handle = self.backend.prepare(launch).unwrap();
        self.backend.status(&launch.uid, &handle).await.unwrap_or(Status::Unknown)
    }

    /// As the outpost does it: again and again until it worked.
    async fn stop(&self, launch: &Launch) {
        let handle = self.backend.prepare(launch).unwrap();
        eventually("the server is stopped", || async { self.backend.stop(&launch.uid, &handle).await.ok() }).await;
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

const KINDS: [&str; 4] = ["pods", "secrets", "services", "configmaps"];

fn assert_one(kube: &FakeKube) {
    for plural in KINDS {
        assert_eq!(kube.names(plural).len(), 1, "{plural}: {:?}", kube.requests());
    }
}

fn assert_none(kube: &FakeKube) {
    for plural in KINDS {
        assert!(kube.names(plural).is_empty(), "{plural}: {:?}", kube.requests());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_and_a_stop_take_six_requests() {
    let kube = FakeKube::new(|_, _| None);
    let (life, launch) = (Life::begin(&kube, ""), launch());
    life.sees().await;
    eventually("events are watched", || async { (kube.requests().len() == 4).then_some(()) }).await;
    life.start(&launch).await.unwrap();
    assert_eq!(life.status(&launch).await, Status::Running);
    life.stop(&launch).await;
    let mut requests = kube.requests().split_off(4);
    assert_eq!(life.status(&launch).await, Status::Absent);
    assert_eq!(requests[0], "POST pods");
    requests[1..3].sort();
    assert_eq!(requests[1..3], ["POST secrets", "POST services"]);
    requests[3..].sort();
    assert_eq!(requests[3..], ["DELETE pods", "DELETE secrets", "DELETE services"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_request_may_fail_once() {
    let runs = Fault::ALL.into_iter().flat_map(|fault| (0..STEPS).map(move |step| (fault, step)));
    join_all(runs.map(|(fault, step)| async move {
        let kube = FakeKube::new(move |number, _| (number == step).then_some(fault));
        let (life, launch) = (Life::begin(&kube, &format!("stale_after = '3s'\n{RICH}")), launch());
        life.start(&launch).await.unwrap_or_else(|error| panic!("{fault:?} at {step}: {error}"));
        assert_one(&kube);
        life.sees().await;
        eventually("it runs", || async { (life.status(&launch).await == Status::Running).then_some(()) }).await;
        life.stop(&launch).await;
        assert_none(&kube);
        life.sees().await;
        eventually("it is gone", || async { (life.status(&launch).await == Status::Absent).then_some(()) }).await;
    }))
    .await;
}

/// A start that is given up when the request for its `step`th object has been made.
async fn given_up(life: &Life, launch: &Launch, reached: &AtomicUsize, step: usize) {
    tokio::select! {
        result = life.start(launch) => result.unwrap(),
        () = eventually("the step is reached", || async { (reached.load(Ordering::SeqCst) > step).then_some(()) }) => {}
    }
}

/// A cluster that loses one way or the other what comes after `step` requests for changes.
fn loses(fault: Fault, step: usize) -> (FakeKube, Arc<AtomicUsize>) {
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = reached.clone();
    let kube = FakeKube::new(move |_, name| {
        let changes = ["POST", "PATCH"].iter().any(|verb| name.starts_with(verb));
        let number = changes.then(|| counter.fetch_add(1, Ordering::SeqCst))?;
        (number == step).then_some(fault)
    });
    (kube, reached)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_may_be_given_up_at_every_step() {
    let runs =
        [Fault::Lost, Fault::Unanswered].into_iter().flat_map(|fault| (0..CREATED).map(move |step| (fault, step)));
    join_all(runs.map(|(fault, step)| async move {
        let (kube, reached) = loses(fault, step);
        let (life, launch) = (Life::begin(&kube, RICH), launch());
        life.sees().await;
        given_up(&life, &launch, &reached, step).await;
        life.stop(&launch).await;
        assert_none(&kube);
        // Nothing comes after the end.
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_none(&kube);
        assert_eq!(life.status(&launch).await, Status::Absent);
        assert!(life.backend.list().await.unwrap().is_empty());
    }))
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outpost_may_end_at_every_step() {
    let runs =
        [Fault::Lost, Fault::Unanswered].into_iter().flat_map(|fault| (0..CREATED).map(move |step| (fault, step)));
    join_all(runs.map(|(fault, step)| async move {
        let (kube, reached) = loses(fault, step);
        let (life, launch) = (Life::begin(&kube, RICH), launch());
        given_up(&life, &launch, &reached, step).await;
        drop(life);
        // The next one begins again, in the middle.
        let life = Life::begin(&kube, RICH);
        life.start(&launch).await.unwrap();
        assert_one(&kube);
        drop(life);
        // The one after it only has to stop.
        let life = Life::begin(&kube, RICH);
        life.stop(&launch).await;
        assert_none(&kube);
    }))
    .await;
}

#[rstest]
#[case(Fault::Lost)]
#[case(Fault::Busy)]
#[case(Fault::Broken)]
#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_never_answers_is_named(#[case] fault: Fault) {
    let kube = FakeKube::new(move |_, _| Some(fault));
    let (life, launch) = (Life::begin(&kube, "start_timeout = 1\nstop_timeout = 1"), launch());
    let Err(Error::Failed { message, .. }) = life.start(&launch).await else { panic!() };
    assert!(message.starts_with("The cluster "), "{message}");
    assert_eq!(life.status(&launch).await, Status::Unknown);
    assert!(life.backend.trouble().unwrap().contains("the namespace default"));
    assert!(life.backend.list().await.is_err());
    let handle = life.backend.prepare(&launch).unwrap();
    assert!(matches!(life.backend.stop(&launch.uid, &handle).await, Err(Error::Unavailable { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_needs_no_room_in_a_quota() {
    for earlier in [false, true] {
        let full = Arc::new(AtomicBool::new(false));
        let denies = full.clone();
        let kube = FakeKube::new(move |_, name| {
            // An earlier server makes room as soon as it has gone.
            if name == "DELETE pods" {
                denies.store(false, Ordering::SeqCst);
            }
            (denies.load(Ordering::SeqCst) && name.starts_with("POST")).then_some(Fault::Denied)
        });
        let (mut launch, life) = (launch(), Life::begin(&kube, ""));
        life.start(&launch).await.unwrap();
        drop(life);
        full.store(true, Ordering::SeqCst);
        if earlier {
            launch.uid = Uid::generate();
        }
        let life = Life::begin(&kube, "");
        life.start(&launch).await.unwrap();
        assert_eq!(kube.names("pods").len(), 1);
        assert_eq!(kube.requests().contains(&"DELETE pods".to_owned()), earlier);
    }
}

#[rstest]
#[case(Fault::Denied, "quota", 1)]
#[case(Fault::Taken, "a webhook says so", 5)]
#[tokio::test(flavor = "multi_thread")]
async fn what_is_denied_and_not_there_is_not_asked_for_in_a_loop(
    #[case] fault: Fault,
    #[case] word: &str,
    #[case] most: usize,
) {
    let kube = FakeKube::new(move |_, name| (name == "POST pods").then_some(fault));
    let (life, launch) = (Life::begin(&kube, "start_timeout = 1"), launch());
    let Err(Error::Failed { message, .. }) = life.start(&launch).await else { panic!() };
    assert!(message.contains(word), "{message}");
    let tries = kube.requests().iter().filter(|request| *request == "POST pods").count();
    assert!((1..=most).contains(&tries), "{tries}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_left_alone() {
    for plural in ["pods", "secrets", "services"] {
        let kube = FakeKube::new(|_, _| None);
        let (life, launch) = (Life::begin(&kube, ""), launch());
        let handle = life.backend.prepare(&launch).unwrap();
        let name = handle.state[if plural == "secrets" { "secret" } else { "pod" }].as_str().unwrap().to_owned();
        let path = format!("/api/v1/namespaces/default/{plural}/{name}");
        kube.put(&path, json!({"metadata": {"name": name, "uid": "theirs", "namespace": "default"}}));
        life.sees().await;
        let Err(Error::Failed { message, .. }) = life.start(&launch).await else { panic!() };
        assert!(message.contains("is not Outpost's"), "{message}");
        life.stop(&launch).await;
        assert_eq!(kube.names(plural), [name]);
        assert_eq!(kube.requests().iter().filter(|request| **request == format!("DELETE {plural}")).count(), 0);
    }
}
