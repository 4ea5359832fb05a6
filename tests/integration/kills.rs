//! Outpost is killed at every step; nothing may be forgotten and nothing started twice.

mod random;

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, send, start_of, text};
use crate::support::eventually;

/// A server that does what the hub tells it to, in one process.
const OBEDIENT: &str = "type = 'process'\ncmd = ['sh', '-c', 'eval \"$TEST_DO\"']\nport_from_hub = false\n\
    interrupt_timeout = '400ms'\nterm_timeout = '400ms'\n";
const SLEEP: &str = "exec sleep 600";

fn body(name: &str, start_id: &str, what: &str) -> Value {
    json!({
        "name": name,
        "env": { "JUPYTERHUB_USER": "ada", "JUPYTERHUB_API_TOKEN": "token", "TEST_DO": what },
        "user_options": { "start_id": start_id },
    })
}

/// The processes of each server.
fn processes(daemon: &Daemon) -> BTreeMap<String, Vec<i32>> {
    let mut found: BTreeMap<String, Vec<i32>> = BTreeMap::new();
    for (uid, pid) in daemon.carriers() {
        found.entry(uid).or_default().push(pid);
    }
    found
}

async fn assert_nothing_is_left(daemon: &Daemon) {
    assert_eq!(daemon.rows().await, Vec::<Value>::new());
    assert_eq!(processes(daemon), BTreeMap::new());
    assert_eq!(daemon.directories(), Vec::<String>::new());
}

async fn until_gone(daemon: &Daemon, path: &str) {
    eventually("the server is gone", || async { (daemon.get(path).await.status == 404).then_some(()) }).await;
}

/// Everything between the arrival of a request and a server that runs, in a debug build on a busy machine.
const MOMENTS: [u64; 7] = [0, 5, 15, 40, 90, 200, 450];

#[rstest]
#[case::sync(false, "")]
#[case::asynchronous(true, "")]
#[case::preparation(false, "pre_start = ['sh', '-c', 'sleep 0.3']\n")]
#[case::preparation_async(true, "pre_start = ['sh', '-c', 'sleep 0.3']\n")]
#[case::port(
    false,
    "cmd = ['/usr/bin/python3', '-m', 'http.server']\nargs = ['{port}', '--bind', '{ip}']\nwait_for_port = true\n"
)]
#[case::port_async(
    true,
    "cmd = ['/usr/bin/python3', '-m', 'http.server']\nargs = ['{port}', '--bind', '{ip}']\nwait_for_port = true\n"
)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_start(#[case] asynchronous: bool, #[case] settings: &str) {
    let settings = if settings.contains("cmd =") {
        format!("type = 'process'\nport_from_hub = false\n{settings}")
    } else {
        format!("{OBEDIENT}{settings}")
    };
    let daemon = Daemon::start(&format!("[spawners.local]\n{settings}")).await;
    for moment in MOMENTS {
        let name = format!("after-{moment}");
        let body = body(&name, "1", SLEEP);
        let first = tokio::spawn(send(daemon.post(&body, asynchronous)));
        tokio::time::sleep(Duration::from_millis(moment)).await;
        daemon.kill();
        // Written down before anything is done, so that what runs has a row, at any time.
        let (running, rows) = (processes(&daemon), daemon.rows().await);
        assert!(rows.len() <= 1, "{rows:?}");
        assert!(running.keys().all(|uid| rows.iter().any(|row| row["id"] == **uid)), "{running:?} {rows:?}");
        let recorded = rows.first().and_then(|row| daemon.record(row["id"].as_str().unwrap()));
        let answered = first.await.unwrap().is_ok();
        assert!(!answered || !rows.is_empty(), "a start that was answered is not forgotten");

        daemon.spawn();
        daemon.up().await;
        let again = send(daemon.post(&body, false)).await.unwrap();
        assert_eq!(again.status, 200, "{:?}", again.body);
        assert_eq!(send(daemon.post(&body, false)).await.unwrap().body, again.body);
        let after = daemon.rows().await;
        assert_eq!(
            (after.len(), &after[0]["phase"], &after[0]["address"]),
            (1, &json!("running"), &again.body["service"])
        );
        if let Some(before) = rows.first() {
            assert_eq!(after[0]["id"], before["id"]);
        }
        let uid = after[0]["id"].as_str().unwrap().to_owned();
        let now = processes(&daemon);
        assert_eq!(now.iter().map(|(uid, pids)| (uid, pids.len())).collect::<Vec<_>>(), [(&uid, 1)], "{now:?}");
        if let Some(pid) = recorded.as_ref().and_then(|record| record["server"]["pid"].as_i64()) {
            assert_eq!(i64::from(now[&uid][0]), pid, "the server is the one that was there");
        }
        let path = format!("/services/{name}/1");
        assert_eq!(daemon.get(&path).await.body, json!({"status": null, "logs": []}));
        assert_eq!(send(daemon.delete(&path, false)).await.unwrap().status, 200);
        assert_eq!(daemon.get(&path).await.status, 404);
        assert_nothing_is_left(&daemon).await;
    }
}

#[rstest]
#[case::sync(false)]
#[case::asynchronous(true)]
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_start_and_stopped_at_once(#[case] asynchronous: bool) {
    let daemon = Daemon::start(&format!("[spawners.local]\n{OBEDIENT}pre_start = ['sh', '-c', 'sleep 0.1']\n")).await;
    for moment in MOMENTS {
        let name = format!("after-{moment}");
        let first = tokio::spawn(send(daemon.post(&body(&name, "1", SLEEP), true)));
        tokio::time::sleep(Duration::from_millis(moment)).await;
        daemon.restart().await;
        let path = format!("/services/{name}/1");
        let status = send(daemon.delete(&path, asynchronous)).await.unwrap().status;
        let expected = if asynchronous { 202 } else { 200 };
        assert!(status == expected || status == 404, "{status}");
        assert!(status != 404 || first.await.unwrap().is_err(), "a start that was answered is not forgotten");
        until_gone(&daemon, &path).await;
        assert_nothing_is_left(&daemon).await;
    }
}

#[rstest]
#[case::sync(false, "trap \"\" INT; exec sleep 600")]
#[case::asynchronous(true, "trap \"\" INT; exec sleep 600")]
#[case::stubborn(false, "trap \"\" INT TERM; exec sleep 600")]
#[case::stubborn_async(true, "trap \"\" INT TERM; exec sleep 600")]
#[tokio::test(flavor = "multi_thread")]
async fn killed_in_a_stop(#[case] asynchronous: bool, #[case] server: &str) {
    let daemon = Daemon::start(&format!("[spawners.local]\n{OBEDIENT}")).await;
    for moment in [0, 5, 20, 100, 300, 600, 900] {
        let name = format!("after-{moment}");
        let path = format!("/services/{name}/1");
        assert_eq!(send(daemon.post(&body(&name, "1", server), false)).await.unwrap().status, 200);
        let uid = daemon.rows().await[0]["id"].clone();
        let stop = tokio::spawn(send(daemon.delete(&path, asynchronous)));
        tokio::time::sleep(Duration::from_millis(moment)).await;
        daemon.kill();
        let rows = daemon.rows().await;
        assert!(processes(&daemon).keys().all(|uid| rows.iter().any(|row| row["id"] == **uid)), "{rows:?}");
        let answered = stop.await.unwrap().is_ok();
        daemon.spawn();
        daemon.up().await;
        if !answered {
            let again = send(daemon.delete(&path, false)).await.unwrap().status;
            assert!(again == 200 || again == 404, "{again}");
        }
        until_gone(&daemon, &path).await;
        assert_nothing_is_left(&daemon).await;
        let ended = daemon.ended().await;
        assert_eq!(ended.iter().filter(|row| row["id"] == uid).count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_that_was_answered_is_not_forgotten() {
    let daemon = Daemon::start(&format!("[spawners.local]\n{OBEDIENT}")).await;
    for round in 0..10 {
        let name = format!("round-{round}");
        let path = format!("/services/{name}/1");
        assert_eq!(send(daemon.post(&body(&name, "1", SLEEP), false)).await.unwrap().status, 200);
        assert_eq!(send(daemon.delete(&path, true)).await.unwrap().status, 202);
        daemon.restart().await;
        until_gone(&daemon, &path).await;
        assert_nothing_is_left(&daemon).await;
    }
}

/// The server's process, after its start was answered.
fn pid_of(daemon: &Daemon) -> i32 {
    let found = daemon.carriers();
    assert_eq!(found.len(), 1, "{found:?}");
    found[0].1
}

#[rstest]
#[case::gently(true)]
#[case::killed(false)]
#[tokio::test(flavor = "multi_thread")]
async fn servers_outlive_outpost(#[case] gently: bool) {
    let daemon = Daemon::start(&format!("[spawners.local]\n{OBEDIENT}")).await;
    let (lab, path) = (body("lab", "1", SLEEP), "/services/lab/1");
    let started = send(daemon.post(&lab, false)).await.unwrap();
    let (pid, rows) = (pid_of(&daemon), daemon.rows().await);
    let end = async || {
        if gently {
            assert!(daemon.terminate().await.success());
        } else {
            daemon.kill();
        }
    };
    end().await;
    assert!(start_of(pid).is_some());
    daemon.spawn();
    daemon.up().await;
    assert_eq!(daemon.get(path).await.body, json!({"status": null, "logs": []}));
    assert_eq!(send(daemon.post(&lab, false)).await.unwrap().body, started.body);
    assert_eq!((pid_of(&daemon), daemon.rows().await[0]["id"].clone()), (pid, rows[0]["id"].clone()));

    // One that ends while nobody looks: its code is known all the same.
    let quitter = body("quitter", "1", "sleep 0.5; echo enough; trap 'exit 7' TERM; sleep 600 & wait");
    assert_eq!(send(daemon.post(&quitter, false)).await.unwrap().status, 200);
    eventually("the server has begun", || async {
        let logs = daemon.get("/services/quitter/1?collect_logs=true").await.body["logs"].to_string();
        logs.contains("enough").then_some(())
    })
    .await;
    end().await;
    let quitter = rows_by_name(&daemon, "quitter").await;
    let server = daemon.record(&quitter).unwrap()["server"]["pid"].as_i64().unwrap();
    let server = i32::try_from(server).unwrap();
    kill(Pid::from_raw(server), Signal::SIGTERM).unwrap();
    eventually("the server has ended", || async { start_of(server).is_none().then_some(()) }).await;
    daemon.spawn();
    daemon.up().await;
    eventually("the end is known", || async {
        (daemon.get("/services/quitter/1").await.body["status"] == 7).then_some(())
    })
    .await;

    // One that is killed from outside.
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    eventually("the end is known", || async { (daemon.get(path).await.body["status"] == -9).then_some(()) }).await;
    end().await;
    daemon.spawn();
    daemon.up().await;
    assert_eq!(daemon.get(path).await.body["status"], -9);
    for path in [path, "/services/quitter/1"] {
        assert_eq!(send(daemon.delete(path, false)).await.unwrap().status, 200);
    }
    assert_nothing_is_left(&daemon).await;
    let ended = daemon.ended().await;
    let codes: BTreeMap<_, _> = ended.iter().map(|row| (row["name"].as_str().unwrap(), &row["exit_code"])).collect();
    assert_eq!(codes, [("lab", &json!(-9)), ("quitter", &json!(7))].into());
}

async fn rows_by_name(daemon: &Daemon, name: &str) -> String {
    let rows = daemon.rows().await;
    rows.iter().find(|row| row["name"] == name).unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_has_one_daemon() {
    let daemon = Daemon::start("").await;
    let refused = daemon.run(&["serve"]).await;
    assert_eq!(refused.status.code(), Some(1));
    let (said, expected) = (
        text(&refused.stderr),
        format!("outpost: another Outpost is running with the state directory {}\n", daemon.state().display()),
    );
    assert_eq!(said, expected);
    assert_eq!(daemon.get("/services").await.status, 200);
    daemon.kill();
    daemon.spawn();
    daemon.up().await;
}
