//! Files that are mounted into a pod: a change of a ConfigMap or a Secret is a link that leads somewhere else, and nobody sends
//! a signal.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Daemon, SLEEPER, status_of, until_status};
use crate::support::eventually;

/// A folder as the kubelet keeps it: `file` leads to `..data/file`, and `..data` to a folder with the time as its name.
struct Mount {
    dir: PathBuf,
    updates: u32,
}

impl Mount {
    fn new(dir: &Path, files: &[(&str, &str)]) -> Self {
        fs::create_dir(dir).unwrap();
        let mut mount = Self { dir: dir.to_owned(), updates: 0 };
        mount.update(files);
        for (name, _) in files {
            symlink(Path::new("..data").join(name), dir.join(name)).unwrap();
        }
        mount
    }

    /// Puts all files in place in one step.
    fn update(&mut self, files: &[(&str, &str)]) {
        let before = fs::read_link(self.dir.join("..data")).ok();
        self.updates += 1;
        let name = format!("..2026_11_22_01_00_00.{}", self.updates);
        fs::create_dir(self.dir.join(&name)).unwrap();
        for (file, text) in files {
            fs::write(self.dir.join(&name).join(file), text).unwrap();
        }
        symlink(&name, self.dir.join("..data_tmp")).unwrap();
        fs::rename(self.dir.join("..data_tmp"), self.dir.join("..data")).unwrap();
        if let Some(before) = before {
            fs::remove_dir_all(self.dir.join(before)).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_and_a_configuration_that_are_replaced_are_in_force() {
    let daemon = Daemon::new("");
    let secrets = daemon.dir().join("secrets");
    let mut secret = Mount::new(&secrets, &[("password", "first"), ("token", "unchanged")]);
    let hub = format!("[hubs.site]\npasswords = [{{ file = '{}' }}]\n", secrets.join("password").display());
    daemon.configure(&format!("{hub}{SLEEPER}"));
    let written = |text: &str| {
        daemon.configure(text);
        fs::read_to_string(daemon.config_path()).unwrap()
    };
    let [one, two] = [format!("{hub}{SLEEPER}"), format!("{hub}[hubs.second]\nconcurrent_starts = 1\n{SLEEPER}")];
    let [one, two] = [written(&one), written(&two)];
    let folder = daemon.dir().join("config");
    let mut config = Mount::new(&folder, &[("outpost_config.toml", &one)]);
    fs::remove_file(daemon.config_path()).unwrap();
    symlink(folder.join("outpost_config.toml"), daemon.config_path()).unwrap();
    daemon.spawn();
    daemon.up().await;
    until_status(&daemon, "site", "first", 200).await;
    let process = daemon.pid();

    // As long as the one before: it is not the length that tells.
    secret.update(&[("password", "other"), ("token", "unchanged")]);
    until_status(&daemon, "site", "other", 200).await;
    until_status(&daemon, "site", "first", 401).await;

    config.update(&[("outpost_config.toml", &two)]);
    eventually("the new hub is there", || async {
        let hubs = daemon.json(&["hub", "list", "--json"]).await;
        hubs.to_string().contains("\"second\"").then_some(())
    })
    .await;
    assert_eq!((daemon.pid(), status_of(&daemon, "site", "other").await), (process, 200));

    // A password that is taken away is a mistake, and changes nothing until it is back.
    secret.update(&[("token", "unchanged")]);
    eventually("the mistake is told", || async { daemon.stderr().contains("secrets/password").then_some(()) }).await;
    assert_eq!(status_of(&daemon, "site", "other").await, 200);
    secret.update(&[("password", "third"), ("token", "unchanged")]);
    until_status(&daemon, "site", "third", 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_holds_is_looked_at_before_it_is_in_force() {
    let daemon = Daemon::new("");
    let [token, password] = ["token", "password"].map(|name| daemon.dir().join(name));
    fs::write(&token, "good").unwrap();
    fs::write(&password, "first").unwrap();
    daemon.configure(&format!(
        "[hubs.site]\npasswords = [{{ file = '{}' }}]\nflavors_update_token = {{ file = '{}' }}\n{SLEEPER}",
        password.display(),
        token.display()
    ));
    daemon.spawn();
    daemon.up().await;
    until_status(&daemon, "site", "first", 200).await;
    let told = |mistake: &str| daemon.stderr().matches(mistake).count();

    fs::write(&token, "").unwrap();
    eventually("the mistake is told", || async { (told("hubs.\\\"site\\\".flavors_update_token") == 1).then_some(()) })
        .await;
    // A pipe would hold up whoever reads it.
    fs::remove_file(&token).unwrap();
    nix::unistd::mkfifo(&token, nix::sys::stat::Mode::S_IRWXU).unwrap();
    eventually("the mistake is told", || async { (told("it is no regular file") == 1).then_some(()) }).await;
    fs::write(&password, "second").unwrap();
    assert_eq!(status_of(&daemon, "site", "first").await, 200, "the last good configuration goes on");

    fs::remove_file(&token).unwrap();
    fs::write(&token, "good").unwrap();
    until_status(&daemon, "site", "second", 200).await;
}
