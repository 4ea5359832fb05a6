//! Starting: once and no more, at a port of its own, within limits.

use std::collections::BTreeSet;
use std::net::TcpListener;

use outpost::error::Error;
use outpost::spawner::{Progress, Status};
use serde_json::json;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_runs_and_is_stopped() {
    let site = Site::new(LISTENER);
    let launch = launch();
    let (progress, mut heard) = Progress::channel();
    let started = site.start_with(&launch, &progress).await.unwrap();
    assert_eq!(started.host, "127.0.0.1");
    tokio::net::TcpStream::connect((started.host.as_str(), started.port)).await.unwrap();
    let heard = events(&mut heard);
    assert!(heard.iter().any(|(_, message)| message.contains(&started.port.to_string())), "{heard:?}");
    assert!(heard.is_sorted_by_key(|(progress, _)| *progress), "{heard:?}");

    assert_eq!(site.status(&launch.uid).await, Status::Running);
    assert_eq!(site.listed().await, std::slice::from_ref(&launch.uid));
    assert!(site.logs(&launch.uid).await.len() < 50);
    site.stop(&launch.uid).await;
    site.stop(&launch.uid).await;
    assert!(site.listed().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_starts_of_one_server_are_one() {
    let site = Arc::new(Site::new(SLEEPER));
    let launch = launch();
    let tracker = TaskTracker::new();
    let starts: Vec<_> = (0..50)
        .map(|_| {
            let (site, launch) = (site.clone(), launch.clone());
            tracker.spawn(async move { site.start(&launch).await.unwrap() })
        })
        .collect();
    let mut answers = Vec::new();
    for start in starts {
        answers.push(start.await.unwrap());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    assert_eq!(site.carriers(&launch.uid), [site.server_pid(&launch.uid)]);
    assert_eq!(site.start(&launch).await.unwrap(), answers[0]);
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_can_be_dropped_and_called_again() {
    let site = Site::new(SLEEPER);
    let launch = launch();
    for patience in [0, 1, 3, 10, 30, 100] {
        let _ = tokio::time::timeout(Duration::from_millis(patience), site.start(&launch)).await;
    }
    site.start(&launch).await.unwrap();
    assert_eq!(site.carriers(&launch.uid), [site.server_pid(&launch.uid)]);
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_get_ports_of_their_own() {
    let site = Arc::new(Site::new(&format!("{SLEEPER}ports = '22400-22420'")));
    let taken = TcpListener::bind("127.0.0.1:22400").unwrap();
    let tracker = TaskTracker::new();
    let starts: Vec<_> = (0..20)
        .map(|_| {
            let (site, mut launch) = (site.clone(), launch());
            // All hubs wish for the same.
            launch.options.insert("port".to_owned(), json!(22405));
            tracker.spawn(async move { (site.start(&launch).await.unwrap().port, launch.uid) })
        })
        .collect();
    let mut ports = BTreeSet::new();
    for start in starts {
        ports.insert(start.await.unwrap());
    }
    let numbers: BTreeSet<_> = ports.iter().map(|(port, _)| *port).collect();
    assert_eq!(numbers, (22401..=22420).collect());
    drop(taken);
    for (_, uid) in ports {
        site.stop(&uid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_may_name_a_port() {
    let site = Site::new(SLEEPER);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut launch = launch();
    launch.options = json!({"port": free, "ip": "0.0.0.0", "image": "x"}).as_object().unwrap().clone();
    let started = site.start(&launch).await.unwrap();
    assert_eq!((started.host.as_str(), started.port), ("127.0.0.1", free));
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_kept() {
    let site = Site::new(
        "cmd = ['sh', '-c', 'ulimit -v; grep processes /proc/self/limits; grep Cpus_allowed_list /proc/self/status; sleep 1000']\nmem_limit = '1G'\ncpu_limit = 0.5\npids_limit = 5000",
    );
    let mut launch = launch();
    // Admission has decided: what the launch says replaces what the site says.
    launch.options = json!({"mem_limit": "512M", "cpu_limit": "1000m"}).as_object().unwrap().clone();
    site.start(&launch).await.unwrap();
    let logs = site.logs(&launch.uid).await;
    if logs[0] == "unlimited" {
        println!("this machine gives us cgroups: rlimits are not tried");
    } else {
        assert_eq!(logs[0], "524288");
        assert!(logs[1].contains(" 5000 "), "{logs:?}");
        assert!(!logs[2].contains(['-', ',']), "{logs:?}");
    }
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn odd_names_stay_inside() {
    let outer = tempfile::tempdir().unwrap();
    let site = Site::new(&format!(
        "cmd = ['sh', '-c', 'pwd; sleep 1000']\nargs = ['{{username}}']\nworking_dir = '{}/in/{{username}}/{{servername}}'",
        outer.path().display()
    ));
    let before = fs::read_dir(outer.path()).unwrap().count();
    for name in ["../../x", "", "ü/\n", "/etc", "..", ".", &"long".repeat(200)] {
        let mut launch = launch_of(name);
        launch.id = ServerId::new(name, name, name);
        site.start(&launch).await.unwrap();
        let real = fs::read_link(format!("/proc/{}/cwd", site.server_pid(&launch.uid))).unwrap();
        assert!(
            real.starts_with(outer.path().join("in"))
                && real.components().count() == outer.path().components().count() + 3,
            "{real:?}"
        );
        site.stop(&launch.uid).await;
    }
    assert_eq!(before, 0);
    let made: Vec<_> = fs::read_dir(outer.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(made, ["in"]);
    let mut state: Vec<_> = fs::read_dir(site.state.path()).unwrap().flatten().map(|entry| entry.file_name()).collect();
    state.sort();
    assert_eq!(state, ["certs", "home", "servers"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_option_is_refused_before_anything_happens() {
    let site = Site::new(SLEEPER);
    let mut launch = launch();
    launch.options = json!({"mem_limit": []}).as_object().unwrap().clone();
    assert!(matches!(site.process.prepare(&launch), Err(Error::Refused(sentence)) if sentence.contains("`mem_limit`")));
    assert!(site.listed().await.is_empty());
}

#[test]
fn a_spec_that_ends_early_has_no_effect() {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let state = tempfile::tempdir().unwrap();
    for frame in [&b""[..], &[0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 9, b'{'], &[255; 8]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_outpost"))
            .arg("supervise")
            .current_dir(state.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(frame).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(!output.status.success() && output.stdout.is_empty());
    }
    assert_eq!(fs::read_dir(state.path()).unwrap().count(), 0);
}
