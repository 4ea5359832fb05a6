//! How long is waited, how much is asked, and what is watched.

use std::time::Instant;

use outpost::spawner::SpawnerSettings;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_does_not_go_is_removed_by_force() {
    let kube = FakeKube::new(|_, name| (name == "DELETE pods").then_some(Fault::Stubborn));
    let (life, launch) = (Life::begin(&kube, "stop_timeout = '1s'"), launch());
    life.sees().await;
    life.start(&launch).await.unwrap();
    let before = kube.requests().len();
    let handle = life.backend.prepare(&launch).unwrap();
    life.backend.stop(&launch.uid, &handle).await.unwrap();
    assert_none(&kube);
    let requests = kube.requests().split_off(before);
    let of_pod: Vec<_> =
        requests.iter().filter(|request| request.ends_with(" pods") && !request.contains("WATCH")).collect();
    assert_eq!(of_pod, ["DELETE pods", "GET pods", "DELETE pods"], "it is looked for before force is used");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_asked_than_the_site_allows() {
    const RATE: usize = 20;
    let kube = FakeKube::new(|_, _| None);
    let life = Life::begin(&kube, &format!("api_rate = {RATE}\napi_burst = 1"));
    life.sees().await;
    eventually("events are watched", || async { (kube.requests().len() == 4).then_some(()) }).await;
    let begun = Instant::now();
    let users = (0..10).map(|user| format!("user-{user}"));
    let launches: Vec<_> = users
        .map(|user| Launch { id: ServerId::new("hub", &user, "0"), user: user.as_str().into(), ..launch() })
        .collect();
    join_all(launches.iter().map(|launch| life.start(launch))).await.into_iter().for_each(|started| started.unwrap());
    let (asked, seconds) = (kube.requests().len() - 4, begun.elapsed().as_secs_f64());
    assert_eq!(asked, 30);
    assert!(asked as f64 <= 1.0 + RATE as f64 * seconds + 1.0, "{asked} requests in {seconds} seconds");
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_watched_though_they_are_not_told() {
    let kube = FakeKube::new(|_, _| None);
    let _life = Life::begin(&kube, "events_enabled = false");
    let watched = || async { kube.requests().contains(&"WATCH events".to_owned()).then_some(()) };
    eventually("events are watched", watched).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_not_configured_any_more_is_not_watched() {
    let kube = FakeKube::new(|_, _| None);
    let life = Life::begin(&kube, "namespaces = ['other']");
    life.sees().await;
    let settings = toml::from_str("namespace = 'default'").unwrap();
    life.backend.reconfigure(&SpawnerSettings::Kubernetes(settings)).unwrap();
    life.backend.tidy(&[].into()).await;
    let (before, launch) = (kube.requests().len(), launch());
    life.start(&launch).await.unwrap();
    assert_eq!(life.backend.list().await.unwrap().len(), 1);
    life.stop(&launch).await;
    assert!(life.backend.trouble().is_none() && kube.requests().len() > before);
}
