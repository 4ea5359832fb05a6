use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::super::sample;
use super::*;

/// A site with `lab` as its namespace.
fn site(mut settings: Value) -> Settings {
    settings["namespace"] = json!("lab");
    serde_json::from_value(settings).unwrap_or_else(|error| panic!("{error}"))
}

fn launch(misc: Value, profile: &str) -> Launch {
    let mut launch = sample::launch("hub", "ann", "");
    launch.options = misc.as_object().unwrap().clone();
    launch.user_options = json!({"profile": profile}).as_object().unwrap().clone();
    launch
}

fn options(settings: Value, misc: Value, profile: &str) -> Options {
    effective(&site(settings), &launch(misc, profile)).unwrap_or_else(|error| panic!("{error}")).0
}

fn refusal(settings: Value, misc: Value) -> String {
    match effective(&site(settings), &launch(misc, "")) {
        Err(Error::Refused(sentence)) => sentence,
        other => panic!("{other:?}"),
    }
}

fn with_profile(overrides: Value) -> Value {
    json!({"image": "site", "mem_limit": "4G", "tolerations": [{"key": "site"}], "node_selector": {"a": "site", "b": "site"},
        "profile_list": [{"display_name": "p", "kubespawner_override": overrides}]})
}

#[test]
fn the_hub_wins_over_the_site_and_the_profile_over_the_hub() {
    let settings = with_profile(json!({"image": "profile"}));
    assert_eq!(options(settings, json!({"image": "hub"}), "p").image, "profile");
    let settings = with_profile(json!({}));
    assert_eq!(options(settings.clone(), json!({"image": "hub"}), "p").image, "hub");
    assert_eq!(options(settings, json!({}), "p").image, "site");
    assert_eq!(options(json!({}), json!({}), "").image, "jupyterhub/singleuser:latest");
}

#[test]
fn a_profile_unsets_what_the_site_says() {
    let mut settings = with_profile(json!({"uid": {"$patch": "delete"}, "node_selector": {"a": {"$patch": "delete"}}}));
    settings["uid"] = json!(1000);
    let options = options(settings, json!({}), "p");
    assert_eq!(options.uid, None);
    assert_eq!(options.node_selector, [("b".to_owned(), "site".to_owned())].into());
}

#[rstest]
#[case::nobody(json!({}), json!({}), Some(true))]
#[case::hub(json!({"uid": 0}), json!({}), None)]
#[case::profile(json!({}), json!({"uid": 0}), None)]
#[case::another_user(json!({}), json!({"uid": 5}), Some(true))]
#[case::python_words(json!({}), json!({"container_security_context": {"run_as_user": 0}}), None)]
#[case::container_over_uid(json!({}), json!({"uid": 0, "container_security_context": {"runAsUser": 5}}), Some(true))]
#[case::pod_below_uid(json!({}), json!({"pod_security_context": {"runAsUser": 0}}), Some(true))]
#[case::pod(json!({}), json!({"uid": null, "pod_security_context": {"runAsUser": 0}}), None)]
#[case::same_layer(json!({}), json!({"uid": 0, "container_security_context": {"runAsNonRoot": true}}), Some(true))]
#[case::layer_below(json!({"container_security_context": {"run_as_non_root": true}}), json!({"uid": 0}), None)]
#[case::layer_above(json!({"uid": 0}), json!({"container_security_context": {"runAsNonRoot": true}}), Some(true))]
fn root_is_not_asked_to_be_nobody_by_a_layer_below(
    #[case] hub: Value,
    #[case] profile: Value,
    #[case] expected: Option<bool>,
) {
    let mut settings = with_profile(profile);
    settings["uid"] = json!(1000);
    settings["container_security_context"] = json!({"runAsNonRoot": true, "capabilities": {"drop": ["ALL"]}});
    let context = options(settings, hub, "p").container_security_context;
    assert_eq!(context.get("runAsNonRoot").and_then(Value::as_bool), expected);
    assert!(context.contains_key("capabilities"));
}

#[test]
fn a_site_can_ask_for_what_cannot_be() {
    let settings = json!({"uid": 0, "container_security_context": {"runAsNonRoot": true}});
    assert_eq!(options(settings, json!({}), "").container_security_context["runAsNonRoot"], json!(true));
}

#[test]
fn what_admission_counted_wins_over_the_profile() {
    let settings = with_profile(json!({"mem_limit": "8G", "cpu_limit": 2, "node_selector": {"b": "profile"},
        "tolerations": [{"key": "profile"}], "extra_resource_limits": {"x/gpu": 1}}));
    let misc = json!({"mem_limit": "2G", "node_selector": {"a": "hub"}, "tolerations": [{"key": "hub"}, {"key": "profile"}],
        "extra_resource_limits": {"y/gpu": 2}});
    let options = options(settings, misc, "p");
    assert_eq!((options.mem_limit, options.cpu_limit), (Some(2 << 30), Some(2.0)));
    assert_eq!(
        options.node_selector,
        [("a", "hub"), ("b", "profile")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    let keys: Vec<_> = options.tolerations.iter().filter_map(|toleration| toleration.key.as_deref()).collect();
    assert_eq!(keys, ["profile", "hub"]);
    assert_eq!(options.extra_resource_limits.keys().collect::<Vec<_>>(), ["x/gpu", "y/gpu"]);
}

#[test]
fn admission_gets_what_the_profile_sets() {
    let settings = site(with_profile(json!({"mem_limit": "8G", "extra_resource_limits": {"x/gpu": 1}})));
    let user_options = Map::new();
    let choice = Choice { hub: "hub", user: "ann", groups: &[], user_options: &user_options };
    let resources = Value::Object(settings.offer(&choice).unwrap().resources);
    assert_eq!(
        resources,
        json!({"mem_limit": "8G", "extra_resource_limits": {"x/gpu": 1}, "extra_resource_guarantees": {}})
    );
    assert_eq!(settings.offer(&choice).unwrap().profile.as_deref(), Some("p"), "the default one");
    let user_options = json!({"profile": "nope"}).as_object().unwrap().clone();
    let refusal = settings.offer(&Choice { user_options: &user_options, ..choice }).unwrap_err();
    assert!(refusal.contains("\"nope\""), "{refusal}");
}

#[test]
fn a_guarantee_is_never_above_its_limit() {
    let settings = json!({"cpu_guarantee": 2, "mem_guarantee": "4G", "extra_resource_guarantees": {"x/y": "4"}});
    let options =
        options(settings, json!({"cpu_limit": 1, "mem_limit": "1G", "extra_resource_limits": {"x/y": 2}}), "");
    assert_eq!((options.cpu_guarantee, options.mem_guarantee), (Some(1.0), Some(1 << 30)));
    assert_eq!(options.extra_resource_guarantees["x/y"].0, "2");
}

#[rstest]
#[case(json!({}), json!({"port": 5, "services_enabled": true}), (5, true))]
#[case(json!({"port": 8000, "services_enabled": false}), json!({"port": 5, "services_enabled": true}), (8000, false))]
#[case(json!({}), json!({"port": 0}), (8888, false))]
fn what_every_hub_sends_counts_where_the_site_says_nothing(
    #[case] settings: Value,
    #[case] misc: Value,
    #[case] expected: (u16, bool),
) {
    let options = options(settings, misc, "");
    assert_eq!((options.port, options.services_enabled), expected);
}

#[test]
fn names_are_never_the_hubs() {
    let misc = json!({"pod_name_template": "x", "dns_name_template": "x", "pvc_name_template": "x", "ip": "1.2.3.4",
        "secret_name_template": "x", "pod_connect_ip": "x", "component_label": "x", "common_labels": {"x": "y"}});
    let (options, names) = effective(&site(json!({})), &launch(misc, "")).unwrap();
    assert_eq!((names.pod.as_str(), names.claim.as_str()), ("jupyter-ann--hub", "claim-ann--hub"));
    assert_eq!((options.ip.as_str(), options.pod_connect_ip), ("0.0.0.0", None));
    assert_eq!(options.component_label, "singleuser-server");
}

#[test]
fn labels_of_a_hub_replace_none_of_the_site() {
    let settings = json!({"extra_labels": {"a": "site-{username}"}});
    let labels = options(settings, json!({"extra_labels": {"a": "hub", "b": "{username}"}}), "").extra_labels;
    assert_eq!(labels, [("a", "site-ann"), ("b", "ann")].map(|(k, v)| (k.to_owned(), v.to_owned())).into());
}

#[test]
fn a_hub_sets_no_labels_that_policies_select_by() {
    let misc = json!({"extra_labels": {"hub.jupyter.org/network-access-hub": "true", "outpost.jupyter.org/x": "y",
        "app.kubernetes.io/name": "x", "app": "x", "component": "hub", "release": "x", "apple": "x", "site/app": "x"}});
    let labels = options(json!({}), misc.clone(), "").extra_labels;
    assert_eq!(labels.keys().collect::<Vec<_>>(), ["apple", "site/app"]);
    let settings = json!({"extra_labels": {"hub.jupyter.org/network-access-hub": "of-the-site"}});
    assert_eq!(options(settings, misc, "").extra_labels["hub.jupyter.org/network-access-hub"], "of-the-site");
}

#[test]
fn templates_are_filled_in() {
    let settings = json!({
        "volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}],
        "volume_mounts": {"b": {"name": "home", "mountPath": "/b"}, "a": {"name": "home", "mount_path": "/{username}", "subPath": "{unescaped_username}{{}}"}},
        "environment": {"POD": "{pod_name}", "FROM": {"valueFrom": {"secretKeyRef": {"name": "s-{hub}", "key": "k"}}}},
        "notebook_dir": "{base_url}{unescaped_username}", "lifecycle_hooks": {"postStart": {"exec": {"command": ["{no template}"]}}}});
    let options =
        options(settings, json!({"environment": {"J": "{\"a\": {}}", "N": null, "I": 1}, "default_url": "/{x}"}), "");
    assert_eq!(options.volumes[0].persistent_volume_claim.as_ref().unwrap().claim_name, "claim-ann--hub");
    let paths: Vec<_> = options.volume_mounts.iter().map(|mount| mount.mount_path.as_str()).collect();
    assert_eq!(paths, ["/ann", "/b"]);
    assert_eq!(options.volume_mounts[0].sub_path.as_deref(), Some("ann{}"));
    assert_eq!(options.environment["POD"].value.as_deref(), Some("jupyter-ann--hub"));
    let reference = options.environment["FROM"].value_from.clone().unwrap().secret_key_ref.unwrap();
    assert_eq!((reference.name.as_str(), options.environment["FROM"].name.as_str()), ("s-hub", "FROM"));
    let text = |text: &str| Some(text.to_owned());
    let expected = [("I", text("1")), ("J", text("{\"a\": {}}")), ("N", None)].map(|(k, v)| (k.to_owned(), v));
    assert_eq!(options.hub_environment, expected.into());
    assert_eq!(options.default_url.as_deref(), Some("/{x}"));
    assert_eq!(options.notebook_dir.as_deref(), Some("/ann"));
    let hook = options.lifecycle_hooks.unwrap().post_start.unwrap().exec.unwrap();
    assert_eq!(hook.command.unwrap(), ["{no template}"]);
}

#[rstest]
#[case(json!({"namespace": "other"}), "The namespace \"other\" is none of those")]
#[case(json!({"volumes": [{"nme": "x"}]}), "`volumes` has to be a list or a table of objects of Kubernetes, but `[0].nme` is no key")]
#[case(json!({"volumes": [{"name": "{s3cret}"}]}), "`volumes` has to be texts in whose braces")]
#[case(json!({"environment": {"A": {"valueFrom": {}}}}), "`environment` has to be an object of variables")]
#[case(json!({"environment": {"A=": "s3cret"}}), "`environment`")]
#[case(json!({"image": 5}), "`image` has to be a text")]
fn a_wrong_option_of_a_hub_is_refused_by_name(#[case] misc: Value, #[case] expected: &str) {
    let sentence = refusal(json!({}), misc);
    assert!(sentence.contains(expected) && !sentence.contains("s3cret"), "{sentence}");
}

#[test]
fn a_namespace_of_the_list_can_be_chosen() {
    let settings = site(json!({"namespaces": ["gpu"], "profile_list": [{"display_name": "p"},
        {"display_name": "q", "kubespawner_override": {"namespace": "quiet"}}]}));
    assert_eq!(effective(&settings, &launch(json!({"namespace": "gpu"}), "")).unwrap().1.namespace, "gpu");
    assert_eq!(effective(&settings, &launch(json!({}), "q")).unwrap().1.namespace, "quiet");
    assert_eq!(settings.all_namespaces(), Some(["gpu", "lab", "quiet"].map(str::to_owned).into()));
    assert_eq!(site(json!({"enable_user_namespaces": true})).all_namespaces(), None);
}

#[test]
fn a_profile_with_namespaces_of_users_opens_no_other() {
    let settings = site(json!({"profile_list": [{"display_name": "p"},
        {"display_name": "own", "kubespawner_override": {"enable_user_namespaces": true}}]}));
    assert!(effective(&settings, &launch(json!({"namespace": "other"}), "p")).is_err());
    assert!(effective(&settings, &launch(json!({}), "own")).unwrap().1.namespace.contains("ann"));
}

#[rstest]
#[case::of_the_site("lab")]
#[case::of_every_cluster("default")]
#[case::of_the_cluster_itself("kube-system")]
fn a_namespace_of_others_is_none_of_a_user(#[case] namespace: &str) {
    let settings = site(json!({"enable_user_namespaces": true, "user_namespace_template": namespace}));
    let refused = effective(&settings, &launch(json!({}), "")).unwrap_err();
    assert!(refused.to_string().contains("cannot be that of one user"), "{refused}");
}

/// Any value that JSON has.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z{}:/.-]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("[a-zA-Z_]{1,6}", inner), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn nothing_that_a_hub_sends_makes_it_panic(at in 0..options::OPTIONS.known.len(), value in any_json()) {
        let key = options::OPTIONS.known[at];
        let _ = (options::OPTIONS.check)(key, &value);
        let _ = effective(&site(json!({})), &launch(json!({key: value}), ""));
    }
}

/// Kubernetes would fill in a secret where a user is called by its variable.
#[test]
fn the_name_of_a_user_is_no_variable() {
    let container = json!({"name": "c", "image": "i", "args": ["{unescaped_username}"], "workingDir": "/{unescaped_username}",
        "env": [{"name": "A", "value": "$(B) {unescaped_username}"}]});
    let settings = site(json!({"environment": {"WHO": "{unescaped_username}"}, "init_containers": [container.clone()],
        "extra_pod_config": {"ephemeralContainers": [container]}}));
    let options = effective(&settings, &sample::launch("hub", "$(TOKEN)", "")).unwrap().0;
    assert_eq!(options.environment["WHO"].value.as_deref(), Some("$$(TOKEN)"));
    let container = &options.init_containers[0];
    assert_eq!(container.args.as_ref().unwrap(), &["$$(TOKEN)"]);
    assert_eq!(container.env.as_ref().unwrap()[0].value.as_deref(), Some("$(B) $$(TOKEN)"));
    assert_eq!(container.working_dir.as_deref(), Some("/$(TOKEN)"));
    assert_eq!(options.extra_pod_config["ephemeralContainers"][0]["args"], json!(["$$(TOKEN)"]));
}

#[rstest]
#[case("[0].args[1]", true)]
#[case("/spec/containers/0/env/-", true)]
#[case("spec.containers[0].env[0].value", true)]
#[case("containers[0].lifecycle.postStart.exec.command[0]", false)]
#[case("data.args", false)]
fn places_of_variables(#[case] path: &str, #[case] expected: bool) {
    assert_eq!(has_variables(path), expected);
}
