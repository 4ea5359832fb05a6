use rstest::rstest;
use serde_json::json;

use super::super::sample;
use super::*;
use crate::model::Certificates;

const IDENTITY: Identity<'_> = Identity { installation: "inst", spawner: "cluster" };

fn site(mut settings: Value) -> Settings {
    settings["namespace"] = json!("lab");
    serde_json::from_value(settings).unwrap_or_else(|error| panic!("{error}"))
}

fn planned(settings: Value) -> (Place, Plan) {
    let (settings, launch) = (site(settings), sample::launch("my hub", "ann", "x"));
    let place = place(&settings, &launch).unwrap_or_else(|error| panic!("{error:?}"));
    let plan = plan(&settings, &launch, &place, &IDENTITY).unwrap_or_else(|error| panic!("{error:?}"));
    (place, plan)
}

#[test]
fn a_place_is_kept_with_all_that_is_to_be_removed() {
    let config = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let (place, plan) =
        planned(json!({"services_enabled": true, "storage_pvc_ensure": true, "object_kinds": ["v1/ConfigMap"],
        "pre_start": [config("before-{uid}")], "post_stop": [config("after-{uid}")]}));
    let kept = serde_json::to_value(&place).unwrap();
    assert_eq!(serde_json::from_value::<Place>(kept.clone()).unwrap(), place);
    let hub = "my-hub---75658e33";
    let labels = json!({"outpost.jupyter.org/hub": hub, "outpost.jupyter.org/server": "01J00000000000000000000000"});
    assert_eq!(
        kept,
        json!({
            "namespace": "lab",
            "pod": format!("jupyter-ann--x--{hub}"),
            "service": true,
            "secret": "outpost-01j00000000000000000000000",
            "claim": format!("claim-ann--x--{hub}"),
            "port": 8888,
            "host": format!("jupyter-ann--x--{hub}.lab.svc.cluster.local"),
            "grace_period": 1,
            "extra": [{"api_version": "v1", "kind": "ConfigMap", "plural": "configmaps",
                "name": "before-01j00000000000000000000000"}],
            "post_stop": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": labels,
                "name": "after-01j00000000000000000000000", "namespace": "lab"}}],
        })
    );
    let before = &plan.pre_start[0].metadata;
    assert_eq!(before.labels.as_ref().map(|labels| &*labels[names::INSTALLATION]), Some("inst"));
    assert_eq!((plan.claim.is_some(), plan.service.is_some(), plan.namespace.is_some()), (true, true, false));
}

#[rstest]
#[case(json!({}), None)]
#[case(json!({"services_enabled": true}), Some("jupyter-ann--x--my-hub---75658e33.lab.svc.cluster.local"))]
#[case(json!({"services_enabled": true, "dns_name_template": "{name}.{namespace}"}), Some("jupyter-ann--x--my-hub---75658e33.lab"))]
#[case(json!({"pod_connect_ip": "jupyter-{username}--{escaped_servername}-.example.org"}), Some("jupyter-ann--x-.example.org"))]
#[case(json!({"pod_connect_ip": "{username}--.example.org", "services_enabled": true}), Some("ann--.example.org"))]
fn the_host_is_of_our_making(#[case] settings: Value, #[case] host: Option<&str>) {
    assert_eq!(planned(settings).0.host.as_deref(), host);
}

#[test]
fn certificates_are_for_the_name_of_the_service() {
    let mut launch = sample::launch("hub", "ann", "");
    launch.certificates = Some(Certificates::default());
    let place = place(&site(json!({})), &launch).unwrap();
    assert_eq!(place.host.as_deref(), Some("jupyter-ann--hub.lab.svc.cluster.local"));
}

#[test]
fn users_with_a_namespace_have_everything_in_it() {
    let (place, plan) = planned(json!({"enable_user_namespaces": true}));
    let namespace = plan.namespace.unwrap().metadata.name;
    assert_eq!(
        (namespace.as_deref(), plan.pod.metadata.namespace.as_deref()),
        (Some(&*place.namespace), Some(&*place.namespace))
    );
    assert!(place.namespace.ends_with("-ann--my-hub---75658e33"), "{}", place.namespace);
}

#[test]
fn a_patch_changes_the_pod_but_not_whose_it_is() {
    let (place, plan) = planned(json!({"pod_patch": {
        "metadata": {"name": "other", "namespace": "other", "labels": {names::SERVER: "other", "more": "{username}"}},
        "spec": {"containers": [{"name": "notebook", "tty": true}, {"name": "side", "image": "s"}]}}}));
    let (metadata, spec) = (plan.pod.metadata, plan.pod.spec.unwrap());
    assert_eq!((metadata.name, metadata.namespace), (Some(place.pod), Some(place.namespace)));
    let labels = metadata.labels.unwrap();
    assert_eq!((&*labels[names::SERVER], &*labels["more"]), ("01J00000000000000000000000", "ann"));
    assert_eq!((spec.containers.len(), spec.containers[0].tty), (2, Some(true)));
}

#[test]
fn a_pod_without_the_server_is_a_mistake() {
    let patch = json!({"spec": {"containers": [{"name": "notebook", "$patch": "delete"}]}});
    let mistake = site(json!({"pod_patch": patch})).check().unwrap_err();
    assert!(mistake.contains("`pod_patch`: it leaves no container \"notebook\""), "{mistake}");
}

#[rstest]
#[case::an_option(json!({"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]}))]
#[case::another_option(json!({"extra_pod_config": {"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]}}))]
#[case::a_patch(json!({"pod_patch": {"spec": {"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]}}}))]
fn a_claim_of_the_user_that_is_mounted_is_looked_at(#[case] settings: Value) {
    let (place, plan) = planned(settings);
    assert_eq!(place.claim, plan.claim.unwrap().metadata.name);
    assert_eq!((place.claim.as_deref(), plan.claim_is_made), (Some("claim-ann--x--my-hub---75658e33"), false));
}

#[rstest]
#[case::other_names(json!({"pod_name_template": "other-{username}"}))]
#[case::another_namespace(json!({"namespace": "other"}))]
#[case::a_claim(json!({"volumes": [{"name": "home", "persistentVolumeClaim": {"claimName": "{pvc_name}"}}]}))]
#[case::another_object(json!({"object_kinds": ["v1/ConfigMap"],
    "pre_start": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "before-{uid}"}}]}))]
fn what_has_other_names_today_is_not_started(#[case] settings: Value) {
    let launch = sample::launch("hub", "ann", "x");
    let place = place(&site(json!({})), &launch).unwrap();
    let mut changed = json!({"namespace": "lab"});
    json_patch::merge(&mut changed, &settings);
    let changed: Settings = serde_json::from_value(changed).unwrap();
    let sentence = plan(&changed, &launch, &place, &IDENTITY).unwrap_err().to_string();
    assert_eq!(sentence, "The settings of this system were changed while your server waited. Please start it again.");
}
