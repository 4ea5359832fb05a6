//! Tokens, usage, explanations, ends and reloads, by the command line and by the daemon's admin API.

use chrono::{DateTime, TimeDelta, Utc};
use outpost::clock::Clock;
use reqwest::header::CONTENT_TYPE;

use super::*;
use crate::support::server::{Reply, client};

pub(super) async fn call(daemon: &Daemon, method: Method, path: &str, token: &str, body: &Value) -> Reply {
    let request = client().request(method, format!("{}/api/v1{path}", daemon.admin_url)).bearer_auth(token);
    send(if body.is_null() { request } else { request.json(body) }).await.unwrap()
}

pub(super) async fn writer(daemon: &Daemon) -> String {
    let token = daemon.json(&["token", "add", "writer", "--scope", "write", "--json"]).await;
    token["token"].as_str().unwrap().to_owned()
}

/// What was done by this actor, the oldest first.
async fn deeds(daemon: &Daemon, token: &str, actor: &str) -> Vec<String> {
    let deeds = call(daemon, Method::GET, "/audit?limit=1000", token, &json!(null)).await.body["deeds"].clone();
    let deeds = deeds.as_array().unwrap().iter().rev();
    let by_actor = deeds.filter(|deed| deed["actor"].as_str().unwrap().starts_with(actor));
    by_actor.map(|deed| format!("{} {}", deed["action"].as_str().unwrap(), deed["subject"].as_str().unwrap())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_come_and_go() {
    let daemon = Daemon::start(&format!("[log]\nlevel = 'trace'\n{SLEEPER}")).await;
    let added = daemon.json(&["token", "add", "bill", "--expires", "90d", "--json"]).await;
    let end: DateTime<Utc> = added["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((end - Clock::System.now() + TimeDelta::minutes(5)).num_days(), 90);
    assert_eq!((&added["name"], &added["scope"]), (&json!("bill"), &json!("read")));
    let reader = added["token"].as_str().unwrap();
    let plain = success(&daemon.run(&["token", "add", "ops", "--scope", "write"]).await);
    let writer = plain.trim();
    assert_eq!(plain.lines().count(), 1, "the token, to be put into a file: {plain:?}");

    let status = async |method, token: &str| {
        call(&daemon, method, "/hubs", token, &json!({ "name": "site" })).await.status.as_u16()
    };
    assert_eq!((status(Method::GET, reader).await, status(Method::POST, reader).await), (200, 403));
    let made = call(&daemon, Method::POST, "/hubs", writer, &json!({ "name": "site" })).await;
    let password = made.body["password"].as_str().unwrap();
    assert_eq!(status_of(&daemon, "site", password).await, 200, "at once");

    let tokens = daemon.json(&["token", "list", "--json"]).await;
    let names: Vec<_> = tokens.as_array().unwrap().iter().map(|token| token["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["bill", "ops"]);
    assert!(tokens[0]["used_at"].is_string() && tokens[0]["expired"] == false, "{tokens}");
    let table = success(&daemon.run(&["token", "list"]).await);
    assert_eq!(table.lines().count(), 3, "{table}");
    success(&daemon.run(&["token", "revoke", "bill"]).await);
    assert_eq!(status(Method::GET, reader).await, 401, "at once");
    for (arguments, code, expected) in [
        (&["token", "revoke", "bill"][..], 1, "there is no token \"bill\""),
        (&["token", "add", "ops"], 1, "there is a token \"ops\" already"),
        (&["token", "add", "a b"], 2, "a token's name has to have"),
        (&["token", "add", "x", "--expires", "soon"], 2, "has to be a length of time like 30m, 2h or 90d"),
        (&["token", "add", "x", "--scope", "all"], 2, "possible values: read, write"),
    ] {
        let (found, said) = failure(&daemon.run(arguments).await);
        assert!(found == code && said.contains(expected), "{said}");
    }
    assert_eq!(deeds(&daemon, writer, "cli:").await, ["token.add bill", "token.add ops", "token.revoke bill"]);
    assert_eq!(deeds(&daemon, writer, "token:ops").await, ["hub.add site"]);

    let mut files = vec![("log", daemon.stderr().into_bytes())];
    for name in ["outpost.sqlite", "outpost.sqlite-wal"] {
        files.push((name, fs::read(daemon.state().join(name)).unwrap_or_default()));
    }
    for secret in [reader, writer, reader.splitn(3, '_').nth(2).unwrap(), password] {
        for (name, bytes) in &files {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{name} holds {secret}");
        }
    }
    assert!(daemon.stderr().contains("an administrator's change"), "a deed is in the log as well");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_command_line_is_written_down() {
    let daemon = Daemon::start(SLEEPER).await;
    let token = writer(&daemon).await;
    let password = daemon.json(&["hub", "add", "site", "--json"]).await["password"].as_str().unwrap().to_owned();
    until_status(&daemon, "site", &password, 200).await;
    success(&daemon.run(&["hub", "rotate", "site"]).await);
    assert_eq!(send(daemon.post(&body("lab"), false)).await.unwrap().status, 200);
    let id = daemon.rows().await[0]["id"].as_str().unwrap().to_owned();

    let end = async |arguments: &[&str]| {
        let arguments = [&["service", "extend", &id, "--json"], arguments].concat();
        daemon.json(&arguments).await["end_date"].clone()
    };
    let date = |value: Value| value.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
    let first = date(end(&["--by", "2h"]).await);
    assert_eq!(date(end(&["--by", "1h"]).await), first + TimeDelta::hours(1));
    assert_eq!(end(&["--until", "2999-12-01"]).await, "2999-12-01T00:00:00Z");
    eventually("the daemon has noticed", || async {
        let shown = call(&daemon, Method::GET, &format!("/services/{id}"), &token, &json!(null)).await;
        (shown.body["end_date"] == "2999-12-01T00:00:00Z").then_some(())
    })
    .await;
    assert_eq!(end(&["--no-end"]).await, json!(null));
    let said = success(&daemon.run(&["service", "extend", &id, "--until", "2999-12-01"]).await);
    assert_eq!(said, "The server may run until 2999-12-01 00:00:00 UTC.\n");
    for (arguments, code, expected) in [
        (&["service", "extend", &id][..], 2, "<--by <LENGTH>|--until <TIME>|--no-end>"),
        (&["service", "extend", &id, "--by", "1h", "--no-end"], 2, "cannot be used with"),
        (&["service", "extend", &id, "--until", "2001-01-01"], 2, "has to be in the future"),
        (&["service", "extend", "x", "--no-end"], 2, "is no server id"),
        (&["service", "extend", "01ARZ3NDEKTSV4RRFFQ69G5FAV", "--no-end"], 1, "there is no server"),
    ] {
        let (found, said) = failure(&daemon.run(arguments).await);
        assert!(found == code && said.contains(expected), "{said}");
    }
    success(&daemon.run(&["service", "stop", "--all"]).await);
    success(&daemon.run(&["hub", "remove", "site"]).await);
    success(&daemon.run(&["keys", "rotate"]).await);
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    let extended = format!("service.extend {id}");
    let mut expected: Vec<String> = ["token.add writer", "hub.add site", "hub.rotate site"].map(str::to_owned).to_vec();
    expected.extend(std::iter::repeat_n(extended, 5));
    expected.extend([format!("service.stop {id}"), "hub.remove site".to_owned(), "keys.rotate ".to_owned()]);
    assert_eq!(deeds(&daemon, &token, &format!("cli:{user}")).await, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn usage_is_exported() {
    let daemon = Daemon::start(SLEEPER).await;
    assert_eq!(success(&daemon.run(&["usage"]).await), "No server ran then.\n");
    assert_eq!(daemon.json(&["usage", "--json"]).await, json!([]));
    assert_eq!(send(daemon.post(&body("=lab"), false)).await.unwrap().status, 200);
    success(&daemon.run(&["service", "stop", "--all"]).await);
    let records = daemon.json(&["usage", "--json", "--hub", "hub1", "--user", "ada"]).await;
    assert_eq!((&records[0]["name"], &records[0]["outcome"]), (&json!("=lab"), &json!("stopped")), "{records}");
    let csv = success(&daemon.run(&["usage", "--csv"]).await);
    assert_eq!(csv.lines().count(), 2);
    assert!(csv.lines().nth(1).unwrap().contains(",'=lab,"), "{csv}");
    let sums = success(&daemon.run(&["usage", "--from", "2020-01-01"]).await);
    assert!(sums.starts_with(" HUB") && sums.lines().count() == 2, "{sums}");
    assert_eq!(success(&daemon.run(&["usage", "--to", "2020-01-01T00:00:00Z"]).await), "No server ran then.\n");
    let (code, said) = failure(&daemon.run(&["usage", "--from", "yesterday"]).await);
    assert!(code == 2 && said.contains("has to be a date like 2026-12-01"), "{said}");
    assert_eq!(failure(&daemon.run(&["usage", "--csv", "--json"]).await).0, 2);
    let (code, said) = failure(&daemon.run(&["usage", "--from", "2026-12-01", "--to", "2026-11-01"]).await);
    assert!(code == 2 && said.contains("to: has to be later than from"), "{said}");
    let (code, said) = failure(&daemon.run(&["usage", "--hub", "nohub"]).await);
    assert!(code == 1 && said.contains("there is no hub \"nohub\""), "{said}");

    let mut odd = body("odd");
    odd["env"]["JUPYTERHUB_USER"] = json!("\u{1b}[31mred\u{9b}31m\u{202e}\u{61c}");
    assert_eq!(send(daemon.post(&odd, false)).await.unwrap().status, 200);
    for arguments in [&["usage"][..], &["usage", "--csv"], &["usage", "--json"], &["service", "list", "--json"]] {
        let said = success(&daemon.run(arguments).await);
        let steers = |char: char| char != '\n' && (char.is_control() || "\u{202e}\u{61c}".contains(char));
        assert!(said.contains("[31mred") && !said.contains(steers), "{arguments:?}: {said:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_explained_without_a_daemon() {
    let rules = "[[overrides]]\nhubs = ['hub1']\nallow = { args = ['--ok'] }\n";
    let daemon = Daemon::new(&format!("{rules}{SLEEPER}"));
    let explain = async |misc: &str, more: &[&str]| {
        daemon.run(&[&["explain", "--hub", "hub1", "--user", "ada", "--misc", misc], more].concat()).await
    };
    let allowed = explain(r#"{"args": "--ok"}"#, &["--group", "a", "--group", "b", "--profile", "p"]).await;
    assert_eq!(allowed.status.code(), Some(0), "{}", text(&allowed.stderr));
    assert!(!daemon.state().exists(), "it makes nothing");
    let refused = explain(r#"{"cmd": "sh"}"#, &[]).await;
    assert_eq!((refused.status.code(), text(&refused.stderr)), (Some(1), String::new()));
    assert!(text(&refused.stdout).contains("\"cmd\""), "{}", text(&refused.stdout));
    let refused = explain(r#"{"cmd": "sh"}"#, &["--json"]).await;
    let explanation: Value = serde_json::from_slice(&refused.stdout).unwrap();
    assert!(explanation["refusal"].is_string() && refused.status.code() == Some(1), "{explanation}");
    for misc in [r#"{"environment": 5}"#, r#"{"port": "x"}"#] {
        let refused = daemon.run(&["explain", "--hub", "hub2", "--user", "ada", "--misc", misc]).await;
        let key = misc.split('"').nth(1).unwrap();
        let said = text(&refused.stdout);
        assert!(
            refused.status.code() == Some(1) && said.contains(&format!("option \"{key}\": refused, it has to be")),
            "{said}"
        );
    }
    for (misc, expected) in [("[]", "has to be an object"), ("{", "is no valid JSON")] {
        let (code, said) = failure(&explain(misc, &[]).await);
        assert!(code == 2 && said.contains(expected), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_api_reads_the_configuration_anew() {
    let daemon = Daemon::start(SLEEPER).await;
    let token = writer(&daemon).await;
    let reload = async || call(&daemon, Method::POST, "/reload", &token, &json!(null)).await;
    assert_eq!(reload().await.body, json!({ "changed": [], "at_restart": [] }));
    daemon.configure(&format!("[hubs.hub1]\nconcurrent_starts = 1\n{SLEEPER}[tasks]\nkeep_history = '1d'\n"));
    let reloaded = reload().await;
    assert_eq!(reloaded.body, json!({ "changed": ["hubs"], "at_restart": ["tasks"] }));
    daemon.configure("[htp]\n");
    let mistake = reload().await;
    assert_eq!(
        (mistake.status.as_u16(), &mistake.headers[CONTENT_TYPE]),
        (422, &"application/problem+json".parse().unwrap())
    );
    let detail = mistake.body["detail"].as_str().unwrap();
    assert!(detail.contains("outpost_config.toml") && detail.contains("unknown field `htp`"), "{detail}");
    assert_eq!(send(daemon.admin("/readyz")).await.unwrap().status, 503);
    daemon.configure(SLEEPER);
    assert_eq!(reload().await.body["changed"], json!(["hubs"]));
    assert_eq!(deeds(&daemon, &token, "token:writer").await, ["configuration.reload "; 3]);
}
