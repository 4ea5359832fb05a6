//! The host key: one for all Outposts of a database, encrypted, rotated.

use outpost::model::{HostKey, HostKeyState};
use outpost::ssh::HostKeys;
use outpost::store::{Ring, Store};
use russh::keys::{HashAlg, PublicKey};
use secrecy::ExposeSecret as _;

use super::*;
use crate::support::ssh::{SshClient, admit, echo, say, server_at, works};

fn current(keys: &HostKeys) -> PublicKey {
    keys.current().public_key().clone()
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn outposts_that_start_at_once_agree_on_a_key(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    db.store(Clock::System).await;
    let stores: Vec<Store> = (0..4).map(|_| db.open(&[RING], Clock::System)).collect();
    let loaded = futures_util::future::join_all(stores.iter().map(HostKeys::load)).await;
    let keys: Vec<_> = loaded.into_iter().map(Result::unwrap).collect();
    for other in &keys {
        assert_eq!(current(other), current(&keys[0]));
    }
    assert_eq!(current(&HostKeys::load(&stores[1]).await.unwrap()), current(&keys[0]), "after a restart");
    assert!(!keys[0].refresh(&stores[0]).await.unwrap());

    let next = HostKey::generate().unwrap();
    assert!(!stores[0].promote_host_key().await.unwrap(), "there is none");
    assert!(stores[0].add_host_key(HostKeyState::Next, &next).await.unwrap());
    assert!(!stores[1].add_host_key(HostKeyState::Next, &HostKey::generate().unwrap()).await.unwrap(), "a second");
    assert!(!keys[1].refresh(&stores[1]).await.unwrap(), "the current one stays in force");
    let promoted = futures_util::future::join_all(stores.iter().map(Store::promote_host_key)).await;
    assert_eq!(promoted.into_iter().filter(|promoted| *promoted.as_ref().unwrap()).count(), 1);
    for (keys, store) in keys.iter().zip(&stores) {
        assert!(keys.refresh(store).await.unwrap());
        assert_eq!(&current(keys), next.public());
    }
    assert_eq!(stores[0].host_key(HostKeyState::Next).await.unwrap(), None);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn the_encryption_key_can_be_replaced(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let store = db.store(Clock::System).await;
    let first = store.current_host_key().await.unwrap().key;
    let next = HostKey::generate().unwrap();
    store.add_host_key(HostKeyState::Next, &next).await.unwrap();
    let new = Ring::generate_key();
    assert_eq!(db.open(&[&new, RING], Clock::System).rotate_keys().await.unwrap(), 2);
    let store = db.open(&[&new], Clock::System);
    assert_eq!(store.rotate_keys().await.unwrap(), 0);
    assert_eq!(store.current_host_key().await.unwrap().key, first);
    assert_eq!(store.host_key(HostKeyState::Next).await.unwrap().unwrap().key, next);
    let error = db.open(&[RING], Clock::System).current_host_key().await.unwrap_err();
    assert!(error.cause().unwrap().contains("a key that is not configured any more"), "{error:?}");
}

#[tokio::test]
async fn nothing_of_a_private_key_is_in_the_database_in_clear() {
    let db = TestDb::new(Kind::Sqlite).await.unwrap();
    let store = db.store(Clock::System).await;
    let key = store.current_host_key().await.unwrap().key;
    store.close().await;
    let written = key.to_openssh().unwrap();
    let pair = key.private();
    let seed = pair.key_data().ed25519().unwrap().private.to_bytes();
    let lines = written.expose_secret().lines().skip(2).filter(|line| line.len() >= 40);
    let secrets: Vec<Vec<u8>> =
        lines.map(|line| line.as_bytes().to_vec()).chain([seed.to_vec(), b"PRIVATE KEY".to_vec()]).collect();
    assert!(secrets.len() >= 4);
    let path = std::path::Path::new(db.url.strip_prefix("sqlite:").unwrap());
    let mut looked = 0;
    for entry in std::fs::read_dir(path.parent().unwrap()).unwrap().flatten() {
        let bytes = std::fs::read(entry.path()).unwrap();
        looked += bytes.len();
        for secret in &secrets {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{:?}", entry.path());
        }
    }
    assert!(looked > 4096);
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_and_the_admin_api_show_and_rotate_host_keys(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "[ssh]\npublic_address = 'outpost.example.org:2222'\n").await else { return };
    let db = site.outpost.db.as_ref().unwrap();
    let mut daemon = Daemon::new("[ssh]\npublic_address = 'outpost.example.org:2222'\n");
    daemon.set("OUTPOST_DATABASE_URL", Some(&db.url));
    daemon.set("OUTPOST_CRYPT_KEY", Some(RING));
    std::fs::create_dir(daemon.state()).unwrap();
    let failed = async |arguments: &[&str]| {
        let output = daemon.run(&[&["ssh"], arguments].concat()).await;
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stdout));
        text(&output.stderr)
    };
    assert!(failed(&["fingerprint"]).await.contains("there is no host key yet"));
    assert!(failed(&["rotate"]).await.contains("there is no host key yet"));
    assert_eq!(site.get("/ssh/host-keys").await.body, json!({ "host_keys": [] }));
    problem(&site.post("/ssh/host-keys/rotation", &json!({})).await, 404);

    let running = HostKeys::load(&site.outpost.outpost.store).await.unwrap();
    let shown = daemon.json(&["ssh", "fingerprint", "--json"]).await;
    let [key] = shown.as_array().unwrap().as_slice() else { panic!("{shown}") };
    assert_eq!((&key["state"], &key["type"]), (&json!("current"), &json!("ssh-ed25519")));
    let public = PublicKey::from_openssh(key["public_key"].as_str().unwrap()).unwrap();
    assert_eq!(public, current(&running));
    assert_eq!(key["fingerprint"], public.fingerprint(HashAlg::Sha256).to_string());
    let line = format!("[outpost.example.org]:2222 {}", key["public_key"].as_str().unwrap());
    assert_eq!(key["known_hosts"], json!(line));

    assert!(failed(&["rotate", "--finish"]).await.contains("there is no next host key"));
    let said = daemon.run(&["ssh", "rotate"]).await;
    assert!(said.status.success() && text(&said.stdout).contains(&line), "{}", text(&said.stderr));
    assert!(failed(&["rotate"]).await.contains("a rotation is under way"));
    let both = site.get("/ssh/host-keys").await.body["host_keys"].clone();
    assert_eq!((&both[0]["fingerprint"], &both[1]["state"]), (&key["fingerprint"], &json!("next")));
    let table = text(&daemon.run(&["ssh", "fingerprint"]).await.stdout);
    assert!(both.as_array().unwrap().iter().all(|key| table.contains(key["known_hosts"].as_str().unwrap())), "{table}");
    problem(&site.post("/ssh/host-keys/rotation", &json!({})).await, 409);
    let finished = site.post("/ssh/host-keys/rotation", &json!({ "finish": true })).await;
    assert_eq!(finished.body["host_keys"].as_array().unwrap().len(), 1);
    assert_eq!(finished.body["host_keys"][0]["fingerprint"], both[1]["fingerprint"]);
    assert!(running.refresh(&site.outpost.outpost.store).await.unwrap());
    assert_eq!(json!(current(&running).fingerprint(HashAlg::Sha256).to_string()), both[1]["fingerprint"]);
    let deeds: Vec<_> = site.deeds().await.into_iter().map(|deed| deed[1].clone()).collect();
    assert_eq!(deeds[..2], [json!("ssh.rotate_finish"), json!("ssh.rotate")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_rotation_new_connections_get_the_next_key_and_open_ones_go_on() {
    let outpost = TestOutpost::start("[ssh]\nlisten = '127.0.0.1:0'\n").await;
    let client = || SshClient::new(outpost.ssh.unwrap());
    let (open, closed) = (client(), client());
    admit(&outpost.outpost, "hub1", &open).await;
    let echo = echo().await;
    server_at(&outpost, "lab", echo).await;
    let connected = open.run(&["-oRekeyLimit=1M"]).await;
    assert_eq!(connected.code, Some(0), "{connected:?}");
    let port = open.forward(&echo.to_string()).await;
    assert!(works(port).await);
    eventually("it is ready", || async { outpost.outpost.unready().await.is_empty().then_some(()) }).await;
    assert_eq!(*outpost.outpost.listening.borrow(), 1);

    let (store, next) = (&outpost.outpost.store, HostKey::generate().unwrap());
    let first = store.current_host_key().await.unwrap().key;
    assert!(store.add_host_key(HostKeyState::Next, &next).await.unwrap());
    assert!(store.promote_host_key().await.unwrap());
    admit(&outpost.outpost, "hub2", &closed).await;
    // The client takes any key at its first connection, and writes down which it was.
    let known = async |client: &SshClient| {
        let _ = std::fs::remove_file(client.path("known_hosts"));
        let ended = client.session(&["-S", "none"], &["true"]).await;
        std::fs::read_to_string(client.path("known_hosts")).unwrap_or_else(|_| panic!("{ended:?}"))
    };
    let key = |key: &HostKey| key.public_line().split(' ').nth(1).unwrap().to_owned();
    eventually("new connections get the next key", || async {
        known(&closed).await.contains(&key(&next)).then_some(())
    })
    .await;
    assert!(std::fs::read_to_string(open.path("known_hosts")).unwrap().contains(&key(&first)));
    // Both sides exchange keys anew after each megabyte.
    let much = vec![7; 5 << 20];
    assert!(say(port, &much).await.unwrap() == much);
    let later = open.run(&["-S", "none"]).await;
    assert!(later.code != Some(0) && later.said.contains("HOST IDENTIFICATION HAS CHANGED"), "{later:?}");
    outpost.stop().await;
}
