//! Resident memory of the real program, idle and with 10,000 servers.

use std::process::Stdio;
use std::time::Duration;

use crate::client::{Connection, basic_auth, post};

const SERVERS: usize = 10_000;

pub async fn measure() {
    let dir = tempfile::tempdir().unwrap();
    let port = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (api, admin) = (port(), port());
    let file = dir.path().join("outpost_config.toml");
    let config = format!(
        "state_dir = '{}'\n[http]\nlisten = '127.0.0.1:{api}'\nadmin_listen = '127.0.0.1:{admin}'\n[log]\nlevel = 'warn'\n\
         [spawners.local]\ntype = 'memory'\n[hubs.bench]\napi_url = 'http://127.0.0.1:1/hub/api'\nsend_events = false\n",
        dir.path().display()
    );
    std::fs::write(&file, config).unwrap();
    let mut outpost = tokio::process::Command::new(env!("CARGO_BIN_EXE_outpost"))
        .arg("--config")
        .arg(&file)
        .arg("serve")
        .env("usernames", "bench")
        .env("passwords", "s3cret")
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let address = format!("127.0.0.1:{api}");
    while tokio::net::TcpStream::connect(&address).await.is_err() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let pid = outpost.id().unwrap();
    let idle = resident_mib(pid);
    let auth = basic_auth("bench", "s3cret");
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (address, auth) = (address.clone(), auth.clone());
            tokio::spawn(async move {
                let mut connection = Connection::open(&address).await;
                for at in 0..SERVERS / 8 {
                    assert_eq!(connection.send(&post(&auth, &format!("s{client}-{at}"), "0")).await, 200);
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    println!("resident memory");
    println!("  idle          {idle:>9.1} MiB   (wanted: at most 24)");
    println!("  {SERVERS} servers {:>8.1} MiB   (wanted: at most 64)", resident_mib(pid));
    outpost.kill().await.unwrap();
}

/// What a process keeps in memory now.
pub fn resident_mib(pid: u32) -> f64 {
    status_mib(pid, "VmRSS:")
}

/// The most that it ever kept there.
pub fn peak_mib(pid: u32) -> f64 {
    status_mib(pid, "VmHWM:")
}

fn status_mib(pid: u32, key: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(key)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0
}
