use rstest::rstest;
use serde_json::{Value, json};

use crate::model::Launch;
use crate::spawner::kubernetes::manifest::tests::{launch, planned, with_certificates};

fn launch_with(variables: &[(&str, &str)], options: Value) -> Launch {
    let mut launch = launch();
    launch.environment.0 = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    launch.options = options.as_object().unwrap().clone();
    launch
}

/// A variable as it is in the container, and what of it is in the secret.
fn variable(site: Value, launch: &Launch, name: &str) -> (Value, Option<String>) {
    let plan = planned(site, launch).unwrap();
    let variables = plan.pod.spec.unwrap().containers.remove(0).env.unwrap();
    let found = variables.into_iter().find(|variable| variable.name == name);
    let secret = plan.secret.data.unwrap().remove(name).map(|value| String::from_utf8(value.0).unwrap());
    (found.map_or(Value::Null, |variable| serde_json::to_value(variable).unwrap()), secret)
}

fn text(site: Value, launch: &Launch, name: &str) -> Value {
    variable(site, launch, name).0["value"].clone()
}

fn order(site: Value) -> Vec<String> {
    let plan = planned(json!({"environment": site}), &launch()).unwrap();
    let names = plan.pod.spec.unwrap().containers.remove(0).env.unwrap().into_iter().map(|variable| variable.name);
    names.filter(|name| name.len() == 1).collect()
}

#[test]
fn later_layers_win() {
    let launch = launch_with(
        &[
            ("A", "hub"),
            ("B", "hub"),
            ("C", "hub"),
            ("D", "hub"),
            ("MEM_LIMIT", "hub"),
            ("JUPYTERHUB_SSL_KEYFILE", "/hub"),
        ],
        json!({"environment": {"B": "option", "C": "option", "D": null}}),
    );
    let site = json!({"environment": {"C": "site"}});
    let text = |name| text(site.clone(), &launch, name);
    assert_eq!([text("A"), text("B"), text("C")], ["hub", "option", "site"]);
    for taken_away in ["D", "MEM_LIMIT", "JUPYTERHUB_SSL_KEYFILE"] {
        assert_eq!(text(taken_away), Value::Null, "{taken_away}");
    }
}

#[rstest]
#[case(json!({"image": "a:1"}), "JUPYTER_IMAGE", "a:1")]
#[case(json!({"image": "a:1"}), "JUPYTER_IMAGE_SPEC", "a:1")]
#[case(json!({"notebook_dir": "/data"}), "JUPYTERHUB_ROOT_DIR", "/data")]
#[case(json!({"default_url": "/lab"}), "JUPYTERHUB_DEFAULT_URL", "/lab")]
#[case(json!({"debug": true}), "JUPYTERHUB_DEBUG", "1")]
#[case(json!({"disable_user_config": true}), "JUPYTERHUB_DISABLE_USER_CONFIG", "1")]
#[case(json!({"mem_limit": "1K"}), "MEM_LIMIT", "1024")]
#[case(json!({"mem_guarantee": "1K"}), "MEM_GUARANTEE", "1024")]
#[case(json!({"cpu_limit": 2}), "CPU_LIMIT", "2.0")]
#[case(json!({"cpu_guarantee": "500m"}), "CPU_GUARANTEE", "0.5")]
#[case(json!({"port": 80}), "JUPYTERHUB_SERVICE_URL", "http://0.0.0.0:80/user/ada/")]
#[case(json!({"ip": "::"}), "JUPYTERHUB_SERVICE_URL", "http://[::]:8888/user/ada/")]
fn options_are_variables(#[case] site: Value, #[case] name: &str, #[case] expected: &str) {
    let launch = launch_with(&[("JUPYTERHUB_SERVICE_URL", "http://0.0.0.0:55713/user/ada/")], json!({}));
    assert_eq!(text(site, &launch, name), expected);
}

#[test]
fn certificates_make_the_address_https() {
    let launch = with_certificates(launch_with(&[("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")], json!({})));
    assert_eq!(text(json!({}), &launch, "JUPYTERHUB_SERVICE_URL"), "https://0.0.0.0:8888/user/ada/");
}

#[rstest]
// What a hub sends stands as it is, whatever Kubernetes would read in it.
#[case(json!({}), "PLAIN", json!("a $(HOME) $$ $"), Some("a $$(HOME) $$$$ $$"), None)]
#[case(json!({}), "MY_TOKEN", json!("a $(HOME)"), None, Some("a $(HOME)"))]
#[case(json!({"MY_TOKEN": "of the site, $$ and all"}), "MY_TOKEN", json!(""), None, Some("of the site, $ and all"))]
// Kubernetes composes it in the pod's spec only, and looks up the secret itself.
#[case(json!({"DB_PASSWORD_URL": "db://$(DB_PASSWORD)@host"}), "DB_PASSWORD_URL", json!(""), Some("db://$(DB_PASSWORD)@host"), None)]
#[case(json!({}), "aws_secret_access_key", json!("a"), None, Some("a"))]
#[case(json!({"EMPTY_TOKEN": ""}), "EMPTY_TOKEN", json!("x"), None, Some(""))]
fn secrets_are_not_in_the_pod(
    #[case] site: Value,
    #[case] name: &str,
    #[case] of_hub: Value,
    #[case] in_pod: Option<&str>,
    #[case] in_secret: Option<&str>,
) {
    let launch = launch_with(&[(name, of_hub.as_str().unwrap())], json!({}));
    let (found, secret) = variable(json!({"environment": site}), &launch, name);
    assert_eq!((found["value"].as_str(), secret.as_deref()), (in_pod, in_secret));
    if in_secret.is_some() {
        let reference = json!({"name": "outpost-01j00000000000000000000000", "key": name});
        assert_eq!(found["valueFrom"]["secretKeyRef"], reference);
    }
}

#[test]
fn the_token_of_old_servers_is_a_secret_too() {
    let launch = launch_with(&[("JUPYTERHUB_API_TOKEN", "s3cret")], json!({}));
    let (found, secret) = variable(json!({}), &launch, "JPY_API_TOKEN");
    assert!(found["value"].is_null());
    assert_eq!(secret.as_deref(), Some("s3cret"));
}

#[test]
fn a_site_says_which_variables_are_secret() {
    let launch =
        launch_with(&[("LICENCE", "s3cret"), ("A_TOKEN", "public")], json!({"environment": {"MY_LICENCE": "too"}}));
    let site = json!({"secret_environment": ["*LICENCE"]});
    assert_eq!(variable(site.clone(), &launch, "LICENCE").1.as_deref(), Some("s3cret"));
    assert_eq!(variable(site.clone(), &launch, "MY_LICENCE").1.as_deref(), Some("too"));
    assert_eq!(text(site, &launch, "A_TOKEN"), "public");
}

#[rstest]
#[case(json!({"B": "2", "A": "1"}), &["A", "B"])]
#[case(json!({"A": "$(B)", "B": "$(C)/$(D)", "C": "1", "D": "$(NOWHERE)"}), &["C", "A", "B", "D"])]
#[case(json!({"A": "$(B)", "B": "$(C)/$(C)", "C": "1"}), &["C", "B", "A"])]
#[case(json!({"A": "$(B)", "B": "$(A)", "C": "$(C):more"}), &["C", "A", "B"])]
#[case(json!({"A": "$(B) $() $(", "B": {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}}), &["B", "A"])]
fn what_is_referred_to_comes_first(#[case] site: Value, #[case] expected: &[&str]) {
    assert_eq!(order(site), expected);
}

#[rstest]
#[case("1ST")]
#[case("A B")]
#[case("..")]
#[case("Ä")]
fn a_name_that_is_none_is_refused_in_words(#[case] name: &str) {
    let error = planned(json!({}), &launch_with(&[(name, "x")], json!({}))).unwrap_err();
    assert!(error.to_string().contains(&format!("{name:?} cannot be set in a pod")), "{error}");
}

#[rstest]
#[case("DB_PASS", "x")]
#[case("MYAPIKEY", "x")]
#[case("BASIC_AUTH", "x")]
#[case("cookie_secret", "x")]
#[case("PGPWD", "x")]
#[case("DATABASE", "postgresql://ada:pass@db/x")]
fn what_looks_like_a_credential_is_in_the_secret(#[case] name: &str, #[case] value: &str) {
    let (variable, secret) = variable(json!({}), &launch_with(&[(name, value)], json!({})), name);
    assert_eq!((&variable["value"], secret.as_deref()), (&Value::Null, Some(value)));
}
