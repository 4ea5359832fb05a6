//! Rules: which one fits, and what it allows.

use proptest::prelude::*;
use rstest::rstest;

use super::*;
use crate::spawner::process;

#[test]
fn without_rules_only_what_hands_over_the_host_is_refused() {
    let site = Site::new("");
    let misc = json!({"image": "x", "port": 1, "environment": {"A": "b"}, "mem_limit": "64G"});
    assert_eq!(site.options(misc.clone()), misc);
    let sentence = site.misc_refused(json!({"cmd": ["sh", "s3cret"]}));
    assert_eq!(
        sentence,
        "The option \"cmd\" is not allowed for this JupyterHub on this system: it runs any program. Please choose another \
         option or ask the administrators of the system."
    );
}

#[test]
fn the_first_rule_that_fits_decides() {
    let site = Site::new(
        "[[overrides]]\nhubs = ['trusted']\nallow = 'all'\n[[overrides]]\nhubs = ['*']\n\
         allow = { image = ['allowed_1', 'site/*'], cpu_limit = [1, 2], cmd = 'any' }",
    );
    assert!(site.decide(&json!({"hub": "trusted", "misc": {"cmd": "x", "image": "any"}})).is_ok());
    site.options(json!({"cmd": "x", "image": "site/lab", "cpu_limit": 2.0, "port": 1}));
    let sentence = site.misc_refused(json!({"image": "evil"}));
    assert!(
        sentence.contains(r#""image" with the value "evil""#) && sentence.contains(r#""allowed_1" or "site/*""#),
        "{sentence}"
    );
    assert!(
        site.misc_refused(json!({"environment": {}})).contains(r#"only "image", "cpu_limit" and "cmd" may be set"#)
    );
}

#[test]
fn none_means_the_protocol_only() {
    let site = Site::new("[[overrides]]\nhubs = ['h*']\nallow = 'none'");
    site.options(json!({"port": 1, "extra_labels": {}}));
    site.misc_refused(json!({"image": "x"}));
    assert!(site.decide(&json!({"hub": "other", "misc": {"image": "x"}})).is_ok());
}

#[rstest]
#[case("hubs = ['hub1']", true)]
#[case("hubs = 'hub?'", true)]
#[case("hubs = ['hub2']", false)]
#[case("users = ['a*']", true)]
#[case("users = ['bob']", false)]
#[case("groups = ['staff', 'x']", true)]
#[case("groups = ['admin']", false)]
#[case("backend = 'local'", true)]
#[case("backend = ['kube*']", false)]
#[case("flavor = 'small'", true)]
#[case("flavor = 'large'", false)]
#[case("profile = 'lab'", true)]
#[case("profile = 'other'", false)]
#[case("hubs = 'hub1'\nusers = 'bob'", false)]
#[case("when = \"misc.image == 'x'\"", true)]
#[case("when = \"flavor == 'small' && profile == 'lab' && 'staff' in groups && user == 'ada'\"", true)]
#[case("when = \"user_options.size > 5\"", false)]
#[case("hubs = 'hub2'\nwhen = \"misc.nothing == 1\"", false)]
#[case("", true)]
fn conditions(#[case] condition: &str, #[case] fits: bool) {
    let site = Site::new(&format!("[[overrides]]\n{condition}\nallow = 'none'"));
    let request = json!({"misc": {"image": "x"}, "flavor": "small", "user_options": {"profile": "lab", "size": 5},
        "authentication": {"groups": ["staff", 5]}});
    assert_eq!(site.decide(&request).is_err(), fits);
}

#[rstest]
#[case(json!({}))]
#[case(json!({"user_options": {"profile": "other"}}))]
fn the_profile_that_the_backend_takes_counts(#[case] request: Value) {
    let mut site = Site::new("[[overrides]]\nprofile = 'lab'\nwhen = \"profile == 'lab'\"\nallow = 'none'");
    site.profile = Some("lab".to_owned());
    let mut request = request;
    request["misc"] = json!({"image": "x"});
    assert!(site.decide(&request).is_err());
}

#[test]
fn an_expression_that_fails_refuses_and_says_why_in_the_log_only() {
    let site = Site::new("[[overrides]]\nwhen = 'misc.mem_limit > 5'\nallow = 'all'");
    for misc in [json!({"mem_limit": "1G"}), json!({"image": "s3cret"})] {
        let sentence = site.misc_refused(misc);
        assert!(sentence.starts_with("The rules of this system cannot be applied"), "{sentence}");
        assert!(!sentence.contains("s3cret") && !sentence.contains("when"), "{sentence}");
    }
    assert!(site.decide(&json!({"misc": {}})).is_ok(), "an empty misc is never asked about");
    let site = site.with_flavors("{flavors: {small: {max: 1}}, hubs: {all: {jupyterhub_name: '.*'}}}");
    let explanation = site.asked(&json!({"misc": {"image": "x"}, "flavor": "small"}), explain);
    assert!(explanation.fault.as_ref().unwrap().contains("rule 1"));
    let refusal = explanation.refusal.unwrap();
    assert!(refusal.starts_with("The rules of this system cannot be applied"), "what the user reads: {refusal}");
    assert_eq!((explanation.set.as_deref(), explanation.flavors.len()), (Some("hubs.all"), 1));
    assert_eq!((explanation.flavor.as_deref(), explanation.quotas.len()), (Some("small"), 1));
}

#[rstest]
#[case("image = 'any'", "image", json!({"odd": 1}), true)]
#[case("image = ['a', 'b*']", "image", json!("bc"), true)]
#[case("image = ['a', 'b*']", "image", json!(["a"]), false)]
#[case("image = { regex = 'site/.*:v[0-9]+' }", "image", json!("site/lab:v12"), true)]
#[case("image = { regex = 'site/.*:v[0-9]+' }", "image", json!("site/lab:v12; evil"), false)]
#[case("image = { regex = 'site' }", "image", json!(5), false)]
#[case("mem_limit = { max = '2G' }", "mem_limit", json!("2048M"), true)]
#[case("mem_limit = { max = '2G' }", "mem_limit", json!("2.1G"), false)]
#[case("mem_limit = { max = '2G' }", "mem_limit", json!(2_147_483_648_u64), true)]
#[case("mem_limit = { max = '2G' }", "mem_limit", json!("lots"), false)]
#[case("mem_limit = { max = '2G' }", "mem_limit", json!(null), false)]
#[case("cpu_limit = { min = '500m', max = 4 }", "cpu_limit", json!(0.5), true)]
#[case("cpu_limit = { min = '500m', max = 4 }", "cpu_limit", json!(0.4), false)]
#[case("cpu_limit = { min = '500m', max = 4 }", "cpu_limit", json!("4001m"), false)]
#[case("extra_resource_limits = { max = 1 }", "extra_resource_limits", json!({"nvidia.com/gpu": 1}), true)]
#[case("extra_resource_limits = { max = 1 }", "extra_resource_limits", json!({"nvidia.com/gpu": "2"}), false)]
#[case("storage_capacity = { max = '10Gi' }", "storage_capacity", json!("10G"), true)]
#[case("storage_capacity = { max = '10Gi' }", "storage_capacity", json!("11Gi"), false)]
#[case("debug = [true]", "debug", json!(true), true)]
#[case("debug = [true]", "debug", json!(false), false)]
#[case("notebook_dir = ['/home/*']", "notebook_dir", json!("/home/ada"), true)]
#[case("notebook_dir = ['/home/*']", "notebook_dir", json!("/home/a..b"), true)]
#[case("notebook_dir = ['/home/*']", "notebook_dir", json!("/home/../etc"), false)]
#[case("notebook_dir = { regex = '/home/.*' }", "notebook_dir", json!("/home/x/.."), false)]
#[case("working_dir = { regex = '/home/.*' }", "working_dir", json!("/home/.."), false)]
#[case("notebook_dir = 'any'", "notebook_dir", json!("/home/.."), true)]
#[case("environment = { max = 5 }", "environment", json!({}), false)]
#[case("extra_resource_limits = { max = 5 }", "extra_resource_limits", json!({}), false)]
#[case("image = 'any'", "port", json!(5), true)]
#[case("protocol = ['x']", "port", json!(5), false)]
#[case("protocol = ['x'], port = [5]", "port", json!(5), true)]
#[case("port = [80]", "port", json!(5), false)]
#[case("port = [80]", "ip", json!("0.0.0.0"), true)]
fn constraints(#[case] allow: &str, #[case] key: &str, #[case] value: Value, #[case] fits: bool) {
    let site = Site::new(&format!("[[overrides]]\nallow = {{ {allow} }}"));
    assert_eq!(site.decide(&json!({"misc": {key: value}})).is_ok(), fits);
}

#[rstest]
#[case("mem_limit = { max = 1073741824 }", json!({"mem_limit": "2G"}), "it may only be up to 1 GiB.")]
#[case("cpu_limit = { min = '500m', max = 4 }", json!({"cpu_limit": 8}), "it may only be from 0.5 CPUs to 4 CPUs.")]
#[case("storage_capacity = { max = '2Gi' }", json!({"storage_capacity": "3Gi"}), "it may only be up to \"2Gi\".")]
#[case("default_url = { regex = '/lab|/tree' }", json!({"default_url": "/x"}),
    "it may only be a text of the form /lab|/tree (a regular expression).")]
#[case("notebook_dir = ['/home/*']", json!({"notebook_dir": "/home/../etc"}), "it may only be \"/home/*\", without \"..\".")]
fn a_refusal_says_what_is_allowed(#[case] allow: &str, #[case] misc: Value, #[case] expected: &str) {
    let sentence = Site::new(&format!("[[overrides]]\nallow = {{ {allow} }}")).misc_refused(misc);
    assert!(sentence.contains(expected), "{sentence}");
}

#[rstest]
#[case("allow = { imgae = 'any' }", &["rule 1 of [[overrides]]: no backend has an option \"imgae\""])]
#[case("allow = { image = { max = 5 } }", &["rule 1 of [[overrides]]: \"image\" is no amount"])]
#[case("allow = { mem_limit = { max = 5 }, port = { min = 1024 }, protocol = 'any' }", &[])]
#[case("hubs = ['a', '*']\nallow = 'all'\n[[overrides]]\nallow = 'none'",
    &["rule 2 of [[overrides]] and all behind it never decide, since rule 1 always fits"])]
#[case("groups = '*'\nallow = 'all'\n[[overrides]]\nallow = 'none'", &[])]
#[case("when = \"hub == 'x'\"\nallow = 'all'\n[[overrides]]\nallow = 'none'", &[])]
fn rules_that_are_hardly_meant_are_warned_of(#[case] rules: &str, #[case] expected: &[&str]) {
    let warnings = Site::new(&format!("[[overrides]]\n{rules}")).rules.warnings();
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    assert!(warnings.iter().zip(expected).all(|(warning, expected)| warning.starts_with(expected)), "{warnings:?}");
}

#[test]
fn rules_name_backends_that_there_are() {
    let rules =
        Site::new("[[overrides]]\nallow = 'all'\n[[overrides]]\nbackend = ['k*', 'locall']\nallow = 'none'").rules;
    assert_eq!(rules.check(&["kube", "locall"]), Ok(()));
    assert!(rules.check(&["kube", "local"]).unwrap_err().starts_with("rule 2: backend \"locall\""));
}

#[test]
fn several_refused_options_are_all_named() {
    let site = Site::new("[[overrides]]\nallow = { image = ['a'] }");
    let sentence = site.misc_refused(json!({"image": "b", "uid": 0, "port": 1}));
    assert!(
        sentence.starts_with("These options are not allowed")
            && sentence.contains(r#""image" with the value "b" (it may only be "a")"#)
            && sentence.contains(r#""uid" with the value 0"#)
            && !sentence.contains("port"),
        "{sentence}"
    );
}

#[rstest]
#[case(json!({"environment": {"A": "s3cret"}}))]
#[case(json!({"args": "s3cret"}))]
#[case(json!({"image_pull_secrets": ["s3cret"]}))]
#[case(json!({"extra_containers": [{"name": "A", "value": "s3cret"}]}))]
#[case(json!({"extra_annotations": {"api_token": "s3cret"}}))]
fn secrets_are_not_repeated(#[case] misc: Value) {
    let site = Site::new("[[overrides]]\nallow = 'none'");
    let sentence = site.misc_refused(misc);
    assert!(!sentence.contains("s3cret"), "{sentence}");
}

#[test]
fn what_is_repeated_is_quoted_and_short() {
    let site = Site::new("[[overrides]]\nallow = { image = ['a'] }\nunknown = 'fail'");
    let sentence = site.misc_refused(json!({"<b>\n": 1}));
    assert!(sentence.contains(r#""<b>\n""#) && sentence.contains("there is no such option"), "{sentence}");
    assert!(site.misc_refused(json!({"image": "x".repeat(9000), "y".repeat(9000): 1})).len() < 600);
}

#[test]
fn refused_options_can_be_left_out() {
    let site = Site::new("[[overrides]]\nallow = { image = ['a'] }\non_refused = 'drop'");
    let admitted = site.decide(&json!({"misc": {"image": "b", "cmd": ["x"], "port": 5}})).unwrap();
    assert_eq!(Value::Object(admitted.options), json!({"port": 5}));
    assert_eq!(admitted.messages.len(), 2);
    assert!(admitted.messages[0].contains("\"image\": it may only be \"a\""), "{:?}", admitted.messages);
}

#[rstest]
#[case("", "image", Some(true))] // known elsewhere: left out
#[case("", "imge", None)] // known by nobody: refused
#[case("unknown = 'fail'", "image", None)]
#[case("unknown = 'drop'", "imge", Some(true))]
#[case("on_refused = 'drop'", "imge", Some(true))]
#[case("on_refused = 'drop'\nunknown = 'fail'", "imge", None)]
#[case("", "port", Some(false))]
#[case("unknown = 'fail'", "internal_ssl", Some(false))]
fn options_that_the_backend_does_not_read(#[case] rule: &str, #[case] key: &str, #[case] told: Option<bool>) {
    let mut site = Site::new(&format!("[[overrides]]\nallow = 'all'\n{rule}"));
    site.table = process::OPTIONS;
    let admitted = site.decide(&json!({"misc": {key: 5}}));
    assert_eq!(admitted.as_ref().ok().map(|admitted| admitted.messages.len() == 1), told);
    assert_eq!(admitted.is_ok_and(|admitted| admitted.options.contains_key(key)), told == Some(false));
}

#[rstest]
#[case("allow = 'some'", "\"all\", \"none\" or a table")]
#[case("allow = 5", "\"all\", \"none\" or a table")]
#[case("hubs = ['*']", "missing field `allow`")]
#[case("hub = ['*']\nallow = 'all'", "unknown field `hub`")]
#[case("hubs = []\nallow = 'all'", "at least one name")]
#[case("hubs = ['[a']\nallow = 'all'", "is no glob")]
#[case("allow = { image = 'x' }", "what \"image\" may be")]
#[case("allow = { image = [] }", "at least one value")]
#[case("allow = { image = { max = 'lots' } }", "`max` of \"image\"")]
#[case("allow = { mem_limit = { max = '2Gi' } }", "a size in bytes")]
#[case("allow = { cpu_limit = { min = 5, max = 4 } }", "`min` of \"cpu_limit\" is more")]
#[case("allow = { cpu_limit = { maximum = 5 } }", "unknown field `maximum`")]
#[case("allow = { cpu_limit = {} }", "either `max` and `min` or `regex`")]
#[case("allow = { image = { regex = '(' } }", "is no regular expression")]
#[case("allow = { image = { regex = 'a', max = 5 } }", "either `max` and `min` or `regex`")]
#[case("allow = 'all'\nwhen = 'hub =='", "no usable CEL expression")]
#[case("allow = 'all'\nwhen = 'hubs == 1'", "there is no variable hubs")]
#[case("allow = 'all'\nwhen = 'hub'", "neither true nor false")]
#[case("allow = 'all'\nwhen = true", "a CEL expression")]
#[case("allow = 'all'\non_refused = 'ignore'", "`fail` or `drop`")]
#[case("allow = 'all'\nallow = 'none'", "duplicate key")]
fn mistakes_are_named_with_their_place(#[case] rule: &str, #[case] expected: &str) {
    #[derive(Debug, serde::Deserialize)]
    struct Config {
        #[expect(dead_code)]
        overrides: Rules,
    }
    let error = toml::from_str::<Config>(&format!("[[overrides]]\n{rule}")).unwrap_err().to_string();
    assert!(error.contains(expected) && error.contains("at line "), "{error}");
}

#[test]
fn rules_are_equal_if_they_are_written_alike() {
    let rules = |text: &str| Site::new(text).rules;
    let text = "[[overrides]]\nhubs = ['a*']\nwhen = \"hub != 'x'\"\nallow = { image = { regex = 'a+' }, cpu_limit = { max = 2 } }";
    assert_eq!(rules(text), rules(text));
    assert_ne!(rules(text), rules(&text.replace("a+", "b+")));
    assert!(format!("{:?}", rules(text)).contains("a*"));
}

proptest! {
    /// Whatever is asked for, options that come through are within what the rule says.
    #[test]
    fn an_override_never_yields_more_than_its_rule_allows(
        cpu in prop_oneof![(0_i32..100).prop_map(|n| json!(n)), (-9.0..9.0).prop_map(|n| json!(n)),
            "[0-9]{1,4}[mkMGi]?".prop_map(|text| json!(text)), Just(json!(null)), Just(json!([1])), Just(json!({}))],
        image in prop_oneof!["(site|evil)/[a-z]{0,3}".prop_map(|text| json!(text)), Just(json!(["site/x"])), Just(json!(null))],
        others in proptest::collection::vec("[a-z_]{1,12}", 0..4),
        drop in any::<bool>(),
    ) {
        let on_refused = if drop { "drop" } else { "fail" };
        let site = Site::new(&format!(
            "[[overrides]]\nallow = {{ cpu_limit = {{ max = 2 }}, image = ['site/*'] }}\non_refused = '{on_refused}'"
        ))
        .with_flavors("flavors: {small: {resources: {cpu_limit: 1, mem_limit: 1G}}}");
        let mut misc = json!({"cpu_limit": cpu, "image": image, "mem_limit": "64G"});
        for key in others {
            misc[key] = json!("x");
        }
        if let Ok(admitted) = site.decide(&json!({"misc": misc, "flavor": "small"})) {
            let options = Value::Object(admitted.options);
            prop_assert!(crate::model::quantity("cpu_limit", &options["cpu_limit"]).unwrap() <= 2.0);
            prop_assert!(options.get("image").is_none_or(|image| image.as_str().is_some_and(|text| text.starts_with("site/"))));
            prop_assert_eq!(&options["mem_limit"], "1G");
            prop_assert!(options.as_object().unwrap().keys().all(|key| ["cpu_limit", "image", "mem_limit"].contains(&&**key)
                || crate::spawner::options::PROTOCOL.contains(&&**key)));
        }
    }
}

#[test]
fn a_user_of_endless_groups_is_refused() {
    let site = Site::new("").with_flavors("{flavors: {a: {}}, limits: {g: {per: group, servers: 5}}}");
    let groups = |count: usize| (0..count).map(|at| format!("group{at}")).collect::<Vec<_>>();
    let of = |count| json!({"flavor": "a", "authentication": {"groups": groups(count)}});
    assert_eq!(site.decide(&of(100)).unwrap().quotas.len(), 100);
    assert!(site.decide(&of(101)).unwrap_err().to_string().contains("101 groups"));
}

#[test]
fn a_wrong_type_is_named_or_dropped_as_an_unknown_option() {
    let any = "[[overrides]]\nhubs = ['*']\nallow = 'all'\n";
    let sentence = Site::new(any).misc_refused(json!({"default_url": 5}));
    assert!(sentence.contains("default_url") && sentence.contains("it has to be a text"), "{sentence}");
    let dropping = Site::new(&format!("{any}unknown = 'drop'"));
    let admitted = dropping.decide(&json!({"misc": {"default_url": 5, "mem_limit": "lots", "image": "x"}})).unwrap();
    assert_eq!(admitted.options.keys().collect::<Vec<_>>(), ["image"]);
    assert_eq!(admitted.messages.len(), 2, "{:?}", admitted.messages);
}
