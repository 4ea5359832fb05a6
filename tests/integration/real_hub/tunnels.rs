//! Hubs that reach their servers through our SSH server: their pages come back after a restart of Outpost, by themselves.

use std::net::SocketAddr;

use nix::sys::signal::Signal;
use outpost::clock::Clock;
use outpost::metrics::Metrics;
use outpost::model::AuthorizedKey;
use outpost::store::{Ring, Source, Store};
use serde_json::json;

use crate::support::daemon::{Daemon, free_port};
use crate::support::database::KEY;
use crate::support::real_hub::{RealHub, patiently};
use crate::support::ssh::{SshClient, page};

/// An Outpost as a process of its own, with an SSH server that these hubs have keys for.
struct Site {
    daemon: Daemon,
    ssh: SocketAddr,
    toml: String,
}

impl Site {
    fn new() -> Self {
        let ssh = SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self { daemon: Daemon::new(""), ssh, toml: format!("[ssh]\nlisten = '{ssh}'\n") }
    }

    /// A hub with the name and the password of this Outpost, and its key.
    async fn hub(&mut self, name: &str, password: &str) -> Option<(RealHub, SshClient)> {
        let client = SshClient::new(self.ssh);
        let dir = client.path("");
        let port = self.daemon.url.rsplit_once(':').unwrap().1.parse().unwrap();
        let variables = [
            ("HUB_SSH_PORT", self.ssh.port().to_string()),
            ("HUB_SSH_DIR", dir.to_str().unwrap().to_owned()),
            ("OUTPOST_USER", name.to_owned()),
            ("OUTPOST_PASSWORD", password.to_owned()),
        ];
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let hub = RealHub::start_with(port, &variables).await?;
        self.toml += &format!("[hubs.{name}]\napi_url = '{}'\nrequest_timeout = '60s'\n", hub.api);
        Some((hub, client))
    }

    /// Servers choose a port of their own: that which the hub proposes is the tunnel's end there.
    async fn start(&mut self, bin: &std::path::Path, keys: &[(&str, &SshClient)]) {
        let singleuser = bin.join("jupyterhub-singleuser");
        self.toml += &format!(
            "[[overrides]]\nallow = {{ port = {{ max = 1 }} }}\non_refused = 'drop'\n[spawners.local]\ntype = 'process'\n\
             cmd = ['{}']\nargs = ['--allow-root', '--ServerApp.ip=127.0.0.1']\n",
            singleuser.display()
        );
        self.daemon.configure(&self.toml);
        self.daemon.spawn();
        self.daemon.up().await;
        let url = format!("sqlite:{}", self.daemon.state().join("outpost.sqlite").display());
        let metrics = std::sync::Arc::new(Metrics::default());
        let store = Store::open(&url, None, None, Ring::new([KEY]).unwrap(), Clock::System, metrics).unwrap();
        for (hub, client) in keys {
            let key = AuthorizedKey::parse(&client.public_key()).unwrap();
            patiently("the hub is known", || async { store.add_ssh_key(hub, Source::Cli, &key).await.ok() }).await;
        }
        store.close().await;
    }

    async fn tunnel(&self, hub: &str) -> serde_json::Value {
        let rows = self.daemon.rows().await;
        let row = rows.iter().find(|row| row["hub"] == *hub).unwrap_or_else(|| panic!("{rows:?}"));
        row["tunnel"].clone()
    }
}

async fn start_server(hub: &RealHub, user: &str) {
    hub.add_user(user).await;
    hub.start_server(user, "", &json!({})).await;
    hub.wait_until_ready(user, "").await;
    patiently("the page is reached through the tunnel", || async { hub.reachable(user, "").await.then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_come_back_after_a_restart_without_their_users() {
    let mut site = Site::new();
    let Some((hub, client)) = site.hub("hub1", "one").await else { return };
    site.start(&hub.bin, &[("hub1", &client)]).await;
    start_server(&hub, "alice").await;
    assert!(site.tunnel("hub1").await.is_null(), "it made the tunnel by itself");
    for kind in ["gently", "killed"] {
        if kind == "gently" {
            site.daemon.signal(Signal::SIGTERM);
            site.daemon.wait().await;
        } else {
            site.daemon.kill();
        }
        patiently("the page is away", || async { (!hub.reachable("alice", "").await).then_some(()) }).await;
        site.daemon.spawn();
        site.daemon.up().await;
        patiently("the page is back", || async { hub.reachable("alice", "").await.then_some(()) }).await;
        patiently("it is noted", || async { (site.tunnel("hub1").await == "made").then_some(()) }).await;
    }
    hub.stop_server("alice", "").await;
    hub.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hub_reaches_the_servers_of_another() {
    let mut site = Site::new();
    let Some((one, client_one)) = site.hub("hub1", "one").await else { return };
    let Some((two, client_two)) = site.hub("hub2", "two").await else { return };
    site.start(&one.bin, &[("hub1", &client_one), ("hub2", &client_two)]).await;
    tokio::join!(start_server(&one, "alice"), start_server(&two, "bob"));
    let rows = site.daemon.rows().await;
    let address = |hub: &str| {
        let row = rows.iter().find(|row| row["hub"] == *hub).unwrap();
        row["address"].as_str().unwrap().to_owned()
    };
    for (client, own, other) in [(&client_one, "hub1", "hub2"), (&client_two, "hub2", "hub1")] {
        let reached = page(client.forward(&address(own)).await).await.unwrap();
        assert!(reached.starts_with(b"HTTP/1."), "{own}: {}", String::from_utf8_lossy(&reached));
        let reached = page(client.forward(&address(other)).await).await.unwrap_or_default();
        assert!(reached.is_empty(), "{own} reached the server of {other}");
    }
    let log = site.daemon.stderr();
    assert!(log.contains("hub1") && log.contains("refused"), "{log}");
    one.stop_server("alice", "").await;
    two.stop_server("bob", "").await;
    one.stop().await;
    two.stop().await;
}
