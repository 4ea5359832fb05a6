//! The committed OpenAPI document is the one that is served, and holds against the routes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::admin::{Site, problem};
use crate::support::server::{Reply, client};
use crate::support::{Kind, TestOutpost};

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
    let site = Site::start(Kind::Sqlite, "").await.unwrap();
    let outpost = &site.outpost;
    let document: Value = serde_json::from_str(COMMITTED).unwrap();
    let mut seen = (0, 0);
    for (path, methods) in document["paths"].as_object().unwrap() {
        let fixed =
            [("{name}", "n"), ("{start_id}", "s"), ("{kind}", "flavors"), ("{version}", "1"), ("{fingerprint}", "f")];
        let path = fixed.iter().fold(path.clone(), |path, (field, value)| path.replace(field, value));
        let path = path.replace("{id}", "01ARZ3NDEKTSV4RRFFQ69G5FAV");
        for (method, operation) in methods.as_object().unwrap() {
            let method: Method = method.to_uppercase().parse().unwrap();
            let documented = |reply: &Reply| {
                let status = reply.status.as_str();
                assert!(operation["responses"][status].is_object(), "{method} {path}: {status} is not documented");
            };
            if !path.starts_with("/api/v1/") {
                let open = operation["security"] == json!([{}]);
                let reply = outpost.send(client().request(method.clone(), format!("{}{path}", outpost.url))).await;
                assert_eq!(reply.status, if open { 200 } else { 401 }, "{method} {path}");
                documented(&reply);
                seen.0 += 1;
                continue;
            }
            assert_eq!(operation["security"], json!([{ "admin": [] }]), "{method} {path}");
            let request = || client().request(method.clone(), format!("{}{path}", outpost.admin_url));
            let wrong = site.writer.replace("outpost_", "outpost_x");
            let other = format!("{}x", site.writer);
            for request in [
                request(),
                request().basic_auth("hub1", Some("one")),
                request().bearer_auth(wrong),
                request().bearer_auth(other),
            ] {
                let reply = outpost.send(request).await;
                problem(&reply, 401);
                assert_eq!(reply.headers["www-authenticate"], "Bearer");
                documented(&reply);
            }
            let reply = outpost.send(request().bearer_auth(&site.reader)).await;
            let writes = operation["responses"]["403"].is_object();
            assert_eq!(reply.status == 403, writes, "{method} {path}: {}", reply.status);
            let looks = method == Method::GET || path.ends_with("/diff") || path.ends_with("/explain");
            assert_eq!(writes, !looks, "{method} {path}");
            documented(&reply);
            seen.1 += 1;
        }
    }
    assert_eq!(seen, (9, 24));
}
