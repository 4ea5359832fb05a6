//! The smallest HTTP client that can be had, so that it is the server that is measured.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// Sends a request and reads its whole answer; gives the status.
    pub async fn send(&mut self, request: &[u8]) -> u16 {
        self.stream.write_all(request).await.unwrap();
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.unwrap() > 0, "the connection was closed");
            if let Some(status) = whole(&self.buffer) {
                return status;
            }
        }
    }
}

/// The status, once the head and the body that it announces are there.
fn whole(buffer: &[u8]) -> Option<u16> {
    let end = buffer.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).unwrap();
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
    let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
    (buffer.len() >= end + length).then(|| head[9..12].parse().unwrap())
}

pub fn basic_auth(hub: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{hub}:{password}")))
}

fn head(method: &str, path: &str, auth: &str, rest: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: {auth}\r\nAccept: application/json\r\n{rest}\r\n"
    )
}

pub fn poll(auth: &str, name: &str, start_id: &str) -> Vec<u8> {
    head("GET", &format!("/services/{name}/{start_id}"), auth, "").into_bytes()
}

pub fn delete(auth: &str, name: &str, start_id: &str) -> Vec<u8> {
    head("DELETE", &format!("/services/{name}/{start_id}"), auth, "").into_bytes()
}

/// A start as OutpostSpawner sends it: about 2 kB.
pub fn post(auth: &str, name: &str, start_id: &str) -> Vec<u8> {
    let api = "http://127.0.0.1:1/hub/api";
    let body = json!({
        "name": name,
        "env": {
            "JUPYTERHUB_API_TOKEN": "0123456789abcdef0123456789abcdef", "JUPYTERHUB_CLIENT_ID": format!("jupyterhub-user-{name}"),
            "JUPYTERHUB_HOST": "", "JUPYTERHUB_OAUTH_CALLBACK_URL": format!("/user/{name}/oauth_callback"),
            "JUPYTERHUB_OAUTH_SCOPES": "[\"access:servers!server=x/\", \"access:servers!user=x\"]", "JUPYTERHUB_USER": name,
            "JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[\"access:servers!server=x/\", \"access:servers!user=x\"]",
            "JUPYTERHUB_SERVER_NAME": "", "JUPYTERHUB_API_URL": api, "JUPYTERHUB_USER_ID": "1",
            "JUPYTERHUB_ACTIVITY_URL": format!("{api}/users/{name}/activity"), "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_SERVICE_PREFIX": format!("/user/{name}/"), "JUPYTERHUB_PUBLIC_URL": "", "JUPYTERHUB_PUBLIC_HUB_URL": "",
            "JUPYTERHUB_SERVICE_URL": format!("http://0.0.0.0:55713/user/{name}/"),
            "JUPYTERHUB_EVENTS_URL": format!("{api}/users/progress/events/{name}"),
            "JUPYTERHUB_SETUPTUNNEL_URL": format!("{api}/users/setuptunnel/{name}"),
        },
        "user_options": {"start_id": start_id, "system": "bench", "profile": "jupyterlab"},
        "misc": {
            "dns_name_template": "{name}.{namespace}.svc.cluster.local", "pod_name_template": "jupyter-{username}--{servername}",
            "internal_ssl": false, "port": 55713, "ip": "0.0.0.0", "services_enabled": true, "extra_labels": {},
        },
        "certs": {}, "internal_trust_bundles": {},
    })
    .to_string();
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    [head("POST", "/services", auth, &rest).into_bytes(), body.into_bytes()].concat()
}
