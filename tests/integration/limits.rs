//! Limits, the queue, run-time ends and versions in the store, on both databases.

use std::sync::Arc;

use chrono::TimeDelta;
use outpost::clock::Clock;
use outpost::model::{Counted, Need, OfFlavor, Phase, Quota, Scope, Server, ServerId, StoredRequest, Uid};
use outpost::store::{Advance, Claim, Claimed, NewVersion, Outcome, Store, Turn, Waiting};
use rstest::rstest;
use serde_json::{Map, json};

use crate::support::{Kind, TestDb, a_server};

fn server(clock: &Clock, hub: &str, user_id: i64, flavor: &str) -> Server {
    let uid = Uid::generate();
    Server {
        id: ServerId::new(hub, uid.as_str(), "0"),
        uid,
        user_id,
        user: format!("user{user_id}").into(),
        flavor: Some(flavor.into()),
        ..a_server(clock)
    }
}

fn scope(hub: Option<&str>, user_id: Option<i64>, group: Option<&str>, flavor: Option<&str>) -> Scope {
    Scope { hub: hub.map(Into::into), user_id, group: group.map(Into::into), flavor: flavor.map(Into::into) }
}

fn quota(scope: Scope, counted: Counted, limit: i64) -> Quota {
    Quota { scope, counted, limit, source: "test".into() }
}

fn max(limit: i64) -> Quota {
    quota(scope(Some("h1"), None, None, Some("big")), Counted::Servers, limit)
}

struct Bench {
    store: Store,
    clock: Clock,
    _db: TestDb,
}

impl Bench {
    async fn new(kind: Kind) -> Option<Self> {
        let db = TestDb::new(kind).await?;
        let clock = Clock::manual(Clock::System.now());
        let store = db.store(clock.clone()).await;
        store.add_hub("h1").await.unwrap();
        store.add_hub("h2").await.unwrap();
        store.heartbeat("me").await.unwrap();
        Some(Self { store, clock, _db: db })
    }

    async fn claim(&self, server: &Server, quotas: &[Quota], groups: &[&str], queue: bool) -> Claimed {
        let groups: Vec<Arc<str>> = groups.iter().map(|group| Arc::from(*group)).collect();
        let request = StoredRequest::default();
        let authentication = Map::from_iter([("name".to_owned(), json!("s3cret"))]);
        let queue = queue.then_some(&authentication);
        self.store.claim(&Claim { server, request: &request, quotas, groups: &groups, queue }).await.unwrap()
    }

    /// Claims a place for a new server of `h1` with the flavor `big`.
    async fn one(&self, user_id: i64, quotas: &[Quota], queue: bool) -> (Server, Claimed) {
        self.clock.advance(TimeDelta::milliseconds(1));
        let server = server(&self.clock, "h1", user_id, "big");
        let claimed = self.claim(&server, quotas, &[], queue).await;
        (server, claimed)
    }
}

fn used(claimed: &Claimed) -> Vec<i64> {
    match claimed {
        Claimed::Full(full) => full.exceeded.iter().map(|(_, used)| *used).collect(),
        other => panic!("{other:?}"),
    }
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn each_scope_counts_its_own_servers(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let none = [];
    // Two of user 1 on h1 (one in the group), one of user 2 on h1, one of user 1 on h2 with another flavor.
    for (hub, user, flavor, groups) in [
        ("h1", 1, "big", &["physics", "staff"][..]),
        ("h1", 1, "big", &[]),
        ("h1", 2, "big", &["physics"]),
        ("h2", 1, "small", &["physics"]),
    ] {
        let server = server(&bench.clock, hub, user, flavor);
        assert_eq!(bench.claim(&server, &none, groups, false).await, Claimed::Starting);
    }
    let zero = |scope: Scope, counted| quota(scope, counted, 0);
    let quotas = [
        zero(scope(Some("h1"), Some(1), None, Some("big")), Counted::Servers),
        zero(scope(Some("h1"), None, None, Some("big")), Counted::Servers),
        zero(scope(None, None, None, Some("big")), Counted::Servers),
        zero(scope(Some("h1"), Some(1), None, None), Counted::Cpu),
        zero(scope(Some("h1"), None, Some("physics"), None), Counted::Memory),
        zero(scope(None, None, Some("physics"), None), Counted::Gpus),
        zero(scope(Some("h2"), None, None, None), Counted::Servers),
        zero(scope(Some("h2"), None, None, Some("big")), Counted::Servers),
    ];
    let (_, claimed) = bench.one(1, &quotas, false).await;
    assert_eq!(used(&claimed), [2, 3, 3, 3000, 2 << 30, 3, 1, 0]);
    let without = Server { flavor: None, ..server(&bench.clock, "h1", 1, "") };
    assert_eq!(bench.claim(&without, &none, &["physics"], false).await, Claimed::Starting);
    let undefined = |defined: &[&str]| {
        let defined = defined.iter().map(|name| Arc::from(*name)).collect();
        let scope = Scope { flavor: Some(OfFlavor::Undefined { defined }), ..scope(Some("h1"), None, None, None) };
        zero(scope, Counted::Servers)
    };
    let quotas = [undefined(&["big"]), undefined(&["small", "other"]), undefined(&[])];
    let (_, undefined) = bench.one(1, &quotas, false).await;
    assert_eq!(used(&undefined), [1, 4, 4], "other flavors than these, and none, together");
    let Claimed::Full(full) = claimed else { unreachable!() };
    assert_eq!(full.own.len(), 2, "the user's own servers on that hub: {full:?}");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn only_servers_that_start_or_run_count(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let store = &bench.store;
    let (first, claimed) = bench.one(1, &[max(1)], false).await;
    assert_eq!(claimed, Claimed::Starting);
    assert_eq!(bench.claim(&first, &[max(1)], &[], false).await, Claimed::Exists);
    assert_eq!(used(&bench.one(2, &[max(1)], false).await.1), [1]);
    let generation = store
        .advance(&first.uid, 0, &Advance::Running { address: "h:1", target: "", end_date: None })
        .await
        .unwrap()
        .unwrap();
    assert_eq!(used(&bench.one(2, &[max(1)], false).await.1), [1]);
    // One that ended by itself takes nothing up, though its row waits for the hub.
    let exit = outpost::model::Exit { code: Some(1), early: false, reason: String::new() };
    store.advance(&first.uid, generation, &Advance::Ended(&exit)).await.unwrap().unwrap();
    let (second, claimed) = bench.one(2, &[max(1)], false).await;
    assert_eq!(claimed, Claimed::Starting);
    store.request_stop(&second.uid).await.unwrap();
    let (third, claimed) = bench.one(3, &[max(1)], false).await;
    assert_eq!(claimed, Claimed::Starting);
    store.remove_server(&third.uid, &Outcome::of_stop(Phase::Running)).await.unwrap();
    assert_eq!(bench.one(4, &[max(1)], false).await.1, Claimed::Starting);
    assert_eq!(used(&bench.one(4, &[max(0)], false).await.1), [1], "0 is a limit");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_at_the_same_time_never_overshoot(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let bench = Arc::new(bench);
    let limits = [max(7), quota(scope(None, None, None, Some("big")), Counted::Servers, 11)];
    let claims = (0..60).map(|at| {
        let (bench, limits) = (bench.clone(), limits.clone());
        tokio::spawn(async move {
            let hub = if at % 2 == 0 { "h1" } else { "h2" };
            let server = server(&bench.clock, hub, at, "big");
            let limits = if at % 2 == 0 { &limits[..] } else { &limits[1..] };
            bench.claim(&server, limits, &[], false).await == Claimed::Starting
        })
    });
    let claims: Vec<_> = claims.collect();
    let mut started = 0;
    for claim in claims {
        started += i32::from(claim.await.unwrap());
    }
    assert_eq!(started, 11, "every place is taken, and none twice");
    let servers = bench.store.servers().await.unwrap();
    assert!(servers.iter().filter(|server| &*server.id.hub == "h1").count() <= 7);
}

fn turns(turns: &[Turn]) -> Vec<u64> {
    turns
        .iter()
        .map(|turn| match turn {
            Turn::Starts { .. } => 0,
            Turn::Waits { position, .. } => *position,
            Turn::Hopeless(_) => 77,
            Turn::Later => 88,
            Turn::Gone => 99,
        })
        .collect()
}

fn waiting(server: &Server, quotas: &[Quota]) -> Waiting {
    let request = StoredRequest { authentication: Some(Map::new()), ..StoredRequest::default() };
    Waiting { server: server.clone(), request, quotas: quotas.to_vec(), groups: Vec::new(), ours: true }
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn first_come_first_served(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let limits = [max(1)];
    let (running, _) = bench.one(1, &limits, true).await;
    let (mut queued, mut given) = (Vec::new(), Vec::new());
    for user in 2..5 {
        let (server, claimed) = bench.one(user, &limits, true).await;
        assert_eq!(claimed, Claimed::Queued);
        given.push(waiting(&server, &limits));
        queued.push(server);
    }
    let take = || async { turns(&bench.store.take_turns(&given).await.unwrap()) };
    assert_eq!(take().await, [1, 2, 3]);
    bench.store.request_stop(&running.uid).await.unwrap();
    // The place is free, but it belongs to those who wait.
    assert_eq!(bench.one(9, &limits, true).await.1, Claimed::Queued);
    let sync = Server { asynchronous: false, ..server(&bench.clock, "h1", 10, "big") };
    let Claimed::Full(full) = bench.claim(&sync, &limits, &[], true).await else { panic!("it cannot wait") };
    assert_eq!((full.exceeded.len(), full.waiting, full.queue_is_full), (0, 4, false));
    bench.store.request_stop(&queued[1].uid).await.unwrap();
    assert_eq!(take().await, [0, 99, 1]);
    let row = bench.store.find_server(&queued[0].id).await.unwrap().unwrap();
    assert_eq!((row.phase, row.generation), (Phase::Starting, 1));
    let kept = async |at: usize| bench.store.stored_request(&queued[at].uid).await.unwrap().unwrap().authentication;
    assert_eq!((kept(0).await, kept(2).await.unwrap()["name"].clone()), (None, json!("s3cret")), "only while it waits");
    assert_eq!(take().await, [99, 99, 1]);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn who_waits_for_a_limit_of_his_own_holds_up_nobody(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let limits = |user| [quota(scope(Some("h1"), Some(user), None, Some("big")), Counted::Servers, 1), max(2)];
    bench.one(1, &limits(1), true).await;
    let (again, claimed) = bench.one(1, &limits(1), true).await;
    assert_eq!(claimed, Claimed::Queued);
    let sync = Server { asynchronous: false, ..server(&bench.clock, "h1", 3, "big") };
    assert_eq!(bench.claim(&sync, &limits(3), &[], true).await, Claimed::Starting);
    bench.store.request_stop(&sync.uid).await.unwrap();
    assert_eq!(turns(&bench.store.take_turns(&[waiting(&again, &limits(1))]).await.unwrap()), [1]);
    assert_eq!(bench.one(2, &limits(2), true).await.1, Claimed::Starting);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn who_needs_more_is_not_passed_by_who_needs_less(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let gpus = [quota(scope(Some("h1"), None, None, None), Counted::Gpus, 4)];
    let need = |gpus| Need { gpus, ..Need::default() };
    let big = Server { need: need(3), ..server(&bench.clock, "h1", 1, "big") };
    assert_eq!(bench.claim(&big, &gpus, &[], true).await, Claimed::Starting);
    let second = Server { need: need(3), ..server(&bench.clock, "h1", 2, "big") };
    assert_eq!(bench.claim(&second, &gpus, &[], true).await, Claimed::Queued);
    let small = Server { need: need(1), ..server(&bench.clock, "h1", 3, "big") };
    assert_eq!(bench.claim(&small, &gpus, &[], true).await, Claimed::Queued);
    let given = [waiting(&second, &gpus), waiting(&small, &gpus)];
    assert_eq!(turns(&bench.store.take_turns(&given).await.unwrap()), [1, 2]);
    // What is more than there ever is does not wait for it.
    let huge = Server { need: need(5), ..server(&bench.clock, "h1", 4, "big") };
    assert!(matches!(bench.claim(&huge, &gpus, &[], true).await, Claimed::Full(_)));
    // Nor by one of another flavor that has the same limit.
    let other = Server { need: need(1), ..server(&bench.clock, "h1", 5, "small") };
    let Claimed::Full(full) = bench.claim(&other, &gpus, &[], false).await else { panic!("it overtakes") };
    assert_eq!((full.exceeded.len(), full.waiting), (0, 2));
    // The limit became smaller than what the first one needs: it holds up nobody with that.
    let fewer = [quota(scope(Some("h1"), None, None, None), Counted::Gpus, 2)];
    bench.store.request_stop(&big.uid).await.unwrap();
    let given_fewer = [waiting(&second, &fewer), waiting(&small, &fewer)];
    let given_turns = bench.store.take_turns(&given_fewer).await.unwrap();
    assert_eq!(turns(&given_turns), [77, 0]);
    assert_eq!(given_turns[0], Turn::Hopeless(vec![(fewer[0].clone(), 0)]));
    assert_eq!(turns(&bench.store.take_turns(&given).await.unwrap()), [0, 99]);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_long_queue_has_an_end_and_is_looked_at_in_parts(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let (running, _) = bench.one(1, &[max(1)], true).await;
    let mut given = Vec::new();
    for at in 0..70 {
        let (server, claimed) = bench.one(2 + at / 20, &[max(1)], true).await;
        assert_eq!(claimed, Claimed::Queued);
        given.push(waiting(&server, &[max(100)]));
    }
    let Claimed::Full(full) = bench.one(2, &[max(1)], true).await.1 else { panic!("it waits, too") };
    assert!(full.queue_is_full);
    bench.store.request_stop(&running.uid).await.unwrap();
    let first = turns(&bench.store.take_turns(&given).await.unwrap());
    assert_eq!((first.iter().filter(|turn| **turn == 0).count(), first[50]), (50, 88));
    let then = turns(&bench.store.take_turns(&given[50..]).await.unwrap());
    assert_eq!(then, [0; 20]);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn the_turn_of_another_outpost_is_left_to_it(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let limits = [max(1)];
    let (running, _) = bench.one(1, &limits, true).await;
    let (theirs, _) = bench.one(2, &limits, true).await;
    let (ours, _) = bench.one(3, &limits, true).await;
    bench.store.request_stop(&running.uid).await.unwrap();
    let given = [Waiting { ours: false, ..waiting(&theirs, &limits) }, waiting(&ours, &limits)];
    assert_eq!(turns(&bench.store.take_turns(&given).await.unwrap()), [1, 2]);
    let two = [Waiting { ours: false, ..waiting(&theirs, &[max(2)]) }, waiting(&ours, &[max(2)])];
    assert_eq!(turns(&bench.store.take_turns(&two).await.unwrap()), [1, 0], "there is a place for each");
    bench.store.request_stop(&ours.uid).await.unwrap();
    // An Outpost that is gone holds up nobody: it is not given then, and what it has in the queue does not count.
    bench.clock.advance(TimeDelta::seconds(60));
    bench.store.heartbeat("other").await.unwrap();
    assert_eq!(bench.one(4, &limits, true).await.1, Claimed::Starting);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_time_that_is_over_ends_a_server_unless_it_got_more(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let (store, clock) = (&bench.store, &bench.clock);
    let hour = TimeDelta::hours(1);
    let mut server = server(clock, "h1", 1, "big");
    server.runtime = Some(hour.to_std().unwrap());
    server.end_date = Some(clock.now() + hour);
    bench.claim(&server, &[max(5)], &[], false).await;
    clock.advance(TimeDelta::minutes(5));
    let end = clock.now() + hour;
    store
        .advance(&server.uid, 0, &Advance::Running { address: "h:1", target: "", end_date: Some(end) })
        .await
        .unwrap()
        .unwrap();
    let row = store.find_server(&server.id).await.unwrap().unwrap();
    assert_eq!((row.end_date, row.runtime), (Some(end), server.runtime), "it counts from when it runs");
    assert_eq!(store.warned_of(&server.uid).await.unwrap(), None);
    store.note_warning(&server.uid, end).await.unwrap();
    assert_eq!(store.warned_of(&server.uid).await.unwrap(), Some(end));
    clock.advance(hour);
    assert!(store.extend_server(&server.uid, Some(end), Some(clock.now() + hour)).await.unwrap());
    assert!(!store.extend_server(&server.uid, Some(end), None).await.unwrap(), "that is not its end any more");
    assert!(!store.expire_server(&server.uid).await.unwrap());
    clock.advance(hour);
    assert!(store.expire_server(&server.uid).await.unwrap());
    assert!(!store.expire_server(&server.uid).await.unwrap());
    assert!(!store.extend_server(&server.uid, Some(clock.now()), None).await.unwrap(), "it is being stopped");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_run_time_begins_with_the_turn(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let (running, _) = bench.one(1, &[max(1)], true).await;
    let mut late = server(&bench.clock, "h1", 2, "big");
    late.runtime = Some(std::time::Duration::from_secs(3600));
    late.end_date = Some(bench.clock.now() + TimeDelta::hours(1));
    assert_eq!(bench.claim(&late, &[max(1)], &[], true).await, Claimed::Queued);
    let end = bench.store.find_server(&late.id).await.unwrap().unwrap().end_date;
    assert!(!bench.store.extend_server(&late.uid, end, None).await.unwrap(), "it has not begun");
    bench.clock.advance(TimeDelta::hours(5));
    bench.store.heartbeat("me").await.unwrap();
    bench.store.request_stop(&running.uid).await.unwrap();
    assert_eq!(turns(&bench.store.take_turns(&[waiting(&late, &[max(1)])]).await.unwrap()), [0]);
    let row = bench.store.find_server(&late.id).await.unwrap().unwrap();
    assert_eq!((row.start_date, row.end_date), (bench.clock.now(), Some(bench.clock.now() + TimeDelta::hours(1))));
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn every_change_is_a_version_and_the_first_one_wins(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let store = &bench.store;
    let new = |replaces, document, digest| NewVersion {
        kind: "flavors",
        replaces,
        document,
        author: "cli:root",
        summary: "s",
        digest,
    };
    assert_eq!(store.definitions("flavors").await.unwrap(), None);
    assert!(store.add_definitions(&new(0, "{}", Some("d"))).await.unwrap());
    assert!(!store.add_definitions(&new(0, "[]", None)).await.unwrap());
    assert!(!store.add_definitions(&new(5, "[]", None)).await.unwrap());
    assert!(store.add_definitions(&new(1, "{\"a\":1}", None)).await.unwrap());
    let newest = store.definitions("flavors").await.unwrap().unwrap();
    assert_eq!((newest.version, newest.document.as_str()), (2, "{\"a\":1}"));
    assert_eq!(store.definitions_at("flavors", 1).await.unwrap().unwrap().document, "{}");
    assert_eq!(store.applied_digest("flavors").await.unwrap().as_deref(), Some("d"));
    assert_eq!(store.newest_definitions().await.unwrap(), [("flavors".to_owned(), 2)]);
    let versions: Vec<_> = store.definition_versions("flavors").await.unwrap().iter().map(|one| one.version).collect();
    assert_eq!(versions, [2, 1]);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_limit_of_a_group_counts_those_who_waited_before_it_was_made(#[case] kind: Kind) {
    let Some(bench) = Bench::new(kind).await else { return };
    let (running, _) = bench.one(1, &[max(1)], true).await;
    let of_group = [quota(scope(Some("h1"), None, Some("course"), None), Counted::Servers, 1)];
    let mut given = Vec::new();
    for user in 2..5 {
        let (server, _) = bench.one(user, &[max(1)], true).await;
        given.push(Waiting { groups: vec!["course".into()], ..waiting(&server, &of_group) });
    }
    bench.store.request_stop(&running.uid).await.unwrap();
    assert_eq!(turns(&bench.store.take_turns(&given).await.unwrap()), [0, 1, 2]);
    assert_eq!(turns(&bench.store.take_turns(&given[1..]).await.unwrap()), [1, 2], "the one that runs counts");
    // One that another Outpost took over has its turn there.
    bench.store.request_stop(&given[0].server.uid).await.unwrap();
    let taken = Advance::Owner("other");
    assert!(bench.store.advance(&given[1].server.uid, 0, &taken).await.unwrap().is_some());
    assert_eq!(turns(&bench.store.take_turns(&given[1..]).await.unwrap()), [99, 0]);
}
