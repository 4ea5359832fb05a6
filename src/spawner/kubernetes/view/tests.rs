use std::sync::Arc;
use std::time::Duration;

use serde_json::json;

use super::*;
use crate::spawner::kubernetes::events::Object;

fn pod(uid: &Uid, id: &str, namespace: &str) -> Sighting {
    let labels = json!({names::SERVER: uid.as_str()});
    let metadata = json!({"name": "a", "namespace": namespace, "uid": id, "labels": labels});
    serde_json::from_value(json!({"metadata": metadata, "spec": {"containers": [{"name": "notebook"}]}})).unwrap()
}

fn event(name: &str, message: String) -> Line {
    let object = Object { namespace: "n".to_owned(), name: name.to_owned(), uid: "1".to_owned() };
    Line { object, message, ..Line::default() }
}

#[test]
fn pods_come_change_and_go() {
    let (view, uid) = (View::default(), Uid::generate());
    assert!(view.apply(pod(&uid, "1", "n")));
    assert!(!view.apply(pod(&uid, "1", "n")), "it was known like this");
    assert!(!view.delete(&pod(&uid, "0", "n")), "that was another one");
    assert_eq!(view.pod(&uid).unwrap().metadata.uid, "1");
    assert!(view.delete(&pod(&uid, "1", "n")));
    assert!(view.pod(&uid).is_none() && view.lock().servers.is_empty());
}

#[test]
fn a_list_is_all_there_is_in_its_namespace() {
    let (view, [one, two, other]) = (View::default(), [(); 3].map(|()| Uid::generate()));
    view.apply(pod(&one, "1", "n"));
    view.apply(pod(&two, "2", "n"));
    view.apply(pod(&other, "3", "m"));
    assert_eq!(view.replace("n", Instant::now(), vec![pod(&two, "2", "n")]), [one]);
    assert_eq!(view.pods().len(), 2);
    assert_eq!(view.replace("", Instant::now(), Vec::new()).len(), 2);
}

#[test]
fn what_is_buried_stays_so() {
    let (view, uid) = (View::default(), Uid::generate());
    let before = Instant::now();
    view.apply(pod(&uid, "1", "n"));
    view.bury(&uid, "n", "1");
    assert!(view.pod(&uid).is_none() && !view.apply(pod(&uid, "1", "n")));
    view.replace("m", Instant::now(), Vec::new());
    assert!(!view.apply(pod(&uid, "1", "n")), "that was another namespace");
    view.replace("n", before, vec![pod(&uid, "1", "n")]);
    assert!(view.pod(&uid).is_none(), "that was an old list");
    assert!(view.apply(pod(&uid, "2", "n")), "this is another pod");
    view.replace("n", before, Vec::new());
    assert!(view.lock().buried.is_empty());
    view.bury(&uid, "n", "2");
    view.replace("n", Instant::now(), vec![pod(&uid, "2", "n")]);
    assert_eq!(view.pod(&uid).unwrap().metadata.uid, "2", "it is there after all");
}

#[test]
fn what_was_not_seen_for_long_is_not_known() {
    let (view, second) = (View::default(), Duration::from_secs(1));
    assert!(!view.is_fresh("n", second) && view.blind(second).is_empty());
    view.expect("n");
    view.troubled("n", "no".to_owned());
    assert_eq!(view.blind(second), [("n".to_owned(), Some("no".to_owned()))]);
    view.alive("n");
    assert!(view.is_fresh("n", second) && !view.is_fresh("m", second) && !view.is_fresh("n", Duration::ZERO));
    view.alive("");
    assert!(view.is_fresh("m", second));
}

#[test]
fn events_of_others_are_not_kept() {
    let (view, uid) = (Arc::new(View::default()), Uid::generate());
    let following = view.follow(&uid, "n", "a");
    for number in 0..50_000 {
        view.event(event(&format!("foreign-{number}"), "It happened.".to_owned()));
    }
    assert!(following.seen.borrow().events.is_empty());
    for number in 0..1000 {
        view.event(event("a", format!("It happened {number} times.")));
        view.event(event("a", format!("It happened {number} times.")));
    }
    let events = following.seen.borrow().events.clone();
    assert_eq!(events.len(), MOST_EVENTS);
    view.event(Line { reason: "Pulled".to_owned(), ..event("a", "The image is there.".to_owned()) });
    assert_eq!(following.seen.borrow().events.last().unwrap().reason, "Pulled", "this one counts");
    assert_eq!(events[1].message, "It happened 1 times.", "each once, in order");
    drop(following);
    let inner = view.lock();
    assert!(inner.servers.is_empty() && inner.followed.is_empty());
}

#[test]
fn two_may_follow() {
    let (view, uid) = (Arc::new(View::default()), Uid::generate());
    let (one, two) = (view.follow(&uid, "n", "a"), view.follow(&uid, "n", "a"));
    drop(one);
    view.event(event("a", "It happened.".to_owned()));
    assert_eq!(two.seen.borrow().events.len(), 1);
    view.apply(pod(&uid, "1", "n"));
    drop(two);
    assert!(view.pod(&uid).is_some());
}

#[test]
fn a_stop_leaves_a_new_servers_events_alone() {
    let (view, [old, new]) = (Arc::new(View::default()), [(); 2].map(|()| Uid::generate()));
    let start = view.follow(&old, "n", "a");
    let again = view.follow(&new, "n", "a");
    let stop = view.observe(&old);
    drop(start);
    assert_eq!(view.followed("n"), [("n".to_owned(), "a".to_owned())]);
    view.event(event("a", "It happened.".to_owned()));
    drop(stop);
    assert_eq!(again.seen.borrow().events.len(), 1);
    drop(again);
    let inner = view.lock();
    assert!(inner.servers.is_empty() && inner.followed.is_empty());
}

#[test]
fn what_is_not_watched_any_more_is_not_known() {
    let (view, [one, two]) = (View::default(), [(); 2].map(|()| Uid::generate()));
    view.alive("n");
    view.alive("m");
    view.apply(pod(&one, "1", "n"));
    view.apply(pod(&two, "2", "m"));
    assert!(view.is_used("n") && view.is_used("m") && !view.is_used("o"));
    view.abandon("n");
    assert!(view.pod(&one).is_none() && view.pod(&two).is_some() && !view.is_used("n"));
    assert!(view.sees(Duration::from_secs(9)));
    view.abandon("m");
    assert!(view.pods().is_empty() && !view.sees(Duration::from_secs(9)));
}

#[test]
fn an_image_is_pulled_before_a_container_is_made() {
    let waits = |reason: &str| {
        let state = json!({"waiting": {"reason": reason}});
        let container =
            json!({"name": "a", "state": state, "image": "", "imageID": "", "ready": false, "restartCount": 0});
        let pod = json!({"status": {"initContainerStatuses": [container]}});
        serde_json::from_value::<Sighting>(pod).unwrap().is_being_made()
    };
    assert!(waits("ContainerCreating") && waits("PodInitializing") && !waits("ErrImagePull"));
}
