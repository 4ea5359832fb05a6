//! The rules of [`Spawner`], held against every backend.

use std::sync::Arc;
use std::time::{Duration, Instant};

use outpost::error::Error;
use outpost::model::{Environment, Launch, ServerId, Uid};
use outpost::spawner::memory::{self, Memory};
use outpost::spawner::{Changes, Progress, Spawner, Status};
use serde_json::Map;

use crate::support::kube::Step;

fn launch() -> Launch {
    Launch {
        uid: Uid::generate(),
        id: ServerId::new("hub", "ü/../\n", "0"),
        user: "../ada".into(),
        user_id: 1,
        environment: Environment::default(),
        options: Map::new(),
        user_options: Map::new(),
        groups: Vec::new(),
        certificates: None,
        auth_state: [].into(),
    }
}

async fn listed(spawner: &dyn Spawner, uid: &Uid) -> bool {
    spawner.list().await.unwrap().iter().any(|found| found.uid == *uid)
}

/// A backend whose servers run until they are stopped.
async fn keeps_the_rules(spawner: Arc<dyn Spawner>) {
    let spawner = &*spawner;
    let (progress, mut events) = Progress::channel();
    let launch = launch();

    // Preparing has no effect, and what is not there is absent, stopped and without a log.
    let handle = spawner.prepare(&launch).unwrap();
    assert_eq!(spawner.status(&launch.uid, &handle).await.unwrap(), Status::Absent);
    assert!(!listed(spawner, &launch.uid).await);
    spawner.stop(&launch.uid, &handle).await.unwrap();
    assert!(spawner.logs(&launch.uid, &handle, 10).await.unwrap().is_empty());

    // Starting again finds the same server.
    let started = spawner.start(&handle, &launch, &progress).await.unwrap();
    assert!(started.port > 0 && !started.host.is_empty());
    assert_eq!(spawner.status(&launch.uid, &handle).await.unwrap(), Status::Running);
    assert_eq!(spawner.start(&handle, &launch, &progress).await.unwrap(), started);
    let both = tokio::join!(spawner.start(&handle, &launch, &progress), spawner.start(&handle, &launch, &progress));
    assert_eq!((both.0.unwrap(), both.1.unwrap()), (started.clone(), started));
    assert!(listed(spawner, &launch.uid).await);
    let mut said = 0;
    while let Ok(event) = events.try_recv() {
        assert!(event.progress < 100 && !event.message.is_empty());
        said += 1;
    }
    assert!(said > 0);

    // A handle comes back from the store as it went in.
    let stored = serde_json::to_string(&handle).unwrap();
    assert_eq!(serde_json::from_str::<outpost::model::Handle>(&stored).unwrap(), handle);

    // Others are others.
    let other = self::launch();
    let other_handle = spawner.prepare(&other).unwrap();
    spawner.start(&other_handle, &other, &progress).await.unwrap();
    let both = tokio::join!(spawner.stop(&launch.uid, &handle), spawner.stop(&launch.uid, &handle));
    both.0.and(both.1).unwrap();
    assert_eq!(spawner.status(&launch.uid, &handle).await.unwrap(), Status::Absent);
    assert_eq!(spawner.status(&other.uid, &other_handle).await.unwrap(), Status::Running);

    // A start may be dropped anywhere; a stop after it leaves nothing.
    for patience in [0, 5, 50] {
        let launch = self::launch();
        let handle = spawner.prepare(&launch).unwrap();
        let _ = tokio::time::timeout(Duration::from_millis(patience), spawner.start(&handle, &launch, &progress)).await;
        spawner.stop(&launch.uid, &handle).await.unwrap();
        assert_eq!(spawner.status(&launch.uid, &handle).await.unwrap(), Status::Absent);
        assert!(!listed(spawner, &launch.uid).await);
    }
    spawner.stop(&other.uid, &other_handle).await.unwrap();
    assert!(!listed(spawner, &other.uid).await);
}

/// A backend whose servers cannot start.
async fn fails_by_the_rules(spawner: Arc<dyn Spawner>) {
    let (progress, _events) = Progress::channel();
    let launch = launch();
    let handle = spawner.prepare(&launch).unwrap();
    match spawner.start(&handle, &launch, &progress).await {
        Err(Error::Failed { message, logs }) => assert!(!message.is_empty() && logs == ["a log line"], "{logs:?}"),
        other => panic!("{other:?}"),
    }
    spawner.stop(&launch.uid, &handle).await.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while listed(&*spawner, &launch.uid).await {
        assert!(Instant::now() < end);
    }
}

fn in_memory(settings: memory::Settings) -> Arc<dyn Spawner> {
    Arc::new(Memory::new("memory", settings, Changes::channel().0))
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_conforms() {
    keeps_the_rules(in_memory(memory::Settings::default())).await;
    let fail = Some("No.".to_owned());
    fails_by_the_rules(in_memory(memory::Settings { fail, ..memory::Settings::default() })).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubernetes_conforms() {
    // All of these servers have one name.
    let settings = "pod_name_template = 'jupyter-{uid}'\nservices_enabled = true\nfail_after = { crash_loop = 0 }\n";
    let Some(site) = crate::kubernetes::Site::new(settings).await else { return };
    keeps_the_rules(site.spawner()).await;
    site.assert_is_empty().await;
    let fails = || vec![Step::Bind, Step::Says("a log line"), Step::Ends { code: 1, reason: "Error" }];
    let site = crate::kubernetes::Site::scripted(settings, move |_| fails()).await.unwrap();
    fails_by_the_rules(site.spawner()).await;
    site.assert_is_empty().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn process_conforms() {
    let site = crate::process::Site::new(crate::process::SLEEPER);
    keeps_the_rules(site.process.clone()).await;
    let site = crate::process::Site::new("cmd = ['sh', '-c', 'echo a log line; exit 1']");
    fails_by_the_rules(site.process.clone()).await;
}
