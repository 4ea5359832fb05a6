//! Servers outlive Outpost, and nothing is forgotten or started twice, whoever dies when.

use outpost::spawner::Status;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_found_again() {
    let mut site = Site::new(LISTENER);
    let launch = launch();
    let started = site.start(&launch).await.unwrap();
    let pid = site.server_pid(&launch.uid);
    site.restart(LISTENER);
    assert_eq!(site.status(&launch.uid).await, Status::Running);
    assert_eq!(site.listed().await, std::slice::from_ref(&launch.uid));
    assert_eq!(site.start(&launch).await.unwrap(), started);
    assert_eq!(site.carriers(&launch.uid), [pid]);
    // Its end is reported without anybody having asked for it, and its exit code is known.
    site.restart(LISTENER);
    signal(pid, Signal::SIGTERM);
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), site.changes.recv()).await.unwrap().unwrap(), launch.uid);
    site.restart(LISTENER);
    let Status::Exited(exit) = site.status(&launch.uid).await else { panic!("it has ended") };
    assert_eq!(exit.code, Some(-15));
    assert!(!site.logs(&launch.uid).await.is_empty());
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_stays_taken_over_a_restart() {
    let settings = format!("{SLEEPER}ports = '22440-22441'");
    let mut site = Site::new(&settings);
    let (one, other) = (launch(), launch());
    let first = site.start(&one).await.unwrap();
    site.restart(&settings);
    let second = site.start(&other).await.unwrap();
    assert_ne!(first.port, second.port);
    site.stop(&one.uid).await;
    site.stop(&other.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_its_supervisor_goes_on() {
    let mut site = Site::new(&format!("{HASTY}cmd = ['sh', '-c', 'setsid sleep 1000 & sleep 1000']"));
    let launch = launch();
    let started = site.start(&launch).await.unwrap();
    let supervisor = site.supervisor_pid(&launch.uid);
    signal(supervisor, Signal::SIGKILL);
    until("no supervisor", || !is_alive(supervisor)).await;
    assert_eq!(site.status(&launch.uid).await, Status::Running);
    assert_eq!(site.start(&launch).await.unwrap(), started);
    assert_eq!(site.carriers(&launch.uid).len(), 3);
    // Outpost ends it itself, and what hid from its group.
    site.stop(&launch.uid).await;

    // And of one that ends by itself nobody can know how.
    let launch = self::launch();
    site.start(&launch).await.unwrap();
    signal(site.supervisor_pid(&launch.uid), Signal::SIGKILL);
    signal(site.server_pid(&launch.uid), Signal::SIGKILL);
    assert_eq!(tokio::time::timeout(Duration::from_secs(30), site.changes.recv()).await.unwrap().unwrap(), launch.uid);
    let Status::Exited(exit) = site.status(&launch.uid).await else { panic!("it has ended") };
    assert_eq!(exit.code, None);
    assert!(exit.reason.contains("nobody can know how"), "{exit:?}");
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_supervisor_killed_in_the_preparation_is_replaced() {
    let site = Arc::new(Site::new(&format!(
        "{HASTY}{SLEEPER}pre_start = ['sh', '-c', 'test -e again && exit; touch again; sleep 1000']\n"
    )));
    let launch = launch();
    let start = {
        let (site, launch) = (site.clone(), launch.clone());
        TaskTracker::new().spawn(async move { site.start(&launch).await })
    };
    until("preparation", || site.carriers(&launch.uid).len() == 2).await;
    signal(site.supervisor_pid(&launch.uid), Signal::SIGKILL);
    let sentence = start.await.unwrap().unwrap_err().to_string();
    assert!(sentence.contains("The start of your server was interrupted"), "{sentence}");
    assert!(ended(&site.status(&launch.uid).await));
    // A driver that tries again gets one server, and the rest of the first attempt is gone. (`again` lies in `/`
    // or in the home, wherever the hook could start.)
    let home = site.state.path().join("home/hub/ada");
    fs::create_dir_all(&home).unwrap();
    fs::write(home.join("again"), "").unwrap();
    site.start(&launch).await.unwrap();
    assert_eq!(site.carriers(&launch.uid), [site.server_pid(&launch.uid)]);
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_dies_when_there_is_one_server() {
    let settings = format!("{HASTY}{SLEEPER}pre_start = ['sleep', '0.02']");
    let mut site = Site::new(&settings);
    for delay in 0..25 {
        let launch = launch();
        // Outpost dies (its start is dropped), and so does the supervisor, a little later.
        let _ = tokio::time::timeout(Duration::from_millis(delay * 3), site.start(&launch)).await;
        tokio::time::sleep(Duration::from_millis(delay % 5)).await;
        if let Some(record) = site.record(&launch.uid) {
            signal(record["supervisor"]["pid"].as_i64().unwrap().try_into().unwrap(), Signal::SIGKILL);
        }
        site.restart(&settings);
        // A driver calls until it knows.
        let mut tries = 0;
        while let Err(error) = site.start(&launch).await {
            tries += 1;
            assert!(tries < 5, "{error}");
        }
        until("one server", || site.carriers(&launch.uid) == [site.server_pid(&launch.uid)]).await;
        site.stop(&launch.uid).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_directory_is_no_server() {
    let site = Site::new(SLEEPER);
    let launch = launch();
    // Outpost was killed between making the directory and starting a supervisor.
    fs::create_dir(site.dir(&launch.uid)).unwrap();
    fs::write(site.dir(&launch.uid).join("lock"), "local").unwrap();
    assert_eq!(site.status(&launch.uid).await, Status::Starting);
    assert_eq!(site.listed().await, std::slice::from_ref(&launch.uid));
    site.start(&launch).await.unwrap();
    assert_eq!(site.carriers(&launch.uid).len(), 1);
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_of_the_last_boot_has_ended() {
    let site = Site::new(SLEEPER);
    let launch = launch();
    site.start(&launch).await.unwrap();
    let (pid, path) = (site.server_pid(&launch.uid), site.dir(&launch.uid).join("state.json"));
    let mut record = site.record(&launch.uid).unwrap();
    // Power was lost: no process of the record is what it was.
    signal(site.supervisor_pid(&launch.uid), Signal::SIGKILL);
    record["boot"] = "another".into();
    fs::write(&path, record.to_string()).unwrap();
    let Status::Exited(exit) = site.status(&launch.uid).await else { panic!("it has ended") };
    assert!(exit.code.is_none() && exit.reason.contains("was restarted"), "{exit:?}");

    // A record that came out of it broken is no reason to guess while a process carries the name.
    fs::write(&path, "").unwrap();
    assert_eq!(site.status(&launch.uid).await, Status::Unknown);
    signal(pid, Signal::SIGKILL);
    let status = until_status(&site, &launch.uid, ended).await;
    assert!(matches!(status, Status::Exited(exit) if exit.reason.contains("was lost")));
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_was_given_away_is_left_alone() {
    let site = Site::new(SLEEPER);
    let launch = launch();
    let mut innocent = Innocent::new();
    // Another tick than the server's: the two together are who a process is.
    tokio::time::sleep(Duration::from_millis(50)).await;
    site.start(&launch).await.unwrap();
    let mut record = site.record(&launch.uid).unwrap();
    let server = site.server_pid(&launch.uid);
    signal(site.supervisor_pid(&launch.uid), Signal::SIGKILL);
    signal(server, Signal::SIGKILL);
    until("gone", || !is_alive(server)).await;
    for key in ["server", "supervisor"] {
        record[key]["pid"] = innocent.0.id().into();
    }
    fs::write(site.dir(&launch.uid).join("state.json"), record.to_string()).unwrap();
    assert!(ended(&site.status(&launch.uid).await));
    site.stop(&launch.uid).await;
    assert!(is_alive(innocent.0.id().cast_signed()));
    assert!(innocent.0.try_wait().unwrap().is_none());
}

struct Innocent(std::process::Child);

impl Innocent {
    fn new() -> Self {
        let mut command = std::process::Command::new("sleep");
        Self(
            command
                .arg("1000")
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .unwrap(),
        )
    }
}

impl Drop for Innocent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strays_are_found_and_ended() {
    let site = Site::new(SLEEPER);
    let launch = launch();
    site.start(&launch).await.unwrap();
    signal(site.supervisor_pid(&launch.uid), Signal::SIGKILL);
    fs::remove_dir_all(site.dir(&launch.uid)).unwrap();
    assert_eq!(site.listed().await, std::slice::from_ref(&launch.uid));
    site.stop(&launch.uid).await;
    assert!(site.listed().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_not_gone() {
    let site = Site::new(SLEEPER);
    fs::rename(site.state.path().join("servers"), site.state.path().join("away")).unwrap();
    assert!(site.process.status(&Uid::generate(), &handle()).await.is_err());
    assert!(site.process.list().await.is_err());
}
