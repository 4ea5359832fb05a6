//! `/api/v1/flavors` and `/api/v1/credits`.

use reqwest::header::{ETAG, IF_MATCH};
use rstest::rstest;

use super::*;

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn flavors_are_versions(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "").await else { return };
    let nothing = site.get("/flavors").await;
    let empty =
        json!({ "version": 0, "author": null, "changed_at": null, "summary": null, "document": {"flavors": {}} });
    assert_eq!(nothing.body, empty);
    assert_eq!(nothing.headers[ETAG], "\"0\"");

    let yaml = "flavors:\n  small:\n    display_name: Small\n    max: 5\n  big:\n    max: 1\n";
    let put = site.request(Method::PUT, "/flavors", &site.writer).header("content-type", "application/yaml");
    let made = site.outpost.send(put.header(IF_MATCH, "\"0\"").body(yaml)).await;
    assert_eq!((made.status.as_u16(), &made.body["version"]), (200, &json!(1)), "{:?}", made.body);
    assert_eq!(made.headers[ETAG], "\"1\"");
    let listed = site.outpost.get("/flavors/").await.body;
    assert_eq!(listed["small"]["max"], 5, "hubs have it at once: {listed}");

    let set = site.put("/flavors/small", &json!({ "display_name": "Small", "max": 10 })).await;
    let difference = json!({ "version": 2, "differences": ["flavors.small.max: 5 -> 10"], "warnings": [] });
    assert_eq!(set.body, difference);
    let added = site.put("/flavors/ti%20ny", &json!({ "max": 1 })).await;
    assert_eq!(added.body["version"], 3);
    let removed = site.delete("/flavors/ti%20ny").await;
    assert_eq!((removed.status.as_u16(), &removed.body["version"]), (200, &json!(4)));
    assert_eq!(problem(&site.delete("/flavors/tiny").await, 404), r#"there is no flavor "tiny""#);

    let shown = site.get("/flavors").await.body;
    assert_eq!((&shown["version"], &shown["author"]), (&json!(4), &json!("token:changer")));
    assert_eq!(shown["document"]["flavors"]["small"], json!({ "display_name": "Small", "max": 10 }));
    let order: Vec<_> = shown["document"]["flavors"].as_object().unwrap().keys().collect();
    assert_eq!(order, ["small", "big"]);
    let old = site.get("/flavors/versions/1").await.body;
    assert_eq!(old["document"]["flavors"]["small"]["max"], 5);
    for missing in ["/flavors/versions/9", "/flavors/versions/x", "/flavors/versions/-1"] {
        problem(&site.get(missing).await, 404);
    }
    let versions = site.get("/flavors/versions").await.body;
    let versions: Vec<_> = versions["versions"].as_array().unwrap().iter().map(|row| row["version"].clone()).collect();
    assert_eq!(versions, [4, 3, 2, 1]);

    let diff = site.request(Method::POST, "/flavors/diff", &site.reader).header("content-type", "application/yaml");
    let diff = site.outpost.send(diff.body(yaml)).await;
    assert_eq!(diff.body, json!({ "version": 4, "differences": ["flavors.small.max: 10 -> 5"], "warnings": [] }));
    assert_eq!(site.get("/flavors").await.body["version"], 4, "only shown");
    let bad = site.put("/flavors", &json!({ "flavours": {} })).await;
    assert!(problem(&bad, 422).contains("flavours"), "{:?}", bad.body);
    let bad = site.put("/flavors/small", &json!({ "max": "many" })).await;
    assert!(problem(&bad, 422).contains("max"), "{:?}", bad.body);
    assert_eq!(site.get("/flavors").await.body["version"], 4);

    let deeds: Vec<_> = site.deeds().await.into_iter().map(|deed| format!("{} {}", deed[1], deed[2])).collect();
    assert_eq!(
        deeds[..4],
        [
            r#""flavors.remove" "ti ny""#,
            r#""flavors.set" "ti ny""#,
            r#""flavors.set" "small""#,
            r#""flavors.apply" """#
        ]
    );
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn of_two_who_change_the_same_version_one_is_told(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "").await else { return };
    let change = |max: i64| {
        let put = site.request(Method::PUT, "/flavors", &site.writer).header(IF_MATCH, "\"0\"");
        site.outpost.send(put.json(&json!({ "flavors": { "small": { "max": max } } })))
    };
    let (one, two, three) = tokio::join!(change(1), change(2), change(3));
    let mut statuses: Vec<_> = [&one, &two, &three].map(|reply| reply.status.as_u16()).to_vec();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 412, 412]);
    for reply in [&one, &two, &three].into_iter().filter(|reply| reply.status == 412) {
        assert!(problem(reply, 412).contains("Somebody else changed this"));
    }
    let bad = site.request(Method::PUT, "/flavors", &site.writer).header(IF_MATCH, "abc").json(&json!({}));
    assert_eq!(problem(&site.outpost.send(bad).await, 422), "If-Match: has to be the number of a version.");
    // Without it, whoever comes later changes what is there then.
    let set = async |name: &str| site.put(&format!("/flavors/{name}"), &json!({ "max": 1 })).await;
    let replies = tokio::join!(set("a"), set("b"), set("c"));
    assert!([replies.0, replies.1, replies.2].iter().all(|reply| reply.status == 200));
    let flavors = site.get("/flavors").await.body["document"]["flavors"].clone();
    assert_eq!(flavors.as_object().unwrap().len(), 4, "{flavors}");
    assert_eq!(site.deeds().await.len(), 2 + 1 + 3, "what was refused is not there");
}

#[tokio::test]
async fn credits_are_the_same() {
    let site = Site::start(Kind::Sqlite, "").await.unwrap();
    let made = site.put("/credits", &json!({ "credits": { "free": { "cap": 10 } } })).await;
    assert_eq!((made.status.as_u16(), &made.body["version"]), (200, &json!(1)), "{:?}", made.body);
    assert_eq!(site.outpost.get("/credits/").await.body["free"]["cap"], 10);
    assert_eq!(site.put("/credits/more", &json!({ "cap": 1 })).await.body["version"], 2);
    assert_eq!(site.delete("/credits/more").await.body["version"], 3);
    assert_eq!(problem(&site.delete("/credits/more").await, 404), r#"there is no credit "more""#);
    assert_eq!(site.get("/flavors").await.body["version"], 0);
    assert!(site.deeds().await[0][1] == "credits.remove");
}
