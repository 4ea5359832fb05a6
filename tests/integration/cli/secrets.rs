//! No secret gets anywhere but where it belongs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::*;
use crate::support::FakeHub;
use crate::support::server::body as spawner_body;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

const PASSWORD: &str = "zq-hub-passw0rd-zq";
const WRONG: &str = "zq-wrong-passw0rd-zq";
const AUTH_STATE: &str = "zq-auth-state-zq";
const OPTION: &str = "zq-user-option-zq";
const TOKEN: &str = "zq-api-token-zq";
const FLAVORS: &str = "zq-flavors-token-zq";
const CERTIFICATE: &str = "zq-private-key-zq";
const AUTHORITY: &str = "zq-authority-zq";
const KEY: &str = "enFlbmNyeXB0aW9ua2V5enFlbmNyeXB0aW9ua2V5enE=";

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push(entry.path());
        }
    }
}

fn secret_in(bytes: &[u8]) -> Option<String> {
    let credential = |password: &str| BASE64_STANDARD.encode(format!("hub1:{password}"));
    let secrets = [PASSWORD, WRONG, AUTH_STATE, OPTION, TOKEN, FLAVORS, CERTIFICATE, AUTHORITY, KEY].map(str::to_owned);
    let mut secrets = secrets.into_iter().chain([credential(PASSWORD), credential(WRONG)]);
    secrets.find(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
}

/// The files that hold a secret, but for those of a server's certificates.
fn leaks(state: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    files(state, &mut found);
    assert!(found.len() >= 3, "{found:?}");
    found.retain(|path| {
        let certificate = path.starts_with(state.join("certs"));
        if certificate {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, 0o600, "{path:?}");
        }
        !certificate
    });
    found.into_iter().filter_map(|path| Some((path.clone(), secret_in(&fs::read(path).ok()?)?))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_stay_where_they_belong() {
    let hub = FakeHub::start().await;
    let mut daemon = Daemon::new(&format!("[log]\nlevel = 'trace'\n{SLEEPER}pre_start = ['sh', '-c', 'exit 0']\n"));
    daemon.set("usernames", Some("hub1"));
    daemon.set("passwords", Some(PASSWORD));
    daemon.set("OUTPOST_CRYPT_KEY", Some(KEY));
    daemon.spawn();
    daemon.up().await;
    let call = async |request: reqwest::RequestBuilder, password: &str| {
        send(as_hub(request, "hub1", password).header("auth-state-access-token", AUTH_STATE))
            .await
            .unwrap()
            .status
            .as_u16()
    };
    let start = |name: &str, certificates: bool| {
        let mut body = spawner_body(name, "1", &hub.api());
        body["env"]["JUPYTERHUB_API_TOKEN"] = TOKEN.into();
        body["env"]["JUPYTERHUB_FLAVORS_UPDATE_TOKEN"] = FLAVORS.into();
        body["user_options"]["secret"] = OPTION.into();
        body["authentication"] = json!({"name": "ada", "groups": [AUTH_STATE]});
        if certificates {
            body["certs"] = json!({"keyfile": CERTIFICATE, "certfile": CERTIFICATE, "cafile": AUTHORITY});
            body["internal_trust_bundles"] = json!({"hub-ca": AUTHORITY});
        }
        body
    };
    assert_eq!(call(daemon.request(Method::GET, "/services"), WRONG).await, 401);
    assert_eq!(call(daemon.post(&start("plain", false), false), PASSWORD).await, 200);
    assert_eq!(call(daemon.post(&start("later", false), true), PASSWORD).await, 202);
    assert_eq!(call(daemon.post(&start("certs", true), false), PASSWORD).await, 200);
    let mut broken = start("broken", false);
    broken["env"]["JUPYTERHUB_USER_ID"] = TOKEN.into();
    assert_eq!(call(daemon.post(&broken, false), PASSWORD).await, 422);
    let garbage = daemon.request(Method::POST, "/services").body(format!("{{\"name\": {TOKEN}"));
    assert_eq!(call(garbage, PASSWORD).await, 422);
    assert_eq!(call(daemon.request(Method::GET, "/services/plain/1?collect_logs=true"), PASSWORD).await, 200);
    hub.wait_for_calls("/hub/api/users/progress", 3).await;
    hub.wait_for_calls("/hub/api/outpostflavors", 1).await;

    let certificates = daemon.rows().await.iter().find(|row| row["name"] == "certs").unwrap()["id"].clone();
    let directory = daemon.state().join("certs").join(certificates.as_str().unwrap());
    assert!(fs::read_dir(&directory).unwrap().count() > 0);
    assert_eq!(leaks(&daemon.state()), []);
    let mut pids = vec![daemon.pid()];
    for (uid, server) in daemon.carriers() {
        let supervisor = daemon.record(&uid).unwrap()["supervisor"]["pid"].as_i64().unwrap();
        pids.extend([server, i32::try_from(supervisor).unwrap()]);
    }
    assert!(pids.len() >= 5, "{pids:?}");
    for pid in pids {
        let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        assert_eq!(secret_in(&line), None, "{}", text(&line));
    }

    for (name, asynchronous) in [("plain", false), ("later", true), ("certs", false)] {
        let status = call(daemon.delete(&format!("/services/{name}/1"), asynchronous), PASSWORD).await;
        assert!(status == 200 || status == 202);
    }
    eventually("all are gone", || async { daemon.rows().await.is_empty().then_some(()) }).await;
    assert!(!directory.exists());
    assert_eq!(leaks(&daemon.state()), []);
    daemon.kill();
    assert_eq!(leaks(&daemon.state()), []);
    let said = daemon.stderr();
    assert!(said.contains("TRACE") && said.contains("DEBUG"));
    let line = said.lines().find(|line| secret_in(line.as_bytes()).is_some());
    assert_eq!(line, None);
}
