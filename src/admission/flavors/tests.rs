//! The rules of the Python service for flavors, and where ours differ.

mod documents;
mod mistakes;

use rstest::rstest;
use serde_json::json;

use super::*;

fn yaml(text: &str) -> Document {
    Document::parse(Kind::Flavors, text, Format::Yaml).unwrap_or_else(|error| panic!("{error}"))
}

fn names(selection: &Selection) -> String {
    let names: Vec<_> = selection.entries.iter().map(|entry| &*entry.name).collect();
    names.join(" ")
}

/// The set and the names of the flavors of a hub or a user.
fn selected(document: &Document, hub: &str, authentication: &Value) -> (String, String) {
    let definitions = Definitions { flavors: Some(Arc::new(document.clone())), credits: None };
    let selection = definitions.flavors(hub, authentication.as_object().unwrap());
    (selection.set.as_deref().unwrap_or_default().to_owned(), names(&selection))
}

const HUBS: &str = "
flavors: {a: {max: 1}, b: {max: 2}, c: {}}
hubs:
  member: {jupyterhub_name: [hub1, 'list.*'], flavors: [a]}
  regex: {jupyterhub_name: 'hub[2-3]', flavors: [c, a]}
  glob: {jupyterhub_name: '*-hub', flavors: [b]}
  python: {jupyterhub_name: '(?!no)py.*', flavors: []}
  light: {jupyterhub_name: 'both', weight: 5, flavors: [a]}
  heavy: {jupyterhub_name: 'both|tie', weight: 10, flavors: [b]}
  equal: {jupyterhub_name: [tie, both], weight: 10, flavors: [c]}
  everything: {jupyterhub_name: every}
";

#[rstest]
#[case("hub1", "hubs.member", "a")]
#[case("list.*", "hubs.member", "a")]
#[case("list1", "", "a b c")] // a list is literal
#[case("hub2", "hubs.regex", "a c")] // in the order of the document
#[case("hub23", "", "a b c")] // all of the name has to fit
#[case("my-hub", "hubs.glob", "b")]
#[case("python", "hubs.python", "")]
#[case("both", "hubs.heavy", "b")] // the highest weight, not the first
#[case("tie", "hubs.heavy", "b")] // the first of equal ones
#[case("every", "hubs.everything", "a b c")]
#[case("other", "", "a b c")]
fn sets_of_hubs(#[case] hub: &str, #[case] set: &str, #[case] flavors: &str) {
    assert_eq!(selected(&yaml(HUBS), hub, &json!({})), (set.to_owned(), flavors.to_owned()));
}

const USERS: &str = "
flavors: {a: {max: 1}, b: {max: 2}, c: {}}
hubs:
  some: {jupyterhub_name: '.*', flavors: [a], flavorsOverride: {a: {max: 7}}}
users:
  elsewhere: {hubs: [hub2], authentication: {name: ada}, weight: 100, flavors: [c]}
  ada: {authentication: {name: ada}, weight: 5, flavors: [b]}
  first: {authentication: {level: [1, 2]}, weight: 5, flavors: [a]}
  last: {authentication: {level: 2}, weight: 5, flavors: [c]}
  both: {authentication: {x: 'yes', y: 'yes'}, weight: 9, flavors: [a, b]}
  either: {authentication: {p: 'yes', q: 'yes'}, match: any, weight: 9, flavors: [b, c]}
  groups: {authentication: {groups: 'urn:.*:admins'}, weight: 20}
  outsiders: {authentication: {home: 'site.*'}, negate_authentication: true, weight: 1, flavors: []}
  banned: {authentication: {name: [eve, mallory]}, weight: 50, forbidden: true, flavors: [a]}
  empty: {authentication: {}, weight: 1000, forbidden: true}
";

#[rstest]
#[case("hub1", json!({}), "hubs.some", "a")]
#[case("hub1", json!({"home": "site1"}), "hubs.some", "a")]
#[case("hub1", json!({"name": "ada", "home": "site"}), "users.ada", "b")] // not the hub's but the global ones
#[case("hub2", json!({"name": "ada", "home": "site"}), "users.elsewhere", "c")]
#[case("hub1", json!({"level": 2, "home": "site"}), "users.last", "c")] // the last of equal ones
#[case("hub1", json!({"level": 1, "home": "site"}), "users.first", "a")]
#[case("hub1", json!({"x": "yes", "home": "site"}), "hubs.some", "a")] // all attributes have to fit
#[case("hub1", json!({"x": "yes", "y": "yes"}), "users.both", "a b")]
#[case("hub1", json!({"q": "yes"}), "users.either", "b c")]
#[case("hub1", json!({"groups": ["x", "urn:a:admins"]}), "users.groups", "a b c")]
#[case("hub1", json!({"groups": ["urn:a:admins2"], "home": "site"}), "hubs.some", "a")]
#[case("hub1", json!({"home": "other"}), "users.outsiders", "")]
#[case("hub1", json!({"unknown": 1}), "users.outsiders", "")]
#[case("hub1", json!({"name": "eve"}), "users.banned", "")]
fn sets_of_users(#[case] hub: &str, #[case] authentication: Value, #[case] set: &str, #[case] flavors: &str) {
    assert_eq!(selected(&yaml(USERS), hub, &authentication), (set.to_owned(), flavors.to_owned()));
}

#[test]
fn a_forbidden_user_is_told_apart_from_one_without_flavors() {
    let definitions = Definitions { flavors: Some(Arc::new(yaml(USERS))), credits: None };
    let of = |authentication: Value| definitions.flavors("hub1", authentication.as_object().unwrap());
    assert!(of(json!({"name": "eve"})).forbidden);
    assert!(!of(json!({"home": "other"})).forbidden);
    assert_eq!(definitions.credits("hub1", &Map::new()), Selection::default());
    assert_eq!(Definitions::default().flavors("hub1", &Map::new()), Selection::default());
}

#[test]
fn overrides_are_those_of_the_set_alone() {
    let document = yaml(
        "
flavors:
  a: {max: 1, resources: {cpu_limit: 1}, description: {en: x}, weight: 3}
  b: {max: 2}
hubs:
  one: {jupyterhub_name: one, flavors: [a], flavorsOverride: {a: {max: 5, description: z, new: 1}, b: {max: 9}, d: {}}}
",
    );
    let of_hub = |hub: &str| document.sets().of_hub(hub).flavors[0].clone();
    let (one, other) = (of_hub("one"), of_hub("other"));
    assert_eq!((one.max, other.max), (Some(5), Some(1)));
    assert_eq!(
        Value::Object((*one.raw).clone()),
        json!({"max": 5, "resources": {"cpu_limit": 1}, "description": "z", "weight": 3, "new": 1})
    );
    assert_eq!(one.resources, other.resources);
    assert_eq!(document.warnings().len(), 2, "{:?}", document.warnings());
}

#[rstest]
#[case("{max: 5, maxPerUser: 2, max_total: 9}", [Some(5), Some(2), Some(9)])]
#[case("{max: -1, max_per_user: 3}", [None, Some(3), None])]
#[case("{max: 0, maxPerUser: 0, max_total: -1}", [Some(0), Some(0), None])]
#[case("{max: null}", [None, None, None])]
#[case("{max: 1_000, queue: yes}", [Some(1000), None, None])]
fn limits_of_a_flavor(#[case] flavor: &str, #[case] expected: [Option<i64>; 3]) {
    let document = yaml(&format!("flavors: {{a: {flavor}}}"));
    let flavor = &document.sets().all.flavors[0];
    assert_eq!([flavor.max, flavor.max_per_user, flavor.max_total], expected);
}

#[rstest]
#[case("{days: 1, hours: 2, minutes: 3, seconds: 4}", 93_784)]
#[case("{hours: 0.5}", 1800)]
fn run_times(#[case] runtime: &str, #[case] seconds: u64) {
    let document = yaml(&format!("flavors: {{a: {{runtime: {runtime}}}}}"));
    assert_eq!(document.sets().all.flavors[0].runtime, Some(std::time::Duration::from_secs(seconds)));
}

#[rstest]
#[case("{cpu_limit: 2, mem_guarantee: 1G}", json!({"cpu_limit": 2, "mem_guarantee": "1G"}))]
#[case("{cpu: {limit: 2, guarantee: 500m}, memory: {limit: 4G}}",
    json!({"cpu_limit": 2, "cpu_guarantee": "500m", "mem_limit": "4G"}))]
#[case("{extra_resource_limits: {a/b: 1}, gpu: 2}",
    json!({"extra_resource_limits": {"a/b": 1, "nvidia.com/gpu": 2}, "extra_resource_guarantees": {"nvidia.com/gpu": 2}}))]
#[case("{node_selector: {pool: gpu}, tolerations: [{key: x}]}",
    json!({"node_selector": {"pool": "gpu"}, "tolerations": [{"key": "x"}]}))]
#[case("{}", json!({}))]
fn resources_become_options(#[case] resources: &str, #[case] expected: Value) {
    let document = yaml(&format!("flavors: {{a: {{resources: {resources}}}}}"));
    assert_eq!(Value::Object(document.sets().all.flavors[0].resources.options().clone()), expected);
}

#[test]
fn credits_have_the_same_sets_and_any_keys() {
    let text = "
credits: {small: {cap: 100, grant_value: 5, grant_interval: 600, max: odd}, large: {cap: 1000}}
hubs: {one: {jupyterhub_name: one, credits: [small], creditsOverride: {small: {cap: 7}}}}
users: {banned: {authentication: {name: eve}, forbidden: true}}
";
    let document = Document::parse(Kind::Credits, text, Format::Yaml).unwrap();
    let definitions = Definitions { flavors: None, credits: Some(Arc::new(document)) };
    let of_hub = definitions.credits("one", &Map::new());
    assert_eq!((of_hub.set.as_deref(), names(&of_hub).as_str()), (Some("hubs.one"), "small"));
    assert_eq!(of_hub.entries[0].raw["cap"], 7);
    assert_eq!(names(&definitions.credits("other", &Map::new())), "small large");
    assert!(definitions.credits("one", json!({"name": "eve"}).as_object().unwrap()).forbidden);
}

/// As for the Python service: no attribute fits, which is turned round.
#[test]
fn a_negated_set_without_attributes_fits_everybody() {
    let yaml =
        "flavors: {a: {}, b: {}}\nusers:\n  rest: {negate_authentication: true, flavors: [b]}\n  empty: {flavors: [a]}";
    let document = Document::parse(Kind::Flavors, yaml, Format::Yaml).unwrap();
    let definitions = Definitions { flavors: Some(Arc::new(document)), credits: None };
    let selection = definitions.flavors("hub", &Map::from_iter([("name".to_owned(), "x".into())]));
    assert_eq!((selection.set.as_deref(), selection.entries.len()), (Some("users.rest"), 1));
}
