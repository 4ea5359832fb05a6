use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::spawner::kubernetes::sample;

fn naming(options: Value) -> Result<Naming, Mistake> {
    Naming::read(options.as_object().unwrap(), "jupyter")
}

fn names(options: Value, user: &str, server: &str) -> Names {
    naming(options).unwrap().names(&sample::launch("my hub", user, server)).unwrap()
}

/// A site that comes from KubeSpawner, with its templates.
#[rstest]
#[case("safe", "user", "", "jupyter-user")]
#[case("safe", "user", "server", "jupyter-user--server")]
#[case("safe", "user@email.com", "", "jupyter-user-email-com---0925f997")]
#[case("escape", "user@email.com", "", "jupyter-user-40email-2ecom")]
#[case("escape", "user", "Some Name", "jupyter-user---53ome-20-4eame")]
fn names_are_those_of_kubespawner(
    #[case] scheme: &str,
    #[case] user: &str,
    #[case] server: &str,
    #[case] expected: &str,
) {
    let options = json!({"slug_scheme": scheme, "pod_name_template": "jupyter-{user_server}",
        "pvc_name_template": "{pod_name}", "secret_name_template": "{pod_name}"});
    let names = names(options, user, server);
    assert_eq!((names.pod.as_str(), names.claim.as_str(), names.secret.as_str()), (expected, expected, expected));
    assert_eq!(names.dns_name, format!("{expected}.jupyter.svc.cluster.local"));
}

#[test]
fn two_hubs_share_nothing() {
    let names = names(json!({}), "ann", "lab");
    let hub = "my-hub---75658e33";
    assert_eq!(names.words["hub"], hub);
    assert_eq!(names.pod, format!("jupyter-ann--lab--{hub}"));
    assert_eq!(names.claim, format!("claim-ann--lab--{hub}"));
    assert_eq!((names.secret, names.namespace), (format!("outpost-{}", names.words["uid"]), "jupyter".to_owned()));
}

#[test]
fn users_can_have_namespaces() {
    let names = names(json!({"enable_user_namespaces": true, "namespace": "other"}), "Ann", "");
    assert!(names.namespace.starts_with("jupyter-ann---") && names.namespace.contains("--my-hub---"), "{names:?}");
}

#[rstest]
#[case("{username}--{servername}", "ann")]
#[case("{username}--{servername}-", "ann---")]
#[case("{unescaped_username}", "ann")]
#[case("{hubnamespace}/{userid}", "jupyter/7")]
fn hyphens_at_the_end_go(#[case] template: &str, #[case] expected: &str) {
    let names = names(json!({}), "ann", "");
    let template = Template::parse(template, &WORDS).unwrap();
    assert_eq!(render(&template, &names.words).unwrap(), expected);
}

#[rstest]
#[case(json!({"pod_name_template": "{nope}"}), "`pod_name_template` has to be a template, but `{nope}` is no field here")]
#[case(json!({"pod_name_template": "{pod_name}"}), "`pod_name_template`")]
#[case(json!({"dns_name_template": "{username}"}), "`dns_name_template`")]
#[case(json!({"namespace": "{username}"}), "`namespace`")]
#[case(json!({"slug_scheme": "other"}), "`slug_scheme` has to be one of safe, escape")]
#[case(json!({"secret_name_template": 5}), "`secret_name_template` has to be a text")]
fn mistakes_name_the_option(#[case] options: Value, #[case] expected: &str) {
    let mistake = naming(options).unwrap_err().to_string();
    assert!(mistake.starts_with(expected), "{mistake}");
}

#[rstest]
#[case(json!({"pod_name_template": "{unescaped_username}"}), "Ann")]
#[case(json!({"pod_name_template": "{unescaped_username}"}), "an overlong näme of somebody who has none that Kubernetes takes, anywhere")]
#[case(json!({"pod_name_template": "1-{username}"}), "ann")]
#[case(json!({"namespace": "a.b"}), "ann")]
fn what_kubernetes_does_not_take_is_refused(#[case] options: Value, #[case] user: &str) {
    let refusal = naming(options).unwrap().names(&sample::launch("hub", user, "")).unwrap_err();
    assert!(matches!(refusal, Error::Refused(_)), "{refusal}");
}

proptest! {
    #[test]
    fn any_server_of_any_hub_has_names(hub in "\\PC{1,80}", user in "\\PC{1,80}", server in "\\PC{0,80}") {
        let naming = naming(json!({})).unwrap();
        let names = naming.names(&sample::launch(&hub, &user, &server)).unwrap();
        for name in [&names.pod, &names.claim, &names.secret] {
            prop_assert!(slugs::is_object_name(name), "{}", name);
        }
        let other = naming.names(&sample::launch(&format!("{hub}."), &user, &server)).unwrap();
        prop_assert!(names.pod != other.pod && names.claim != other.claim);
    }
}
