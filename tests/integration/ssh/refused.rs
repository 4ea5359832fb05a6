//! What clients do not get.

use super::start;
use crate::support::daemon::free_port;
use crate::support::ssh::{SshClient, admit, dismiss, echo, metric, refusals, server_at, until_metric, works};
use crate::support::{TestOutpost, eventually};

async fn until_refused(outpost: &TestOutpost, reason: &str, target: &str) {
    let refusal = (reason.to_owned(), target.to_owned());
    eventually(&format!("{refusal:?} is in the audit table"), || async {
        refusals(&outpost.outpost).await.contains(&refusal).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_running_servers_of_the_keys_hub_are_destinations() {
    let (outpost, client) = start("[ssh]").await;
    let (ours, nobodys) = (echo().await, echo().await);
    let entry = server_at(&outpost, "one", ours).await;
    let other = SshClient::new(outpost.ssh.unwrap());
    admit(&outpost.outpost, "hub2", &other).await;
    client.connect().await;
    other.connect().await;
    let port = client.forward(&ours.to_string()).await;
    assert!(works(port).await);

    for target in [
        nobodys.to_string(),
        outpost.ssh.unwrap().to_string(),
        outpost.url.trim_start_matches("http://").to_owned(),
        format!("localhost:{}", ours.port()),
        format!("0.0.0.0:{}", ours.port()),
        "169.254.169.254:80".to_owned(),
    ] {
        assert!(!works(client.forward(&target).await).await, "{target}");
        until_refused(&outpost, "no_server", &target).await;
    }
    let port_of_other = other.forward(&ours.to_string()).await;
    assert!(!works(port_of_other).await, "another hub's server");
    until_refused(&outpost, "no_server", &ours.to_string()).await;

    // It ends, and with it what is open.
    entry.change(|state| state.gone = true);
    assert!(!works(port).await);
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_nothing_but_forwards() {
    let (outpost, client) = start("[ssh]").await;
    client.connect().await;
    let no_sharing = ["-S", "none"];
    for (arguments, remote) in [
        (&[][..], &[][..]),
        (&["-t"], &["true"]),
        (&["-A", "-X"], &["true"]),
        (&["-s"], &["sftp"]),
        (&["-w", "any"], &["true"]),
    ] {
        for sharing in [&[][..], &no_sharing] {
            let refused = client.session(&[sharing, arguments].concat(), remote).await;
            assert_eq!(refused.code, Some(255), "{arguments:?} {remote:?}: {refused:?}");
        }
    }
    until_refused(&outpost, "session", "").await;
    for (option, target) in [("-R", "127.0.0.1:0"), ("-R", "/tmp/outpost-test.socket")] {
        let refused = client.run(&["-O", "forward", option, &format!("{target}:127.0.0.1:1")]).await;
        assert_eq!(refused.code, Some(255), "{refused:?}");
        until_refused(&outpost, "remote_forward", target).await;
    }
    let port = free_port();
    let asked = client.run(&["-O", "forward", &format!("-L127.0.0.1:{port}:/run/docker.sock")]).await;
    assert_eq!(asked.code, Some(0), "{asked:?}");
    assert!(!works(port).await);
    until_refused(&outpost, "unix_socket", "/run/docker.sock").await;
    assert!(metric(&outpost.outpost, "outpost_ssh_refusals_total{reason=\"session\"}") >= 1);
    outpost.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_away_ends_its_connections() {
    let (outpost, client) = start("[ssh]").await;
    let other = SshClient::new(outpost.ssh.unwrap());
    admit(&outpost.outpost, "hub2", &other).await;
    client.connect().await;
    other.connect().await;
    until_metric(&outpost.outpost, "outpost_ssh_connections{hub=\"hub1\"}", 1).await;
    assert!(client.master().await > 0);
    dismiss(&outpost.outpost, "hub1").await;
    until_metric(&outpost.outpost, "outpost_ssh_connections{hub=\"hub1\"}", 0).await;
    assert_ne!(client.run(&[]).await.code, Some(0));
    assert_eq!(other.run(&["-O", "check"]).await.code, Some(0));
    assert!(refusals(&outpost.outpost).await.is_empty(), "strangers are not in the audit table");
    outpost.stop().await;
}
