//! Two daemons on one database, of which the older has an older configuration.

use std::fs;

use super::admin::{call, writer};
use super::*;
use crate::support::database::KEY;
use crate::support::{Kind, TestDb};

/// A daemon whose hub `site` has this password, and this flavor.
fn replica(db: &TestDb, password: &str) -> Daemon {
    let mut daemon = Daemon::new("");
    daemon.set("OUTPOST_CRYPT_KEY", Some(KEY));
    fs::write(daemon.dir().join("password"), password).unwrap();
    fs::write(daemon.dir().join("flavors.yaml"), format!("flavors: {{{password}: {{}}}}")).unwrap();
    daemon.configure(&toml(db, &daemon, ""));
    daemon
}

fn toml(db: &TestDb, daemon: &Daemon, rest: &str) -> String {
    format!(
        "[http]\ndrain_delay = '1h'\n[store]\nurl = '{}'\n[flavors]\nfile = '{}'\n[hubs.site]\npasswords = [{{ file = '{}' }}]\n\
         {rest}{SLEEPER}",
        db.url,
        daemon.dir().join("flavors.yaml").display(),
        daemon.dir().join("password").display()
    )
}

/// How often a daemon has read its configuration anew.
fn reads(daemon: &Daemon) -> usize {
    daemon.stderr().matches("the configuration was read anew").count()
}

async fn flavors(daemon: &Daemon, password: &str) -> Value {
    let request = as_hub(daemon.request(Method::GET, "/flavors"), "site", password);
    send(request).await.unwrap().body
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_configuration_does_not_undo_a_newer_one() {
    let Some(db) = TestDb::new(Kind::Postgres).await else { return };
    let old = replica(&db, "older");
    old.spawn();
    old.up().await;
    until_status(&old, "site", "older", 200).await;
    let mut new = replica(&db, "newer");
    new.set("passwords", Some("changed;two"));
    new.spawn();
    new.up().await;
    until_status(&old, "site", "newer", 200).await;
    until_status(&old, "hub1", "changed", 200).await;
    let in_force = async || {
        let statuses = [("site", "newer"), ("site", "older"), ("hub1", "changed"), ("hub1", "one"), ("hub2", "two")];
        let mut found = Vec::new();
        for (hub, password) in statuses {
            found.push(status_of(&new, hub, password).await);
        }
        assert_eq!(found, [200, 401, 200, 401, 200]);
        assert_eq!(flavors(&new, "newer").await, json!({"newer": {"current": 0}}));
    };
    in_force().await;

    // Something else changes in the old one's file.
    old.configure(&toml(&db, &old, "[hubs.other]\nconcurrent_starts = 1\n"));
    eventually("it was read", || async { (reads(&old) == 1).then_some(()) }).await;
    until_status(&new, "site", "newer", 200).await;
    in_force().await;

    // Who asks the old one wants what it has; but its variables are as old as it is.
    old.signal(Signal::SIGHUP);
    until_status(&new, "site", "older", 200).await;
    eventually("it was read", || async { (reads(&old) == 2).then_some(()) }).await;
    until_status(&new, "hub1", "changed", 200).await;
    assert_eq!(status_of(&new, "hub1", "one").await, 401);

    // One that is to end takes nothing up any more.
    let token = writer(&new).await;
    old.signal(Signal::SIGTERM);
    eventually("it is ending", || async { old.stderr().contains("ending; servers go on").then_some(()) }).await;
    assert_eq!(call(&old, Method::POST, "/reload", &token, &json!(null)).await.status, 503);
    old.signal(Signal::SIGTERM);
    old.wait().await;
}
