//! Each kind of mistake gives line, column, key and what was expected.

use super::*;

#[rstest]
#[case("flavors: {a: {max: x}}", "line 1, column 20: flavors.a.max: expected a whole number")]
#[case(
    "flavors:\n  a:\n    max: 1.5",
    "line 3, column 10: flavors.a.max: expected a whole number, 0 or more (-1: no limit)"
)]
#[case("flavors:\n  a:\n    max: -2", "flavors.a.max: expected a whole number")]
#[case("flavors:\n  a: 5", "line 2, column 6: flavors.a: expected a table, found a number")]
#[case("flavors: [a]", "flavors: expected a table, found a list")]
#[case("flavors:\n  a:\n    queue: 5", "line 3, column 12: flavors.a.queue: expected true or false")]
#[case("flavors: {a: {runtime: {hour: 5}}}", "flavors.a.runtime.hour: unknown key, expected one of days, hours")]
#[case("flavors: {a: {runtime: {hours: x}}}", "flavors.a.runtime.hours: expected a number, 0 or more")]
#[case("flavors: {a: {runtime: {hours: 0}}}", "flavors.a.runtime: expected a time of more than nothing")]
#[case("flavors: {a: {runtime: {days: 1e300}}}", "flavors.a.runtime: expected a time")]
#[case("flavors: {a: {resources: {cpus: 5}}}", "flavors.a.resources.cpus: expected one of cpu_limit")]
#[case("flavors: {a: {resources: {mem_limit: 2X}}}", "flavors.a.resources.mem_limit: expected a size in bytes")]
#[case(
    "flavors: {a: {resources: {cpu: {limits: 5}}}}",
    "resources.cpu.limits: unknown key, expected one of limit, guarantee"
)]
#[case("flavors: {a: {resources: {gpu: 1.5}}}", "flavors.a.resources.gpu: expected a whole number, 0 or more")]
#[case("flavor: {}", "line 1, column 9: flavor: unknown key, expected flavors")]
#[case("hubs: {x: {name: x}}", "hubs.x.jupyterhub_name: expected a name")]
#[case("hubs: {x: {jupyterhub-name: x}}", "hubs.x.jupyterhub-name: unknown key, expected jupyterhub_name")]
#[case("hubs: {x: {jupyterhub_name: []}}", "hubs.x.jupyterhub_name: expected a name")]
#[case("hubs: {x: {jupyterhub_name: [a, 5]}}", "hubs.x.jupyterhub_name: expected a name")]
#[case("hubs: {x: {jupyterhub_name: 123}}", "hubs.x.jupyterhub_name: expected a name")]
#[case("hubs: {x: }", "hubs.x.jupyterhub_name: expected a name")]
#[case(
    "flavors: {a: {resources: {cpu_limit: 1, cpu_guarantee: 8}}}",
    "flavors.a.resources: expected cpu_guarantee not to be above"
)]
#[case("flavors: {a: {resources: {mem_limit: 1e9}}}", "flavors.a.resources.mem_limit: expected a size in bytes")]
#[case("flavors: {a: {resources: {mem_limit: 0}}}", "flavors.a.resources.mem_limit: expected a size in bytes")]
#[case("flavors: {a: {resources: {cpu_limit: 0}}}", "flavors.a.resources.cpu_limit: expected a number of processors")]
#[case(
    "flavors: {a: {resources: {extra_resource_limits: {memory: 1Gi}}}}",
    "flavors.a.resources.extra_resource_limits: expected resources other than memory"
)]
#[case("users: {x: {negate-authentication: true}}", "users.x.negate-authentication: unknown key, expected negate_auth")]
#[case("hubs: {x: {}}", "hubs.x.jupyterhub_name: expected a name")]
#[case("hubs: {x: {jupyterhub_name: {}}}", "hubs.x.jupyterhub_name: expected a name")]
#[case("hubs: {x: {jupyterhub_name: x, weight: high}}", "hubs.x.weight: expected a number, found a text")]
#[case("hubs: {x: {jupyterhub_name: x, flavors: small}}", "hubs.x.flavors: expected a list of texts, found a text")]
#[case(
    "hubs:\n  x:\n    jupyterhub_name: x\n    flavors: [a, 5]",
    "line 4, column 18: hubs.x.flavors.1: expected a text"
)]
#[case(
    "flavors: {a: {}}\nhubs: {x: {jupyterhub_name: x, flavorsOverride: {a: {max: y}}}}",
    "hubs.x.flavorsOverride.a.max: expected"
)]
#[case("hubs: {x: {jupyterhub_name: x, undefined_max: -2}}", "hubs.x.undefined_max: expected a whole number")]
#[case("users: {x: {authentication: {a: {}}}}", "users.x.authentication.a: expected a text")]
#[case("users: {x: {match: some}}", "users.x.match: expected \"all\" or \"any\"")]
#[case("users: {x: {forbidden: 'yes'}}", "users.x.forbidden: expected true or false, found a text")]
#[case("limits: {x: {per: hub, server: 5}}", "limits.x.server: unknown key, expected one of per, hubs")]
#[case("limits: {x: }", "limits.x.per: expected \"user\"")]
#[case("limits: {x: {servers: 5}}", "limits.x.per: expected \"user\", \"group\" or \"hub\"")]
#[case("limits: {x: {per: hub}}", "limits.x: expected at least one of servers, cpu, memory, gpu")]
#[case("limits: {x: {per: hub, servers: many}}", "limits.x.servers: expected a whole number")]
#[case("limits: {x: {per: hub, cpu: -5}}", "limits.x.cpu: expected a quantity")]
#[case("limits: {x: {per: hub, cpu: 5, groups: [a]}}", "limits.x.groups: expected only where")]
#[case("limits: {x: {per: user, cpu: 5, hubs: ['[a']}}", "limits.x.hubs: `[a` is no glob")]
#[case("max_per_user: some", "max_per_user: expected a whole number")]
#[case("5", "expected a table of sections")]
#[case("flavors:\n  a: {}\n  a: {}", "line 3, column 3")]
#[case("flavors: {a: [}", "line 1, column 1")]
#[case("flavors:\n\ta: 5", "line 2")]
#[case("flavors: *nothing", "line 1")]
#[case("a: 1\n---\nb: 2", "line")]
fn yaml_mistakes(#[case] text: &str, #[case] expected: &str) {
    let error = Document::parse(Kind::Flavors, text, Format::Yaml).unwrap_err();
    assert!(error.contains(expected), "{error}");
    assert!(!error.contains('\n'), "{error}");
}

#[rstest]
#[case("[flavors.a]\nmax = 'x'", "line 2, column 7: flavors.a.max: expected a whole number")]
#[case("[flavors.a]\nmax = 1\nmax = 2", "line 3, column 1: ")]
#[case("[flavors.a\nmax = 1", "line 1, column ")]
#[case("[[flavors]]\na = 1", "flavors: expected a table, found a list")]
#[case("[hubs.x]\njupyterhub_name = 'x'\nwieght = 5", "line 3, column 10: hubs.x.wieght: unknown key")]
fn toml_mistakes(#[case] text: &str, #[case] expected: &str) {
    let error = Document::parse(Kind::Flavors, text, Format::Toml).unwrap_err();
    assert!(error.contains(expected) && !error.contains('\n'), "{error}");
}

#[rstest]
#[case("{\"flavors\":\n {\"a\": {\"max\": \"x\"}}}", "line 2, column 18: flavors.a.max: expected a whole number")]
#[case("{\"a\": 1, \"a\": 2}", "line 1, column 12: the key \"a\" is there twice")]
#[case("{\"flavors\": ", "line 1, column 12: EOF")]
#[case("{} {}", "line 1, column 4: trailing")]
fn json_mistakes(#[case] text: &str, #[case] expected: &str) {
    let error = Document::parse(Kind::Flavors, text, Format::Json).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[rstest]
#[case(
    "max: 1\nresources:\n  cpus: 5",
    Format::Yaml,
    "line 3, column 9: flavors.\"a b\".resources.cpus: expected one of"
)]
#[case("- 1", Format::Yaml, "flavors.\"a b\": expected a table, found a list")]
#[case("max: 1\nmax: 2", Format::Yaml, "line 2, column 1: ")]
#[case("max = 1\nqueue = 5", Format::Toml, "line 2, column 9: flavors.\"a b\".queue: expected true or false")]
#[case("{\"max\": \"x\"}", Format::Json, "line 1, column ")]
fn mistakes_of_one_entry(#[case] text: &str, #[case] format: Format, #[case] expected: &str) {
    let error = Document::parse_entry(Kind::Flavors, "a b", text, format).unwrap_err();
    assert!(error.contains(expected) && !error.contains("Policy"), "{error}");
}

#[test]
fn one_entry_is_read_as_a_document_has_it() {
    let entry = Document::parse_entry(Kind::Credits, "a", "cap = 5\nfrom = 2026-12-01\n", Format::Toml).unwrap();
    assert_eq!(entry, json!({"cap": 5, "from": "2026-12-01"}));
}

#[test]
fn what_is_too_much_is_refused() {
    let mut bomb = "a: &a [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for (one, next) in ('a'..='y').zip('b'..='z') {
        bomb.push_str(&format!("{next}: &{next} [{}]\n", vec![format!("*{one}"); 10].join(",")));
    }
    assert!(Document::parse(Kind::Flavors, &bomb, Format::Yaml).is_err());
    for format in [Format::Yaml, Format::Toml, Format::Json] {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(Document::parse(Kind::Flavors, &deep, format).is_err());
        assert!(Document::parse(Kind::Flavors, &" ".repeat(5 << 20), format).unwrap_err().contains("4 MiB"));
    }
}
