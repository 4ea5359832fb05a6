//! Ending: gently, by force, and with all that a server has started.

use outpost::error::Error;
use outpost::spawner::Status;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn gently_first() {
    let site = Site::new(
        "cmd = ['sh', '-c', 'trap \"echo asked; exit 0\" INT; echo ready; while :; do sleep 0.05; done']\ninterrupt_timeout = '30s'",
    );
    let launch = launch();
    site.start(&launch).await.unwrap();
    let log = site.dir(&launch.uid).join("log");
    until("ready", || fs::read_to_string(&log).is_ok_and(|text| text.contains("ready"))).await;
    let kept = site.state.path().join("kept");
    fs::hard_link(&log, &kept).unwrap();
    site.stop(&launch.uid).await;
    assert!(fs::read_to_string(kept).unwrap().contains("asked"));
}

#[tokio::test(flavor = "multi_thread")]
async fn by_force_at_last() {
    // Ignores what can be ignored, and so do its children; some hide in sessions of their own.
    let site = Site::new(&format!(
        "{HASTY}cmd = ['sh', '-c', 'trap \"\" INT TERM; sleep 1000 & setsid sleep 1000 & setsid sh -c \"sleep 1000 & sleep 1000\" & (setsid env -i sleep 1000 &) ; echo ready; while :; do sleep 0.05; done']"
    ));
    let launch = launch();
    site.start(&launch).await.unwrap();
    until("children", || site.carriers(&launch.uid).len() >= 5).await;
    let supervisor = site.supervisor_pid(&launch.uid);
    let nameless: Vec<i32> = descendants(supervisor);
    assert!(nameless.len() >= 6, "{nameless:?}");
    site.stop(&launch.uid).await;
    assert!(nameless.into_iter().all(|pid| !is_alive(pid)));
    until("no supervisor", || !is_alive(supervisor)).await;
}

fn descendants(root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut at = 0;
    while at < found.len() {
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", found[at])).unwrap_or_default();
        found.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        at += 1;
    }
    found.split_off(1)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_server_leaves_behind_goes_with_it() {
    let site = Site::new("cmd = ['sh', '-c', 'setsid sleep 1000 & sleep 0.6; exit 5']");
    let launch = launch();
    site.start(&launch).await.unwrap();
    let Status::Exited(exit) = until_status(&site, &launch.uid, ended).await else { unreachable!() };
    assert_eq!((exit.code, exit.early), (Some(5), true));
    assert!(exit.reason.contains("ended with exit code 5 before it accepted any connection"), "{exit:?}");
    until("nothing left", || site.carriers(&launch.uid).is_empty()).await;
    // And it stays ended until it is stopped.
    assert!(ended(&site.status(&launch.uid).await));
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_is_reported_once() {
    let mut site = Site::new(LISTENER);
    let launch = launch();
    site.start(&launch).await.unwrap();
    until("listening noticed", || {
        fs::read_to_string(site.dir(&launch.uid).join("state.json")).unwrap().contains("\"listened\":true")
    })
    .await;
    signal(site.server_pid(&launch.uid), Signal::SIGKILL);
    let reported = tokio::time::timeout(Duration::from_secs(30), site.changes.recv()).await.unwrap().unwrap();
    assert_eq!(reported, launch.uid);
    let Status::Exited(exit) = site.status(&launch.uid).await else { panic!("it has been reported") };
    assert_eq!((exit.code, exit.early), (Some(-9), false));
    assert!(exit.reason.starts_with("Your server was ended by the signal SIGKILL."), "{exit:?}");
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(site.changes.try_recv().is_err());
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_during_the_preparation_wins() {
    let site = Arc::new(Site::new(SLEEPER));
    let mark = site.state.path().join("mark");
    site.process
        .reconfigure(&outpost::spawner::SpawnerSettings::Process(
            toml::from_str(&format!(
                "{HASTY}cmd = ['touch', '{0}.started']\npre_start = ['sh', '-c', 'touch {0}.prepared; sleep 1000']",
                mark.display()
            ))
            .unwrap(),
        ))
        .unwrap();
    let launch = launch();
    let start = {
        let (site, launch) = (site.clone(), launch.clone());
        TaskTracker::new().spawn(async move { site.start(&launch).await })
    };
    until("preparation", || mark.with_extension("prepared").exists()).await;
    assert_eq!(site.status(&launch.uid).await, Status::Starting);
    site.stop(&launch.uid).await;
    assert!(matches!(start.await.unwrap(), Err(Error::Cancelled)));
    assert!(!mark.with_extension("started").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_at_any_moment_leaves_nothing() {
    let site = Arc::new(Site::new(&format!("{HASTY}{SLEEPER}")));
    for delay in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256] {
        let launch = launch();
        let start = {
            let (site, launch) = (site.clone(), launch.clone());
            TaskTracker::new().spawn(async move { site.start(&launch).await })
        };
        tokio::time::sleep(Duration::from_millis(delay)).await;
        start.abort();
        let _ = start.await;
        site.stop(&launch.uid).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(site.listed().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chatty_server_fills_no_disk() {
    let site = Site::new(
        "cmd = ['sh', '-c', 'yes this is a line | head -c 20000000; echo; echo the end; sleep 1000']\nlog_size = '64K'",
    );
    let launch = launch();
    site.start(&launch).await.unwrap();
    let size = |name: &str| fs::metadata(site.dir(&launch.uid).join(name)).map_or(0, |meta| meta.len());
    let log = site.dir(&launch.uid).join("log");
    until("the end", || {
        assert!(size("log") + size("log.1") <= 64 << 10);
        fs::read_to_string(&log).is_ok_and(|text| text.ends_with("the end\n"))
    })
    .await;
    assert_eq!(site.logs(&launch.uid).await.last().unwrap(), "the end");
    assert_eq!(fs::metadata(log).unwrap().permissions().mode() & 0o777, 0o600);
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_not_the_servers_trouble() {
    let Some(small) = SmallDisk::mount() else {
        return println!("no tmpfs can be mounted here: not tried");
    };
    let talk = "while :; do echo a line that fills the disk in no time at all; sleep 0.001; done";
    let state = tempfile::tempdir_in(small.0.path()).unwrap();
    let site = Site::within(state, &format!("{HASTY}cmd = ['sh', '-c', '{talk}']\nlog_size = '16M'"));
    let launch = launch();
    site.start(&launch).await.unwrap();
    let (fill, more) = (small.0.path().join("fill"), small.0.path().join("more"));
    // Now it is full.
    let _ = fs::write(&fill, vec![0; 8 << 20]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(fs::write(&more, [1; 9000]).is_err(), "the disk is not full");
    let log = site.dir(&launch.uid).join("log");
    let size = || fs::metadata(&log).unwrap().len();
    assert_eq!(site.status(&launch.uid).await, Status::Running);
    let full = size();
    fs::remove_file(&fill).unwrap();
    until("the log goes on", || size() > full + 1000).await;
    // A server can be stopped on a full disk.
    let _ = fs::write(&fill, vec![0; 8 << 20]);
    site.stop(&launch.uid).await;

    // A start on a full disk is refused, and leaves nothing.
    let _ = fs::write(&more, vec![0; 8 << 20]);
    let other = self::launch();
    let (sentence, _) = site.failure(&other).await;
    assert!(sentence.contains("could not record the start"), "{sentence}");
    site.stop(&other.uid).await;
}

/// A file system of 4 MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let mount = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(dir.path())
            .output();
        mount.is_ok_and(|done| done.status.success()).then_some(Self(dir))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}
