//! The engine of Helm, as `tests/run` provides it: `tests/helm/engine.py` asks it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;
use serde_json::{Value, json};

use super::kube::Cluster;
use super::provided;

/// The folder of the chart.
pub const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/charts/outpost");

const ENGINE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/helm/engine.py");

/// What Helm says to one request: its answer, or its error.
pub type Answer = Result<Value, String>;

#[derive(Clone)]
pub struct Helm {
    python: String,
}

/// What a chart makes of values.
#[derive(Clone, Debug, Deserialize)]
pub struct Rendered {
    /// The texts, by the file that they come from: `outpost/templates/service.yaml`.
    pub files: BTreeMap<String, String>,
    /// All objects, those of hooks among them.
    pub objects: Vec<Value>,
}

impl Rendered {
    /// The objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// The only object of a kind.
    pub fn only<'a>(&'a self, kind: &'a str) -> &'a Value {
        let all: Vec<_> = self.of_kind(kind).collect();
        assert_eq!(all.len(), 1, "{kind}: {all:#?}");
        all[0]
    }

    /// The text of `outpost_config.toml`.
    pub fn config(&self) -> &str {
        let texts = self.of_kind("ConfigMap").filter_map(|map| map["data"]["outpost_config.toml"].as_str());
        let texts: Vec<_> = texts.collect();
        assert_eq!(texts.len(), 1, "there is one configuration: {texts:?}");
        texts[0]
    }
}

impl Helm {
    /// `None`: it is not here, and the test is skipped.
    pub fn engine() -> Option<Self> {
        Some(Self { python: provided("OUTPOST_TEST_HELM", "the engine of Helm")? })
    }

    /// Sends requests, all to one process; their answers.
    pub fn ask(&self, requests: &[Value]) -> Vec<Answer> {
        let mut command = Command::new(&self.python);
        // Nobody's own cluster is meant, and no folder of the user's is written to.
        command.arg("-B").arg(ENGINE).env_clear().env("HOME", "/nonexistent");
        let mut engine = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        serde_json::to_writer(engine.stdin.take().unwrap(), requests).unwrap();
        let output = engine.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answers: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(answers.len(), requests.len());
        answers.into_iter().map(answer).collect()
    }

    /// What the chart makes of each of several files of values, as the release `outpost` in the namespace `outpost`.
    pub fn try_render<'a>(&self, values: impl IntoIterator<Item = &'a str>) -> Vec<Result<Rendered, String>> {
        let request = |values: &str| json!({"do": "render", "chart": CHART, "values": values, "name": "outpost", "namespace": "outpost"});
        let requests: Vec<_> = values.into_iter().map(request).collect();
        let read = |answer: Answer| answer.map(|rendered| serde_json::from_value(rendered).unwrap());
        self.ask(&requests).into_iter().map(read).collect()
    }

    /// What the chart makes of values that are good.
    pub fn render(&self, values: &str) -> Rendered {
        self.try_render([values]).remove(0).unwrap_or_else(|error| panic!("{values}\n{error}"))
    }
}

fn answer(value: Value) -> Answer {
    match value.get("error") {
        Some(error) => Err(error.as_str().unwrap().to_owned()),
        None => Ok(value["ok"].clone()),
    }
}

/// A release of the chart in a cluster.
#[derive(Clone)]
pub struct Release {
    pub helm: Helm,
    pub kubeconfig: PathBuf,
    pub namespace: String,
    pub name: String,
}

impl Release {
    /// A release that is not there yet, in a new namespace.
    pub async fn new(helm: &Helm, cluster: &Cluster, name: &str) -> Self {
        let (kubeconfig, namespace) = (cluster.admin_kubeconfig(), cluster.namespace().await);
        Self { helm: helm.clone(), kubeconfig, namespace, name: name.to_owned() }
    }

    /// Asks for an action, which may take a while.
    fn ask(&self, action: &str, more: Value) -> Answer {
        let mut request = json!({
            "do": action, "name": self.name, "namespace": self.namespace, "kubeconfig": self.kubeconfig,
        });
        request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        tokio::task::block_in_place(|| self.helm.ask(&[request]).remove(0))
    }

    /// Its objects, but for those of hooks.
    pub fn install(&self, values: &str) -> Result<Vec<Value>, String> {
        self.install_chart(Path::new(CHART), values)
    }

    /// Installs another chart than ours.
    pub fn install_chart(&self, chart: &Path, values: &str) -> Result<Vec<Value>, String> {
        self.ask("install", json!({"chart": chart, "values": values})).map(objects)
    }

    pub fn upgrade(&self, values: &str) -> Result<Vec<Value>, String> {
        self.ask("upgrade", json!({"chart": CHART, "values": values})).map(objects)
    }

    pub fn rollback(&self, revision: u32) -> Answer {
        self.ask("rollback", json!({"revision": revision}))
    }

    pub fn uninstall(&self) -> Answer {
        self.ask("uninstall", json!({}))
    }

    /// Runs the tests of the release.
    pub fn test(&self) -> Answer {
        self.ask("test", json!({"seconds": 120}))
    }

    /// What the chart makes of values beside what the cluster has.
    pub fn render(&self, values: &str) -> Rendered {
        let rendered = self.ask("render", json!({"chart": CHART, "values": values}));
        serde_json::from_value(rendered.unwrap_or_else(|error| panic!("{values}\n{error}"))).unwrap()
    }
}

fn objects(list: Value) -> Vec<Value> {
    serde_json::from_value(list).unwrap()
}

/// The chart's examples by their names, and the chart without any values.
pub fn examples() -> BTreeMap<String, String> {
    let mut examples = BTreeMap::from([("defaults".to_owned(), String::new())]);
    for file in std::fs::read_dir(Path::new(CHART).join("ci")).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().strip_suffix("-values.yaml").unwrap().to_owned();
        examples.insert(name, std::fs::read_to_string(&path).unwrap());
    }
    examples
}

/// What the chart makes of each of its examples.
pub fn rendered_examples(helm: &Helm) -> BTreeMap<String, Rendered> {
    let examples = examples();
    let rendered = helm.try_render(examples.values().map(String::as_str));
    let named = examples.into_keys().zip(rendered);
    named.map(|(name, rendered)| (name.clone(), rendered.unwrap_or_else(|error| panic!("{name}: {error}")))).collect()
}
