//! Outbound mode: a hub that reaches Outpost and its servers through OpenSSH's server on its own side only.

mod refusals;
mod streams;

use std::net::TcpListener;
use std::path::Path;

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::daemon::{Daemon, free_port, send, start_of};
use crate::support::eventually;
use crate::support::server::{Reply, client};
use crate::support::sshd::{Sshd, make_key};

/// A server that listens at its port. It is no Jupyter, but the port is real.
const LISTENER: &str = "[spawners.local]\ntype = 'process'\nport_from_hub = false\n\
    cmd = ['/usr/bin/python3', '-u', '-m', 'http.server']\nargs = ['{port}', '--bind', '{ip}']\nwait_for_port = true\n";

/// As many ports in a row that are free.
fn free_ports(count: u16) -> (u16, u16) {
    loop {
        let first = free_port();
        if (first..first + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return (first, first + count - 1);
        }
    }
}

/// The hub's side, and what the hub does there.
struct Side {
    sshd: Sshd,
    api: u16,
    ports: (u16, u16),
}

impl Side {
    fn start(ports: u16) -> Option<Self> {
        let sshd = Sshd::start()?;
        let key = make_key(&sshd.path("outpost"));
        sshd.authorize("restrict,port-forwarding,permitlisten=\"127.0.0.1:*\"", &key);
        Some(Self { sshd, api: free_port(), ports: free_ports(ports) })
    }

    fn toml(&self) -> String {
        let (first, last) = self.ports;
        format!(
            "{LISTENER}[hubs.hub1.dial]\n{}api = '127.0.0.1:{}'\nports = [{first}, {last}]\n",
            self.sshd.login(&self.sshd.path("outpost")),
            self.api
        )
    }

    /// A request of the hub, which has no other way than its own side.
    async fn request(&self, method: Method, path: &str, body: Option<Value>) -> Option<Reply> {
        let mut request = client().request(method, format!("http://127.0.0.1:{}{path}", self.api));
        request = request.basic_auth("hub1", Some("one"));
        send(body.iter().fold(request, |request, body| request.json(body))).await.ok()
    }

    async fn reaches_the_api(&self) {
        eventually("the API is reached", || async {
            self.request(Method::GET, "/services/none/0", None).await.filter(|reply| reply.status == 404)
        })
        .await;
    }

    async fn start_server(&self, name: &str) -> String {
        let reply = self.request(Method::POST, "/services", Some(body(name))).await.unwrap();
        assert_eq!(reply.status, 200, "{:?}", reply.body);
        reply.body["service"].as_str().unwrap().to_owned()
    }
}

fn body(name: &str) -> Value {
    json!({ "name": name, "env": { "JUPYTERHUB_USER": "ada" }, "user_options": { "start_id": "1" } })
}

/// Whether a server answers at this address.
async fn answers(address: &str) -> bool {
    let page = client().get(format!("http://{address}/")).send().await;
    page.is_ok_and(|page| page.status() == StatusCode::OK)
}

async fn answers_again(address: &str) {
    eventually("the server is reached", || async { answers(address).await.then_some(()) }).await;
}

fn is_free(address: &str) -> bool {
    TcpListener::bind(address).is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hub_reaches_the_api_and_its_servers_on_its_own_side() {
    let Some(side) = Side::start(4) else { return };
    let daemon = Daemon::start(&side.toml()).await;
    side.reaches_the_api().await;
    let (one, two) = tokio::join!(side.start_server("one"), side.start_server("two"));
    assert_ne!(one, two, "a port is never given twice");
    for address in [&one, &two] {
        let port: u16 = address.strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
        assert!((side.ports.0..=side.ports.1).contains(&port), "{address}");
        assert!(answers(address).await);
    }
    let poll = side.request(Method::GET, "/services/one/1", None).await.unwrap();
    assert_eq!((poll.status.as_u16(), &poll.body["status"]), (200, &Value::Null), "{:?}", poll.body);
    let again = side.request(Method::POST, "/services", Some(body("one"))).await.unwrap();
    assert_eq!(again.body["service"], one, "the same start has the same answer");
    let metrics = daemon.admin("/metrics").send().await.unwrap().text().await.unwrap();
    assert!(metrics.contains("outpost_dial_connected{hub=\"hub1\"} 1"), "{metrics}");

    let stopped = side.request(Method::DELETE, "/services/one/1", None).await.unwrap();
    assert_eq!(stopped.status, 200);
    eventually("nobody listens for a server that is gone", || async { is_free(&one).then_some(()) }).await;
    assert!(answers(&two).await, "the other one goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ended_by_itself_is_offered_no_more() {
    let Some(side) = Side::start(2) else { return };
    let daemon = Daemon::start(&side.toml()).await;
    side.reaches_the_api().await;
    let address = side.start_server("one").await;
    for (_, pid) in daemon.carriers() {
        let is_server =
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/usr/bin/python3"));
        if is_server && start_of(pid).is_some() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
        }
    }
    eventually("nobody listens for it", || async { is_free(&address).then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_outlive_the_ssh_server_and_outpost() {
    let Some(mut side) = Side::start(4) else { return };
    let daemon = Daemon::start(&side.toml()).await;
    side.reaches_the_api().await;
    let (one, two) = (side.start_server("one").await, side.start_server("two").await);

    side.sshd.kill();
    assert!(!answers(&one).await);
    side.sshd.run();
    for address in [&one, &two] {
        answers_again(address).await;
    }
    side.reaches_the_api().await;

    daemon.restart().await;
    // A new one does not get what the others have.
    side.reaches_the_api().await;
    let three = side.start_server("three").await;
    assert!(three != one && three != two, "{three}");
    for address in [&one, &two, &three] {
        answers_again(address).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_is_in_use_is_left_alone() {
    let Some(side) = Side::start(2) else { return };
    let _taken = TcpListener::bind(("127.0.0.1", side.ports.0)).unwrap();
    let _daemon = Daemon::start(&side.toml()).await;
    side.reaches_the_api().await;
    let address = side.start_server("one").await;
    assert_eq!(address, format!("127.0.0.1:{}", side.ports.1));
    assert!(answers(&address).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_outpost_has_ports_of_its_own_and_takes_the_api_over() {
    let Some(side) = Side::start(4) else { return };
    let first = Daemon::start(&side.toml()).await;
    side.reaches_the_api().await;
    let second = Daemon::start(&side.toml()).await;
    let one = side.start_server("one").await;
    let reply = send(second.post(&body("two"), false)).await.unwrap();
    let two = reply.body["service"].as_str().unwrap_or_else(|| panic!("{:?}", reply.body));
    assert_ne!(one, two);
    assert!(answers(&one).await && answers(two).await);

    first.kill();
    eventually("the other one answers", || async {
        side.request(Method::GET, "/services/two/1", None).await.filter(|reply| reply.status == 200)
    })
    .await;
    first.spawn();
    first.up().await;
    answers_again(&one).await;
}

/// Nobody listens at the port of a server whose connection is lost: another hub's server could get it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_leaves_its_ports_to_nobody() {
    let Some(side) = Side::start(2) else { return };
    let (first, last) = side.ports;
    let login = side.sshd.login(&side.sshd.path("outpost"));
    let both = format!("{}[hubs.hub2.dial]\n{login}ports = [{first}, {last}]\n", side.toml());
    let daemon = Daemon::start(&both).await;
    side.reaches_the_api().await;
    let one = side.start_server("one").await;

    daemon.configure(&both.replacen("user = '", "user = 'no-", 1));
    eventually("the connection is closed", || async { is_free(&one).then_some(()) }).await;
    let url = format!("{}/services", daemon.url);
    let start = async |name: &str| {
        send(client().post(&url).basic_auth("hub2", Some("two")).json(&body(name))).await.unwrap().body
    };
    let two = start("two").await["service"].as_str().unwrap().to_owned();
    assert_ne!(one, two);
    assert!(answers(&two).await && is_free(&one));

    daemon.configure(&both);
    answers_again(&one).await;
    assert!(answers(&two).await);

    // Nor does an Outpost that knows of it by the database only.
    let stopped = client().delete(format!("{url}/two/1")).basic_auth("hub2", Some("two"));
    assert_eq!(send(stopped).await.unwrap().status, 200);
    daemon.configure(&format!("{LISTENER}[hubs.hub2.dial]\n{login}ports = [{first}, {last}]\n"));
    daemon.restart().await;
    assert_eq!(start("three").await["service"], two);
    assert!(is_free(&one));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_configuration_keeps_addresses() {
    let Some(side) = Side::start(4) else { return };
    let daemon = Daemon::start(&side.toml()).await;
    side.reaches_the_api().await;
    let address = side.start_server("one").await;
    let api = free_port();
    daemon.configure(
        &side.toml().replace(&format!("api = '127.0.0.1:{}'", side.api), &format!("api = '127.0.0.1:{api}'")),
    );
    let side = Side { api, ..side };
    side.reaches_the_api().await;
    answers_again(&address).await;

    daemon.configure(LISTENER);
    eventually("the connection is closed", || async { is_free(&address).then_some(()) }).await;
    assert!(daemon.stderr().contains("running servers are cut off from their hub"), "{}", daemon.stderr());
    daemon.configure(&format!("{}answer = 'localhost:{{port}}'\n", side.toml()));
    answers_again(&address).await;

    // The API does not get the port of a server.
    daemon.configure(
        &side
            .toml()
            .replace(&format!("api = '127.0.0.1:{api}'"), &format!("api = '{address}'"))
            .replace(&format!("ports = [{}, {}]", side.ports.0, side.ports.1), "ports = [1, 2]"),
    );
    eventually("it is said", || async { daemon.stderr().contains("a server has that port").then_some(()) }).await;
    answers_again(&address).await;
}

/// What a Unix socket answers to a request.
async fn over(socket: &Path, request: &str) -> Option<String> {
    let mut stream = tokio::net::UnixStream::connect(socket).await.ok()?;
    stream
        .write_all(format!("{request} HTTP/1.0\r\nAuthorization: Basic aHViMTpvbmU=\r\n\r\n").as_bytes())
        .await
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer).filter(|answer| !answer.is_empty())
}

#[tokio::test(flavor = "multi_thread")]
async fn unix_sockets_do_as_well() {
    let Some(mut side) = Side::start(1) else { return };
    side.sshd.authorize("", &std::fs::read_to_string(side.sshd.path("outpost.pub")).unwrap());
    let api = side.sshd.path("api.sock");
    let daemon = Daemon::start(&format!(
        "{LISTENER}[hubs.hub1.dial]\n{}api = '{}'\nsocket = '{}'\nanswer = '{{uid}}.outpost:80'\n",
        side.sshd.login(&side.sshd.path("outpost")),
        api.display(),
        side.sshd.path("{uid}.sock").display()
    ))
    .await;
    eventually("the API is reached", || async { over(&api, "GET /ping").await }).await;
    let reply = send(daemon.post(&body("one"), false)).await.unwrap();
    let address = reply.body["service"].as_str().unwrap_or_else(|| panic!("{:?}", reply.body)).to_owned();
    let socket = side.sshd.path(&address.replace(".outpost:80", ".sock"));
    let page = over(&socket, "GET /").await.unwrap();
    assert!(page.contains("200 OK"), "{page}");

    // What a killed sshd left behind is in nobody's way.
    side.sshd.kill();
    side.sshd.run();
    eventually("the server is reached again", || async { over(&socket, "GET /").await }).await;
}
