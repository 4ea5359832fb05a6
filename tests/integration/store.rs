//! Every query, on both databases.

use chrono::TimeDelta;
use outpost::clock::Clock;
use outpost::error::Error;
use outpost::model::{Environment, Exit, Need, Phase, Server, ServerId, StoredRequest};
use outpost::store::{Advance, Outcome, Ring, Source, Store};
use rstest::rstest;

use crate::support::database::KEY;
use crate::support::{Kind, TestDb, a_server};

fn server(id: &ServerId, clock: &Clock) -> Server {
    Server { id: id.clone(), need: Need::default(), ..a_server(clock) }
}

fn request() -> StoredRequest {
    let env = Environment([("JUPYTERHUB_API_TOKEN".to_owned(), "s3cret".to_owned())].into());
    StoredRequest { env, ..StoredRequest::default() }
}

async fn insert(store: &Store, name: &str, clock: &Clock) -> Server {
    let server = server(&ServerId::new("hüb", name, "0"), clock);
    assert!(store.insert_server(&server, &request()).await.unwrap());
    server
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_server_lives_and_leaves(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let clock = Clock::manual(Clock::System.now() - TimeDelta::days(1));
    let store = db.store(clock.clone()).await;
    let odd = "a/b\\\"'\u{202e}\n ü";
    let one = insert(&store, odd, &clock).await;
    assert!(!store.insert_server(&server(&one.id, &clock), &request()).await.unwrap(), "a second row");

    let found = store.find_server(&one.id).await.unwrap().unwrap();
    assert_eq!(
        (&found.uid, &found.handle, found.phase, found.start_date),
        (&one.uid, &one.handle, Phase::Starting, one.start_date)
    );
    assert!(store.find_server(&ServerId::new("other", odd, "0")).await.unwrap().is_none());
    assert_eq!(store.stored_request(&one.uid).await.unwrap().unwrap().env.get("JUPYTERHUB_API_TOKEN"), Some("s3cret"));

    let running = Advance::Running { address: "h:1", target: "", end_date: None };
    assert_eq!(store.advance(&one.uid, 0, &running).await.unwrap(), Some(1));
    assert_eq!(store.advance(&one.uid, 0, &running).await.unwrap(), None, "from an old generation");
    let exit = Exit { code: Some(-9), early: false, reason: "killed".to_owned() };
    assert_eq!(store.advance(&one.uid, 1, &Advance::Ended(&exit)).await.unwrap(), Some(2));
    assert_eq!(store.advance(&one.uid, 2, &Advance::Owner("you")).await.unwrap(), Some(3));
    let found = store.servers().await.unwrap().remove(0);
    assert_eq!((found.exit, &*found.owner, &*found.address, found.phase), (Some(exit), "you", "h:1", Phase::Ended));
    assert!(store.request_stop(&one.uid).await.unwrap());
    assert!(!store.request_stop(&one.uid).await.unwrap(), "twice");

    clock.advance(TimeDelta::seconds(60));
    let since = clock.now() - TimeDelta::seconds(1);
    assert_eq!(store.changes(since).await.unwrap().0.len(), 0);
    let outcome = Outcome { kind: "stopped", reason: None };
    store.remove_server(&one.uid, &outcome).await.unwrap();
    store.remove_server(&one.uid, &outcome).await.unwrap();
    let two = insert(&store, "", &clock).await;
    let (moved, left) = store.changes(since).await.unwrap();
    assert_eq!((moved[0].uid.clone(), left), (two.uid.clone(), vec![one.uid.clone()]));
    let ended = store.ended(&one.uid).await.unwrap().unwrap();
    assert_eq!((ended.name.as_str(), ended.exit_code, ended.reason.as_deref()), (odd, Some(-9), Some("killed")));
    assert_eq!(store.history(10).await.unwrap().len(), 1);

    let asked = clock.now() + TimeDelta::microseconds(123_456);
    store.touch(&[(two.uid.clone(), asked)]).await.unwrap();
    let found = store.find_server(&two.id).await.unwrap().unwrap();
    assert_eq!((found.last_update, found.generation), (asked, 0));
    assert_eq!(store.prune_history(clock.now() + TimeDelta::seconds(1)).await.unwrap(), 1);
    assert!(store.ended(&one.uid).await.unwrap().is_none());
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn hubs_have_two_passwords(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let store = db.store(Clock::System).await;
    assert!(store.add_hub("hüb").await.unwrap());
    assert!(!store.add_hub("hüb").await.unwrap());
    for hash in ["a", "b", "c"] {
        store.add_password("hüb", Source::Cli, hash, 2).await.unwrap();
    }
    store.add_password("hüb", Source::Env, "d", 2).await.unwrap();
    let hashes = |rows: Vec<outpost::store::PasswordRow>| rows.into_iter().map(|row| row.hash).collect::<Vec<_>>();
    let rows = store.passwords().await.unwrap();
    assert_eq!(hashes(rows.clone()), ["b", "c", "d"]);
    store.remove_password(&rows[2].id).await.unwrap();
    assert_eq!(hashes(store.passwords().await.unwrap()), ["b", "c"]);

    assert_eq!(store.pin_api_url("hüb", "http://one/").await.unwrap().as_deref(), Some("http://one/"));
    assert_eq!(store.pin_api_url("hüb", "http://two/").await.unwrap().as_deref(), Some("http://one/"));
    store.unpin_api_url("hüb").await.unwrap();
    assert_eq!(store.hubs().await.unwrap()[0].api_url, None);
    assert!(store.remove_hub("hüb").await.unwrap());
    assert!(!store.remove_hub("hüb").await.unwrap());
    assert!(store.passwords().await.unwrap().is_empty());
    assert!(store.add_password("hüb", Source::Cli, "x", 2).await.is_err(), "a password of nobody");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn keys_rotate_and_nothing_is_in_clear(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let store = db.store(Clock::System).await;
    let one = insert(&store, "one", &Clock::System).await;
    if kind == Kind::Sqlite {
        store.close().await;
        let bytes = std::fs::read(db.url.trim_start_matches("sqlite:")).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"s3cret"));
    }
    let key = Ring::generate_key();
    assert!(
        matches!(db.open(&[&key], Clock::System).migrate().await, Err(Error::Internal { cause }) if cause.contains("other keys"))
    );
    let both = db.open(&[&key, KEY], Clock::System);
    both.migrate().await.unwrap();
    assert_eq!(both.rotate_keys().await.unwrap(), 1);
    assert_eq!(both.rotate_keys().await.unwrap(), 0);
    let new = db.open(&[&key], Clock::System);
    new.migrate().await.unwrap();
    assert_eq!(new.stored_request(&one.uid).await.unwrap().unwrap().env.get("JUPYTERHUB_API_TOKEN"), Some("s3cret"));
    assert!(db.open(&[KEY], Clock::System).migrate().await.is_err());
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn the_installation_and_its_instances_are_known(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let clock = Clock::manual(Clock::System.now());
    let store = db.store(clock.clone()).await;
    let again = db.store(clock.clone()).await;
    assert_eq!(store.installation().await.unwrap(), again.installation().await.unwrap());
    store.heartbeat("a").await.unwrap();
    clock.advance(TimeDelta::seconds(60));
    store.heartbeat("b").await.unwrap();
    assert_eq!(store.alive().await.unwrap(), ["b"]);
    store.leave("b").await.unwrap();
    assert_eq!(store.alive().await.unwrap(), Vec::<String>::new(), "nobody has to wait until it is missed");
    store.heartbeat("b").await.unwrap();
    assert_eq!(store.alive().await.unwrap(), ["b"]);
    let ours = Server { owner: "a".into(), ..server(&ServerId::new("h", "n", "0"), &clock) };
    store.insert_server(&ours, &request()).await.unwrap();
    assert_eq!(store.prune_instances(clock.now() - TimeDelta::seconds(30)).await.unwrap(), 0, "it has a server");
    store.remove_server(&ours.uid, &Outcome { kind: "stopped", reason: None }).await.unwrap();
    assert_eq!(store.prune_instances(clock.now() - TimeDelta::seconds(30)).await.unwrap(), 1);
    assert_eq!(store.is_shared(), kind == Kind::Postgres);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_wins(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let store = db.store(Clock::System).await;
    let id = ServerId::new("h", "n", "0");
    let inserts = (0..40).map(|_| {
        let (store, server) = (store.clone(), server(&id, &Clock::System));
        tokio::spawn(async move { store.insert_server(&server, &request()).await.unwrap() })
    });
    let mut won = 0;
    for insert in inserts.collect::<Vec<_>>() {
        won += usize::from(insert.await.unwrap());
    }
    assert_eq!(won, 1);
    let uid = store.servers().await.unwrap()[0].uid.clone();
    let moves = (0..40).map(|_| {
        let (store, uid) = (store.clone(), uid.clone());
        tokio::spawn(async move {
            store.advance(&uid, 0, &Advance::Running { address: "h:1", target: "", end_date: None }).await.unwrap()
        })
    });
    let mut moved = 0;
    for advance in moves.collect::<Vec<_>>() {
        moved += usize::from(advance.await.unwrap().is_some());
    }
    assert_eq!(moved, 1);
}
