//! What a server gets to see: its environment, its certificates, its Unix user.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use outpost::model::Certificates;
use outpost::spawner::process::open_files;
use secrecy::SecretString;
use serde_json::json;

use super::*;

fn environment_of(pid: i32) -> BTreeMap<String, String> {
    let text = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    let entry = |entry: &str| entry.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
    text.split_terminator('\0').filter_map(entry).collect()
}

fn hub_environment() -> Environment {
    let variables = [
        ("JUPYTERHUB_API_TOKEN", "s3cret"),
        ("JUPYTERHUB_SERVICE_URL", "http://0.0.0.0:55713/user/ada/name/"),
        ("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/name/"),
        ("JUPYTERHUB_SSL_KEYFILE", "/hub/only.key"),
        ("JUPYTERHUB_SSL_CERTFILE", "/hub/only.crt"),
        ("JUPYTERHUB_SSL_CLIENT_CA", "/hub/only.ca"),
        ("LD_PRELOAD", "/tmp/evil.so"),
        ("LD_LIBRARY_PATH", "/tmp"),
        ("PATH", "/tmp/evil"),
        ("BASH_ENV", "/tmp/evil.sh"),
        ("OUTPOST_SERVER_ID", "01ARZ3NDEKTSV4RRFFQ69G5FAV"),
        ("OF_THE_HUB", "hub"),
        ("BOTH", "hub"),
        ("ALL", "hub"),
        ("MULTI", "a\nb=c"),
        ("GONE", "hub"),
    ];
    Environment(variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into())
}

#[tokio::test(flavor = "multi_thread")]
async fn layer_over_layer() {
    let site = Site::new(&format!(
        "{SLEEPER}notebook_dir = '{{home}}/notes/{{username}}'\ndefault_url = '/lab'\nmem_limit = '8G'\n[environment]\nALL = 'site {{username}} {{port}}'\nOF_THE_SITE = 'site'"
    ));
    let mut launch = launch_of("a/b");
    launch.environment = hub_environment();
    let options = json!({"environment": {"BOTH": "options", "ALL": "options", "N": 1, "LD_PRELOAD": "x", "PATH": "x",
        "GONE": null, "OF_THE_SITE": null},
        "default_url": "/tree"});
    launch.options = options.as_object().unwrap().clone();
    let started = site.start(&launch).await.unwrap();
    let mut env = environment_of(site.server_pid(&launch.uid));
    let mut take = |name: &str| env.remove(name).unwrap_or_else(|| format!("no {name}"));
    let home = site.state.path().join("home/hub/a%2Fb").to_str().unwrap().to_owned();
    assert_eq!(take("JUPYTERHUB_SERVICE_URL"), format!("http://127.0.0.1:{}/user/ada/name/", started.port));
    assert_eq!(take("JUPYTERHUB_ROOT_DIR"), format!("{home}/notes/a%2Fb"));
    assert_eq!(take("JUPYTERHUB_DEFAULT_URL"), "/tree");
    assert_eq!(take("HOME"), home);
    assert_eq!(take("ALL"), format!("site a/b {}", started.port));
    assert_eq!(
        (take("BOTH"), take("OF_THE_HUB"), take("OF_THE_SITE")),
        ("options".into(), "hub".into(), "site".into())
    );
    assert_eq!((take("N"), take("MULTI"), take("MEM_LIMIT")), ("1".into(), "a\nb=c".into(), (8_u64 << 30).to_string()));
    assert_eq!((take("JUPYTERHUB_API_TOKEN"), take("JPY_API_TOKEN")), ("s3cret".into(), "s3cret".into()));
    assert_eq!(take("JUPYTERHUB_SERVICE_PREFIX"), "/user/ada/name/");
    assert_eq!(take("OUTPOST_SERVER_ID"), launch.uid.as_str());
    assert_eq!((take("OUTPOST_INSTANCE"), take("OUTPOST_SPAWNER")), (site.instance.clone(), "local".into()));
    assert_eq!(take("PATH"), std::env::var("PATH").unwrap());
    let own = ["USER", "LOGNAME", "SHELL"].map(&mut take);
    assert!(own.iter().all(|value| !value.starts_with("no ")), "{own:?}");
    // Whatever else is there has been allowed; this test's own environment is full of others.
    let allowed = Settings::default().env_keep;
    assert!(env.keys().all(|name| allowed.contains(name)), "{:?}", env.keys());

    let home = fs::metadata(home).unwrap();
    assert_eq!(home.permissions().mode() & 0o777, 0o700);
    let record = fs::read_to_string(site.dir(&launch.uid).join("state.json")).unwrap();
    assert!(!record.contains("s3cret"));
    let arguments = fs::read_to_string(format!("/proc/{}/cmdline", site.supervisor_pid(&launch.uid))).unwrap();
    assert_eq!(arguments, format!("outpost\0supervise\0{}\0", launch.uid));
    assert!(environment_of(site.supervisor_pid(&launch.uid)).is_empty());
    site.stop(&launch.uid).await;
}

fn certificates() -> Certificates {
    let bundles = [("hub-ca", "HUB CA\n"), ("proxy-client-ca", "OTHER\n")];
    Certificates {
        keyfile: SecretString::from("KEY\n"),
        certfile: SecretString::from("CERT\n"),
        cafile: SecretString::from("CA"),
        trust_bundles: bundles.map(|(name, text)| (name.to_owned(), SecretString::from(text))).into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_the_servers_alone() {
    let root = nix::unistd::geteuid().is_root();
    let switch = if root { "user = 'nobody'\nworking_dir = '/tmp'\n" } else { "" };
    let site = Site::new(&format!(
        "{switch}cmd = ['sh', '-c', 'cat $JUPYTERHUB_SSL_KEYFILE $JUPYTERHUB_SSL_CERTFILE $JUPYTERHUB_SSL_CLIENT_CA; sleep 1000']"
    ));
    let mut launch = launch();
    launch.environment = hub_environment();
    launch.certificates = Some(certificates());
    site.start(&launch).await.unwrap();
    assert_eq!(site.logs(&launch.uid).await, ["KEY", "CERT", "CA", "HUB CA"]);
    let directory = site.state.path().join("certs").join(launch.uid.as_str());
    let owner = if root { 65534 } else { nix::unistd::geteuid().as_raw() };
    let meta = fs::metadata(&directory).unwrap();
    assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o700, owner));
    for file in fs::read_dir(&directory).unwrap() {
        let meta = file.unwrap().metadata().unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o600, owner));
    }
    let env = environment_of(site.server_pid(&launch.uid));
    assert_eq!(env["JUPYTERHUB_SSL_KEYFILE"], directory.join("ssl.key").to_str().unwrap());
    site.stop(&launch.uid).await;
    assert!(!directory.exists());

    // Without, the hub's own paths say nothing here.
    launch.uid = Uid::generate();
    launch.certificates = None;
    site.start(&launch).await.unwrap();
    let env = environment_of(site.server_pid(&launch.uid));
    assert!(env.keys().all(|name| !name.starts_with("JUPYTERHUB_SSL_")));
    site.stop(&launch.uid).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_can_run_as_its_unix_user() {
    if !nix::unistd::geteuid().is_root() {
        return println!("only root can switch users: not tried");
    }
    let site = Site::new(
        "cmd = ['sh', '-c', 'id -u; id -g; id -G; echo $HOME $USER; umask; sleep 1000']\nusers = { ada = 'nobody' }\nworking_dir = '/tmp'\npre_start = ['sh', '-c', 'id -u']\npost_stop = ['sh', '-c', 'id -u > {home}/x; id -u']",
    );
    let launch = launch();
    site.start(&launch).await.unwrap();
    let logs = site.logs(&launch.uid).await;
    assert_eq!(logs[..5], ["65534", "65534", "65534", "65534", "/nonexistent nobody"]);
    let status = fs::read_to_string(format!("/proc/{}/status", site.server_pid(&launch.uid))).unwrap();
    assert!(status.contains("Uid:\t65534\t65534\t65534\t65534") && status.contains("Gid:\t65534\t65534\t65534\t65534"));
    site.stop(&launch.uid).await;
}

#[test]
fn a_user_switch_can_be_required() {
    let settings: Settings = toml::from_str("require_user_switch = true").unwrap();
    assert!(settings.check().unwrap_err().starts_with("`require_user_switch`"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_has_the_limit_of_open_files_that_outpost_was_started_with() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let soft = hard.min(4000);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert_eq!(open_files::raise().unwrap(), hard);
    assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    let site = Site::new(SLEEPER);
    let launch = launch();
    site.start(&launch).await.unwrap();
    let limits = fs::read_to_string(format!("/proc/{}/limits", site.server_pid(&launch.uid))).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    assert_eq!(files.split_whitespace().collect::<Vec<_>>()[..2], [soft.to_string(), hard.to_string()]);
    site.stop(&launch.uid).await;
}
