//! A webhook of the cluster that has a say in what is created.

use std::net::{Ipv4Addr, TcpListener};

use axum::routing::post;
use axum::{Json, Router};
use axum_server::tls_rustls::RustlsConfig;
use base64::Engine as _;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Site, launch};
use crate::support::eventually;
use crate::support::kube::{Cluster, create};

async fn deny(Json(review): Json<Value>) -> Json<Value> {
    let status = json!({"code": 403, "message": "images have to come from registry.site.example"});
    Json(json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": false, "status": status},
    }))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_policy_of_the_cluster_says_is_told() {
    let Some(cluster) = Cluster::shared().await else { return };
    let site = Site::new("").await.unwrap();
    let (certificate, key) = cluster.certificate();
    let authority = base64::prelude::BASE64_STANDARD.encode(std::fs::read(&certificate).unwrap());
    let tls = RustlsConfig::from_pem_file(certificate, key).await.unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}/deny", listener.local_addr().unwrap());
    let server = axum_server::from_tcp_rustls(listener, tls).unwrap();
    tokio::spawn(server.serve(Router::new().route("/deny", post(deny)).into_make_service()));

    // For this test's namespace only.
    let label = Patch::Merge(json!({"metadata": {"labels": {"policy": site.namespace}}}));
    let namespaces: Api<Namespace> = Api::all(site.admin.clone());
    namespaces.patch(&site.namespace, &PatchParams::default(), &label).await.unwrap();
    let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(site.admin.clone());
    let webhook = json!({
        "name": "images.policy.example", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        "clientConfig": {"url": url, "caBundle": authority},
        "namespaceSelector": {"matchLabels": {"policy": site.namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    });
    create(webhooks.clone(), json!({"metadata": {"name": site.namespace}, "webhooks": [webhook]})).await;
    // The API server takes a moment to know of it.
    let message = eventually("the policy is in force", || async {
        let launch = launch("ada", "");
        let message = site.start(&launch).await.err().map(|error| error.to_string());
        site.stop(&launch).await;
        message
    })
    .await;
    webhooks.delete(&site.namespace, &DeleteParams::default()).await.unwrap();
    assert!(message.contains("images have to come from registry.site.example"), "{message}");
    site.assert_is_empty().await;
}
