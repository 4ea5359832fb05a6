//! The command line and the daemon's reload, with the real program.

mod admin;
mod definitions;
mod ending;
mod mounted;
mod replicas;
mod secrets;
mod try_server;

use std::os::unix::fs::PermissionsExt as _;
use std::process::Output;
use std::{fs, net};

use nix::sys::signal::Signal;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, OUTPOST, as_hub, free_port, send, start_of, text};
use crate::support::eventually;

const SLEEPER: &str = "[spawners.local]\ntype = 'process'\ncmd = ['sleep', '600']\nport_from_hub = false\n";

fn body(name: &str) -> Value {
    json!({"name": name, "env": {"JUPYTERHUB_USER": "ada"}, "user_options": {"start_id": "1"}})
}

/// The exit code and what went to standard error.
fn failure(output: &Output) -> (i32, String) {
    (output.status.code().unwrap(), text(&output.stderr))
}

fn success(output: &Output) -> String {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

async fn status_of(daemon: &Daemon, hub: &str, password: &str) -> u16 {
    let request = as_hub(daemon.request(Method::GET, "/services"), hub, password);
    send(request).await.unwrap().status.as_u16()
}

async fn until_status(daemon: &Daemon, hub: &str, password: &str, status: u16) {
    eventually(&format!("{hub} gets {status}"), || async {
        (status_of(daemon, hub, password).await == status).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn serve_needs_no_configuration() {
    let mut daemon = Daemon::new("");
    // The usual ports may be taken here, so those are configured, and nothing else.
    let ports = fs::read_to_string(daemon.config_path()).unwrap();
    let ports: String = ports
        .lines()
        .filter(|line| line.contains("listen") || *line == "[http]")
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(daemon.config_path(), ports).unwrap();
    let home = daemon.dir().to_str().unwrap().to_owned();
    let state = daemon.state();
    for variable in ["usernames", "passwords"] {
        daemon.set(variable, None);
    }
    // Where root's state is otherwise is no place for a test.
    if nix::unistd::geteuid().is_root() {
        daemon.set("STATE_DIRECTORY", state.to_str());
    } else {
        daemon.set("XDG_STATE_HOME", Some(&home));
        std::os::unix::fs::symlink("outpost", &state).unwrap();
    }
    daemon.spawn();
    daemon.up().await;
    let said = daemon.stdout();
    let password = said.split_once("\"jupyterhub:").unwrap().1.split_once('"').unwrap().0;
    assert!(
        said.contains("There was no credential yet") && said.contains(&format!("{}/services", daemon.url)),
        "{said}"
    );
    assert_eq!(status_of(&daemon, "jupyterhub", password).await, 200);
    assert!(!daemon.stderr().contains(password));
    let mut private = Vec::new();
    for entry in fs::read_dir(&state).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        let expected = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o777, expected, "{:?}", entry.path());
        private.push(entry.file_name().into_string().unwrap());
    }
    for file in ["keys", "instance", "outpost.sqlite", "servers"] {
        assert!(private.iter().any(|name| name == file), "{private:?}");
    }
    assert_eq!(fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(daemon.terminate().await.success());
    daemon.spawn();
    daemon.up().await;
    assert_eq!(status_of(&daemon, "jupyterhub", password).await, 200);
    assert_eq!(daemon.stdout(), said, "shown once");
    let passwords = text(&fs::read(state.join("outpost.sqlite")).unwrap());
    assert!(!passwords.contains(password), "kept as a hash");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_taken_port_is_named() {
    for key in ["listen", "admin_listen"] {
        let daemon = Daemon::new("");
        let taken = net::TcpListener::bind(("127.0.0.1", free_port())).unwrap().local_addr().unwrap();
        let holder = net::TcpListener::bind(taken).unwrap();
        let text = fs::read_to_string(daemon.config_path()).unwrap();
        let lines: Vec<_> = text
            .lines()
            .map(
                |line| {
                    if line.starts_with(&format!("{key} =")) { format!("{key} = '{taken}'") } else { line.to_owned() }
                },
            )
            .collect();
        fs::write(daemon.config_path(), lines.join("\n")).unwrap();
        let (code, said) = failure(&daemon.run(&["serve"]).await);
        assert_eq!(code, 1);
        assert!(said.contains(&format!("http.{key}: cannot listen on {taken}")), "{said}");
        drop(holder);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hubs_come_and_go() {
    let daemon = Daemon::start(&format!("[hubs.hub1]\n{SLEEPER}")).await;
    let run = async |arguments: &[&str]| daemon.run(arguments).await;
    let added = daemon.json(&["hub", "add", "site", "--json"]).await;
    let first = added["password"].as_str().unwrap();
    assert_eq!(added["hub"], "site");
    until_status(&daemon, "site", first, 200).await;
    assert_eq!(status_of(&daemon, "site", "wrong").await, 401);
    assert_eq!(
        failure(&run(&["hub", "add", "site"]).await),
        (1, "outpost: hub \"site\" has a password already; `outpost hub rotate` makes a new one\n".to_owned())
    );
    let (code, said) = failure(&run(&["hub", "add", "a:b"]).await);
    assert!(code == 2 && said.contains("must not contain a colon"), "{said}");
    let snippet = success(&run(&["hub", "add", "ot\"her"]).await);
    assert!(snippet.contains(&format!("request_url = \"{}/services\"", daemon.url)), "{snippet}");
    let other = snippet.split_once("\"ot\\\"her:").unwrap().1.split_once('"').unwrap().0;
    until_status(&daemon, "ot\"her", other, 200).await;

    let second = daemon.json(&["hub", "rotate", "site", "--json"]).await["password"].as_str().unwrap().to_owned();
    until_status(&daemon, "site", &second, 200).await;
    assert_eq!(status_of(&daemon, "site", first).await, 200, "the one before stays valid");
    let third = daemon.json(&["hub", "rotate", "site", "--json"]).await["password"].as_str().unwrap().to_owned();
    until_status(&daemon, "site", first, 401).await;
    assert_eq!((status_of(&daemon, "site", &second).await, status_of(&daemon, "site", &third).await), (200, 200));
    let fourth =
        daemon.json(&["hub", "rotate", "site", "--now", "--json"]).await["password"].as_str().unwrap().to_owned();
    until_status(&daemon, "site", &fourth, 200).await;
    assert_eq!((status_of(&daemon, "site", &second).await, status_of(&daemon, "site", &third).await), (401, 401));
    for command in ["rotate", "remove"] {
        let (code, said) = failure(&run(&["hub", command, "nobody"]).await);
        assert!(code == 1 && said.contains("there is no hub \"nobody\""), "{said}");
    }

    let start = as_hub(daemon.post(&body("lab"), false), "site", &fourth);
    assert_eq!(send(start).await.unwrap().status, 200);
    let hubs = daemon.json(&["hub", "list", "--json"]).await;
    let site = hubs.as_array().unwrap().iter().find(|hub| hub["hub"] == "site").unwrap();
    assert_eq!(*site, json!({"hub": "site", "passwords": 1, "ssh_keys": 0, "servers": 1, "api_url": null}));
    assert!(success(&run(&["hub", "list"]).await).starts_with(" HUB"));
    let (code, said) = failure(&run(&["hub", "remove", "site"]).await);
    assert!(code == 1 && said.contains("hub \"site\" has 1 servers; stop them first"), "{said}");
    let said = success(&run(&["service", "stop", "--hub", "site"]).await);
    assert_eq!(said, "Servers stopped: 1\n");
    assert!(daemon.carriers().is_empty());
    success(&run(&["hub", "remove", "site"]).await);
    until_status(&daemon, "site", &fourth, 401).await;
    let (code, said) = failure(&run(&["hub", "remove", "hub1"]).await);
    assert!(code == 1 && said.contains("hub \"hub1\" is in the configuration"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_are_listed_and_stopped() {
    let daemon = Daemon::start(SLEEPER).await;
    assert_eq!(success(&daemon.run(&["service", "list"]).await), "There are no servers.\n");
    assert_eq!(success(&daemon.run(&["service", "list", "--ended"]).await), "No server has ended yet.\n");
    assert_eq!(success(&daemon.run(&["service", "stop", "--all"]).await), "Servers being stopped: 0\n");
    // What a user may call a server must not steer the terminal of an administrator.
    let evil = "a\u{1b}[31m\u{7}\u{9b}31m\u{202e}\r\nb\u{85}\u{2028}c\u{7f}";
    for name in ["one", "two", evil] {
        assert_eq!(send(daemon.post(&body(name), false)).await.unwrap().status, 200);
    }
    let table = success(&daemon.run(&["service", "list"]).await);
    assert_eq!(table.lines().count(), 4, "{table:?}");
    assert_harmless(&table);
    let rows = daemon.rows().await;
    assert_eq!(rows.iter().map(|row| row["name"].as_str().unwrap()).collect::<Vec<_>>(), ["one", "two", evil]);
    assert_eq!(daemon.json(&["service", "list", "--json", "--hub", "hub2"]).await, json!([]));

    let uid = rows[0]["id"].as_str().unwrap();
    let pid = daemon.carriers().iter().find(|(id, _)| id == uid).unwrap().1;
    assert_eq!(success(&daemon.run(&["service", "stop", uid]).await), "Servers stopped: 1\n");
    assert_eq!((start_of(pid), daemon.carriers().len()), (None, 2));
    assert_eq!(daemon.get("/services/one/1").await.status, 404);
    let (code, said) = failure(&daemon.run(&["service", "stop", uid]).await);
    assert_eq!((code, said), (1, format!("outpost: there is no server {uid}\n")));
    let (code, said) = failure(&daemon.run(&["service", "stop", "\u{1b}[31m"]).await);
    assert!(code == 2 && said.contains("is no server id"), "{said}");
    assert_harmless(&said);
    assert_eq!(failure(&daemon.run(&["service", "stop"]).await).0, 2);

    // The daemon that comes next does what was asked for when there was none.
    daemon.kill();
    let said = success(&daemon.run(&["service", "stop", "--all", "--no-wait"]).await);
    assert_eq!((said.as_str(), daemon.carriers().len()), ("Servers being stopped: 2\n", 2));
    daemon.spawn();
    daemon.up().await;
    eventually("all are stopped", || async { daemon.rows().await.is_empty().then_some(()) }).await;
    assert!(daemon.carriers().is_empty());
    let ended = success(&daemon.run(&["service", "list", "--ended"]).await);
    assert_eq!(ended.lines().count(), 4, "{ended:?}");
    assert_harmless(&ended);
    let outcomes = daemon.ended().await;
    assert!(outcomes.iter().all(|row| row["outcome"] == "stopped"), "{outcomes:?}");
    assert_harmless(&daemon.stderr());
}

fn assert_harmless(text: &str) {
    let steers =
        |c: char| c != '\n' && (c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}'));
    assert!(!text.contains(steers), "{text:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_made_and_rotated() {
    let mut daemon = Daemon::new(SLEEPER);
    let (old, new) =
        (success(&daemon.run(&["keys", "generate"]).await), success(&daemon.run(&["keys", "generate"]).await));
    let (old, new) = (old.trim(), new.trim());
    assert!(old != new && old.len() == 44 && !daemon.state().exists());
    daemon.set("OUTPOST_CRYPT_KEY", Some(old));
    daemon.spawn();
    daemon.up().await;
    assert_eq!(send(daemon.post(&body("lab"), false)).await.unwrap().status, 200);
    assert!(daemon.terminate().await.success());
    daemon.set("OUTPOST_CRYPT_KEY", Some(&format!("{new},{old}")));
    daemon.spawn();
    daemon.up().await;
    let said = success(&daemon.run(&["keys", "rotate"]).await);
    assert!(said.starts_with("1 values were encrypted anew"), "{said}");
    let said = success(&daemon.run(&["keys", "rotate"]).await);
    assert!(said.contains("all that is stored can be read with the first key alone"), "{said}");
    assert!(daemon.terminate().await.success());
    daemon.set("OUTPOST_CRYPT_KEY", Some(new));
    daemon.spawn();
    daemon.up().await;
    assert_eq!(daemon.get("/services/lab/1").await.body["status"], json!(null));
    assert_eq!(send(daemon.delete("/services/lab/1", false)).await.unwrap().status, 200);
    assert!(!daemon.stderr().contains("key"), "{}", daemon.stderr());
    assert!(daemon.terminate().await.success());
    daemon.set("OUTPOST_CRYPT_KEY", Some(old));
    let (code, said) = failure(&daemon.run(&["serve"]).await);
    assert!(code == 1 && said.contains("was encrypted with other keys than the configured ones"), "{said}");
    daemon.set("OUTPOST_CRYPT_KEY", Some("no key"));
    let (code, said) = failure(&daemon.run(&["keys", "rotate"]).await);
    assert!(code != 0 && !said.contains("no key"), "{said}");
}

#[rstest]
#[case::syntax("[http", "outpost_config.toml: TOML parse error at line")]
#[case::section("[htp]", "unknown field `htp`")]
#[case::key("[http]\nlisen = ''", "unknown field `lisen`")]
#[case::value("[log]\nlevel = 5", "invalid type: integer `5`")]
#[case::level("[log]\nlevel = 'no=such=level'", "log: level: ")]
#[case::base_path("[http]\nbase_path = 'x'", "http: base_path: ")]
#[case::tls("[http]\ntls_cert = '/x'", "http: tls_cert and tls_key: ")]
#[case::tls_files(
    "[http]\ntls_cert = '/no/cert'\ntls_key = '/no/key'",
    "http.tls_cert /no/cert and http.tls_key /no/key: "
)]
#[case::tasks("[tasks]\nkeep_history = '1d'\n[store]\nurl = 'mysql://x'", "store")]
#[case::store_password("[store]\nurl = 'postgresql://u:pw@h/d'", "store.password")]
#[case::store_keys("[store]\nkeys = [{ file = '/no/key' }]", "store.keys: the file /no/key cannot be read")]
#[case::hub_name("[hubs.'a:b']", "hubs.\"a:b\": ")]
#[case::hub_url("[hubs.a]\napi_url = 'ftp://x'", "hubs.\"a\": api_url: ")]
#[case::hub_spawner("[hubs.a]\nspawner = 'x'", "hubs.\"a\".spawner: there is no [spawners.x]")]
#[case::hub_password(
    "[hubs.a]\npasswords = [{ file = '/no/password' }]",
    "hubs.\"a\".passwords: the file /no/password cannot be read"
)]
#[case::hub_variable(
    "[hubs.a]\npasswords = [{ env = 'NOT_SET' }]",
    "hubs.\"a\".passwords: the environment variable NOT_SET"
)]
#[case::hub_token("[hubs.a]\nflavors_update_token = { file = '/no/token' }", "hubs.\"a\".flavors_update_token: ")]
#[case::recreate_token("[hubs.a]\nssh_recreate_token = { file = '/no/token' }", "hubs.\"a\".ssh_recreate_token: ")]
#[case::hub_authority("[hubs.a]\nca_file = '/no/ca'", "hubs.\"a\".ca_file: /no/ca")]
#[case::hub_starts("[hubs.a]\nconcurrent_starts = 0", "hubs.\"a\": concurrent_starts: ")]
#[case::spawner("spawner = 'x'", "spawner: there is no [spawners.x]")]
#[case::spawner_kind("[spawners.a]\ntype = 'slurm'", "slurm")]
#[case::spawner_key("[spawners.a]\ntype = 'process'\ncmdd = 'x'", "cmdd")]
#[case::spawner_value("[spawners.a]\ntype = 'process'\ncpu_limit = 0.0", "spawners.a: `cpu_limit`")]
#[case::template("[spawners.a]\ntype = 'process'\nargs = ['{nope}']", "`{nope}` is no field here")]
#[case::overrides("[[overrides]]\nnope = 1", "unknown field `nope`")]
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_is_named(#[case] toml: &str, #[case] expected: &str) {
    let daemon = Daemon::new(toml);
    let (code, said) = failure(&daemon.run(&["check-config"]).await);
    assert_eq!(code, 2, "{said}");
    assert!(said.contains(expected), "{said}");
    assert!(said.lines().all(|line| line.starts_with("outpost: ")), "{said}");
    assert!(!said.contains(":pw@"));
}

#[rstest]
#[case("passwords", "1;2;3", "`usernames` and `passwords` have 2 and 3 entries")]
#[case("usernames", "hub1;", "`usernames` and `passwords` have 1 and 2 entries")]
#[case("SQL_TYPE", "oracle", "SQL_TYPE is \"oracle\"")]
#[case("SQL_TYPE", "postgresql", "SQL_HOST is needed")]
#[case("OUTPOST_CONFIG", "/no/file.toml", "the configuration /no/file.toml cannot be read")]
#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_a_variable_is_named(#[case] name: &str, #[case] value: &str, #[case] expected: &str) {
    let daemon = Daemon::new("");
    for arguments in [&["check-config"][..], &["serve"], &["migrate"], &["hub", "list"]] {
        let output = daemon.command(arguments).env(name, value).output().unwrap();
        let (code, said) = failure(&output);
        assert!(code == 2 && said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hardly_meant_is_told() {
    let daemon = Daemon::new("[[overrides]]\nallow = { imgae = 'any' }\n");
    let said = success(&daemon.run(&["check-config"]).await);
    assert!(said.contains("This may not be meant so: rule 1 of [[overrides]]: no backend has"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_configuration_is_good() {
    let daemon = Daemon::new(&format!("[hubs.site]\n{SLEEPER}"));
    let said = success(&daemon.run(&["check-config"]).await);
    assert!(said.starts_with("The configuration is good ("), "{said}");
    for part in [daemon.state().to_str().unwrap(), "site", "local", daemon.url.trim_start_matches("http://")] {
        assert!(said.contains(part), "{said}");
    }
    assert!(said.contains("hubs' ssh        no SSH server\n"), "{said}");
    assert!(!daemon.state().exists(), "a check makes nothing");
    for _ in 0..2 {
        assert_eq!(success(&daemon.run(&["migrate"]).await), "The database is up to date.\n");
    }
    assert!(daemon.state().join("outpost.sqlite").exists());
    let daemon = Daemon::new("[store]\nurl = 'sqlite:/dev/null/x.sqlite'\n");
    let (code, said) = failure(&daemon.run(&["migrate"]).await);
    assert!(code == 1 && said.starts_with("outpost: "), "{said}");
}

#[rstest]
#[case(&[], 2)]
#[case(&["nope"], 2)]
#[case(&["serve", "--nope"], 2)]
#[case(&["hub"], 2)]
#[case(&["hub", "add"], 2)]
#[case(&["service", "stop", "--all", "--hub", "x"], 2)]
#[case(&["keys", "generate", "x"], 2)]
#[case(&["--help"], 0)]
#[case(&["--version"], 0)]
#[case(&["service", "stop", "--help"], 0)]
fn usage_has_exit_codes(#[case] arguments: &[&str], #[case] code: i32) {
    let output = std::process::Command::new(OUTPOST).args(arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
}

#[test]
fn the_document_is_printed() {
    let output = std::process::Command::new(OUTPOST).arg("openapi").output().unwrap();
    assert_eq!(success(&output).trim_end(), include_str!("../../openapi.json").trim_end());
}

#[rstest]
#[case::asked(true)]
#[case::seen(false)]
#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_read_anew(#[case] ask: bool) {
    let slow = "pre_start = ['sh', '-c', 'sleep 600']\n";
    let daemon = Daemon::start(&format!("[log]\nlevel = 'warn'\n{SLEEPER}")).await;
    assert!(!daemon.stderr().contains("INFO"), "{}", daemon.stderr());
    let change = |toml: &str| {
        daemon.configure(toml);
        if ask {
            daemon.signal(Signal::SIGHUP);
        }
    };
    let stale = async || {
        let ready = send(daemon.admin("/readyz")).await.unwrap();
        let metrics = send(daemon.admin("/metrics")).await.unwrap().body.as_str().unwrap().to_owned();
        let line = metrics.lines().find(|line| line.starts_with("outpost_configuration_stale ")).unwrap().to_owned();
        (ready.status.as_u16(), ready.body, line)
    };
    assert_eq!(stale().await, (200, json!({"ready": true, "reasons": []}), "outpost_configuration_stale 0".to_owned()));

    change(&format!("[log]\nlevel = 'info'\n[hubs.hub1]\nconcurrent_starts = 1\n{SLEEPER}{slow}"));
    eventually("the level has changed", || async { daemon.stderr().contains("was read anew").then_some(()) }).await;
    assert_eq!(send(daemon.post(&body("one"), true)).await.unwrap().status, 202);
    let refused = send(daemon.post(&body("two"), false)).await.unwrap();
    assert_eq!(refused.status, 419);
    assert!(refused.body["args"][0].as_str().unwrap().contains("the most it may start at once"), "{:?}", refused.body);
    assert_eq!(send(daemon.delete("/services/one/1", false)).await.unwrap().status, 200);

    for bad in ["[htp]\n", "[hubs.hub1]\npasswords = [{ file = '/no/file' }]\n", "[spawners.local]\ntype = 'memory'\n"]
    {
        change(bad);
        eventually("the mistake is noticed", || async { (stale().await.0 == 503).then_some(()) }).await;
        let (_, said, line) = stale().await;
        assert_eq!(
            said["reasons"],
            json!(["the configuration, or a file that it names, has a mistake; the last good one is in force"])
        );
        assert_eq!(line, "outpost_configuration_stale 1");
        // The last good one: one start at once, and a slow one.
        assert_eq!(send(daemon.post(&body("three"), true)).await.unwrap().status, 202);
        let refused = send(daemon.post(&body("four"), false)).await.unwrap();
        assert!(refused.body["args"][0].as_str().unwrap().contains("at once"), "{bad}: {:?}", refused.body);
        assert_eq!(send(daemon.delete("/services/three/1", false)).await.unwrap().status, 200);

        change(&format!("[log]\nlevel = 'info'\n[hubs.hub1]\nconcurrent_starts = 1\n{SLEEPER}{slow}"));
        eventually("it is good again", || async { (stale().await.0 == 200).then_some(()) }).await;
        assert_eq!(stale().await.2, "outpost_configuration_stale 0");
    }
    change(SLEEPER);
    eventually("the preparation is gone", || async {
        (send(daemon.post(&body("five"), true)).await.unwrap().status == 202).then_some(())?;
        let phase = daemon.rows().await.first().map(|row| row["phase"].clone());
        if phase == Some(json!("running")) {
            return Some(());
        }
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let phase = daemon.rows().await.first().map(|row| row["phase"].clone());
        (send(daemon.delete("/services/five/1", false)).await.unwrap().status == 200 && phase == Some(json!("running")))
            .then_some(())
    })
    .await;
}
