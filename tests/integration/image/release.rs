//! What makes a release agrees with itself.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::pod::{VARIABLES, printed};
use crate::support::daemon::text;
use crate::support::helm::Helm;
use crate::support::skipped;

const DOCKERFILE: &str = include_str!("../../../Dockerfile");
const WORKFLOWS: [(&str, &str); 2] = [
    ("ci.yaml", include_str!("../../../.github/workflows/ci.yaml")),
    ("release.yaml", include_str!("../../../.github/workflows/release.yaml")),
];

/// Instructions of the Dockerfile with what follows them, those over several lines as one.
fn instructions() -> Vec<(String, String)> {
    let text = DOCKERFILE.replace("\\\n", " ");
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(' ')).map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
}

/// What follows an instruction, each time that it is there.
fn all(name: &str) -> Vec<String> {
    instructions().into_iter().filter(|(instruction, _)| instruction == name).map(|(_, rest)| rest).collect()
}

#[test]
fn one_version_is_named_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    let chart: Value = serde_saphyr::from_str(include_str!("../../../charts/outpost/Chart.yaml")).unwrap();
    assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()));
    let changelog = include_str!("../../../CHANGELOG.md");
    let newest = changelog.lines().find_map(|line| line.strip_prefix("## ")).unwrap();
    // Until its tag is made a version has no name there.
    assert!(newest == "Unreleased" || newest.split(' ').next() == Some(version), "{newest}");
    let rust: Vec<_> = env!("CARGO_PKG_RUST_VERSION").split('.').take(2).collect();
    assert_eq!(all("ARG")[0], format!("RUST_IMAGE=rust:{}-bookworm", rust.join(".")));
    assert!(WORKFLOWS[0].1.contains(&format!("image: rust:{}-bookworm\n", rust.join("."))));
}

#[test]
fn the_tools_of_the_tests_are_those_of_the_image() {
    let setup = include_str!("../../setup.sh");
    let version = setup.lines().find_map(|line| line.strip_prefix("CARGO_CYCLONEDX_VERSION=")).unwrap();
    assert!(all("ARG").contains(&format!("CARGO_CYCLONEDX_VERSION={version}")), "{version}");
}

#[test]
fn the_image_runs_as_the_tests_run_it() {
    assert_eq!(all("FROM").last().unwrap(), "scratch");
    assert_eq!(all("USER"), ["65532:65532"]);
    assert_eq!(all("ENTRYPOINT"), [r#"["/usr/local/bin/outpost"]"#]);
    assert_eq!(all("CMD"), [r#"["serve"]"#]);
    assert_eq!(all("EXPOSE"), ["8080 8081 2222"]);
    let variables: Vec<_> = all("ENV").iter().map(|line| line.split_once('=').unwrap()).map(own).collect();
    assert_eq!(variables, VARIABLES[2..].iter().copied().map(own).collect::<Vec<_>>());
    assert!(include_str!("../../../image/build").contains("cargo build --locked"));
    assert!(all("ADD").is_empty());
}

fn own((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// Only what is copied is in the context.
#[test]
fn the_context_has_what_is_copied() {
    let here: Vec<_> = all("COPY").into_iter().filter(|rest| !rest.starts_with("--from=")).collect();
    let sources = here.iter().flat_map(|rest| {
        let words: Vec<_> = rest.split(' ').collect();
        words[..words.len() - 1].iter().map(|word| word.split('/').next().unwrap().to_owned()).collect::<Vec<_>>()
    });
    let ignored = include_str!("../../../.dockerignore");
    let context = ignored.lines().filter_map(|line| line.strip_prefix('!')).map(str::to_owned);
    assert_eq!(sources.collect::<BTreeSet<_>>(), context.collect::<BTreeSet<_>>());
    assert!(ignored.lines().any(|line| line == "*"));
}

#[test]
fn workflows_are_yaml_and_say_which_actions_they_mean() {
    for (name, text) in WORKFLOWS {
        let workflow: Value = serde_saphyr::from_str(text).unwrap_or_else(|mistake| panic!("{name}: {mistake}"));
        assert_eq!(workflow["permissions"], serde_json::json!({"contents": "read"}), "{name}");
        let jobs = workflow["jobs"].as_object().unwrap();
        for (job, content) in jobs {
            let needed = content["needs"].as_array().into_iter().flatten();
            for needed in needed {
                assert!(jobs.contains_key(needed.as_str().unwrap()), "{name}: {job} needs {needed}");
            }
            let steps = content["steps"].as_array().into_iter().flatten();
            for action in steps.filter_map(|step| step["uses"].as_str()).chain(content["uses"].as_str()) {
                let (_, version) = action.split_once('@').unwrap_or_default();
                let commit = version.len() == 40 && version.bytes().all(|byte| byte.is_ascii_hexdigit());
                let major = version.strip_prefix('v').is_some_and(|major| major.parse::<u32>().is_ok());
                // What can sign as this repository does not change by itself.
                let exact = commit || major && content["permissions"]["id-token"].is_null();
                let own = action.strip_prefix("./").is_some_and(|path| here(path).exists());
                assert!(exact || own, "{name}: {action}");
            }
        }
    }
}

/// The commands of a workflow's steps, by the steps' names.
fn commands(workflow: &str) -> Vec<(String, String)> {
    let workflow: Value = serde_saphyr::from_str(workflow).unwrap();
    let steps =
        workflow["jobs"].as_object().unwrap().values().flat_map(|job| job["steps"].as_array().into_iter().flatten());
    let named =
        |step: &Value| Some((step["name"].as_str().unwrap_or("run").to_owned(), step["run"].as_str()?.to_owned()));
    steps.filter_map(named).collect()
}

/// A file or folder of the repository.
fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn commands_of_workflows_are_sound() {
    for (name, script) in WORKFLOWS.iter().flat_map(|(_, workflow)| commands(workflow)) {
        // What comes from outside comes by variables.
        assert!(!script.contains("${{"), "{name}: {script}");
        for line in script.lines() {
            if let Some(folder) = line.trim().strip_prefix("mkdir ") {
                assert!(!here(folder).exists(), "{name} makes {folder}, which is in the repository");
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("step");
        std::fs::write(&path, &script).unwrap();
        printed(&Command::new("bash").arg("-n").arg(&path).output().unwrap());
        match Command::new("shellcheck").args(["--shell", "bash"]).arg(&path).output() {
            Ok(output) => assert!(output.status.success(), "{name}:\n{}", text(&output.stdout)),
            Err(_) => skipped("shellcheck is needed"),
        }
    }
}

/// What is written there would be mixed with the repository's own.
#[test]
fn folders_for_what_is_built_are_not_the_repositorys() {
    let page = include_str!("../../../docs/image.md");
    let texts = WORKFLOWS.map(|(_, text)| text).into_iter().chain([page]);
    for mark in ["dest=", " path: "] {
        let named = texts.clone().flat_map(|text| text.split(mark).skip(1));
        for folder in named.filter_map(|rest| rest.split_whitespace().next()).filter(|folder| *folder != "|") {
            assert!(!here(folder).exists(), "{mark}{folder}");
        }
    }
}

#[test]
fn a_release_needs_all_of_its_variables() {
    let (_, script) = commands(WORKFLOWS[1].1).into_iter().find(|(name, _)| name == "Everything is set").unwrap();
    let names = ["REGISTRY", "IMAGE", "CHARTS", "REGISTRY_USER", "REGISTRY_PASSWORD"];
    let run = |without: &str| {
        let mut bash = Command::new("bash");
        bash.args(["-e", "-o", "pipefail", "-c", &script]);
        bash.envs(names.map(|name| (name, if name == without { "" } else { "something" })));
        bash.output().unwrap()
    };
    printed(&run(""));
    for name in names {
        let output = run(name);
        assert!(!output.status.success() && text(&output.stdout).contains(&format!(" {name} is not set: ")), "{name}");
    }
    let workflow: Value = serde_saphyr::from_str(WORKFLOWS[1].1).unwrap();
    for (job, content) in workflow["jobs"].as_object().unwrap() {
        let needs_it = content["needs"].as_array().is_some_and(|needs| needs.contains(&"version".into()));
        assert!(job == "version" || needs_it, "{job}");
    }
}

#[test]
fn the_chart_of_a_release_names_its_image() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("chart");
    let digest = format!("sha256:{}", "0".repeat(64));
    let mut script = Command::new(here("image/chart"));
    printed(&script.args(["registry.example.org/site/outpost", &digest]).arg(&folder).output().unwrap());
    let values: Value = serde_saphyr::from_str(&std::fs::read_to_string(folder.join("values.yaml")).unwrap()).unwrap();
    assert_eq!(values["image"]["repository"], "registry.example.org/site/outpost");
    assert_eq!(values["image"]["digest"], digest.as_str());
    let Some(helm) = Helm::engine() else { return };
    let request = json!({"do": "render", "chart": folder, "values": "", "name": "outpost", "namespace": "outpost"});
    let rendered = helm.ask(&[request]).remove(0).unwrap().to_string();
    let image = format!(r#""image":"registry.example.org/site/outpost@{digest}""#);
    assert!(rendered.contains(&image), "{rendered}");
}
