use std::sync::Mutex;

use axum::body::Body;
use axum::http::{Request, Response};
use futures_util::stream;
use serde_json::json;

use super::*;
use crate::model::Uid;
use crate::spawner::kubernetes::api::Limits;

/// More than any start has.
const FOREIGN: usize = 50_000;

fn event(version: usize, pod: &str) -> Result<String, std::io::Error> {
    let object = json!({"namespace": "n", "name": pod, "uid": "1"});
    let metadata = json!({"name": "e", "resourceVersion": version.to_string()});
    let message = format!("It happened {version} times.");
    let event = json!({"metadata": metadata, "involvedObject": object, "message": message});
    Ok(format!("{}\n", json!({"type": "ADDED", "object": event})))
}

/// A cluster in which much happens until the watch breaks, and its requests' queries.
fn busy() -> (kube::Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let queries = asked.clone();
    let answer = move |request: Request<kube::client::Body>| {
        let query = request.uri().query().unwrap_or_default().to_owned();
        let again = query.contains(&format!("resourceVersion={FOREIGN}"));
        let body = match query.contains("watch=true") {
            false => Body::from(json!({"metadata": {"resourceVersion": "0"}, "items": []}).to_string()),
            true if again => Body::from_stream(stream::iter([event(FOREIGN + 1, "ours")])),
            true => {
                let broken = Err(std::io::Error::other("the connection is broken"));
                Body::from_stream(stream::iter((1..=FOREIGN).map(|version| event(version, "theirs")).chain([broken])))
            }
        };
        queries.lock().unwrap().push(query);
        std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(body)))
    };
    (kube::Client::new(tower::service_fn(answer), "n"), asked)
}

#[tokio::test]
async fn a_broken_watch_loses_no_event_and_keeps_no_foreign_one() {
    let (client, asked) = busy();
    let (view, uid, metrics) = (Arc::new(View::default()), Uid::generate(), Arc::new(Metrics::default()));
    let limits = Limits { rate: 100, burst: 100, timeout: Duration::from_secs(10) };
    let mut following = view.follow(&uid, "n", "ours");
    let watch = Watch {
        cluster: Cluster::new(client, &limits, metrics.clone()),
        view,
        scope: "n".to_owned(),
        selector: String::new(),
        settings: Arc::new(ArcSwap::from_pointee(toml::from_str("").unwrap())),
        spawner: "cluster".to_owned(),
        changes: Changes::channel().0,
        metrics,
    };
    tokio::select! {
        () = watch.events() => panic!("it goes on for ever"),
        changed = following.seen.changed() => changed.unwrap(),
    }
    let events = following.seen.borrow().events.clone();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].message, format!("It happened {} times.", FOREIGN + 1));
    let lists = asked.lock().unwrap().iter().filter(|query| !query.contains("watch=true")).count();
    assert_eq!(lists, 2, "one for where to begin, one for what happened to the one that is followed");
}
