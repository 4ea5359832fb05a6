//! What the chart makes of its examples, to be read: `snapshots/*.snap`. `INSTA_UPDATE=always`
//! writes them anew.

use std::collections::BTreeMap;

use insta::{assert_snapshot, with_settings};
use serde_json::json;
use similar::TextDiff;

use crate::support::helm::{CHART, Helm, Rendered, examples, rendered_examples};

#[test]
fn nothing_is_to_be_said_against_the_chart() {
    let Some(helm) = Helm::engine() else { return };
    let examples = examples();
    let requests: Vec<_> =
        examples.values().map(|values| json!({"do": "lint", "chart": CHART, "values": values})).collect();
    for (name, answer) in examples.keys().zip(helm.ask(&requests)) {
        assert_eq!(answer, Ok(json!([])), "{name}");
    }
}

/// Lines that every object has, and that are others with each version.
const LEFT_OUT: [&str; 3] = ["app.kubernetes.io/version: ", "app.kubernetes.io/managed-by: ", "helm.sh/chart: "];

/// The manifests of a release by their files, with a mark in place of what is made by chance.
fn readable(rendered: &Rendered) -> BTreeMap<&str, String> {
    let manifests = rendered.files.iter().filter(|(_, text)| !text.trim().is_empty());
    manifests.map(|(file, text)| (file.trim_start_matches("outpost/templates/"), marked(text))).collect()
}

fn marked(text: &str) -> String {
    let mut marked = String::new();
    let (mut is_secret, mut is_data) = (false, false);
    for line in text.trim().lines().map(str::trim_end) {
        if !line.starts_with(' ') {
            is_secret = line == "kind: Secret" || is_secret && line != "---";
            is_data = line == "data:";
        }
        match line.split_once(": ") {
            _ if LEFT_OUT.iter().any(|label| line.trim_start().starts_with(label)) => continue,
            Some((key, _)) if is_secret && is_data => marked.push_str(&format!("{key}: (…)")),
            _ => marked.push_str(&line.replace(env!("CARGO_PKG_VERSION"), "VERSION")),
        }
        marked.push('\n');
    }
    marked
}

fn assert_known(name: &str, text: &str) {
    with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        assert_snapshot!(name, text);
    });
}

/// All of it for the chart without values; of each example what is otherwise then.
#[test]
fn the_manifests_of_each_example_are_known() {
    let Some(helm) = Helm::engine() else { return };
    let all = rendered_examples(&helm);
    let mut defaults = readable(&all["defaults"]);
    let mut notes = String::new();
    for (name, rendered) in &all {
        let mut text = String::new();
        let mut files = readable(rendered);
        notes.push_str(&format!("======== {name}\n{}", files.remove("NOTES.txt").unwrap()));
        defaults.remove("NOTES.txt");
        for (file, manifest) in &files {
            match defaults.get(file) {
                // It is a file of the chart.
                None if *file == "dashboard.yaml" => text.push_str("==== dashboard.yaml\n"),
                Some(before) if name != "defaults" => {
                    let diff = TextDiff::from_lines(before, manifest);
                    let changed = diff.unified_diff().context_radius(1).to_string();
                    if !changed.is_empty() {
                        text.push_str(&format!("==== {file}: changed\n{changed}"));
                    }
                }
                _ => text.push_str(&format!("==== {file}\n{manifest}")),
            }
        }
        for file in defaults.keys().filter(|file| !files.contains_key(*file)) {
            text.push_str(&format!("==== {file}: nothing\n"));
        }
        assert_known(name, &text);
    }
    assert_known("notes", &notes);
}
