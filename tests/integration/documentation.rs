//! What the documentation says is what the program does: its examples are loaded, its commands are there, its tables are
//! complete.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::api::rbac::v1::Role;
use outpost::admission::{Document, Format, Kind};
use outpost::config::{Config, Environment};
use outpost::http::openapi_document;
use outpost::model::Usage;
use outpost::spawner::kubernetes::rights::{Rule, Scope, rules};
use outpost::spawner::{kubernetes, process};
use tempfile::TempDir;

use crate::support::daemon::{OUTPOST, text};
use crate::support::every_metric;

/// Every page, by its name.
const PAGES: [(&str, &str); 14] = [
    ("README.md", include_str!("../../README.md")),
    ("docs/accounting.md", include_str!("../../docs/accounting.md")),
    ("docs/admin-api.md", include_str!("../../docs/admin-api.md")),
    ("docs/differences.md", include_str!("../../docs/differences.md")),
    ("docs/flavors.md", include_str!("../../docs/flavors.md")),
    ("docs/forward-agent.md", include_str!("../../docs/forward-agent.md")),
    ("docs/helm.md", include_str!("../../docs/helm.md")),
    ("docs/image.md", include_str!("../../docs/image.md")),
    ("docs/kubernetes.md", include_str!("../../docs/kubernetes.md")),
    ("docs/kubespawner.md", include_str!("../../docs/kubespawner.md")),
    ("docs/overrides.md", include_str!("../../docs/overrides.md")),
    ("docs/ssh.md", include_str!("../../docs/ssh.md")),
    ("docs/tunnels.md", include_str!("../../docs/tunnels.md")),
    ("docs/ssh-outbound.md", include_str!("../../docs/ssh-outbound.md")),
];

fn page(name: &str) -> &'static str {
    PAGES.iter().find(|(page, _)| *page == name).unwrap().1
}

/// The fenced blocks of a page in this language, without what all of their lines are indented by.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(found) = line.trim_start().strip_prefix("```") else { continue };
        let indent = line.len() - line.trim_start().len();
        let block = lines.by_ref().take_while(|line| line.trim() != "```");
        let block: Vec<_> = block.map(|line| line.get(indent..).unwrap_or_default()).collect();
        if found == language {
            blocks.push(block.join("\n") + "\n");
        }
    }
    blocks
}

/// All blocks in this language, each with the page that it is on.
fn all_blocks(language: &str) -> Vec<(&'static str, String)> {
    PAGES.iter().flat_map(|(name, page)| blocks(page, language).into_iter().map(|block| (*name, block))).collect()
}

#[test]
fn every_configuration_is_good() {
    let dir = tempfile::tempdir().unwrap();
    let blocks = all_blocks("toml");
    assert!(blocks.len() >= 5, "{}", blocks.len());
    for (page, block) in blocks {
        let loaded = Config::load(Some(&written(&dir, "outpost_config.toml", &block)), &Environment::default());
        let mistake = loaded.err().unwrap_or_default();
        let only_root_may = !nix::unistd::geteuid().is_root() && mistake.contains("need Outpost to run as root");
        assert!(mistake.is_empty() || only_root_may, "{page}: {mistake}\n{block}");
    }
}

#[test]
fn every_document_of_flavors_and_credits_is_good() {
    let blocks = all_blocks("yaml");
    assert!(blocks.len() >= 3, "{}", blocks.len());
    // Those of Kubernetes are looked at below, and values of the chart are rendered with the chart.
    let of_flavors = |page: &str, block: &str| page != "docs/helm.md" && !block.starts_with("apiVersion:");
    for (page, block) in blocks.into_iter().filter(|(page, block)| of_flavors(page, block)) {
        let kind = if block.lines().any(|line| line == "credits:") { Kind::Credits } else { Kind::Flavors };
        let document = Document::parse(kind, &block, Format::Yaml);
        let document = document.unwrap_or_else(|mistake| panic!("{page}: {mistake}\n{block}"));
        assert_eq!(document.warnings(), [""; 0], "{page}:\n{block}");
    }
}

#[test]
fn every_json_is_valid() {
    let blocks = all_blocks("json");
    assert!(!blocks.is_empty());
    for (page, block) in blocks {
        serde_json::from_str::<serde_json::Value>(&block)
            .unwrap_or_else(|mistake| panic!("{page}: {mistake}\n{block}"));
    }
}

#[test]
fn every_command_is_there() {
    let commands: Vec<_> = all_blocks("console").into_iter().flat_map(|(page, block)| commands(page, &block)).collect();
    assert!(commands.len() >= 15, "{}", commands.len());
    for (page, command) in commands {
        // What comes before `--help` is read first, so an unknown command, option or value is a mistake.
        let output = outpost().args(&command).arg("--help").output().unwrap();
        assert!(output.status.success(), "{page}: {command:?}: {}", text(&output.stderr));
    }
}

#[test]
fn the_explanation_is_what_the_program_says() {
    let dir = tempfile::tempdir().unwrap();
    let page = page("docs/overrides.md");
    let flavors = written(&dir, "flavors.yaml", &blocks(self::page("docs/flavors.md"), "yaml")[0]);
    let toml = format!("[flavors]\nfile = '{}'\n{}", flavors.display(), blocks(page, "toml")[0]);
    let config = written(&dir, "outpost_config.toml", &toml);
    let example = &blocks(page, "console")[0];
    let (_, said) = example.split_once("}'\n").unwrap();
    let (_, command) = commands("docs/overrides.md", example).remove(0);
    let mut program = outpost();
    program.env("OUTPOST_STATE_DIR", dir.path().join("none")).arg("--config").arg(config).args(command);
    let output = program.output().unwrap();
    assert_eq!((text(&output.stdout).as_str(), output.status.code()), (said, Some(1)), "{}", text(&output.stderr));
}

#[test]
fn the_tables_are_complete() {
    let metrics = every_metric().encode();
    for metric in metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
        assert!(page("README.md").contains(&format!("`{metric}")), "{metric}");
    }
    for column in Usage::COLUMNS {
        assert!(page("docs/accounting.md").contains(&format!("`{column}`")), "{column}");
    }
    for (option, reason) in process::OPTIONS.sensitive {
        assert!(page("docs/overrides.md").contains(&format!("| `{option}` | refused | {reason} |")), "{option}");
    }
    for (option, reason) in kubernetes::OPTIONS.sensitive {
        assert!(page("docs/kubernetes.md").contains(&format!("| `{option}` | {reason} |")), "{option}: {reason}");
    }
    for option in process::OPTIONS.known {
        assert!(page("docs/overrides.md").contains(&format!("`{option}`")), "{option}");
    }
    let document: serde_json::Value = serde_json::from_str(&openapi_document()).unwrap();
    for path in document["paths"].as_object().unwrap().keys().filter_map(|path| path.strip_prefix("/api/v1")) {
        assert!(page("docs/admin-api.md").contains(&format!("`{path}`")), "{path}");
    }
}

#[test]
fn the_rights_are_complete() {
    let page = page("docs/kubernetes.md");
    let everything = "namespace = 'a'\nstorage_pvc_ensure = true\nstorage_retention = '30d'\ncapacity_check = 'warn'";
    let row = |rule: &Rule| {
        let place = if rule.scope == Scope::Cluster { "cluster" } else { "namespaces of servers" };
        let group = if rule.group.is_empty() { String::new() } else { format!(".{}", rule.group) };
        format!("| `{}{group}` | {} | {place} | {} |", rule.resource, rule.verbs.join(", "), rule.reason)
    };
    for rule in rules(&toml::from_str(everything).unwrap()) {
        assert!(page.contains(&row(&rule)), "{}", row(&rule));
    }
    for more in ["enable_user_namespaces = true", "object_kinds = ['v1/ConfigMap']"] {
        let rules = rules(&toml::from_str(more).unwrap());
        assert!(rules.iter().any(|rule| page.contains(&format!(" | {} |\n", rule.reason))), "{more}");
    }

    // The role of the first example gives what that needs, and no more.
    let example: toml::Table = toml::from_str(&blocks(page, "toml")[0]).unwrap();
    let mut settings = example["spawners"]["cluster"].as_table().unwrap().clone();
    settings.remove("type");
    let needed = rules(&settings.try_into().unwrap()).into_iter().flat_map(|rule| {
        rule.verbs
            .iter()
            .map(move |verb| (rule.group.clone(), rule.resource.clone(), (*verb).to_owned()))
            .collect::<Vec<_>>()
    });
    let role: Role = serde_saphyr::from_str(&blocks(page, "yaml")[0]).unwrap();
    let given = role.rules.unwrap().into_iter().flat_map(|rule| {
        let (groups, resources, verbs) = (rule.api_groups.unwrap(), rule.resources.unwrap(), rule.verbs);
        let of_group = |group: &String| {
            let pairs = resources.iter().flat_map(|resource| verbs.iter().map(move |verb| (resource, verb)));
            pairs.map(|(resource, verb)| (group.clone(), resource.clone(), verb.clone())).collect::<Vec<_>>()
        };
        groups.iter().flat_map(of_group).collect::<Vec<_>>()
    });
    assert_eq!(given.collect::<BTreeSet<_>>(), needed.collect::<BTreeSet<_>>());
}

#[test]
fn links_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let anchor = |heading: &str| heading.trim_start_matches(['#', ' ']).to_lowercase().replace(' ', "-");
    for (name, page) in PAGES {
        for link in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            match link.strip_prefix('#') {
                Some(wanted) => {
                    let there = page.lines().any(|line| line.starts_with("##") && anchor(line) == wanted);
                    assert!(there, "{name}: there is no heading #{wanted}");
                }
                None if link.starts_with("https://") => {}
                None => {
                    let file = root.join(name).with_file_name(link);
                    assert!(file.exists(), "{name}: there is no file {link}");
                }
            }
        }
    }
}

fn written(dir: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, content).unwrap();
    path
}

/// The program without the configuration and the variables of whoever runs the tests.
fn outpost() -> std::process::Command {
    let mut command = std::process::Command::new(OUTPOST);
    command.env_clear();
    command
}

/// The arguments of each command of a console that is `outpost …`.
fn commands(page: &'static str, console: &str) -> Vec<(&'static str, Vec<String>)> {
    let console = console.replace("\\\n", " ");
    let lines = console.lines().filter_map(|line| line.strip_prefix(['$', '#'])?.trim_start().strip_prefix("outpost "));
    lines.map(|line| (page, words(line))).collect()
}

/// A line as a shell takes it apart, as far as the examples need it: words, and words in single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}
