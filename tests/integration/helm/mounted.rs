//! A container of the chart as a kubelet would make it, on this machine: its volumes are folders, its variables are set.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Container, KeyToPath, Pod, PodSpec, Secret, Volume};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::daemon::OUTPOST;
use crate::support::helm::Rendered;
use crate::support::sshd::make_key;

/// What the pods of a release may refer to: Secrets and ConfigMaps by their names.
#[derive(Default)]
pub struct Sources {
    secrets: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
    maps: BTreeMap<String, BTreeMap<String, Vec<u8>>>,
}

impl Sources {
    pub fn of(objects: &[Value]) -> Self {
        let mut sources = Self::default();
        for object in objects {
            match object["kind"].as_str() {
                Some("Secret") => {
                    let secret: Secret = serde_json::from_value(object.clone()).unwrap();
                    let texts = secret.string_data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
                    let data = secret.data.into_iter().flatten().map(|(key, ByteString(bytes))| (key, bytes));
                    sources.secrets.insert(secret.metadata.name.unwrap(), data.chain(texts).collect());
                }
                Some("ConfigMap") => {
                    let map: ConfigMap = serde_json::from_value(object.clone()).unwrap();
                    let data = map.data.into_iter().flatten().map(|(key, text)| (key, text.into_bytes()));
                    sources.maps.insert(map.metadata.name.unwrap(), data.collect());
                }
                _ => {}
            }
        }
        sources
    }

    /// All texts that are secret.
    pub fn texts(&self) -> impl Iterator<Item = String> {
        self.secrets.values().flat_map(BTreeMap::values).map(|bytes| String::from_utf8(bytes.clone()).unwrap())
    }

    /// A Secret that the site has made.
    pub fn insert(&mut self, name: &str, data: BTreeMap<String, Vec<u8>>) {
        self.secrets.insert(name.to_owned(), data);
    }

    /// The key of a Secret. One that the site makes has what its key's name says.
    fn secret(&self, name: &str, key: &str) -> Vec<u8> {
        match self.secrets.get(name) {
            Some(secret) => secret.get(key).unwrap_or_else(|| panic!("{name} has no {key}")).clone(),
            None => of_the_site(key),
        }
    }

    /// A ConfigMap. Those of the site and of the cluster are empty.
    fn map(&self, name: &str) -> BTreeMap<String, Vec<u8>> {
        self.maps.get(name).cloned().unwrap_or_default()
    }
}

/// What somebody who reads the chart's examples puts into a Secret under this key.
fn of_the_site(key: &str) -> Vec<u8> {
    match key {
        "usernames" => "first;second".into(),
        "passwords" => "one;two".into(),
        "secret_key" => "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=".into(),
        "ssh" | "tunnel" => {
            let dir = tempfile::tempdir().unwrap();
            make_key(&dir.path().join("key"));
            fs::read(dir.path().join("key")).unwrap()
        }
        _ => "s3cret-of-the-site".into(),
    }
}

/// A container with its volumes below a folder.
pub struct Mounted {
    pub dir: TempDir,
    container: Container,
    /// Where volumes are mounted, the longest path first.
    paths: Vec<String>,
    variables: BTreeMap<String, String>,
}

impl Mounted {
    /// The first container of Outpost's own pod.
    pub fn deployment(rendered: &Rendered, sources: &Sources) -> Self {
        let spec = rendered.only("Deployment")["spec"]["template"]["spec"].clone();
        Self::new(&serde_json::from_value(spec).unwrap(), sources)
    }

    /// The first container of a pod.
    pub fn pod(pod: &Pod, sources: &Sources) -> Self {
        Self::new(pod.spec.as_ref().unwrap(), sources)
    }

    fn new(spec: &PodSpec, sources: &Sources) -> Self {
        let container = spec.containers[0].clone();
        let mounts = container.volume_mounts.clone().unwrap_or_default();
        let mut paths: Vec<_> = mounts.iter().map(|mount| mount.mount_path.clone()).collect();
        paths.sort_by_key(|path| std::cmp::Reverse(path.len()));
        let mut mounted = Self { dir: tempfile::tempdir().unwrap(), container, paths, variables: BTreeMap::new() };
        for mount in mounts {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
            let volume = volume.unwrap_or_else(|| panic!("there is no volume {}", mount.name));
            assert_eq!(mount.sub_path, None, "{}: a change would never arrive", mount.mount_path);
            let folder = mounted.path(&mount.mount_path);
            fs::create_dir_all(&folder).unwrap();
            for (name, bytes) in files(volume, sources) {
                let path = folder.join(&name);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                let text = String::from_utf8(bytes).unwrap();
                let is_config = name.ends_with(".toml");
                fs::write(path, if is_config { mounted.here(&text) } else { text }).unwrap();
            }
        }
        mounted.variables = mounted.environment(sources);
        mounted
    }

    /// A path of the container.
    pub fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path.trim_start_matches('/'))
    }

    /// The text with this machine's paths in place of those of volumes.
    pub fn here(&self, text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let begins = !out.ends_with(|c: char| c.is_ascii_alphanumeric() || "/.-_".contains(c));
            let found = self.paths.iter().filter(|_| begins).find(|path| rest.starts_with(path.as_str()));
            let length = match found {
                Some(path) => {
                    out.push_str(self.path(path).to_str().unwrap());
                    path.len()
                }
                None => {
                    out.push(c);
                    c.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        out
    }

    fn environment(&self, sources: &Sources) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        for variable in self.container.env.iter().flatten() {
            let value = match variable.value_from.as_ref().and_then(|from| from.secret_key_ref.as_ref()) {
                Some(secret) => String::from_utf8(sources.secret(&secret.name, &secret.key)).unwrap(),
                None => self.here(variable.value.as_deref().unwrap_or_default()),
            };
            all.insert(variable.name.clone(), value);
        }
        all
    }

    /// The configuration, as the program reads it.
    pub fn config(&self) -> toml::Table {
        let path = &self.variables["OUTPOST_CONFIG"];
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}")).parse().unwrap()
    }

    /// Replaces the configuration.
    pub fn configure(&self, config: &toml::Table) {
        fs::write(&self.variables["OUTPOST_CONFIG"], config.to_string()).unwrap();
    }

    /// The arguments of the container, as the image's program gets them.
    pub fn arguments(&self) -> Vec<String> {
        assert_eq!(self.container.command, None, "the image has one program");
        self.container.args.iter().flatten().map(|argument| self.here(argument)).collect()
    }

    /// The program with these arguments, and with what this container has.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(OUTPOST);
        command.env_clear().envs(&self.variables).args(arguments).current_dir(self.dir.path());
        command
    }
}

/// The files of a volume.
fn files(volume: &Volume, sources: &Sources) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let of_secret = |files: &mut BTreeMap<_, _>, name: &str, items: Option<&Vec<KeyToPath>>| match items {
        Some(items) => files.extend(items.iter().map(|item| (item.path.clone(), sources.secret(name, &item.key)))),
        None => match sources.secrets.get(name) {
            Some(secret) => files.extend(secret.clone()),
            None => panic!("there is no Secret {name}"),
        },
    };
    let of_map = |files: &mut BTreeMap<_, _>, name: &str, items: Option<&Vec<KeyToPath>>| match items {
        Some(items) => {
            let map = sources.map(name);
            files.extend(items.iter().filter_map(|item| Some((item.path.clone(), map.get(&item.key)?.clone()))));
        }
        None => files.extend(sources.map(name)),
    };
    if let Some(secret) = &volume.secret {
        of_secret(&mut files, secret.secret_name.as_deref().unwrap(), secret.items.as_ref());
    }
    if let Some(map) = &volume.config_map {
        of_map(&mut files, &map.name, map.items.as_ref());
    }
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        if let Some(secret) = &source.secret {
            of_secret(&mut files, &secret.name, secret.items.as_ref());
        }
        if let Some(map) = &source.config_map {
            of_map(&mut files, &map.name, map.items.as_ref());
        }
    }
    files
}
