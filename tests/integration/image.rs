//! The image, as far as it can be tried without a container runtime: its files, and its program in nothing but them.

mod contents;
mod layout;
mod names;
mod pod;
mod release;

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;
use outpost::spawner::kubernetes::rights::rules;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use crate::support::kube::kubelet::starts;
use crate::support::kube::{Cluster, Kubelet};
use crate::support::server::body;
use crate::support::{FakeHub, eventually};
use names::NameServer;
use pod::{Pod, Running, printed};

const MEMORY: &str = "[spawners.local]\ntype = 'memory'\n";

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_runs() {
    let Some(pod) = Pod::new(MEMORY, "") else { return };
    let version = printed(&pod.run(&["--version"]).await);
    assert_eq!(version, concat!("outpost ", env!("CARGO_PKG_VERSION"), "\n"));
    printed(&pod.run(&["check-config"]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_starts_and_stops_where_only_the_volume_is_writable() {
    let Some(pod) = Pod::new(&format!("{MEMORY}[ssh]\nlisten = '127.0.0.1:0'\n"), "") else { return };
    let outpost = pod.start().await;
    // In a namespace of users its own is seen from here.
    let user = if geteuid().is_root() { 65532 } else { geteuid().as_raw() };
    assert_eq!(outpost.status("Uid"), format!("{user}\t{user}\t{user}\t{user}"));
    for (name, expected) in [("CapEff", "0000000000000000"), ("CapPrm", "0000000000000000"), ("NoNewPrivs", "1")] {
        assert_eq!(outpost.status(name), expected, "{name}");
    }

    let server = body("ada", "0", "http://127.0.0.1:9/hub/api");
    let answer = outpost.send(outpost.request(Method::POST, "/services").json(&server)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
    let answer = outpost.send(outpost.request(Method::GET, "/services/ada/0")).await;
    assert_eq!((answer.status, &answer.body["status"]), (StatusCode::OK, &Value::Null));
    let answer = outpost.send(outpost.request(Method::DELETE, "/services/ada/0")).await;
    assert!(answer.status.is_success(), "{}", answer.body);

    let fingerprint = printed(&outpost.exec(&["ssh", "fingerprint"]).await);
    assert!(fingerprint.contains("SHA256:"), "{fingerprint}");

    let log = outpost.end().await;
    let mut times =
        log.lines().filter_map(|line| line.split(' ').next()).filter(|word| word.starts_with("20")).peekable();
    assert!(times.peek().is_some() && times.all(|time| time.ends_with('Z')), "no times in UTC:\n{log}");
}

/// Certificates that `openssl` makes: an authority's, and one of `names` by that.
fn certificates(dir: &Path, names: &str) {
    for arguments in [
        "-keyout authority.key -out authority.crt -subj /CN=authority".to_owned(),
        format!(
            "-CA authority.crt -CAkey authority.key -keyout hub.key -out hub.crt -subj /CN=hub -addext subjectAltName={names} -addext basicConstraints=critical,CA:FALSE"
        ),
    ] {
        let mut openssl = Command::new("openssl");
        openssl.args("req -x509 -nodes -days 1 -newkey ec -pkeyopt ec_paramgen_curve:P-256".split(' '));
        let output = openssl.args(arguments.split(' ')).current_dir(dir).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Calls a hub of this name; what came of it is the hub's, and the program's log.
async fn call(name: &str, hosts: &str, resolv_conf: &str, settings: &str) -> Option<(FakeHub, Running)> {
    let dir = tempfile::tempdir().unwrap();
    certificates(dir.path(), &format!("DNS:{name}"));
    let hub = FakeHub::start_with_tls(&dir.path().join("hub.crt"), &dir.path().join("hub.key")).await;
    let port = hub.url.rsplit(':').next().unwrap();
    let pod = Pod::new(MEMORY, &format!("setup_tunnel = true\n{settings}"))?;
    pod.write("config/authority.crt", fs::read(dir.path().join("authority.crt")).unwrap());
    pod.write("hosts", hosts);
    pod.write("resolv.conf", resolv_conf);
    let outpost = pod.start().await;
    let server = body("ada", "0", &format!("https://{name}:{port}/hub/api"));
    let request = outpost.request(Method::POST, "/services").header("execution-type", "async").json(&server);
    let answer = outpost.send(request).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    Some((hub, outpost))
}

const TRUSTING: &str = "ca_file = '/etc/outpost/authority.crt'";

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_found_in_the_hosts_file_and_trusted_by_an_authority_of_its_own() {
    let hosts = "127.0.0.1 localhost hub.example.org\n";
    let Some((hub, outpost)) = call("hub.example.org", hosts, "", TRUSTING).await else { return };
    hub.wait_for_calls("/hub/api/users/setuptunnel", 1).await;
    outpost.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_is_found_by_dns() {
    let Some(names) = NameServer::start().await else { return };
    let Some((hub, outpost)) = call("hub.example.com", "", &names.resolv_conf(), TRUSTING).await else { return };
    hub.wait_for_calls("/hub/api/users/setuptunnel", 1).await;
    outpost.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorities_of_the_system_are_found_and_do_not_know_that_hub() {
    let hosts = "127.0.0.1 localhost hub.example.org\n";
    let Some((hub, outpost)) = call("hub.example.org", hosts, "", "").await else { return };
    eventually("it is refused", || async { outpost.log().contains("UnknownIssuer").then_some(()) }).await;
    assert!(hub.calls("").is_empty());
    outpost.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_found_by_the_service_account() {
    let Some(cluster) = Cluster::shared().await else { return };
    let namespace = cluster.namespace().await;
    let toml = format!("[spawners.cluster]\ntype = 'kubernetes'\nnamespace = '{namespace}'\nimage = 'notebook'\n");
    let Some(mut pod) = Pod::new(&toml, "") else { return };
    let settings = toml::from_str(&format!("namespace = '{namespace}'")).unwrap();
    pod.join(cluster, &namespace, &rules(&settings)).await;
    printed(&pod.run(&["check-config", "--cluster"]).await);

    let _kubelet = Kubelet::start(cluster, &namespace, |_| starts()).await;
    let outpost = pod.start().await;
    let server = body("ada", "0", "http://127.0.0.1:9/hub/api");
    let answer = outpost.send(outpost.request(Method::POST, "/services").json(&server)).await;
    assert_eq!(answer.status, StatusCode::OK, "{}\n{}", answer.body, outpost.log());
    let answer = outpost.send(outpost.request(Method::DELETE, "/services/ada/0")).await;
    assert!(answer.status.is_success(), "{}", answer.body);
    outpost.end().await;
}
