//! The whole program, with servers that are processes.

use outpost::model::AuthorizedKey;
use serde_json::json;

use crate::support::daemon::{Daemon, free_port, send, text};
use crate::support::eventually;
use crate::support::ssh::{SshClient, admit_at};

const PROCESSES: &str = "[spawners.local]\ntype = 'process'\nip = '127.0.0.1'\nport_from_hub = false\nwait_for_port = true\n\
    cmd = ['/usr/bin/python3', '-m', 'http.server']\nargs = ['{port}', '--bind', '{ip}']\n";

/// The page of a server, through a forwarded port.
async fn page(port: u16) -> Option<String> {
    let response = crate::support::server::client().get(format!("http://127.0.0.1:{port}/")).send().await.ok()?;
    response.text().await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_is_reached_again_after_a_crash_of_outpost() {
    let port = free_port();
    let daemon = Daemon::start(&format!("[ssh]\nlisten = '127.0.0.1:{port}'\n{PROCESSES}")).await;
    let client = SshClient::new(([127, 0, 0, 1], port).into());
    admit_at(&format!("sqlite:{}", daemon.state().join("outpost.sqlite").display()), "hub1", &client).await;
    let body = json!({
        "name": "one", "env": { "JUPYTERHUB_USER": "ada" }, "user_options": { "start_id": "0" },
    });
    let reply = send(daemon.post(&body, false)).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    let address = reply.body["service"].as_str().unwrap().to_owned();

    let connect = || async {
        eventually("the client may come", || async { (client.run(&[]).await.code == Some(0)).then_some(()) }).await;
        client.forward(&address).await
    };
    let forwarded = connect().await;
    assert!(page(forwarded).await.unwrap().contains("Directory listing"));
    daemon.kill();
    eventually("the client sees the end", || async {
        (client.run(&["-O", "check"]).await.code != Some(0)).then_some(())
    })
    .await;
    daemon.spawn();
    daemon.up().await;
    // The host key is the same: this client accepts only new ones.
    let forwarded = connect().await;
    assert!(page(forwarded).await.unwrap().contains("Directory listing"));

    let known = tokio::fs::read_to_string(client.path("known_hosts")).await.unwrap();
    assert_eq!(known.lines().count(), 1, "{known}");
    assert!(send(daemon.delete("/services/one/0", false)).await.unwrap().status.is_success());
    eventually("nothing is there any more", || async { page(forwarded).await.is_none().then_some(()) }).await;
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_says_which_key_came() {
    let port = free_port();
    let ssh = format!("[ssh]\nlisten = '127.0.0.1:{port}'\n[log]\nformat = 'json'\n");
    let daemon = Daemon::start(&format!("{ssh}[spawners.local]\ntype = 'memory'\n")).await;
    let client = SshClient::new(([127, 0, 0, 1], port).into());
    let key = AuthorizedKey::parse(&client.public_key()).unwrap();
    let told = async |sentence: &str, hub: &str| {
        let parts = [sentence, hub, &key.fingerprint()];
        let is_it = |line: &str| parts.iter().all(|part| line.contains(part));
        eventually(sentence, || async {
            client.run(&[]).await;
            daemon.stderr().lines().any(is_it).then_some(())
        })
        .await;
    };
    told("no hub has this key", "").await;
    for (options, sentence) in [
        ("expiry-time=\"20010101Z\"", "key has expired"),
        ("from=\"192.0.2.1\"", "do not permit it from this address"),
        ("no-pty", "an SSH client of a hub has come"),
    ] {
        let line = format!("{options} {}", key.line());
        assert!(daemon.run(&["hub", "ssh-key", "add", "hub1", &line]).await.status.success());
        told(sentence, "hub1").await;
    }
    daemon.terminate().await;
}

/// As the Python service's chart has keys: a line for sshd, and nothing says whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn keys_without_a_hub_are_those_of_the_only_one() {
    let port = free_port();
    let client = SshClient::new(([127, 0, 0, 1], port).into());
    let line = format!(r#"restrict,port-forwarding,command="/bin/echo No commands allowed" {}"#, client.public_key());
    let mut daemon =
        Daemon::new(&format!("[ssh]\nlisten = '127.0.0.1:{port}'\nauthorized_keys = ['{line}']\n{PROCESSES}"));
    daemon.set("usernames", Some("hub1"));
    daemon.set("passwords", Some("one"));
    daemon.spawn();
    daemon.up().await;
    let body = json!({"name": "one", "env": { "JUPYTERHUB_USER": "ada" }, "user_options": { "start_id": "0" }});
    let reply = send(daemon.post(&body, false)).await.unwrap();
    assert_eq!(reply.status, 200, "{reply:?}");
    client.connect().await;
    let forwarded = client.forward(reply.body["service"].as_str().unwrap()).await;
    assert!(page(forwarded).await.unwrap().contains("Directory listing"));
    let session = client.session(&[], &["true"]).await;
    assert_ne!(session.code, Some(0), "{session:?}");
    assert!(send(daemon.delete("/services/one/0", false)).await.unwrap().status.is_success());
    let checked = daemon.run(&["check-config"]).await;
    assert!(
        checked.status.success() && !text(&checked.stdout).contains("authorized_keys"),
        "{}",
        text(&checked.stdout)
    );
    daemon.terminate().await;

    // A second hub: the key stays the first one's, and nobody can know whose another key is.
    let other = SshClient::new(([127, 0, 0, 1], port).into()).public_key();
    daemon.configure(&format!(
        "[ssh]\nlisten = '127.0.0.1:{port}'\nauthorized_keys = ['{line}', '{other}']\n{PROCESSES}"
    ));
    daemon.set("usernames", Some("hub1;hub2"));
    daemon.set("passwords", Some("one;two"));
    let checked = text(&daemon.run(&["check-config"]).await.stdout);
    let advice = "ssh.authorized_keys: keys that no hub has yet are left out, since a key belongs to one hub, and there \
         are several (\"hub1\", \"hub2\"); write them to hubs.<name>.ssh_keys of the hub that is to have them";
    assert!(checked.contains(advice), "{checked}");
    daemon.spawn();
    daemon.up().await;
    let is_ready = || async { (send(daemon.admin("/readyz")).await.unwrap().status == 200).then_some(()) };
    eventually("it is ready", is_ready).await;
    assert_eq!(daemon.stderr().matches("keys that no hub has yet").count(), 1, "{}", daemon.stderr());
    client.connect().await;
    let keys = daemon.json(&["hub", "ssh-key", "list", "--json"]).await;
    assert_eq!((keys.as_array().unwrap().len(), &keys[0]["hub"]), (1, &json!("hub1")), "{keys}");
    daemon.terminate().await;

    // Another hub alone: it gets into no servers with the key of the first.
    daemon.set("usernames", Some("hub2"));
    daemon.set("passwords", Some("two"));
    daemon.configure(&format!("[ssh]\nlisten = '127.0.0.1:{port}'\nauthorized_keys = ['{line}']\n{PROCESSES}"));
    daemon.spawn();
    daemon.up().await;
    let is_ready = || async { (send(daemon.admin("/readyz")).await.unwrap().status == 200).then_some(()) };
    eventually("it is ready", is_ready).await;
    assert!(daemon.stderr().contains("a key never goes over to another hub by itself"), "{}", daemon.stderr());
    let keys = daemon.json(&["hub", "ssh-key", "list", "--json"]).await;
    assert_eq!((&keys[0]["hub"], &keys[0]["options"]), (&json!("hub1"), &json!("restrict")), "{keys}");
    let kept = daemon.run(&["hub", "remove", "hub1"]).await;
    assert!(text(&kept.stderr).contains("which could become another hub's then"), "{}", text(&kept.stderr));
    daemon.terminate().await;
}

/// Where nothing is configured a hub is made, and the keys are its own.
#[tokio::test(flavor = "multi_thread")]
async fn keys_without_a_hub_are_those_of_the_hub_that_is_made() {
    let port = free_port();
    let client = SshClient::new(([127, 0, 0, 1], port).into());
    let key = client.public_key();
    let config = |keys: &str| {
        format!("[ssh]\nlisten = '127.0.0.1:{port}'\nauthorized_keys = [{keys}]\n[spawners.local]\ntype = 'memory'\n")
    };
    let mut daemon = Daemon::new(&config(&format!("'{key}'")));
    daemon.set("usernames", None);
    daemon.set("passwords", None);
    daemon.spawn();
    daemon.up().await;
    eventually("it is ready", || async { (send(daemon.admin("/readyz")).await.unwrap().status == 200).then_some(()) })
        .await;
    client.connect().await;
    let keys = daemon.json(&["hub", "ssh-key", "list", "--json"]).await;
    assert_eq!(keys[0]["hub"], json!("jupyterhub"), "{keys}");
    // They are read anew, unlike the rest of the section.
    daemon.configure(&config(""));
    eventually("the key is taken away", || async {
        (daemon.json(&["hub", "ssh-key", "list", "--json"]).await == json!([])).then_some(())
    })
    .await;
    assert!(!daemon.stderr().contains("is restarted"), "{}", daemon.stderr());
    daemon.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_taken_ends_outpost() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let daemon = Daemon::new(&format!("[ssh]\nlisten = '{address}'\n[spawners.local]\ntype = 'memory'\n"));
    let output = daemon.run(&["serve"]).await;
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(&format!("ssh.listen: cannot listen on {address}")), "{said}");
}
