//! The committed OpenAPI document is the one that is served, and holds against the routes.

use reqwest::Method;
use serde_json::Value;

use crate::support::TestOutpost;
use crate::support::server::client;

const COMMITTED: &str = include_str!("../../openapi.json");

#[tokio::test]
async fn the_document_is_committed_and_served() {
    assert_eq!(COMMITTED.trim_end(), outpost::http::openapi_document(), "run `outpost openapi > openapi.json`");
    let outpost = TestOutpost::start("").await;
    let served = outpost.send(client().get(format!("{}/openapi.json", outpost.url))).await;
    assert_eq!(served.body, serde_json::from_str::<Value>(COMMITTED).unwrap());
}

#[tokio::test]
async fn every_documented_route_is_there_and_asks_for_credentials() {
    let outpost = TestOutpost::start("").await;
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    let mut seen = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace("{name}", "n").replace("{start_id}", "s");
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let open = operation["security"] == serde_json::json!([{}]);
            let reply = outpost.send(client().request(method.clone(), format!("{}{path}", outpost.url))).await;
            assert_eq!(reply.status, if open { 200 } else { 401 }, "{method} {path}");
            let documented = operation["responses"].as_object().unwrap();
            assert!(
                documented.contains_key(reply.status.as_str()),
                "{method} {path}: {} is not documented",
                reply.status
            );
            seen += 1;
        }
    }
    assert_eq!(seen, 9);
}
