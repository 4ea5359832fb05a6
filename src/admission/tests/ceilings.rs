//! Resources: what a flavor or the site gives is what a hub can lower.

use rstest::rstest;

use super::*;

const FLAVORS: &str = "
flavors:
  small:
    resources: {cpu_limit: 2, mem_limit: 4G, extra_resource_limits: {nvidia.com/gpu: 1}, node_selector: {pool: a}}
  plain: {resources: {cpu_limit: 2, mem_limit: 4G}}
  bare: {}
";

fn site(rules: &str) -> Site {
    let mut site = Site::new(rules).with_flavors(FLAVORS);
    site.resources = json!({"mem_limit": 1 << 30, "cpu_limit": 1.5});
    site
}

#[rstest]
#[case("small", json!({"cpu_limit": 1}), true)]
#[case("small", json!({"cpu_limit": "2000m"}), true)]
#[case("small", json!({"cpu_limit": 2.5}), false)]
#[case("small", json!({"cpu_guarantee": 2.5}), false)]
#[case("small", json!({"mem_limit": "4096M"}), true)]
#[case("small", json!({"mem_limit": "5G"}), false)]
#[case("small", json!({"mem_limit": null}), false)]
#[case("small", json!({"extra_resource_limits": {"nvidia.com/gpu": 1}}), true)]
#[case("small", json!({"extra_resource_limits": {"nvidia.com/gpu": 2}}), false)]
#[case("small", json!({"extra_resource_limits": {"nvidia.com/gpu": null}}), false)]
#[case("small", json!({"extra_resource_limits": {"amd.com/gpu": 1}}), false)]
#[case("small", json!({"extra_resource_guarantees": {"nvidia.com/gpu": 9}}), false)]
#[case("small", json!({"node_selector": {"pool": "b"}}), false)]
#[case("small", json!({"tolerations": []}), true)]
#[case("small", json!({"extra_resource_limits": {"amd.com/gpu": 0}}), true)]
#[case("plain", json!({"extra_resource_limits": {"nvidia.com/gpu": 8}}), false)]
#[case("plain", json!({"extra_resource_limits": {"ephemeral-storage": "1Gi"}}), false)]
#[case("plain", json!({"extra_resource_limits": {}}), true)]
#[case("plain", json!({"extra_resource_limits": {"memory": "64G"}}), false)]
#[case("plain", json!({"mem_guarantee": "3G"}), true)]
#[case("bare", json!({"extra_resource_limits": {"cpu": 64}}), false)]
#[case("bare", json!({"node_selector": {"pool": "b"}}), true)]
#[case("bare", json!({"cpu_limit": 1.5, "mem_limit": "1G"}), true)]
#[case("bare", json!({"cpu_limit": 2}), false)]
#[case("bare", json!({"mem_limit": "2G"}), false)]
#[case("bare", json!({"extra_resource_limits": {"amd.com/gpu": 1}}), true)]
#[case("bare", json!({"cpu_limit": -1}), false)]
#[case("bare", json!({"cpu_limit": "NaN"}), false)]
#[case("bare", json!({"mem_limit": []}), false)]
fn without_a_rule_a_hub_can_only_lower(#[case] flavor: &str, #[case] misc: Value, #[case] allowed: bool) {
    let decided = site("").decide(&json!({"misc": misc, "flavor": flavor}));
    assert_eq!(decided.is_ok(), allowed, "{decided:?}");
}

#[rstest]
#[case("allow = 'all'", json!({"cpu_limit": 64, "mem_limit": null, "node_selector": {"pool": "b"}}), true)]
#[case("allow = { cpu_limit = { max = 8 } }", json!({"cpu_limit": 8}), true)]
#[case("allow = { cpu_limit = { max = 8 } }", json!({"cpu_limit": 9}), false)]
#[case("allow = { cpu_limit = { max = 8 } }", json!({"mem_limit": "1G"}), false)]
#[case("allow = { mem_limit = 'any' }", json!({"mem_limit": null}), true)]
#[case("allow = { mem_limit = 'any' }", json!({"mem_limit": "lots"}), false)]
fn a_rule_that_names_a_resource_is_what_counts(#[case] allow: &str, #[case] misc: Value, #[case] allowed: bool) {
    let decided = site(&format!("[[overrides]]\n{allow}")).decide(&json!({"misc": misc, "flavor": "small"}));
    assert_eq!(decided.is_ok(), allowed, "{decided:?}");
}

#[test]
fn the_refusal_says_how_much_there_is() {
    let sentence = site("").refusal(&json!({"misc": {"mem_limit": "5G"}, "flavor": "small"}));
    assert!(
        sentence.contains("it may only be up to 4 GiB, which is what the flavor of the server gives"),
        "{sentence}"
    );
    let sentence = site("").refusal(&json!({"misc": {"mem_limit": "2G"}, "flavor": "bare"}));
    assert!(sentence.contains("it may only be up to 1 GiB, which is what this system gives"), "{sentence}");
    let sentence = site("").refusal(&json!({"misc": {"extra_resource_limits": {"a/gpu": 1}}, "flavor": "plain"}));
    assert!(sentence.contains("the flavor of the server has no \"a/gpu\""), "{sentence}");
}

#[test]
fn what_is_guaranteed_is_below_every_limit() {
    let mut site = site("");
    site.resources = json!({"mem_guarantee": "8G"});
    let allowed = |misc| site.decide(&json!({"misc": misc, "flavor": "plain"})).is_ok();
    assert!(allowed(json!({"mem_guarantee": "4G"})));
    assert!(!allowed(json!({"mem_guarantee": "6G"})));
}

#[test]
fn what_is_taken_up_is_that_of_the_effective_options() {
    let need = |request| site("").decide(&request).unwrap().need;
    let small = need(json!({"flavor": "small"}));
    assert_eq!(small, Need { cpu_millis: 2000, memory_bytes: 4 << 30, gpus: 1 });
    let lowered = need(json!({"flavor": "small", "misc": {"cpu_limit": "500m"}}));
    assert_eq!(lowered, Need { cpu_millis: 500, ..small });
    assert_eq!(need(json!({"flavor": "bare"})), Need { cpu_millis: 1500, memory_bytes: 1 << 30, gpus: 0 });
}

#[test]
fn options_merge_over_the_flavors() {
    let rules = "[[overrides]]\nallow = { node_selector = 'any', extra_resource_limits = 'any', environment = 'any' }";
    let misc = json!({"node_selector": {"zone": "z", "pool": null}, "extra_resource_limits": {"a.b/c": 1},
        "environment": {"A": null}});
    let admitted = site(rules).decide(&json!({"misc": misc, "flavor": "small"})).unwrap();
    assert_eq!(
        Value::Object(admitted.options),
        json!({"cpu_limit": 2, "mem_limit": "4G", "extra_resource_limits": {"nvidia.com/gpu": 1, "a.b/c": 1},
            "node_selector": {"zone": "z"}, "environment": {"A": null}})
    );
}
