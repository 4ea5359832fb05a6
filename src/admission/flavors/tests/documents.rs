//! Documents as a whole: their forms, changes, and sizes.

use proptest::prelude::*;

use super::*;

/// As sites of some years have it.
pub const REALISTIC: &str = r#"
# Sizes
flavors:
  small: &base
    display_name: Small
    description: "2 cores, 4 GB"
    max: 100
    maxPerUser: 2
    weight: 10
    runtime: {hours: 12}
    resources: {cpu_limit: 2, mem_limit: 4G}
  large:
    <<: *base
    display_name: Large
    max: 10
    runtime:
      days: 2
    resources:
      cpu: {limit: 16, guarantee: 8}
      memory: {limit: 64G}
  gpu:
    display_name: GPU
    max: 4
    maxPerUser: 1
    resources: {gpu: 1, node_selector: {pool: gpu}}
hubs:
  production:
    jupyterhub_name: ["jupyter-site", "jupyter-staging"]
    weight: 10
    flavors: [small, large]
  teaching:
    jupyterhub_name: "teach-[a-z0-9]+"
    flavors: [small]
    flavorsOverride:
      small: {max: 500, description: "for courses"}
users:
  gpu-people:
    hubs: [jupyter-site]
    authentication:
      groups: "urn:.*:group:gpu#.*"
    weight: 20
    flavors: [small, large, gpu]
  guests:
    authentication:
      username: ".*@(?!site\\.org).*"
    weight: 5
    forbidden: true
"#;

const TOML: &str = r#"
max_per_user = 3
[flavors.small]
max = 5
runtime = { hours = 1 }
[hubs.all]
jupyterhub_name = ".*"
flavors = ["small"]
[limits.cores]
per = "user"
cpu = 8
"#;

#[test]
fn a_document_of_a_site_is_read_as_it_is() {
    let document = yaml(REALISTIC);
    assert_eq!(document.warnings(), [""; 0]);
    let large = &document.sets().all.flavors[1];
    assert_eq!((large.max, large.max_per_user, large.display_name()), (Some(10), Some(2), "Large"));
    let groups = json!({"username": "ada@site.org", "groups": ["urn:x:group:gpu#site"]});
    assert_eq!(selected(&document, "jupyter-site", &groups).1, "small large gpu");
    assert_eq!(selected(&document, "teach-1", &groups).1, "small");
    assert_eq!(selected(&document, "teach-1", &json!({"username": "eve@evil.org"})).0, "users.guests");
}

#[test]
fn yaml_toml_and_json_are_one_model() {
    let toml = Document::parse(Kind::Flavors, TOML, Format::Toml).unwrap();
    let json = Document::parse(Kind::Flavors, &toml.raw().to_string(), Format::Json).unwrap();
    let yaml = yaml(&toml.to_yaml());
    assert_eq!((&toml, &toml), (&json, &yaml));
    assert_eq!(toml.raw()["flavors"]["small"]["runtime"], json!({"hours": 1}));
}

#[test]
fn written_yaml_is_read_alike() {
    let odd = json!({"flavors": {"yes": {"a": "no", "b": "1", "c": "x: y\n# z", "d": null, "e": [], "f": {}, "g": "~", "h": 1.5,
        "i": "0x10", "k": "", "l": " ", "m": "- a", "n": "y", "o": "off", "p": "1_000", "q": "010", "r": "1e3", "s": "2026-01-01"}, "1": {}, "null": {}}});
    let document = Document::from_value(Kind::Flavors, odd).unwrap();
    let again = yaml(&document.to_yaml());
    assert_eq!(document.raw(), again.raw(), "{}", document.to_yaml());
    assert_eq!(document.raw().to_string(), again.raw().to_string(), "the order stays");
    let realistic = yaml(REALISTIC);
    assert_eq!(yaml(&realistic.to_yaml()), realistic);
}

#[test]
fn an_empty_document_defines_nothing() {
    for text in ["", "# nothing\n", "{}", "flavors:\nhubs:\n"] {
        assert!(yaml(text).sets().all.flavors.is_empty(), "{text}");
    }
}

#[test]
fn one_flavor_changes_and_the_rest_stays() {
    let document = yaml("flavors: {a: {max: 1}, b: {}}\nhubs: {x: {jupyterhub_name: x, flavors: [a, b]}}");
    let changed = document.with("a", Some(json!({"max": 2}))).unwrap();
    assert_eq!(changed.raw()["flavors"], json!({"a": {"max": 2}, "b": {}}));
    assert_eq!(document.differences(&changed), ["flavors.a.max: 1 -> 2"]);
    let removed = changed.with("b", None).unwrap();
    assert_eq!(changed.differences(&removed), ["flavors.b: {} -> removed"]);
    assert_eq!(removed.warnings().len(), 1);
    let added = removed.with("c.d", Some(json!({"queue": true}))).unwrap();
    assert_eq!(removed.differences(&added), ["flavors.\"c.d\": added {\"queue\":true}"]);
    assert!(document.with("a", Some(json!({"max": "x"}))).unwrap_err().starts_with("flavors.a.max: expected"));
    assert!(document.with("a", Some(json!(5))).unwrap_err().contains("expected a table"));
    assert_eq!(yaml("").with("a", Some(json!({}))).unwrap().raw(), &json!({"flavors": {"a": {}}}));
    assert!(document.differences(&document).is_empty());
}

#[test]
fn another_order_of_sets_is_a_difference() {
    let one = yaml("users: {a: {authentication: {n: x}}, b: {authentication: {n: x}}}");
    let other = yaml("users: {b: {authentication: {n: x}}, a: {authentication: {n: x}}}");
    assert_eq!(one.differences(&other), ["users: the order is another"]);
}

#[test]
fn several_attributes_without_a_word_about_it_are_a_warning() {
    let document = |end: &str| yaml(&format!("users: {{x: {{authentication: {{a: 1, b: 2}}{end}}}}}"));
    assert!(document("").warnings()[0].contains("match: any"));
    assert!(document(", match: all").warnings().is_empty());
}

#[rstest]
#[case("x-base: &base {max: 1}\nflavors: {a: *base}", &["x-base: this key means nothing here"])]
#[case("hubs: {x: {jupyterhub_name: x, description: y}}", &["hubs.x.description: this key means nothing here"])]
#[case("users: {x: {authentication: {a: b}, group: y}}", &["users.x.group: this key means nothing here"])]
#[case("users: {x: {forbidden: true}}", &["users.x: this set never fits, since it has no `authentication`"])]
#[case("users: {x: {authentication: {a: b}, hubs: []}}", &["users.x: this set never fits, since its list of `hubs`"])]
#[case("users: {x: {authentication: {a: '(b'}}}", &["users.x: a: `(b` is no regular expression"])]
#[case("hubs: {x: {jupyterhub_name: 'x[1'}}", &["hubs.x.jupyterhub_name: `x[1` is no regular expression"])]
#[case("flavors: {a: {maxperuser: 1, Queue: true, ressources: {}, max-total: 1, note: x}}",
    &["flavors.a.maxperuser: only the hub reads this key; maxPerUser", "flavors.a.Queue", "flavors.a.ressources",
        "flavors.a.max-total"])]
#[case("flavors: {a: {}}\nhubs: {x: {jupyterhub_name: x, flavorsOverride: {a: {Max: 1}}}}",
    &["hubs.x.flavorsOverride.a.Max: only the hub reads this key; max may"])]
#[case("flavors: {a: {resources: {cpu_limit: 1}}, b: {}}\nlimits: {m: {per: user, cpu: 4, memory: 4G, gpu: 1, servers: 1}}",
    &["limits.m counts cpu, but there is no cpu_limit in these flavors: b; unless the backend",
        "limits.m counts memory, but there is no mem_limit in these flavors: a, b;"])]
fn what_is_hardly_meant_is_a_warning(#[case] text: &str, #[case] expected: &[&str]) {
    let document = yaml(text);
    assert_eq!(document.warnings().len(), expected.len(), "{:?}", document.warnings());
    for (warning, expected) in document.warnings().iter().zip(expected) {
        assert!(warning.starts_with(expected), "{warning}");
    }
}

#[test]
fn a_flavor_of_which_nothing_is_said_is_there() {
    let document = yaml("flavors: {a: , b: {}}");
    assert_eq!(selected(&document, "x", &json!({})).1, "a b");
    assert_eq!(selected(&document.with("c", Some(Value::Null)).unwrap(), "x", &json!({})).1, "a b c");
}

/// Neither a set nor its opposite, where the expression takes too many steps.
#[test]
fn who_cannot_be_matched_is_in_no_set() {
    let pattern = r"'(a|b|ab)*(?=c)'";
    let document = yaml(&format!(
        "users:\n  is: {{authentication: {{n: {pattern}}}}}\n  is_not: {{authentication: {{n: {pattern}}}, negate_authentication: true}}"
    ));
    assert_eq!(selected(&document, "x", &json!({"n": "ab".repeat(50)})).0, "");
    assert_eq!(selected(&document, "x", &json!({"n": "z"})).0, "users.is_not");
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let keys = prop_oneof![
            Just("flavors"),
            Just("hubs"),
            Just("users"),
            Just("limits"),
            Just("max"),
            Just("runtime"),
            Just("resources"),
            Just("authentication"),
            Just("jupyterhub_name"),
            Just("flavorsOverride"),
            Just("per"),
            Just("x"),
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::vec((keys, inner), 0..5).prop_map(|entries| Value::Object(
                entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

proptest! {
    #[test]
    fn any_document_is_read_or_refused_with_a_sentence(value in any_json(), authentication in any_json()) {
        match Document::from_value(Kind::Flavors, value) {
            Err(sentence) => prop_assert!(!sentence.is_empty()),
            Ok(document) => {
                if let Some(authentication) = authentication.as_object() {
                    document.sets().choose("x", authentication);
                }
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused_with_a_sentence(text in "[a-z:{}\\[\\]&*<>!|'\"\\-\n #,0-9]{0,80}") {
        for format in [Format::Yaml, Format::Toml, Format::Json] {
            let _ = Document::parse(Kind::Flavors, &text, format);
        }
    }
}
