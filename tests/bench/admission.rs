//! One decision with as many rules, flavors and sets as a large site has.

use std::fmt::Write as _;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use outpost::admission::{Ask, Definitions, Document, Format, Kind, Normalise, Policy, Rules, decide};
use outpost::spawner::{Offer, process};
use serde_json::json;

use super::median;

const ROUNDS: usize = 11;
const DECISIONS: u32 = 2000;

pub fn measure() {
    let (rules, definitions, normalise) = (rules(), definitions(), Normalise::default());
    let policy = Policy { rules: &rules, definitions: &definitions, normalise: &normalise };
    let misc = json!({"default_url": "/lab", "mem_limit": "1G", "environment": {"A": "b"}, "port": 55713, "ip": "0.0.0.0",
        "internal_ssl": false, "dns_name_template": "x", "pod_name_template": "x", "services_enabled": true,
        "extra_labels": {}});
    let options = json!({"profile": "lab", "flavor": "f49", "system": "site"});
    let authentication = json!({"name": "ada@site.org", "groups": ["staff", "urn:site:group:49#people", "students"]});
    let site = serde_json::Map::new();
    let ask = Ask {
        hub: "hub7",
        user: "ada",
        user_id: 7,
        misc: misc.as_object().unwrap(),
        user_options: options.as_object().unwrap(),
        flavor: Some("f49"),
        authentication: authentication.as_object().unwrap(),
        spawner: "local",
        table: process::OPTIONS,
        site: &|_| Ok(Offer { resources: site.clone(), profile: None }),
    };
    assert!(decide(&policy, &ask).unwrap().flavor.is_some());
    let rounds = (0..ROUNDS).map(|_| {
        let begun = Instant::now();
        for _ in 0..DECISIONS {
            let _ = black_box(decide(black_box(&policy), black_box(&ask)));
        }
        begun.elapsed().as_secs_f64() * 1e6 / f64::from(DECISIONS)
    });
    println!("admission of one request, 20 rules, 50 flavors, 50 sets of users");
    println!("  decision      {:>9.1} microseconds   (wanted: at most 50)\n", median(rounds));
}

/// The last of them fits, after all others have been looked at.
fn rules() -> Rules {
    #[derive(serde::Deserialize)]
    struct Config {
        overrides: Rules,
    }
    let mut toml = String::new();
    for number in 0..15 {
        writeln!(toml, "[[overrides]]\nhubs = ['other{number}*']\nusers = ['u{number}']\nallow = 'all'").unwrap();
    }
    for number in 0..4 {
        writeln!(toml, "[[overrides]]\nwhen = \"user_options.system == 'x{number}' && 'x' in groups\"\nallow = 'all'")
            .unwrap();
    }
    toml.push_str(
        "[[overrides]]\nallow = { default_url = ['/lab', '/tree*'], mem_limit = { max = '2G' }, environment = 'any' }",
    );
    toml::from_str::<Config>(&toml).unwrap().overrides
}

/// The set that fits is looked at last, too.
fn definitions() -> Definitions {
    let mut yaml = "flavors:\n".to_owned();
    for number in 0..50 {
        writeln!(
            yaml,
            "  f{number}: {{max: 10, maxPerUser: 2, resources: {{mem_limit: {}G, cpu_limit: 2}}}}",
            number + 1
        )
        .unwrap();
    }
    yaml.push_str("hubs:\n");
    for number in 0..20 {
        writeln!(yaml, "  h{number}: {{jupyterhub_name: 'hub{number}', flavors: [f0, f{number}]}}").unwrap();
    }
    yaml.push_str("users:\n");
    for number in 0..50 {
        writeln!(
            yaml,
            "  u{number}:\n    authentication: {{groups: 'urn:.*:group:{number}#.*'}}\n    weight: {}\n    flavors: [f0, f{number}]\n    \
             flavorsOverride: {{f0: {{max: {number}}}}}",
            100 - number
        )
        .unwrap();
    }
    yaml.push_str("max_per_user: 5\nlimits: {people: {per: group, groups: ['stu*'], cpu: 50}}\n");
    let document = Document::parse(Kind::Flavors, &yaml, Format::Yaml).unwrap();
    Definitions { flavors: Some(Arc::new(document)), credits: None }
}
