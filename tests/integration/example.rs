//! `outpost_config.example.toml` holds every key with its default.

use outpost::config::{Config, Environment};
use outpost::outpost::FlavorSettings;
use outpost::spawner::{SpawnerSettings, kubernetes, memory, process};
use outpost::{http, hub, ssh, store, tasks, telemetry};

const EXAMPLE: &str = include_str!("../../outpost_config.example.toml");

/// The settings without their `#`, those without a default only if they are wanted.
fn uncommented(examples: bool) -> String {
    let mut text = String::new();
    for line in EXAMPLE.lines() {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|first: char| first == '[' || first.is_ascii_lowercase()));
        let is_example = line.ends_with("# no default") || line == "#[[overrides]]";
        text.push_str(setting.filter(|_| examples || !is_example).unwrap_or_default());
        text.push('\n');
    }
    text
}

#[test]
fn the_example_loads_as_it_is() {
    let path = std::path::Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/outpost_config.example.toml"));
    let config = Config::load(Some(path), &Environment::default()).unwrap();
    assert_eq!(config, Config::parse("").unwrap(), "it sets nothing");
}

#[test]
fn every_example_is_understood() {
    let config = Config::parse(&uncommented(true)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((config.hubs.len(), config.spawners.len(), config.overrides.len()), (1, 3, 1));
    for (name, settings) in &config.spawners {
        assert!(name == "local" || settings.check() == Ok(()), "{name}: {:?}", settings.check());
    }
}

#[test]
fn the_defaults_are_those_of_the_code() {
    let config = Config::parse(&uncommented(false)).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.http, http::Settings::default());
    assert_eq!(config.ssh, ssh::Settings::default());
    assert_eq!(config.store, store::Settings::default());
    assert_eq!(config.log, telemetry::Settings::default());
    assert_eq!(config.tasks, tasks::Settings::default());
    assert_eq!(config.flavors, FlavorSettings::default());
    assert_eq!(config.hubs["example"], hub::Settings::default());
    assert_eq!(config.spawners["local"], SpawnerSettings::Process(process::Settings::default()));
    assert_eq!(config.spawners["cluster"], SpawnerSettings::Kubernetes(kubernetes::Settings::default()));
    assert_eq!(config.spawners["cluster"].check(), Ok(()));
    assert_eq!(config.spawners["memory"], SpawnerSettings::Memory(memory::Settings::default()));
}

/// Every key of the code is in the example: an unknown key makes serde list the known ones.
#[test]
fn no_key_is_missing() {
    let sections = [
        "[http]",
        "[ssh]",
        "[store]",
        "[log]",
        "[tasks]",
        "[flavors]",
        "[flavors.authentication]",
        "[[overrides]]",
        "[hubs.x]",
        "[hubs.x.dial]",
        "[forward_agents.x]",
        "[[forward_agents.x.reverse]]",
        "[spawners.x]\ntype = 'process'",
        "[spawners.x]\ntype = 'kubernetes'",
        "[spawners.x]\ntype = 'kubernetes'\n[spawners.x.fail_after]",
        "[spawners.x]\ntype = 'kubernetes'\n[[spawners.x.profile_list]]",
        "[spawners.x]\ntype = 'memory'",
        "",
    ];
    for section in sections {
        let error = Config::parse(&format!("{section}\nno_such_key = 1\n")).unwrap_err();
        let (_, known) = error.split_once("expected ").unwrap_or_else(|| panic!("{error}"));
        let keys: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
        assert!(keys.len() >= 2, "{error}");
        for key in keys {
            let found = EXAMPLE.contains(&format!("\n#{key} = "))
                || EXAMPLE.contains(&format!("\n#[{key}"))
                || EXAMPLE.contains(&format!(".{key}]"))
                || EXAMPLE.contains(&format!(".profile_list.{key}."))
                || EXAMPLE.contains(&format!("\n#[[{key}"))
                || EXAMPLE.contains(&format!(".{key}]]"));
            assert!(found, "{section}: `{key}` is not in the example");
        }
    }
}
