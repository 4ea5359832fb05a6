//! The program takes the configuration that the chart makes, with the files and variables that its pod has.

use std::collections::BTreeMap;
use std::fs;

use outpost::spawner::kubernetes::plan::{Identity, place, plan};
use outpost::spawner::kubernetes::sample;
use rstest::rstest;
use serde_json::{Value, json};

use super::backends;
use super::mounted::{Mounted, Sources};
use crate::support::daemon::text;
use crate::support::helm::{Helm, Rendered, rendered_examples};
use crate::support::kube::Cluster;

/// What a release has, and a certificate where it wants one of the site's.
fn sources(rendered: &Rendered, (cert, key): &(Vec<u8>, Vec<u8>)) -> Sources {
    let mut sources = Sources::of(&rendered.objects);
    let volumes = &rendered.only("Deployment")["spec"]["template"]["spec"]["volumes"];
    let named = volumes.as_array().unwrap().iter().filter_map(|volume| volume["secret"]["secretName"].as_str());
    let is_made = |name: &str| rendered.of_kind("Secret").any(|secret| secret["metadata"]["name"] == name);
    for name in named.filter(|name| !is_made(name)) {
        let pair = [("tls.crt", cert), ("tls.key", key)].map(|(name, bytes)| (name.to_owned(), bytes.clone()));
        sources.insert(name, pair.into());
    }
    sources
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_a_good_configuration() {
    let (Some(helm), Some(cluster)) = (Helm::engine(), Cluster::shared().await) else { return };
    let (cert, key) = cluster.certificate();
    let pair = (fs::read(cert).unwrap(), fs::read(key).unwrap());
    for (example, rendered) in rendered_examples(&helm) {
        let mounted = Mounted::deployment(&rendered, &sources(&rendered, &pair));
        let checked = mounted.command(&["check-config"]).output().unwrap();
        let (said, mistakes) = (text(&checked.stdout), text(&checked.stderr));
        assert!(checked.status.success(), "{example}: {mistakes}\n{}", rendered.config());
        assert!(!format!("{said}{mistakes}").to_lowercase().contains("warning"), "{example}: {said}{mistakes}");
    }
}

#[test]
fn no_secret_is_outside_of_a_secret() {
    let Some(helm) = Helm::engine() else { return };
    for (example, rendered) in rendered_examples(&helm) {
        // Those that are made by chance.
        let kept = |secret: &&Value| secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep";
        let secrets: Vec<_> = rendered.of_kind("Secret").filter(kept).cloned().collect();
        let elsewhere: Vec<_> = rendered.objects.iter().filter(|object| object["kind"] != "Secret").collect();
        let notes: Vec<_> = rendered.files.iter().filter(|(file, _)| file.ends_with(".txt")).collect();
        let elsewhere = json!([elsewhere, notes]).to_string();
        for secret in Sources::of(&secrets).texts() {
            assert!(secret.len() >= 32, "{example}: it could be guessed");
            assert!(!elsewhere.contains(&secret), "{example}");
        }
    }
}

/// The objects of a server of the user `ada`, as Outpost makes them with these values.
fn server(helm: &Helm, values: &str) -> Value {
    let (name, settings) = backends(helm.render(values).config(), super::NAMESPACE).remove(0);
    let launch = sample::launch("hub", "ada", "");
    let identity = Identity { installation: "x", spawner: &name };
    let plan = plan(&settings, &launch, &place(&settings, &launch).unwrap(), &identity).unwrap();
    json!({"pod": plan.pod, "claim": plan.claim})
}

#[rstest]
#[case::image("image: {name: example/lab, tag: '1.2'}", "/pod/spec/containers/0/image", json!("example/lab:1.2"))]
#[case::pull_policy("image: {pullPolicy: Always}", "/pod/spec/containers/0/imagePullPolicy", json!("Always"))]
#[case::pull_secrets("image: {pullSecrets: [a, {name: b}]}", "/pod/spec/imagePullSecrets", json!([{"name": "a"}, {"name": "b"}]))]
#[case::memory("memory: {limit: 2G, guarantee: 512M}", "/pod/spec/containers/0/resources/limits/memory", json!("2147483648"))]
#[case::cpu("cpu: {limit: 2, guarantee: 0.5}", "/pod/spec/containers/0/resources/requests/cpu", json!("0.5"))]
#[case::no_limit_of_processors("cpu: {limit: 0, guarantee: 0.5}", "/pod/spec/containers/0/resources/limits/cpu", json!(null))]
#[case::no_limit_of_memory("memory: {limit: 0G}", "/pod/spec/containers/0/resources/limits/memory", json!(null))]
#[case::gpu("extraResource: {limits: {nvidia.com/gpu: '1'}}", "/pod/spec/containers/0/resources/limits/nvidia.com~1gpu", json!("1"))]
#[case::a_large_number("extraPodConfig: {activeDeadlineSeconds: 12345678}", "/pod/spec/activeDeadlineSeconds", json!(12_345_678))]
#[case::user("uid: 1234", "/pod/spec/containers/0/securityContext/runAsUser", json!(1234))]
#[case::group("fsGid: 4321", "/pod/spec/securityContext/fsGroup", json!(4321))]
#[case::node("nodeSelector: {disk: ssd}", "/pod/spec/nodeSelector", json!({"disk": "ssd"}))]
#[case::labels("extraLabels: {team: blue}", "/pod/metadata/labels/team", json!("blue"))]
#[case::annotations("extraAnnotations: {note: x}", "/pod/metadata/annotations/note", json!("x"))]
#[case::account("serviceAccountName: lab", "/pod/spec/serviceAccountName", json!("lab"))]
#[case::capacity("storage: {capacity: 7Gi}", "/claim/spec/resources/requests/storage", json!("7Gi"))]
#[case::class("storage: {dynamic: {storageClass: fast}}", "/claim/spec/storageClassName", json!("fast"))]
#[case::home("storage: {homeMountPath: /home/x}", "/pod/spec/containers/0/volumeMounts/0/mountPath", json!("/home/x"))]
#[case::no_claim("storage: {type: none}", "/claim", json!(null))]
#[case::no_token("uid: 1000", "/pod/spec/automountServiceAccountToken", json!(false))]
fn z2jhs_words_mean_for_servers_what_they_mean_there(
    #[case] block: &str,
    #[case] pointer: &str,
    #[case] expected: Value,
) {
    let Some(helm) = Helm::engine() else { return };
    let server = server(&helm, &format!("singleuser: {{{block}}}"));
    assert_eq!(server.pointer(pointer).unwrap_or(&Value::Null), &expected, "{server:#}");
}

/// `null` and a limit of 0 unset an option, wherever a profile has options. TOML has no `null`.
#[test]
fn a_profile_takes_options_away() {
    let Some(helm) = Helm::engine() else { return };
    let profile = "
display_name: A
kubespawner_override: {image: null, cpu_limit: 0, mem_limit: 0G, environment: {A: null, B: b}, tolerations: [{key: a, value: null}]}
profile_options:
  o:
    display_name: O
    choices: {c: {display_name: C, kubespawner_override: {node_selector: null}}}
    unlisted_choice: {enabled: true, display_name: X, kubespawner_override: {mem_limit: 0.0}}";
    let profile: Value = serde_saphyr::from_str(profile).unwrap();
    let rendered = helm.render(&format!("singleuser: {{profileList: [{profile}]}}"));
    let config: toml::Table = rendered.config().parse().unwrap();
    let written = json!(config["spawners"]["kubernetes"]["profile_list"][0]);
    let nothing = json!({"$patch": "delete"});
    let options = json!({
        "image": nothing, "cpu_limit": nothing, "mem_limit": nothing, "environment": {"A": nothing, "B": "b"},
        "tolerations": [{"key": "a"}],
    });
    assert_eq!(written["kubespawner_override"], options);
    let option = &written["profile_options"]["o"];
    assert_eq!(option["choices"]["c"]["kubespawner_override"], json!({"node_selector": nothing}));
    assert_eq!(option["unlisted_choice"]["kubespawner_override"], json!({"mem_limit": nothing}));
    // The program takes it.
    assert_eq!(backends(rendered.config(), super::NAMESPACE).len(), 1);
}

/// A value is written into TOML as what it is in YAML, whatever it is.
#[rstest]
#[case::quotes(r#"'a "b" \ c'"#, json!(r#"a "b" \ c"#))]
#[case::lines("\"a\\n# b\\ttab\"", json!("a\n# b\ttab"))]
#[case::letters(r#""é 😀 \x01 \u2028""#, json!("é 😀 \u{1} \u{2028}"))]
#[case::a_number_as_a_text("'0010'", json!("0010"))]
#[case::html("'<a & b>'", json!("<a & b>"))]
fn texts_survive_the_journey_to_toml(#[case] yaml: &str, #[case] expected: Value) {
    let Some(helm) = Helm::engine() else { return };
    let server = server(&helm, &format!("singleuser:\n  extraEnv:\n    PROBE: {yaml}"));
    let variables = server["pod"]["spec"]["containers"][0]["env"].as_array().unwrap();
    let by_name: BTreeMap<_, _> =
        variables.iter().map(|one| (one["name"].as_str().unwrap(), one["value"].clone())).collect();
    assert_eq!(by_name["PROBE"], expected);
}
