use rstest::rstest;
use serde_json::json;

use super::*;

fn read(text: &str) -> Result<Settings, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn nothing_written_is_the_default_and_sound() {
    let settings = read("").unwrap();
    assert_eq!(settings, Settings::default());
    assert_eq!(settings.check(), Ok(()));
}

#[test]
fn a_period_is_a_text_or_a_number_of_seconds() {
    let settings =
        read("start_timeout = 300\nstop_timeout = '2m'\napi_timeout = 0.5\nstorage_retention = '90days'").unwrap();
    assert_eq!(settings.check(), Ok(()));
    assert_eq!((settings.stop_timeout, settings.api_timeout), (Duration::from_secs(120), Duration::from_millis(500)));
    assert_eq!(settings.storage_retention, Some(Duration::from_secs(90 * 24 * 3600)));
    assert_eq!(Options::read(&settings.options).unwrap().start_timeout, Duration::from_secs(300));
}

#[rstest]
#[case("imge = 'x'", "unknown field `imge`, expected one of `kubeconfig`")]
#[case("imge = 'x'", "or one of the options `allow_privilege_escalation`, ")]
#[case("modify_pod_hook = 'x'", "`modify_pod_hook` does not exist here: use `pod_patch`")]
#[case("api_rate = 'x'", "`api_rate`: invalid type")]
#[case("stop_timeout = 'soon'", "`stop_timeout`: expected a period like \"60s\"")]
#[case("[fail_after]\nimage_pull = []", "`fail_after.image_pull`: expected a period")]
#[case("[fail_after]\nother = 1", "`fail_after.other`: unknown field `other`")]
#[case("capacity_check = 'maybe'", "`capacity_check`: unknown variant `maybe`, expected one of `off`, `warn`, `fail`")]
#[case("secret_environment = []", "`secret_environment`: expected at least one name")]
#[case("start_response = '{ip}'", "`start_response`: `{ip}` is no field here")]
#[case("object_kinds = ['Pod']", "`object_kinds[0]`: expected a kind of objects")]
#[case("pod_patch = 'spec'", "`pod_patch`: expected a part of a pod")]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.kubespawner_override]\nimge = 'x'",
    "`profile_list[0].kubespawner_override`: `imge` is no option"
)]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.profile_options.o.choices.c]\nusers = 5",
    "`profile_list[0].profile_options.o.choices.c.users`: invalid type"
)]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.kubespawner_override]\ndelete_stopped_pods = false",
    "`profile_list[0].kubespawner_override`: `delete_stopped_pods` is no option that a profile can set"
)]
fn a_bad_key_is_named(#[case] text: &str, #[case] expected: &str) {
    let error = read(text).unwrap_err();
    assert!(error.contains(expected), "{error}");
}

#[rstest]
#[case("image = 5", "`image` has to be a text")]
#[case("storage_retention = '1h'", "`storage_retention` has to be 1 day or more")]
#[case("autoscaler = true\ncapacity_check = 'fail'", "`capacity_check` cannot be")]
#[case("port = 70000", "`port` has to be a port number")]
#[case("cpu_limit = 0", "`cpu_limit` has to be a number of processors")]
#[case("cpu_limit = 1\ncpu_guarantee = '1001m'", "`cpu_guarantee` must not be above `cpu_limit`")]
#[case("start_timeout = 0", "`start_timeout` has to be 1s or more")]
#[case("extra_labels = { 'outpost.jupyter.org/hub' = 'x' }", "of which none begins with `outpost.jupyter.org/`")]
#[case("storage_extra_annotations = { 'outpost.jupyter.org/last-used' = 'x' }", "of which none begins with")]
#[case("extra_pod_config = { hostNetwork = true }", "the site has to set `port`")]
#[case("pod_patch = { spec = { hostNetwork = true } }", "the site has to set `port`")]
#[case("start_timeout = '8days'", "7 days at most")]
#[case("start_timeout = 1e18", "`start_timeout` has to be a period")]
#[case(
    "slow_spawn_message = '{minutes}'",
    "`slow_spawn_message` has to be a template, but `{minutes}` is no field here"
)]
#[case("api_rate = 0", "`api_rate`")]
#[case("api_timeout = 0", "`api_timeout`")]
#[case("stop_timeout = 0", "`stop_timeout`")]
#[case("stale_after = 0", "`stale_after`")]
#[case("namespaces = ['A']", "`namespaces`")]
#[case("namespace = 'A_b'", "The name of the namespace on this system would be \"A_b\"")]
#[case(
    "volumes = [{ name = '{nope}' }]",
    "`volumes` has to be made of templates, but in `[0].name` `{nope}` is no field here"
)]
#[case(
    "volume_mounts = [{ name = 'a', mountpath = 'b' }]",
    "`volume_mounts` has to be a list or a table of objects of Kubernetes, \
    but `[0].mountpath` is no key that Kubernetes has there"
)]
#[case(
    "extra_pod_config = { hostNetwork = 'yes' }",
    "`extra_pod_config` has to be an object of Kubernetes, but `hostNetwork` has to \
    be a boolean"
)]
#[case("pod_name_template = 'x-{nope}'", "`pod_name_template` has to be a template, but `{nope}` is no field here")]
#[case("pod_name_template = 'X'", "The name of the pod")]
#[case("pod_connect_ip = '{nope}.x'", "`pod_connect_ip`: `{nope}` is no field here")]
#[case("pod_connect_ip = 'fe80::1'", "The server would be at \"fe80::1\", which is no name of a host")]
#[case("storage_pvc_ensure = true", "`storage_pvc_ensure` needs a `storage_capacity`")]
#[case("delete_grace_period = 61", "`delete_grace_period` must not be above `stop_timeout`")]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\nkubespawner_override = { storage_pvc_ensure = true }",
    "the profile \"a\": `storage_pvc_ensure` needs a `storage_capacity`"
)]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.profile_options.o.unlisted_choice]\nenabled = true\n\
    kubespawner_override = { start_timeout = '{value}', environment = { A = '{value} {nope}' } }",
    "the profile \"a\", o.unlisted_choice: The option `environment` has to be made of templates"
)]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.profile_options.o.unlisted_choice]\nenabled = true\n\
    kubespawner_override = { image = '{value}', port = 'x' }",
    "the profile \"a\", o.unlisted_choice: The option `port` has to be a port number"
)]
#[case("services_enabled = true\ndns_name_template = '{name}$(id)'", "which is no name of a host")]
#[case("pod_patch = { spec = { hostname = 5 } }", "`pod_patch`: `spec.hostname` has to be a string")]
#[case(
    "pre_start = [{ apiVersion = 'v1', kind = 'ConfigMap' }]",
    "`pre_start[0]`: v1/ConfigMap is none of the kinds in `object_kinds`"
)]
#[case(
    "object_kinds = ['v1/ConfigMap']\npost_stop = [{ apiVersion = 'v1', kind = 'ConfigMap', metadata = { name = 'x-{uid}' }, \
    data = { a = '{nope}' } }]",
    "`post_stop`: in `data.a` `{nope}` is no field here"
)]
#[case(
    "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.profile_options.o.choices.c]\nkubespawner_override = { port = 'x' }",
    "the profile \"a\", o.c: The option `port` has to be a port number"
)]
fn a_bad_value_is_named(#[case] text: &str, #[case] expected: &str) {
    let sentence = read(text).unwrap_or_else(|error| panic!("{error}")).check().unwrap_err();
    assert!(sentence.contains(expected), "{sentence}");
}

/// Whatever a user writes comes later.
#[test]
fn options_of_a_value_that_is_not_known_yet_can_be_configured() {
    let settings = read(
        "[[profile_list]]\ndisplay_name = 'a'\n[profile_list.profile_options.o.unlisted_choice]\nenabled = true\n\
         kubespawner_override = { image_pull_policy = '{value}', start_timeout = '{value}', cmd = ['{value}'] }",
    );
    assert_eq!(settings.unwrap().check(), Ok(()));
}

/// A site that writes options as its chart had them.
#[test]
fn options_may_be_written_as_in_python() {
    let settings = read(
        r#"
        image_pull_secrets = ["a", { name = "b" }]
        volume_mounts = [{ name = "home", mount_path = "/home" }]
        extra_container_config = { env_from = [{ secret_ref = { name = "s" } }], resources = { limits = { "a_b/c" = 1 } } }
        init_containers = [{ name = "i", image = "i", security_context = { run_as_user = 0 }, resources = { limits = { cpu = 0.5 } } }]
        lifecycle_hooks = { post_start = { exec = { command = ["true"] } } }
        "#,
    );
    let options = Options::read(&settings.unwrap().options).unwrap();
    let secrets: Vec<_> = options.image_pull_secrets.iter().map(|secret| secret.name.as_str()).collect();
    assert_eq!(secrets, ["a", "b"]);
    assert_eq!(options.volume_mounts[0].mount_path, "/home");
    assert_eq!(
        Value::Object(options.extra_container_config),
        json!({"envFrom": [{"secretRef": {"name": "s"}}], "resources": {"limits": {"a_b/c": "1"}}})
    );
    let container = &options.init_containers[0];
    assert_eq!(container.security_context.as_ref().unwrap().run_as_user, Some(0));
    assert_eq!(container.resources.as_ref().unwrap().limits.as_ref().unwrap()["cpu"].0, "0.5");
    assert!(options.lifecycle_hooks.unwrap().post_start.unwrap().exec.is_some());
}

/// Else an option is taken and nobody reads it.
#[rstest]
fn every_option_is_read(#[values(json!(-1), json!({"": []}))] odd: Value) {
    let names = [
        "namespace",
        "slug_scheme",
        "pod_name_template",
        "pvc_name_template",
        "secret_name_template",
        "dns_name_template",
        "user_namespace_template",
    ];
    for key in options::all().filter(|key| !names.contains(key)) {
        let written = Map::from_iter([(key.to_owned(), odd.clone())]);
        let mistake = Options::read(&written).unwrap_err();
        assert_eq!(mistake.key, key);
        assert!(!mistake.to_string().contains("-1"), "{mistake}");
    }
}
