//! Each way to fail has its own sentence, with the last lines of the log where there are any.

use std::net::TcpListener;

use rstest::rstest;

use super::*;

#[rstest]
#[case::missing("cmd = 'no-such-program'", "The program \"no-such-program\" that your server needs is not installed")]
#[case::missing_path("cmd = '/no/such/program'", "is not installed")]
#[case::not_executable("cmd = '/etc/passwd'", "it cannot be executed")]
#[case::directory("cmd = '/etc'", "it cannot be executed")]
#[case::exit_code("cmd = ['sh', '-c', 'exit 3']", "Your server ended with exit code 3 right after")]
#[case::signal("cmd = ['sh', '-c', 'kill -TERM $$']", "was ended by the signal SIGTERM right after")]
#[case::killed("cmd = ['sh', '-c', 'kill -KILL $$']", "not enough memory")]
#[case::working_dir(
    "cmd = 'true'\nworking_dir = '/proc/no/such'",
    "The directory \"/proc/no/such\" that your server has to start in could not be created"
)]
#[case::never_listens(
    "cmd = ['sleep', '1000']\nwait_for_port = true\nstart_timeout = '1s'",
    "did not accept connections on port"
)]
#[case::ends_first(
    "cmd = ['sh', '-c', 'sleep 1; exit 4']\nwait_for_port = true",
    "ended with exit code 4 before it accepted"
)]
#[case::pre_start(
    "pre_start = ['sh', '-c', 'echo no >&2; echo Your quota is used up. >&2; exit 1']",
    "The preparation of your server failed: Your quota is used up."
)]
#[case::pre_start_silent("pre_start = ['false']", "The preparation of your server ended with exit code 1")]
#[case::pre_start_late("pre_start = ['sleep', '1000']\nhook_timeout = '100ms'", "did not end within 100 milliseconds")]
#[case::pre_start_missing(
    "pre_start = ['no-such-hook']",
    "\"no-such-hook\" that prepares servers could not be started"
)]
#[case::start_timeout(
    "pre_start = ['sleep', '1000']\nstart_timeout = '1s'",
    "Your server was not started within 1 second"
)]
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_start_says_why(#[case] settings: &str, #[case] expected: &str) {
    let site = Site::new(&format!("{HASTY}{settings}"));
    let launch = launch();
    let (sentence, _) = site.failure(&launch).await;
    assert!(sentence.contains(expected), "{sentence}");
    assert!(sentence.ends_with('.') && !sentence.contains('`'), "{sentence}");
    // The same again, for whoever asks again.
    if !expected.contains("within 1 second") && !expected.contains("did not accept") {
        assert_eq!(site.failure(&launch).await.0, sentence);
    }
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interpreter_can_be_missing() {
    let dir = tempfile::tempdir().unwrap();
    script(&dir.path().join("server"), "#!/no/such/python\n");
    let site = Site::new(&format!("cmd = '{}/server'", dir.path().display()));
    let (sentence, _) = site.failure(&launch()).await;
    assert!(sentence.contains("the interpreter in its first line"), "{sentence}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_lines_come_with_it() {
    let site = Site::new("cmd = ['sh', '-c', 'for i in $(seq 100); do echo line $i; done; echo oops >&2; exit 1']");
    let launch = launch();
    let (_, logs) = site.failure(&launch).await;
    assert_eq!(logs.len(), 20);
    assert_eq!(logs[18..], ["line 100", "oops"]);
    assert_eq!(site.logs(&launch.uid).await.last().unwrap(), "oops");
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_can_be_taken() {
    let taken = TcpListener::bind("127.0.0.1:22430").unwrap();
    let site = Site::new(&format!("{SLEEPER}ports = '22430-22430'"));
    let (sentence, _) = site.failure(&launch()).await;
    assert!(sentence.contains("All ports for servers on this machine (22430 to 22430) are in use"), "{sentence}");
    drop(taken);
    // Taken between the choice and the start: by the preparation, here.
    let thief = "import os,socket,time\ns=socket.socket()\ns.setsockopt(1,2,1)\ns.bind((\"127.0.0.1\",22430))\ns.listen()\nos.fork() or time.sleep(1000)";
    let site =
        Site::new(&format!("{SLEEPER}ports = '22430-22430'\npre_start = ['/usr/bin/python3', '-c', '''{thief}''']"));
    let launch = launch();
    let (sentence, _) = site.failure(&launch).await;
    assert!(sentence.contains("The port 22430 that your server was to listen on has been taken"), "{sentence}");
    site.stop(&launch.uid).await;
    TcpListener::bind("127.0.0.1:22430").unwrap();
}

#[rstest]
#[case("user = '{username}'", "no-such-user", "There is no account \"no-such-user\" on this machine")]
#[case("user = '{username}'", "root", "belongs to the system")]
#[case("user = '{username}'", "daemon", "belongs to the system")]
#[case("user = '{username}'", "0", "There is no account \"0\"")]
#[case("user = '{username}'", "", "There is no account \"\"")]
#[case("user = '{username}'", "../x", "There is no account")]
#[case("user = '{username}'", "+", "There is no account")]
#[case("user = '{username}'", "nobody\nroot", "There is no account")]
#[case("users = { ada = 'nobody' }", "eve", "There is no account \"eve\"")]
#[case("users = { nobody = 'daemon' }\nuser = '{username}'", "nobody", "belongs to the system")]
#[case("user = 'nobody'", "ada", "The directory \"/nonexistent\" that your server has to start in does not exist")]
#[tokio::test(flavor = "multi_thread")]
async fn accounts_are_checked(#[case] settings: &str, #[case] user: &str, #[case] expected: &str) {
    if !nix::unistd::geteuid().is_root() {
        return println!("only root can switch users: not tried");
    }
    let site = Site::new(&format!("{SLEEPER}{settings}"));
    let launch = launch_of(user);
    let (sentence, _) = site.failure(&launch).await;
    assert!(sentence.contains(expected), "{sentence}");
    site.stop(&launch.uid).await;
}
