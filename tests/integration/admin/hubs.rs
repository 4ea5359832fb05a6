//! `/api/v1/hubs`, `/api/v1/reload` and `/api/v1/explain`.

use rstest::rstest;

use super::*;

async fn status_of(site: &Site, hub: &str, password: &Value) -> u16 {
    let request = client().get(format!("{}/services", site.outpost.url)).basic_auth(hub, password.as_str());
    site.outpost.send(request).await.status.as_u16()
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn hubs_come_and_go(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "[hubs.fixed]\n").await else { return };
    let added = site.post("/hubs", &json!({ "name": "jü/b" })).await;
    assert_eq!((added.status.as_u16(), &added.body["hub"]), (201, &json!("jü/b")));
    let first = added.body["password"].clone();
    assert_eq!(status_of(&site, "jü/b", &first).await, 200, "at once");
    let again = site.post("/hubs", &json!({ "name": "jü/b" })).await;
    assert_eq!(problem(&again, 409), r#"hub "jü/b" has a password already; `outpost hub rotate` makes a new one"#);
    let name = site.post("/hubs", &json!({ "name": "a:b" })).await;
    assert!(problem(&name, 422).contains("must not contain a colon"));

    let path = "/hubs/j%C3%BC%2Fb";
    // Who has nothing to say need not send a body.
    let rotate = site.request(Method::POST, &format!("{path}/rotate"), &site.writer);
    let second = site.outpost.send(rotate).await.body["password"].clone();
    assert_eq!((status_of(&site, "jü/b", &first).await, status_of(&site, "jü/b", &second).await), (200, 200));
    let third = site.post(&format!("{path}/rotate"), &json!({ "now": true })).await.body["password"].clone();
    assert_eq!((status_of(&site, "jü/b", &second).await, status_of(&site, "jü/b", &third).await), (401, 200));
    assert_eq!(problem(&site.post("/hubs/nobody/rotate", &json!({})).await, 404), r#"there is no hub "nobody""#);

    site.start_server("lab").await;
    let hubs = site.get("/hubs").await.body;
    let of = |name: &str| hubs["hubs"].as_array().unwrap().iter().find(|hub| hub["hub"] == name).cloned();
    assert_eq!(
        of("jü/b"),
        Some(json!({ "hub": "jü/b", "passwords": 1, "ssh_keys": 0, "servers": 0, "api_url": null }))
    );
    assert_eq!(of("hub1").unwrap()["servers"], 1);

    assert!(problem(&site.delete("/hubs/fixed").await, 409).contains("is in the configuration"));
    assert!(problem(&site.delete("/hubs/hub1").await, 409).contains("`usernames` and `passwords`"));
    problem(&site.delete("/hubs/nobody").await, 404);
    assert_eq!(site.delete(path).await.status, 204);
    assert_eq!(status_of(&site, "jü/b", &third).await, 401);

    let deeds = site.deeds().await;
    let by = "token:changer";
    assert_eq!(
        deeds[..4],
        [
            json!([by, "hub.remove", "jü/b", {}]),
            json!([by, "hub.rotate", "jü/b", {"now": true}]),
            json!([by, "hub.rotate", "jü/b", {"now": false}]),
            json!([by, "hub.add", "jü/b", {}]),
        ]
    );
    assert_eq!(deeds.len(), 6, "with both tokens: what was refused is not there");
}

#[tokio::test]
async fn a_request_is_explained() {
    let site = Site::start(Kind::Sqlite, "").await.unwrap();
    let ask =
        async |body: Value| site.outpost.send(site.request(Method::POST, "/explain", &site.reader).json(&body)).await;
    let allowed = ask(json!({ "hub": "hub1", "user": "ada", "misc": { "image": "x" } })).await;
    assert_eq!((allowed.status.as_u16(), &allowed.body["refusal"]), (200, &Value::Null), "{:?}", allowed.body);
    assert_eq!(allowed.body["options"]["image"], "x");
    let refused =
        ask(json!({ "hub": "hub1", "user": "ada", "misc": { "cmd": "x" }, "groups": ["a"], "profile": "p" })).await;
    assert_eq!(refused.status, 200);
    assert!(refused.body["refusal"].as_str().unwrap().contains("\"cmd\""), "{:?}", refused.body);
    for bad in [
        json!({}),
        json!({ "hub": "h" }),
        json!({ "hub": "h", "user": "u", "misc": [] }),
        json!({ "hub": "h", "user": "u", "x": 1 }),
    ] {
        problem(&ask(bad).await, 422);
    }
}
