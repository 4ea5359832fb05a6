//! `outpost try`: what a hub would see, and nothing left behind.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;
use serde_json::json;

use super::{SLEEPER, failure, success};
use crate::support::daemon::{Daemon, send, text};
use crate::support::eventually;

/// Neither a row nor a process.
async fn nothing_is_left(daemon: &Daemon) {
    assert_eq!(daemon.rows().await, Vec::<serde_json::Value>::new());
    assert_eq!(daemon.carriers(), Vec::new());
}

#[rstest]
#[case::process(SLEEPER)]
#[case::memory("[spawners.local]\ntype = 'memory'\n")]
#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_started_seen_and_stopped(#[case] toml: &str) {
    let daemon = Daemon::start(toml).await;
    let hubs = daemon.json(&["hub", "list", "--json"]).await;
    // It has no configuration: what the variable names is not there.
    let mut command = daemon.command(&["try", "--url", &daemon.url]);
    command.env("OUTPOST_CONFIG", "/no/file.toml");
    let said = success(&tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap());
    let lines: Vec<_> = said.lines().collect();
    assert!(lines[0].starts_with("Starting server \"outpost-try-") && lines[0].contains("\"hub1\""), "{said}");
    assert!(lines[1].starts_with("It runs at "), "{said}");
    assert_eq!(lines[2..], ["Stopping it.", "Nothing of it is left."]);
    nothing_is_left(&daemon).await;
    assert_eq!(daemon.ended().await.len(), 1);
    assert_eq!(daemon.json(&["hub", "list", "--json"]).await, hubs, "the hub's API is not fixed by it");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_that_of_the_file() {
    let daemon = Daemon::start(&format!("[http]\nbase_path = '/outpost'\n{SLEEPER}")).await;
    let file = daemon.dir().join("password");
    let file = file.to_str().unwrap();
    let url = format!("{}/outpost/", daemon.url);
    fs::write(file, "two\n").unwrap();
    success(&daemon.run(&["try", "--url", &url, "--hub", "hub2", "--password-file", file]).await);
    assert_eq!(daemon.ended().await[0]["hub"], json!("hub2"));
    fs::write(file, "wr0ng\n").unwrap();
    let (code, said) = failure(&daemon.run(&["try", "--url", &url, "--hub", "hub2", "--password-file", file]).await);
    assert_eq!((code, said.as_str()), (1, "outpost: Outpost does not accept this password of hub \"hub2\" (401)\n"));
    nothing_is_left(&daemon).await;
}

#[rstest]
#[case::no_outpost(&["--url", "http://127.0.0.1:1"], 1, "the start got no answer: ")]
#[case::no_url(&["--url", "127.0.0.1:8080"], 2, "has to be an http or https URL")]
#[case::a_password(&["--url", "http://user:s3cret@127.0.0.1"], 2, "without a user name, a password")]
#[case::a_query(&["--url", "http://127.0.0.1/?token=s3cret"], 2, "without a user name, a password, a query")]
#[case::a_fragment(&["--url", "http://127.0.0.1/#s3cret"], 2, "without a user name, a password, a query")]
#[case::for_ever(&["--url", "http://127.0.0.1:1", "--timeout", "18446744073709551615s"], 1, "the start got no answer: ")]
#[case::no_file(&["--hub", "hub1", "--password-file", "/no/file"], 2, "--password-file: the file /no/file cannot be read")]
#[case::no_hub(&["--hub", "hub3"], 2, "the variable `usernames` has no hub \"hub3\"")]
#[case::no_authority(&["--ca-file", "/no/ca"], 2, "ca_file: /no/ca")]
#[tokio::test(flavor = "multi_thread")]
async fn what_keeps_it_from_starting_is_named(#[case] arguments: &[&str], #[case] code: i32, #[case] expected: &str) {
    let daemon = Daemon::new("");
    let found = failure(&daemon.run(&[&["try"], arguments].concat()).await);
    assert!(found.0 == code && found.1.contains(expected) && !found.1.contains("s3cret"), "{found:?}");
}

/// Something that is no Outpost, which answers each method in one way; and how often it was asked to delete.
fn answering(answers: &'static [(&str, &str)]) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (url, deletions) = (format!("http://{}", listener.local_addr().unwrap()), Arc::new(AtomicUsize::new(0)));
    let counted = deletions.clone();
    let answer = move |stream: TcpStream| -> std::io::Result<()> {
        let mut reader = BufReader::new(&stream);
        let (mut head, mut length) = (String::new(), 0);
        while reader.read_line(&mut head)? > 2 {
            let last = head.lines().last().unwrap_or_default().to_lowercase();
            length = last.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
        }
        reader.read_exact(&mut vec![0; length])?;
        counted.fetch_add(usize::from(head.starts_with("DELETE")), Ordering::SeqCst);
        let (_, answer) = answers.iter().find(|(method, _)| head.starts_with(method)).unwrap();
        write!(&stream, "HTTP/1.1 {answer}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
    };
    std::thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(answer(stream))));
    (url, deletions)
}

#[rstest]
#[case::redirect(&[("POST", "308 Permanent Redirect\r\nlocation: https://elsewhere.example.org/services")], 0,
    "redirects to https://elsewhere.example.org (308): use that URL")]
#[case::other_program(&[("POST", "405 Method Not Allowed")], 0, "is no Outpost (405)")]
#[case::other_program(&[("POST", "501 Not Implemented")], 0, "is no Outpost (501)")]
#[case::forbidden(&[("POST", "502 Bad Gateway"), ("DELETE", "403 Forbidden")], 1,
    "the start failed (502): Bad Gateway\noutpost: the server was not stopped (403: Forbidden)\noutpost: the server \"outpost-try-")]
#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_pass_is_not_tried_again(
    #[case] answers: &'static [(&str, &str)],
    #[case] deleted: usize,
    #[case] expected: &str,
) {
    let (url, deletions) = answering(answers);
    let (code, said) = failure(&Daemon::new("").run(&["try", "--url", &url]).await);
    assert!(code == 1 && said.contains(expected), "{said}");
    assert_eq!(deletions.load(Ordering::SeqCst), deleted);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_it() {
    let (url, deletions) = answering(&[("POST", "502 Bad Gateway"), ("DELETE", "503 Service Unavailable")]);
    let daemon = Daemon::new("");
    let mut command = daemon.command(&["try", "--url", &url]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it stops", || async { (deletions.load(Ordering::SeqCst) > 0).then_some(()) }).await;
    let pid = Pid::from_raw(child.id().cast_signed());
    kill(pid, Signal::SIGINT).unwrap();
    let before = deletions.load(Ordering::SeqCst);
    eventually("it goes on", || async { (deletions.load(Ordering::SeqCst) > before).then_some(()) }).await;
    kill(pid, Signal::SIGTERM).unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (code, said) = failure(&output);
    assert!(code == 1 && said.contains("SIGTERM came while the server was being stopped"), "{said}");
    assert!(said.contains("may be left; stop it with `outpost service stop ID`"), "{said}");
    assert!(text(&output.stdout).contains("SIGINT came. "), "{output:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_fails_is_told_with_its_reason() {
    let broken = "[spawners.local]\ntype = 'process'\ncmd = ['sh', '-c', 'exit 3']\nport_from_hub = false\n";
    let daemon = Daemon::start(broken).await;
    let output = daemon.run(&["try", "--url", &daemon.url]).await;
    let (code, said) = failure(&output);
    assert!(code == 1 && said.contains("did not start the server (419): Your server ended with exit code 3"), "{said}");
    assert!(text(&output.stdout).ends_with("Nothing of it is left.\n"));
    nothing_is_left(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_in_the_words_of_the_refused() {
    let daemon = Daemon::new("");
    let flavors = daemon.dir().join("flavors.yaml");
    fs::write(&flavors, "flavors:\n  small: {max: 5}\n").unwrap();
    daemon.configure(&format!("[flavors]\nfile = '{}'\n[[overrides]]\nallow = 'none'\n{SLEEPER}", flavors.display()));
    daemon.spawn();
    daemon.up().await;
    let refused = async |arguments: &[&str]| {
        let found = failure(&daemon.run(&[&["try", "--url", &daemon.url], arguments].concat()).await);
        assert!(found.0 == 1 && found.1.starts_with("outpost: Outpost did not start the server (419): "), "{found:?}");
        found.1
    };
    let said = refused(&["--flavor", "big"]).await;
    assert!(said.contains("big"), "{said}");
    let said = refused(&["--flavor", "small", "--misc", r#"{"default_url": "/lab"}"#]).await;
    assert!(said.contains("default_url"), "{said}");
    success(&daemon.run(&["try", "--url", &daemon.url, "--flavor", "small"]).await);
    nothing_is_left(&daemon).await;
}

#[rstest]
#[case::time_out(None, "the server did not run within 1s")]
#[case::terminate(Some(Signal::SIGTERM), "SIGTERM came before the server ran")]
#[case::interrupt(Some(Signal::SIGINT), "SIGINT came before the server ran")]
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_broken_off_leaves_nothing(#[case] signal: Option<Signal>, #[case] expected: &str) {
    let slow = "[spawners.local]\ntype = 'process'\ncmd = ['sleep', '600']\npre_start = ['sleep', '600']\n";
    let daemon = Daemon::start(slow).await;
    let patience = if signal.is_some() { "10m" } else { "1s" };
    let mut command = daemon.command(&["try", "--url", &daemon.url, "--timeout", patience]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it starts", || async { (daemon.rows().await.len() == 1).then_some(()) }).await;
    if let Some(signal) = signal {
        kill(Pid::from_raw(child.id().cast_signed()), signal).unwrap();
    }
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
    let (code, said) = failure(&output);
    assert!(code == 1 && said.contains(expected), "{said}");
    nothing_is_left(&daemon).await;
    assert_eq!(send(daemon.admin("/healthz")).await.unwrap().status, 200);
}
