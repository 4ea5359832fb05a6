//! Flavors on start: which may be started, and what is counted.

use rstest::rstest;

use super::*;
use crate::model::{Counted, OfFlavor, Scope};

const FLAVORS: &str = "
flavors:
  small: {display_name: Small one, max: 10, maxPerUser: 2, runtime: {hours: 8}, resources: {cpu: {limit: 2}, memory: {limit: 4G}}}
  gpu: {max: 3, max_total: 4, queue: true, resources: {gpu: 1}}
  hidden: {}
hubs:
  all: {jupyterhub_name: '.*', flavors: [small, gpu]}
users:
  banned: {authentication: {name: 'bad.*'}, forbidden: true}
max_per_user: 5
limits:
  students: {per: group, groups: ['stud*'], cpu: 8, memory: 16G}
  hub: {per: hub, hubs: ['hub1'], gpu: 2}
  user: {per: user, servers: 4}
  staff: {per: user, groups: [staff], servers: 100}
";

#[rstest]
#[case(json!({"flavor": "small"}), None)]
#[case(json!({"flavor": "hidden"}),
    Some("Start with flavor \"hidden\" not allowed. Allowed values for user: [\"Small one\", \"gpu\"]."))]
#[case(json!({"flavor": "nothing\n"}), Some("Start with flavor \"nothing\\n\" not allowed."))]
#[case(json!({}), Some("Start without a flavor not allowed."))]
#[case(json!({"flavor": "small", "authentication": {"name": "bad.one"}}),
    Some("Start with flavor \"Small one\" not allowed. There is no flavor that you may use"))]
#[case(json!({"flavor": "small", "authentication": {"name": "good"}}), None)]
fn a_flavor_has_to_be_one_of_the_set(#[case] request: Value, #[case] refusal: Option<&str>) {
    let site = Site::new("").with_flavors(FLAVORS);
    match refusal {
        None => assert_eq!(site.decide(&request).unwrap().flavor.unwrap().name.as_ref(), "small"),
        Some(expected) => {
            let sentence = site.refusal(&request);
            assert!(sentence.starts_with(expected), "{sentence}");
        }
    }
}

#[test]
fn without_definitions_everything_is_allowed_and_nothing_limited() {
    let admitted = Site::new("").decide(&json!({"flavor": "whatever"})).unwrap();
    assert!(admitted.flavor.is_none() && admitted.quotas.is_empty() && admitted.groups.is_empty());
    let only_limits = Site::new("").with_flavors("limits: {all: {per: hub, servers: 5}}");
    assert_eq!(only_limits.decide(&json!({"flavor": "whatever"})).unwrap().quotas.len(), 1);
}

#[rstest]
#[case("", "", None)]
#[case("undefined_max: -1", "", Some(None))]
#[case("undefined_max: 0", "", None)]
#[case("undefined_max: 3", "", Some(Some((3, "undefined_max"))))]
#[case("undefined_max: 3", "undefined_max: 1", Some(Some((1, "hubs.x.undefined_max"))))]
#[case("undefined_max: 3", "undefined_max: -1", Some(None))]
#[case("undefined_max: -1", "undefined_max: 0", None)]
fn undefined_flavors(#[case] top: &str, #[case] hub: &str, #[case] expected: Option<Option<(i64, &str)>>) {
    let flavors = format!("flavors: {{a: {{}}}}\n{top}\nhubs:\n  x:\n    jupyterhub_name: [hub1]\n    {hub}\n");
    let site = Site::new("").with_flavors(&flavors);
    for flavor in [json!("other"), json!(null)] {
        let decided = site.decide(&json!({"flavor": flavor})).ok();
        let quota = decided.map(|admitted| admitted.quotas.into_iter().next());
        assert_eq!(quota.is_some(), expected.is_some());
        if let (Some(Some(quota)), Some(Some((limit, source)))) = (quota, expected) {
            assert_eq!((quota.limit, &*quota.source), (limit, source));
            assert_eq!(quota.scope, Scope { flavor: Some(undefined()), ..scope(Some("hub1"), None, None, None) });
        }
    }
}

/// One limit counts all of them, whatever name was asked for.
fn undefined() -> OfFlavor {
    OfFlavor::Undefined { defined: ["a".into()].into() }
}

fn scope(hub: Option<&str>, user_id: Option<i64>, group: Option<&str>, flavor: Option<&str>) -> Scope {
    Scope { hub: hub.map(Into::into), user_id, group: group.map(Into::into), flavor: flavor.map(Into::into) }
}

#[test]
fn limits_are_counted_in_their_order() {
    let site = Site::new("").with_flavors(FLAVORS);
    let groups = json!({"groups": ["students-1", "students-2", "other"]});
    let admitted = site.decide(&json!({"flavor": "small", "authentication": groups})).unwrap();
    let hub = Some("hub1");
    let expected = [
        (scope(hub, Some(7), None, Some("small")), Counted::Servers, 2, "flavors.small.maxPerUser"),
        (scope(hub, None, None, Some("small")), Counted::Servers, 10, "flavors.small.max"),
        (scope(hub, Some(7), None, None), Counted::Servers, 5, "max_per_user"),
        (scope(hub, None, Some("students-1"), None), Counted::Cpu, 8000, "limits.students.cpu"),
        (scope(hub, None, Some("students-1"), None), Counted::Memory, 16 << 30, "limits.students.memory"),
        (scope(hub, None, Some("students-2"), None), Counted::Cpu, 8000, "limits.students.cpu"),
        (scope(hub, None, Some("students-2"), None), Counted::Memory, 16 << 30, "limits.students.memory"),
        (scope(hub, None, None, None), Counted::Gpus, 2, "limits.hub.gpu"),
        (scope(hub, Some(7), None, None), Counted::Servers, 4, "limits.user.servers"),
    ];
    let expected =
        expected.map(|(scope, counted, limit, source)| Quota { scope, counted, limit, source: source.into() });
    assert_eq!(admitted.quotas, expected);
    assert_eq!(admitted.counted_groups, ["students-1".into(), "students-2".into()]);
    assert_eq!(admitted.need, Need { cpu_millis: 2000, memory_bytes: 4 << 30, gpus: 0 });
    let flavor = admitted.flavor.unwrap();
    assert_eq!(flavor.runtime, Some(std::time::Duration::from_hours(8)));

    let staff = json!({"hub": "hub2", "flavor": "gpu", "authentication": {"groups": ["staff"]}});
    let sources: Vec<_> = site.decide(&staff).unwrap().quotas.iter().map(|quota| quota.source.to_string()).collect();
    assert_eq!(
        sources,
        ["flavors.gpu.max", "flavors.gpu.max_total", "max_per_user", "limits.user.servers", "limits.staff.servers"]
    );
}

#[test]
fn a_limit_of_nothing_is_a_limit() {
    let site = Site::new("").with_flavors("flavors: {a: {maxPerUser: 0, max: -1}}");
    let quotas = site.decide(&json!({"flavor": "a"})).unwrap().quotas;
    assert_eq!((quotas.len(), quotas[0].limit), (1, 0));
}

#[test]
fn attributes_are_normalised_first() {
    let mut site = Site::new("[[overrides]]\ngroups = ['staff']\nallow = 'all'").with_flavors(FLAVORS);
    site.normalise = toml::from_str("lowercase = ['name', 'groups']").unwrap();
    let request =
        json!({"flavor": "small", "misc": {"cmd": "x"}, "authentication": {"name": "Ada", "groups": ["STAFF"]}});
    assert!(site.decide(&request).is_ok());
    let banned = json!({"flavor": "small", "authentication": {"name": "BAD.one"}});
    assert!(site.decide(&banned).is_err());
}

#[test]
fn a_decision_can_be_explained() {
    let mut site = Site::new(
        "[[overrides]]\nhubs = ['x']\nallow = 'all'\n[[overrides]]\nallow = { image = ['a*'] }\non_refused = 'drop'",
    )
    .with_flavors(FLAVORS);
    site.resources = json!({"mem_limit": 1});
    let request = json!({"flavor": "small", "misc": {"image": "b", "port": 1}});
    let explanation = site.asked(&request, explain);
    let text = "allow = { image = [\"a*\"] }, on_refused = \"drop\"".to_owned();
    assert_eq!(explanation.rule, Some(Deciding { number: 2, text }));
    let verdicts: Vec<_> = explanation.asked.iter().map(|asked| asked.verdict).collect();
    assert_eq!(verdicts, [Verdict::Dropped, Verdict::Allowed]);
    let text = explanation.to_string();
    for expected in [
        "rule 2: allow",
        "option \"image\": dropped, it may only be \"a*\"",
        "set: hubs.all",
        "flavor: small",
        "limit flavors.small.maxPerUser: 2 servers of hub \"hub1\", user 7, flavor \"small\"",
        "takes up: 2 CPUs, 4 GiB, 0 GPUs",
        "result: allowed",
    ] {
        assert!(text.contains(expected), "{text}");
    }
    assert!(serde_json::to_value(&explanation).unwrap()["quotas"][0]["limit"] == 2);
    let refused = site.asked(&json!({"flavor": "hidden"}), explain);
    assert!(refused.to_string().contains("result: refused. Start with flavor \"hidden\""));
}
