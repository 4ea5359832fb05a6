//! The SSH keys of hubs and of this installation: by the admin API, the command line and the configuration.

mod host_keys;

use std::io::Write as _;
use std::process::Stdio;

use nix::sys::signal::Signal;
use outpost::auth::HubKey;
use outpost::clock::Clock;
use outpost::model::AuthorizedKey;
use outpost::store::Source;
use rstest::rstest;
use serde_json::{Value, json};

use crate::admin::{Site, problem};
use crate::support::daemon::{Daemon, text};
use crate::support::database::KEY as RING;
use crate::support::{Kind, TestDb, TestOutpost, eventually};

const KEYS: [&str; 3] = [
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGe7bW2xh1hrJZcJkEHcnt6fpbXxFKLxeAX2HfvMTqJt",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILM+rvN+ot98qgEN796jTiQfZfG1KaT0PtFDJ/XFSqti",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIC1mWvU1xS1mOkM3TgAHdN4oGvMk4qUj5sIDGnHWGbDg",
];

fn fingerprint(line: &str) -> String {
    AuthorizedKey::parse(line).unwrap().fingerprint()
}

/// Whose this key is, as the SSH server sees it.
fn owner(outpost: &TestOutpost, line: &str) -> Option<String> {
    let found = outpost.outpost.ssh_keys.find(AuthorizedKey::parse(line).unwrap().key());
    found.map(|known: std::sync::Arc<HubKey>| known.hub.to_string())
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn keys_come_and_go_by_the_admin_api(#[case] kind: Kind) {
    let config = format!("[hubs.fixed]\nssh_keys = ['{} in the file']\n", KEYS[2]);
    let Some(site) = Site::start(kind, &config).await else { return };
    let add = async |hub: &str, line: &str| site.post(&format!("/hubs/{hub}/ssh-keys"), &json!({ "key": line })).await;
    let path = |hub: &str, line: &str| format!("/hubs/{hub}/ssh-keys/{}", fingerprint(line).replace('/', "%2F"));

    let added = add("hub1", &format!("from=\"10.0.0.0/8\" {} jhub@example", KEYS[0])).await;
    assert_eq!(added.status, 201, "{:?}", added.body);
    assert_eq!(
        (&added.body["fingerprint"], &added.body["type"], &added.body["options"], &added.body["comment"]),
        (&json!(fingerprint(KEYS[0])), &json!("ssh-ed25519"), &json!("from=\"10.0.0.0/8\""), &json!("jhub@example"))
    );
    assert_eq!(owner(&site.outpost, KEYS[0]).as_deref(), Some("hub1"), "at once");
    assert_eq!(owner(&site.outpost, KEYS[2]).as_deref(), Some("fixed"));
    assert_eq!(
        add("hub1", &format!("restrict {}", KEYS[0])).await.body["problem"],
        "its options permit no port forwarding"
    );
    let again = add("hub1", &format!("restrict {}", KEYS[0])).await;
    assert_eq!(again.status, 201, "nothing to do");
    let expired = add("hub1", &format!("expiry-time=\"20010101Z\" {} old", KEYS[1])).await;
    assert_eq!(
        (&expired.body["problem"], &expired.body["expires_at"]),
        (&json!("it has expired"), &json!("2001-01-01T00:00:00Z"))
    );

    let known = site.get("/hubs/hub1/ssh-keys").await.body["ssh_keys"].clone();
    let fingerprints: Vec<_> = known.as_array().unwrap().iter().map(|key| &key["fingerprint"]).collect();
    assert_eq!(fingerprints, [&json!(fingerprint(KEYS[0])), &json!(fingerprint(KEYS[1]))]);
    let hubs = site.get("/hubs").await.body["hubs"].clone();
    let counts: Vec<_> = hubs.as_array().unwrap().iter().map(|hub| hub["ssh_keys"].as_u64().unwrap()).collect();
    assert_eq!(counts, [1, 2, 0, 0], "{hubs}");

    assert!(problem(&add("hub2", KEYS[0]).await, 409).contains("a key of hub \"hub1\" already"));
    assert!(problem(&add("fixed", &format!("restrict {}", KEYS[2])).await, 409).contains("is in the configuration"));
    assert!(problem(&site.delete(&path("fixed", KEYS[2])).await, 409).contains("[hubs.\"fixed\"] ssh_keys"));
    assert!(problem(&add("hub1", "ssh-dss AAAA").await, 422).starts_with("key: is a DSA key"));
    let private = problem(&add("hub1", "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1r").await, 422);
    assert!(private.contains("is a private key") && !private.contains("b3Blb"), "{private}");
    problem(&add("nobody", KEYS[0]).await, 404);
    problem(&site.get("/hubs/nobody/ssh-keys").await, 404);
    problem(&site.delete(&path("hub2", KEYS[0])).await, 404);

    assert_eq!(site.delete(&path("hub1", KEYS[0])).await.status, 204);
    assert_eq!(owner(&site.outpost, KEYS[0]), None, "at once");
    assert_eq!(site.delete("/hubs/hub1/ssh-keys/old").await.status, 204, "by its comment");
    let deeds: Vec<_> = site.deeds().await.into_iter().filter(|deed| deed[1] != "token.add").collect();
    let actions: Vec<_> =
        deeds.iter().map(|deed| (deed[1].as_str().unwrap(), deed[3]["fingerprint"].clone())).collect();
    let [first, second] = [KEYS[0], KEYS[1]].map(|key| json!(fingerprint(key)));
    let (add, remove) = ("hub.ssh_key.add", "hub.ssh_key.remove");
    assert_eq!(
        actions,
        [(remove, second.clone()), (remove, first.clone()), (add, second), (add, first.clone()), (add, first)]
    );
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn what_another_outpost_changes_is_noticed_and_a_hub_takes_its_keys_along(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let outpost = TestOutpost::start_with(db, "").await;
    let other = outpost.db.as_ref().unwrap().open(&[RING], Clock::System);
    other.add_hub("site").await.unwrap();
    let [first, second] = [KEYS[0], KEYS[1]].map(|line| AuthorizedKey::parse(line).unwrap());
    assert!(other.add_ssh_key("site", Source::Cli, &first).await.unwrap());
    assert!(!other.add_ssh_key("hub1", Source::Cli, &first).await.unwrap(), "a key belongs to one hub");
    assert!(other.add_ssh_key("hub1", Source::Cli, &second).await.unwrap());
    let is = async |line: &str, hub: Option<&str>| {
        eventually(&format!("the key is {hub:?}'s"), || async {
            (owner(&outpost, line).as_deref() == hub).then_some(())
        })
        .await;
    };
    is(KEYS[0], Some("site")).await;
    is(KEYS[1], Some("hub1")).await;
    let mut watched = outpost.outpost.ssh_keys.subscribe();
    watched.mark_unchanged();
    assert!(other.remove_hub("site").await.unwrap());
    is(KEYS[0], None).await;
    assert!(watched.has_changed().unwrap(), "connections end by this");
    is(KEYS[1], Some("hub1")).await;
    outpost.stop().await;
}

fn configuration(keys: &[(&str, &str)]) -> String {
    let memory = "[spawners.local]\ntype = 'memory'\n";
    let hub = |(hub, line): &(&str, &str)| format!("[hubs.{hub}]\nssh_keys = ['''{line}''']\n");
    keys.iter().map(hub).chain([memory.to_owned()]).collect()
}

/// The keys of all hubs: hub, comment, options, source.
async fn listed(daemon: &Daemon) -> Vec<Value> {
    let keys = daemon.json(&["hub", "ssh-key", "list", "--json"]).await;
    let row = |key: &Value| json!([key["hub"], key["comment"], key["options"], key["source"]]);
    keys.as_array().unwrap().iter().map(row).collect()
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_the_configuration_share_the_keys(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let [first, second] = [format!("{} first", KEYS[0]), format!("{} second", KEYS[1])];
    let mut daemon = Daemon::new(&configuration(&[("a", &first), ("b", &second)]));
    daemon.set("OUTPOST_DATABASE_URL", Some(&db.url));
    daemon.spawn();
    daemon.up().await;
    let until = async |expected: Value| {
        eventually(&format!("the keys are {expected}"), || async {
            (json!(listed(&daemon).await) == expected).then_some(())
        })
        .await;
    };
    until(json!([["a", "first", "", "config"], ["b", "second", "", "config"]])).await;

    // By a line, by standard input, by a file.
    let run = async |arguments: &[&str]| {
        let output = daemon.run(&[&["hub", "ssh-key"], arguments].concat()).await;
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let third = format!("{} third", KEYS[2]);
    let (code, said, _) = run(&["add", "hub1", &third]).await;
    assert_eq!((code, said), (0, format!("Hub \"hub1\" may forward with {}.\n", fingerprint(KEYS[2]))));
    let mut child = daemon
        .command(&["hub", "ssh-key", "add", "hub1", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    write!(child.stdin.take().unwrap(), "# a comment\n\nno-pty {third}\n").unwrap();
    assert!(child.wait().unwrap().success());
    std::fs::write(daemon.dir().join("key.pub"), format!("restrict {third}\n")).unwrap();
    let (code, said, warned) = run(&["add", "hub1", "--file", "key.pub"]).await;
    assert!(code == 0 && warned.contains("permit no port forwarding"), "{warned}");
    assert!(said.ends_with(".\nIts options were no-pty, and are restrict now.\n"), "{said}");
    until(json!([["a", "first", "", "config"], ["b", "second", "", "config"], ["hub1", "third", "restrict", "cli"]]))
        .await;
    let (_, table, _) = run(&["list", "hub1"]).await;
    assert!(table.lines().count() == 2 && table.contains(&fingerprint(KEYS[2])), "{table}");

    std::fs::write(daemon.dir().join("empty.pub"), "# none\n").unwrap();
    for (arguments, expected_code, expected) in [
        (&["add", "hub2", &third][..], 1, "a key of hub \"hub1\" already"),
        (&["add", "hub1", &first], 1, "a key of hub \"a\" already"),
        (&["add", "nobody", &first], 1, "there is no hub \"nobody\""),
        (
            &["add", "hub1", "environment=\"A=b\" ssh-ed25519 AAAA"],
            2,
            "the key has the option environment, which cannot be used here",
        ),
        (&["add", "hub1", "--file", "empty.pub"], 2, "empty.pub holds no key"),
        (&["add", "hub1", "--file", "missing.pub"], 1, "missing.pub cannot be read"),
        (&["add", "hub1"], 2, "required"),
        (&["remove", "a", "first"], 1, "remove it there, in [hubs.\"a\"] ssh_keys"),
        (&["remove", "hub1", "nothing"], 1, "no SSH key with the fingerprint or the comment \"nothing\""),
        (&["list", "nobody"], 1, "there is no hub"),
    ] {
        let (code, _, said) = run(arguments).await;
        assert!(code == expected_code && said.contains(expected), "{arguments:?}: {code}: {said}");
    }

    // Another order, other options, one key less; one that the command line had is taken over.
    let changed = format!("from=\"10.0.0.0/8\" {first}");
    daemon.configure(&configuration(&[("b", &changed), ("hub1", &third)]));
    daemon.signal(Signal::SIGHUP);
    until(json!([["b", "first", "from=\"10.0.0.0/8\"", "config"], ["hub1", "third", "", "config"]])).await;
    // A mistake changes nothing.
    daemon.configure(&configuration(&[("b", &changed), ("hub1", &first)]));
    daemon.signal(Signal::SIGHUP);
    let mistake = "hubs.\"hub1\".ssh_keys[0]: is the same key as hubs.\"b\".ssh_keys[0]";
    eventually("the log names both", || async { daemon.stderr().replace('\\', "").contains(mistake).then_some(()) })
        .await;
    assert_eq!(db.open(&[RING], Clock::System).ssh_keys().await.unwrap().len(), 2);
    let checked = daemon.run(&["check-config"]).await;
    assert!(checked.status.code() == Some(2) && text(&checked.stderr).contains(mistake), "{}", text(&checked.stderr));
    daemon.configure(&configuration(&[("b", &format!("restrict {first}"))]));
    let said = text(&daemon.run(&["check-config"]).await.stdout);
    assert!(said.contains("hubs.\"b\".ssh_keys[0] is of no use: its options permit no port forwarding"), "{said}");
    assert!(said.contains("there are SSH keys, but there is no SSH server without [ssh] listen"), "{said}");
    // What goes from the configuration goes.
    daemon.configure(&configuration(&[]));
    daemon.signal(Signal::SIGHUP);
    until(json!([])).await;
    assert_eq!(run(&["list"]).await.1, "There are no SSH keys yet; `outpost hub ssh-key add` adds one.\n");

    assert_eq!(run(&["add", "hub1", &first]).await.0, 0);
    let (code, said, _) = run(&["remove", "hub1", "first"]).await;
    assert_eq!((code, said), (0, format!("Hub \"hub1\" may not forward with {} any more.\n", fingerprint(KEYS[0]))));
    // The command line's key stays its hub's, which keeps nothing else from being read, and no Outpost from starting.
    assert_eq!(run(&["add", "hub1", &first]).await.0, 0);
    daemon.configure(&configuration(&[("a", &first), ("b", &second)]));
    let mistake = "hubs.\"a\".ssh_keys[0]: is a key of hub \"hub1\" already";
    let times = || daemon.stderr().replace('\\', "").matches(mistake).count();
    daemon.signal(Signal::SIGHUP);
    until(json!([["b", "second", "", "config"], ["hub1", "first", "", "cli"]])).await;
    eventually("the log names both", || async { (times() > 0).then_some(()) }).await;
    let before = times();
    assert!(daemon.terminate().await.success());
    daemon.spawn();
    daemon.up().await;
    until(json!([["b", "second", "", "config"], ["hub1", "first", "", "cli"]])).await;
    eventually("the log names both again", || async { (times() > before).then_some(()) }).await;
}
