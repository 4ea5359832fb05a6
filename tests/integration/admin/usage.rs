//! `/api/v1/usage`.

use std::sync::Arc;

use chrono::TimeDelta;
use outpost::admin::{Export, Format};
use outpost::clock::Clock;
use outpost::model::{Need, Server, ServerId, StoredRequest, Usage, UsageFilter};
use outpost::store::{Advance, Outcome, Store};
use rstest::rstest;

use super::*;
use crate::support::a_server;

fn server(name: &str, user: &str, clock: &Clock) -> Server {
    let need = Need { cpu_millis: 1500, memory_bytes: 2 << 30, gpus: 1 };
    Server { id: ServerId::new("hub1", name, "0"), user: user.into(), need, ..a_server(clock) }
}

async fn run(store: &Store, server: &Server) {
    assert!(store.insert_server(server, &StoredRequest::default()).await.unwrap());
    let running = Advance::Running { address: "h:1", target: "", end_date: None };
    store.advance(&server.uid, 0, &running).await.unwrap().unwrap();
}

async fn text(store: &Store, filter: &UsageFilter, format: Format) -> String {
    let mut export = Export::new(store.clone(), filter.clone()).await.unwrap();
    let mut text = String::new();
    while let Some(part) = export.text(format).await.unwrap() {
        text.push_str(&part);
    }
    text
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn the_time_that_servers_ran_is_accounted_for(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let clock = Clock::manual("2026-11-01T00:00:00Z".parse().unwrap());
    let store = db.store(clock.clone()).await;
    let stopped = Outcome { kind: "stopped", reason: None };
    let odd = server("a,\"b\"\n\u{9b}31m\u{202e}c", "=cmd|' /C calc'!A0", &clock);
    run(&store, &odd).await;
    let never = server("never", "ada", &clock);
    assert!(store.insert_server(&never, &StoredRequest::default()).await.unwrap());
    clock.advance(TimeDelta::hours(2));
    store.remove_server(&odd.uid, &stopped).await.unwrap();
    store.remove_server(&never.uid, &Outcome { kind: "failed", reason: None }).await.unwrap();
    let ada = server("lab", "ada", &clock);
    run(&store, &ada).await;
    clock.advance(TimeDelta::minutes(90));

    let all = UsageFilter::default();
    let csv = text(&store, &all, Format::Csv).await.replace(odd.uid.as_str(), "ODD").replace(ada.uid.as_str(), "ADA");
    let expected = [
        Usage::COLUMNS.join(","),
        r#"ODD,hub1,'=cmd|' /C calc'!A0,7,"a,""b""\n\u{9b}31m\u{202e}c",big,1.5,2147483648,1,2026-11-01T00:00:00.000Z,2026-11-01T02:00:00.000Z,7200,3,4,2,stopped"#.to_owned(),
        "ADA,hub1,ada,7,lab,big,1.5,2147483648,1,2026-11-01T02:00:00.000Z,,5400,2.25,3,1.5,running".to_owned(),
    ];
    assert_eq!(csv.lines().collect::<Vec<_>>(), expected);
    let records: Value = serde_json::from_str(&text(&store, &all, Format::Json).await).unwrap();
    assert_eq!((&records[0]["user"], &records[0]["cpu_hours"]), (&json!("=cmd|' /C calc'!A0"), &json!(3.0)));
    assert_eq!((&records[1]["end"], &records[1]["seconds"]), (&Value::Null, &json!(5400.0)));

    let time = |text: &str| Some(UsageFilter::parse_time(text).unwrap());
    let seconds = async |filter: UsageFilter| -> Vec<f64> {
        let records: Value = serde_json::from_str(&text(&store, &filter, Format::Json).await).unwrap();
        records.as_array().unwrap().iter().map(|record| record["seconds"].as_f64().unwrap()).collect()
    };
    let one = time("2026-11-01T01:00:00Z");
    assert_eq!(seconds(UsageFilter { from: one, ..all.clone() }).await, [3600.0, 5400.0]);
    assert_eq!(seconds(UsageFilter { to: one, ..all.clone() }).await, [3600.0]);
    assert_eq!(seconds(UsageFilter { from: time("2026-11-01T02:00:00Z"), ..all.clone() }).await, [5400.0]);
    assert!(seconds(UsageFilter { from: time("2026-11-02"), ..all.clone() }).await.len() == 1, "it still runs");
    assert_eq!(seconds(UsageFilter { to: time("2026-11-01"), ..all.clone() }).await, [0.0; 0]);
    assert_eq!(seconds(UsageFilter { user: Some("ada".to_owned()), ..all.clone() }).await, [5400.0]);
    let unknown = UsageFilter { hub: Some("hub2".to_owned()), ..all.clone() };
    let unknown = Export::new(store.clone(), unknown).await.unwrap_err();
    assert_eq!(unknown.to_string(), r#"there is no hub "hub2", and no record of one"#);
    store.add_hub("hub2").await.unwrap();
    assert_eq!(seconds(UsageFilter { hub: Some("hub2".to_owned()), ..all.clone() }).await, [0.0; 0]);
    let nobody = UsageFilter { hub: Some("hub2".to_owned()), ..all.clone() };
    assert_eq!(text(&store, &nobody, Format::Json).await, "[]\n");
    assert_eq!(text(&store, &nobody, Format::Csv).await.lines().count(), 1, "the header");
    let sums = Export::new(store.clone(), all).await.unwrap().sums().await.unwrap();
    assert_eq!(sums[&("hub1".to_owned(), "ada".to_owned(), "big".to_owned())].cpu_hours, 2.25);
}

#[tokio::test]
async fn many_records_come_in_parts() {
    let site = Site::start(Kind::Sqlite, "").await.unwrap();
    let store = Arc::new(site.outpost.outpost.store.clone());
    let mut runs = Vec::new();
    for number in 0..2100 {
        let store = store.clone();
        runs.push(tokio::spawn(async move {
            run(&store, &server(&format!("s{number}"), "ada", &Clock::System)).await;
        }));
    }
    for run in runs {
        run.await.unwrap();
    }
    let json = site.get("/usage").await;
    assert_eq!(
        (json.body.as_array().unwrap().len(), json.headers["content-type"].to_str().unwrap()),
        (2100, "application/json")
    );
    let csv = site.outpost.send(site.request(Method::GET, "/usage", &site.reader).header("accept", "text/csv")).await;
    assert_eq!(csv.headers["content-type"], "text/csv; charset=utf-8");
    assert_eq!(csv.body.as_str().unwrap().lines().count(), 2101);
    let asked = site.get("/usage?format=csv&user=ada&hub=hub1").await;
    assert_eq!(asked.body.as_str().unwrap().lines().count(), 2101);
    assert_eq!(site.get("/usage?from=2020-01-01&to=2020-02-01T00:00:00Z").await.body, json!([]));
    problem(&site.get("/usage?hub=hub3").await, 404);
    for query in ["from=x", "to=2026", "format=xml", "from=2026-01-02&to=2026-01-01", "nope=1"] {
        problem(&site.get(&format!("/usage?{query}")).await, 422);
    }
}
