//! What makes a release agrees with itself.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use super::pod::VARIABLES;

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
                let exact = action.split_once("@v").is_some_and(|(_, major)| major.parse::<u32>().is_ok());
                let own = action
                    .strip_prefix("./")
                    .is_some_and(|path| Path::new(env!("CARGO_MANIFEST_DIR")).join(path).exists());
                assert!(exact || own, "{name}: {action}");
            }
        }
    }
}
