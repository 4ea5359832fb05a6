//! `outpost flavors …` and `outpost credits …`.

use std::io::Write as _;
use std::process::Stdio;

use super::*;

const FLAVORS: &str = "flavors:\n  small:\n    display_name: Small\n    max: 5\n  big:\n    max: 1\n";

/// A file beside the configuration.
fn file(daemon: &Daemon, name: &str, content: &str) -> String {
    let path = daemon.dir().join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Runs a command with this standard input.
fn with_input(daemon: &Daemon, arguments: &[&str], input: &str) -> Output {
    let mut command = daemon.command(arguments);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn flavors_are_applied_shown_set_and_removed() {
    let daemon = Daemon::start(SLEEPER).await;
    let run = async |arguments: &[&str]| success(&daemon.run(&[&["flavors"], arguments].concat()).await);
    assert_eq!(run(&["show"]).await, "# No flavors are defined.\n");
    assert_eq!(run(&["show", "--versions"]).await, "There are no versions yet.\n");
    let yaml = file(&daemon, "flavors.yaml", FLAVORS);
    let said = run(&["apply", &yaml, "--dry-run"]).await;
    assert!(said.starts_with("flavors.small: added {"), "{said}");
    assert_eq!(run(&["show"]).await, "# No flavors are defined.\n", "only shown");
    let said = run(&["apply", &yaml]).await;
    assert!(
        said.starts_with("flavors.small: added {") && said.ends_with("Version 1 of the flavors is in force.\n"),
        "{said}"
    );
    assert_eq!(run(&["diff", &yaml]).await, "Nothing is different.\n");
    eventually("the daemon has them", || async {
        (daemon.get("/flavors/").await.body["small"]["max"] == 5).then_some(())
    })
    .await;

    let said = run(&["set", "small", "max=10", "resources.mem_limit=4G", "runtime={hours: 2}"]).await;
    for line in ["flavors.small.max: 5 -> 10", "flavors.small.resources", "flavors.small.runtime"] {
        assert!(said.contains(line), "{said}");
    }
    let shown = daemon.json(&["flavors", "show", "--json"]).await;
    assert_eq!(
        shown["document"]["flavors"]["small"],
        json!({"display_name": "Small", "max": 10, "resources": {"mem_limit": "4G"}, "runtime": {"hours": 2}})
    );
    run(&["set", "small", "runtime=null", "resources=null"]).await;
    run(&["set", "tiny", "max=1"]).await;
    let entry = file(&daemon, "tiny.toml", "max = 2\ndisplay_name = 'Tiny'\n");
    let said = run(&["set", "tiny", "--file", &entry]).await;
    assert!(said.contains("flavors.tiny.max: 1 -> 2") && said.contains("Version 5"), "{said}");
    run(&["remove", "tiny"]).await;
    let text = run(&["show"]).await;
    assert!(text.starts_with("# flavors, version 6, by cli:"), "{text}");
    let again = with_input(&daemon, &["flavors", "diff", "-"], &text);
    assert_eq!(success(&again), "Nothing is different.\n", "what is shown can be applied: {text}");
    assert!(run(&["show", "--at", "1"]).await.contains("max: 5"));
    let versions = daemon.json(&["flavors", "show", "--versions", "--json"]).await;
    assert_eq!(versions.as_array().unwrap().iter().map(|row| row["version"].as_i64().unwrap()).max(), Some(6));
    assert_eq!(run(&["show", "--versions"]).await.lines().count(), 7);
    let json = file(&daemon, "flavors.json", r#"{"flavors": {"only": {"max": 1}}}"#);
    let said = success(&daemon.run(&["flavors", "apply", &json, "--json"]).await);
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap()["version"], 7);
    assert_eq!(
        success(&with_input(&daemon, &["flavors", "apply", "-"], FLAVORS)).lines().last(),
        Some("Version 8 of the flavors is in force.")
    );

    let bad = file(&daemon, "bad.yaml", "flavors:\n  small:\n    max: many\n");
    let broken = file(&daemon, "broken.yaml", "display_name: Small\nmax: many\n");
    let empty = file(&daemon, "empty.yaml", "\n");
    let no = daemon.dir().join("no.yaml");
    for (arguments, code, expected) in [
        (&["apply", &bad][..], 2, "bad.yaml: "),
        (&["diff", &bad], 2, "flavors.small.max"),
        (&["apply", no.to_str().unwrap()], 2, "no.yaml: "),
        (&["set", "small", "--file", &broken], 2, "broken.yaml: line 2, column 6: flavors.small.max: expected"),
        (&["set", "small", "--file", &empty], 2, "empty.yaml: is empty"),
        (&["set", "small", "max=many"], 2, "max"),
        (&["set", "small", "max"], 2, "has to be KEY=VALUE"),
        (&["set", "small", "max=[1"], 2, "the value of max is no YAML"),
        (&["set", "small"], 2, "KEY=VALUE"),
        (&["remove", "nothing"], 1, "there is no flavor \"nothing\""),
        (&["show", "--at", "99"], 1, "there is no version 99 of the flavors"),
    ] {
        let (found, said) = failure(&daemon.run(&[&["flavors"], arguments].concat()).await);
        assert!(found == code && said.contains(expected), "{arguments:?}: {said}");
        assert!(said.lines().all(|line| line.starts_with("outpost: ") || code == 2), "{said}");
    }
    assert_eq!(daemon.json(&["flavors", "show", "--json"]).await["version"], 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn credits_have_the_same_commands() {
    let daemon = Daemon::start(SLEEPER).await;
    success(&daemon.run(&["credits", "set", "free", "cap=10"]).await);
    let file = file(&daemon, "credits.toml", "[credits.free]\ncap = 20\n");
    let said = success(&daemon.run(&["credits", "apply", &file]).await);
    assert!(said.contains("credits.free.cap: 10 -> 20"), "{said}");
    let text = success(&daemon.run(&["credits", "show"]).await);
    assert!(text.starts_with("# credits, version 2, by cli:") && text.contains("cap: 20"), "{text}");
    success(&daemon.run(&["credits", "remove", "free"]).await);
    let (code, said) = failure(&daemon.run(&["credits", "remove", "free"]).await);
    assert!(code == 1 && said.contains("there is no credit \"free\""), "{said}");
    assert_eq!(success(&daemon.run(&["flavors", "show"]).await), "# No flavors are defined.\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_uses_what_is_defined() {
    let daemon = Daemon::new(SLEEPER);
    let path = file(&daemon, "flavors.yaml", "flavors: {small: {}}\nundefined_max: 0\n");
    daemon.configure(&format!("[flavors]\nfile = '{path}'\n{SLEEPER}"));
    let explain = async |flavor: &str| {
        let output = daemon.run(&["explain", "--hub", "hub1", "--user", "ada", "--flavor", flavor]).await;
        (output.status.code(), text(&output.stdout))
    };
    let (code, said) = explain("big").await;
    assert!(code == Some(1) && said.contains("refused"), "the file, before an Outpost has run: {said}");
    assert_eq!(explain("small").await.0, Some(0));
    success(&daemon.run(&["flavors", "set", "big", "max=1"]).await);
    let (code, said) = explain("big").await;
    assert!(code == Some(0) && said.contains("flavors.big.max"), "the database: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_knows_who_asks() {
    let daemon = Daemon::start(SLEEPER).await;
    success(&daemon.run(&["flavors", "set", "small", "maxPerUser=2"]).await);
    let mut server = body("lab");
    server["env"]["JUPYTERHUB_USER_ID"] = json!("7");
    server["user_options"]["flavor"] = json!("small");
    assert_eq!(send(daemon.post(&server, false)).await.unwrap().status, 200);
    let explain = async |hub: &str, user: &str, more: &[&str]| {
        daemon.run(&[&["explain", "--hub", hub, "--user", user, "--flavor", "small"], more].concat()).await
    };
    for (user, more, used) in
        [("ada", &[][..], "1 server\n"), ("bob", &[], "0 servers"), ("new", &["--user-id", "7"], "1 server\n")]
    {
        let said = success(&explain("hub1", user, more).await);
        assert!(said.contains(&format!("in use of flavors.small.maxPerUser: {used}")), "{user}: {said}");
    }
    for hub in ["nohub", "", "a:b"] {
        let (code, said) = failure(&explain(hub, "ada", &[]).await);
        assert!(code == 2 && said.contains("hub"), "{hub}: {said}");
    }
}
