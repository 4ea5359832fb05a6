//! Several Outposts on one database: one of them asks, and another goes on when it is gone.

use std::time::Duration;

use nix::sys::signal::Signal;
use sqlx::{Connection as _, PgConnection};

use super::{TUNNEL, asked, names, site, states, until};
use crate::support::daemon::Daemon;
use crate::support::database::KEY;
use crate::support::{Behaviour, FakeHub, Kind, TestOutpost, eventually, within};

#[tokio::test(flavor = "multi_thread")]
async fn two_that_start_at_once_ask_once() {
    let hub = FakeHub::start().await;
    hub.behave(Behaviour::Slow(Duration::from_millis(100)));
    let Some((db, toml)) = site(Kind::Postgres, &[(&hub, 60)]).await else { return };
    let toml = format!("[tasks]\nconcurrent_tunnels = 3\nrefresh = '200ms'\n{toml}");
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let (one, two) = tokio::join!(
        TestOutpost::start_in(dirs[0].path(), &db.url, &toml),
        TestOutpost::start_in(dirs[1].path(), &db.url, &toml),
    );
    until(&one, "hub1", &[("made", 60)]).await;
    // Both know it, whoever asked.
    for outpost in [&one, &two] {
        eventually("it is known", || async {
            let entries = outpost.outpost.view.all();
            entries.iter().all(|entry| entry.server().tunnel.state == outpost::model::TunnelState::Made).then_some(())
        })
        .await;
    }
    assert_eq!((asked(&hub), hub.most_at_once()), (names(60), 3));

    // One that is restarted alone asks for all, since hubs may have been connected to it.
    two.stop().await;
    let two = TestOutpost::start_in(dirs[1].path(), &db.url, &toml).await;
    eventually("all are asked for again", || async { (asked(&hub).len() == 120).then_some(()) }).await;
    until(&two, "hub1", &[("made", 60)]).await;
}

/// Which instance asks.
async fn holder(url: &str) -> Option<String> {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::query_scalar("SELECT holder FROM leases WHERE name = 'tunnels'")
        .fetch_optional(&mut connection)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_one_that_asks_is_killed_another_goes_on() {
    let hub = FakeHub::start().await;
    hub.behave(Behaviour::Slow(Duration::from_millis(500)));
    let Some((db, toml)) = site(Kind::Postgres, &[(&hub, 60)]).await else { return };
    let keys = tempfile::tempdir().unwrap();
    let key = keys.path().join("key");
    std::fs::write(&key, KEY).unwrap();
    let toml = format!(
        "[store]\nurl = '{}'\nkeys = [{{ file = '{}' }}]\n[spawners.local]\ntype = 'memory'\n[tasks]\nconcurrent_tunnels = 2\n{toml}",
        db.url,
        key.display()
    );
    let (one, two) = tokio::join!(Daemon::start(&toml), Daemon::start(&toml));
    hub.wait_for_calls(TUNNEL, 10).await;
    let holder = holder(&db.url).await.unwrap();
    let instance =
        |daemon: &Daemon| std::fs::read_to_string(daemon.state().join("instance")).unwrap().trim().to_owned();
    let (holder, other) = if instance(&one) == holder { (&one, &two) } else { (&two, &one) };
    holder.kill();
    let killed_at = asked(&hub).len();
    let store = db.store(outpost::clock::Clock::System).await;
    within(Duration::from_secs(60), "the other has asked for the rest", || async {
        let servers = store.servers().await.unwrap();
        servers.iter().all(|server| server.tunnel.state == outpost::model::TunnelState::Made).then_some(())
    })
    .await;
    let calls = asked(&hub).len();
    assert!(killed_at < 60, "the holder was to be killed in the middle");
    // Those that were under way, or whose answers were not written down yet, are asked for twice.
    assert!((60..=65).contains(&calls), "{calls} questions for 60 servers");
    let rows = other.rows().await;
    assert!(rows.iter().all(|row| row["tunnel"] == "made"), "{rows:?}");
    other.signal(Signal::SIGTERM);
    other.wait().await;
}

/// One that ends gently leaves the lease to the next.
#[tokio::test(flavor = "multi_thread")]
async fn the_lease_is_given_back() {
    let hub = FakeHub::start().await;
    let Some((db, toml)) = site(Kind::Postgres, &[(&hub, 3)]).await else { return };
    let outpost = TestOutpost::start_with(db, &toml).await;
    until(&outpost, "hub1", &[("made", 3)]).await;
    let store = outpost.outpost.store.clone();
    let time = chrono::TimeDelta::zero();
    eventually("anybody may have it", || async {
        store.lease("tunnels", "somebody else", time).await.unwrap().then_some(())
    })
    .await;
    assert_eq!(states(&outpost, "hub1").await, [("made".to_owned(), 3)].into());
}
