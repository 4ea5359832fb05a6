//! How the daemon ends where requests come through somebody who has to notice first.

use std::fs;

use nix::sys::signal::Signal;
use reqwest::header::CONNECTION;
use serde_json::json;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};

use super::{SLEEPER, body, send, start_of};
use crate::support::daemon::{Daemon, free_port};
use crate::support::eventually;

/// What an ending Outpost says when it is asked whether it is ready.
async fn until_it_is_ending(daemon: &Daemon) {
    eventually("it says that it is ending", || async {
        let ready = send(daemon.admin("/readyz")).await.unwrap();
        (ready.status == 503).then(|| assert_eq!(ready.body, json!({"ready": false, "reasons": ["it is ending"]})))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_served_until_everybody_has_noticed() {
    let port = free_port();
    let daemon =
        Daemon::start(&format!("[http]\ndrain_delay = '4s'\n[ssh]\nlisten = '127.0.0.1:{port}'\n{SLEEPER}")).await;
    let before = send(daemon.post(&body("before"), false)).await.unwrap();
    assert!(before.status == 200 && before.headers.get(CONNECTION).is_none(), "{before:?}");
    eventually("it is ready", || async { (send(daemon.admin("/readyz")).await.unwrap().status == 200).then_some(()) })
        .await;
    daemon.signal(Signal::SIGTERM);
    until_it_is_ending(&daemon).await;
    let polled = daemon.get("/services/before/1").await;
    assert_eq!((polled.status.as_u16(), &polled.body["status"]), (200, &json!(null)));
    assert_eq!(polled.headers[CONNECTION], "close", "the next request is for another");
    assert_eq!(send(daemon.post(&body("after"), true)).await.unwrap().status, 202);
    let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let mut banner = [0; 8];
    client.read_exact(&mut banner).await.unwrap();
    assert_eq!(&banner, b"SSH-2.0-");
    assert!(daemon.wait().await.success());
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err());

    daemon.spawn();
    daemon.up().await;
    for name in ["before", "after"] {
        assert_eq!(daemon.get(&format!("/services/{name}/1")).await.body["status"], json!(null), "{name}");
        assert_eq!(send(daemon.delete(&format!("/services/{name}/1"), false)).await.unwrap().status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_at_once() {
    let daemon = Daemon::start(&format!("[http]\ndrain_delay = '1h'\n{SLEEPER}")).await;
    daemon.signal(Signal::SIGTERM);
    until_it_is_ending(&daemon).await;
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.wait().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_are_answered_as_long_as_a_start_is_waited_for() {
    let daemon = Daemon::new("");
    let go = daemon.dir().join("go");
    let waits = format!("pre_start = ['sh', '-c', 'until [ -e {} ]; do sleep 0.1; done']\n", go.display());
    daemon.configure(&format!("{SLEEPER}{waits}"));
    daemon.spawn();
    daemon.up().await;
    let start = tokio::spawn(send(daemon.post(&body("lab"), false)));
    eventually("it starts", || async { (daemon.rows().await.len() == 1).then_some(()) }).await;
    daemon.signal(Signal::SIGTERM);
    until_it_is_ending(&daemon).await;
    eventually("nothing new is taken", || async {
        send(daemon.post(&body("late"), true)).await.is_err().then_some(())
    })
    .await;
    until_it_is_ending(&daemon).await;
    assert_eq!(send(daemon.admin("/healthz")).await.unwrap().status, 200);
    fs::write(go, "").unwrap();
    let started = start.await.unwrap().unwrap();
    assert_eq!(started.status, 200, "{started:?}");
    assert!(daemon.wait().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn those_who_wait_for_a_place_get_it_while_a_start_is_waited_for() {
    let daemon = Daemon::new("");
    let (go, flavors) = (daemon.dir().join("go"), daemon.dir().join("flavors.yaml"));
    fs::write(&flavors, "flavors: {gpu: {max: 1, queue: true}, cpu: {}}").unwrap();
    let waits = format!("[ $JUPYTERHUB_USER != slow ] || until [ -e {} ]; do sleep 0.1; done", go.display());
    daemon.configure(&format!(
        "[http]\nshutdown_timeout = '10m'\n[flavors]\nfile = '{}'\n{SLEEPER}pre_start = ['sh', '-c', '{waits}']\n",
        flavors.display()
    ));
    daemon.spawn();
    daemon.up().await;
    let [mut first, mut second, mut slow] = ["first", "second", "slow"].map(body);
    first["user_options"]["flavor"] = json!("gpu");
    second["user_options"]["flavor"] = json!("gpu");
    slow["env"]["JUPYTERHUB_USER"] = json!("slow");
    slow["user_options"]["flavor"] = json!("cpu");
    let row = async |name: &str| daemon.rows().await.into_iter().find(|row| row["name"] == name);
    let until = async |name: &str, phase: &str| {
        eventually(&format!("{name} is {phase}"), || async { row(name).await.filter(|row| row["phase"] == phase) })
            .await
    };
    assert_eq!(send(daemon.post(&first, true)).await.unwrap().status, 202);
    let id = until("first", "running").await["id"].as_str().unwrap().to_owned();
    assert_eq!(send(daemon.post(&second, true)).await.unwrap().status, 202);
    until("second", "queued").await;
    let start = tokio::spawn(send(daemon.post(&slow, false)));
    until("slow", "starting").await;
    daemon.signal(Signal::SIGTERM);
    eventually("nothing new is taken", || async {
        send(daemon.post(&body("late"), true)).await.is_err().then_some(())
    })
    .await;
    assert!(daemon.run(&["service", "stop", &id]).await.status.success());
    until("second", "running").await;
    fs::write(go, "").unwrap();
    assert_eq!(start.await.unwrap().unwrap().status, 200);
    assert!(daemon.wait().await.success());
}

/// Waits for the end of a daemon that is not there any more when this gives up.
async fn ends_well(daemon: Daemon) {
    let pid = daemon.pid();
    eventually("it has ended", || async { start_of(pid).is_none().then_some(()) }).await;
    let status = daemon.wait().await;
    assert!(status.success(), "{status}: {}", daemon.stderr());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_does_not_wait_for_a_database_that_was_never_there() {
    let daemon = Daemon::new(&format!("[store]\nurl = 'postgresql://outpost@127.0.0.1:{}/outpost'\n", free_port()));
    daemon.spawn();
    daemon.up().await;
    daemon.signal(Signal::SIGTERM);
    ends_well(daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_is_heeded_before_it_is_up() {
    let database = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = database.local_addr().unwrap().port();
    let daemon = Daemon::new(&format!("[store]\nurl = 'postgresql://outpost@127.0.0.1:{port}/outpost'\n"));
    daemon.spawn();
    // It asks, and gets no answer.
    let _asked = database.accept().await.unwrap();
    daemon.signal(Signal::SIGTERM);
    ends_well(daemon).await;
}
