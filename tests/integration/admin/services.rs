//! `/api/v1/services`.

use chrono::{DateTime, TimeDelta, Utc};
use rstest::rstest;

use super::*;
use crate::support::eventually;

fn names(reply: &Reply) -> Vec<&str> {
    reply.body["services"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect()
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn servers_are_found_stopped_and_remembered(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "").await else { return };
    for name in ["one", "two", ""] {
        site.start_server(name).await;
    }
    let list = site.get("/services").await;
    assert_eq!(names(&list), ["", "two", "one"], "the newest first");
    let server = &list.body["services"][0];
    let id = server["id"].as_str().unwrap();
    let expected = json!({
        "id": id, "hub": "hub1", "name": "", "start_id": "1", "user": "jürgen", "user_id": 7, "phase": "running",
        "address": "127.0.0.1:8888", "tunnel": null, "spawner": "local", "flavor": null, "start_date": server["start_date"],
        "end_date": null, "last_update": server["last_update"], "exit_code": null, "reason": null,
    });
    assert_eq!(*server, expected);
    assert_eq!(site.get(&format!("/services/{id}")).await.body, *server);

    for (query, expected) in [
        ("hub=hub1&user=j%C3%BCrgen&phase=running&spawner=local", &["", "two", "one"][..]),
        ("hub=hub2", &[]),
        ("user=ada", &[]),
        ("flavor=big", &[]),
        ("phase=stopping", &[]),
        ("spawner=cluster", &[]),
        ("ended=true", &[]),
    ] {
        assert_eq!(names(&site.get(&format!("/services?{query}")).await), expected, "{query}");
    }
    let first = site.get("/services?limit=2").await;
    assert_eq!(names(&first), ["", "two"]);
    let second = site.get(&format!("/services?limit=2&after={}", first.body["next"].as_str().unwrap())).await;
    assert_eq!((names(&second), &second.body["next"]), (vec!["one"], &Value::Null));
    for query in
        ["phase=gone", "phase=x", "ended=1x", "ended=true&phase=running", "ended=true&spawner=local", "hub=%00"]
    {
        problem(&site.get(&format!("/services?{query}")).await, 422);
    }

    for server in list.body["services"].as_array().unwrap() {
        let stopped = site.delete(&format!("/services/{}", server["id"].as_str().unwrap())).await;
        assert_eq!(stopped.status, 202);
    }
    eventually("they are gone", || async { names(&site.get("/services").await).is_empty().then_some(()) }).await;
    assert_eq!(problem(&site.delete(&format!("/services/{id}")).await, 404).replace(id, "ID"), "there is no server ID");
    let ended = site.get("/services?ended=true&hub=hub1&user=j%C3%BCrgen&limit=2").await;
    assert_eq!(names(&ended), ["", "two"]);
    let path = format!("/services?ended=true&after={}", ended.body["next"].as_str().unwrap());
    assert_eq!(names(&site.get(&path).await), ["one"]);
    assert!(names(&site.get("/services?ended=true&hub=hub2").await).is_empty());
    let past = site.get(&format!("/services/{id}")).await;
    assert_eq!(past.body, ended.body["services"][0]);
    let past = past.body;
    assert!(["start_date", "running_at", "ended_at"].iter().all(|key| past[key].is_string()), "{past:?}");
    let expected = json!({
        "id": id, "hub": "hub1", "name": "", "start_id": "1", "user": "jürgen", "user_id": 7, "flavor": null,
        "outcome": "stopped", "exit_code": null, "reason": null, "start_date": past["start_date"],
        "running_at": past["running_at"], "ended_at": past["ended_at"],
    });
    assert_eq!(past, expected);
    let unknown = site.get("/services/01ARZ3NDEKTSV4RRFFQ69G5FAV").await;
    assert_eq!(problem(&unknown, 404), "There is no server 01ARZ3NDEKTSV4RRFFQ69G5FAV.");
    let deeds = site.deeds().await;
    let detail = json!({ "hub": "hub1", "user": "jürgen", "name": "" });
    assert!(deeds.contains(&json!(["token:changer", "service.stop", id, detail])), "{deeds:?}");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn an_end_is_moved(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "").await else { return };
    site.start_server("lab").await;
    let id = site.get("/services").await.body["services"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/services/{id}/extend");
    let extend = async |body: Value| site.post(&path, &body).await;
    let now = site.outpost.outpost.clock.now();
    let date = |reply: &Reply| reply.body["end_date"].as_str().map(|date| date.parse::<DateTime<Utc>>().unwrap());

    let first = date(&extend(json!({ "by": "2h" })).await).unwrap();
    assert!(first >= now + TimeDelta::hours(2) && first < now + TimeDelta::hours(3), "from now: there was no end");
    let second = extend(json!({ "by": "30m" })).await;
    assert_eq!(date(&second), Some(first + TimeDelta::minutes(30)), "from the end");
    assert_eq!(second.body["id"], id);
    let shown = site.get(&format!("/services/{id}")).await;
    assert_eq!(date(&shown), date(&second), "at once");
    let until = extend(json!({ "until": "2999-12-01T13:00:00+01:00" })).await;
    assert_eq!(until.body["end_date"], "2999-12-01T12:00:00Z");
    let open = extend(json!({ "until": null })).await;
    assert_eq!((open.status.as_u16(), &open.body["end_date"]), (200, &Value::Null));

    for bad in [
        json!({}),
        json!({ "by": "soon" }),
        json!({ "by": "-1h" }),
        json!({ "by": "1h", "until": null }),
        json!({ "until": "2001-01-01" }),
        json!({ "until": "tomorrow" }),
        json!({ "until": 5 }),
        json!({ "by": "20000y" }),
        json!([]),
    ] {
        problem(&extend(bad).await, 422);
    }
    problem(&site.post("/services/01ARZ3NDEKTSV4RRFFQ69G5FAV/extend", &json!({ "by": "1h" })).await, 404);
    let deeds = site.deeds().await;
    let extensions: Vec<_> = deeds.iter().filter(|deed| deed[1] == "service.extend").collect();
    assert_eq!(extensions.len(), 4, "{deeds:?}");
    assert_eq!((&extensions[0][3]["from"], &extensions[0][3]["to"]), (&json!("2999-12-01T12:00:00Z"), &Value::Null));
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn all_who_give_more_time_at_once_give_it(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "").await else { return };
    site.start_server("lab").await;
    let id = site.get("/services").await.body["services"][0]["id"].as_str().unwrap().to_owned();
    let path = format!("/services/{id}/extend");
    let first = site.post(&path, &json!({ "until": "2999-12-01" })).await;
    assert_eq!(first.body["end_date"], "2999-12-01T00:00:00Z");
    let hour = async || assert_eq!(site.post(&path, &json!({ "by": "1h" })).await.status, 200);
    tokio::join!(hour(), hour(), hour(), hour(), hour(), hour());
    // A look at the rows that was under way may show an older end for a moment.
    eventually("all six hours are shown", || async {
        let shown = site.get(&format!("/services/{id}")).await;
        (shown.body["end_date"] == "2999-12-01T06:00:00Z").then_some(())
    })
    .await;
    let mut ends: Vec<_> = site.deeds().await.iter().map(|deed| deed[3]["to"].to_string()).take(7).collect();
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), 7, "what was tried again is not there: {ends:?}");
}
