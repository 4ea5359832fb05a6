//! An API server in this process that does as it is told: it keeps objects, sends watches, and fails on demand. A pod is
//! ready, and a deleted one gone, at once.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::sync::Notify;

/// How a request fails.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// It never arrives, and no answer comes.
    Lost,
    /// It is done, and no answer comes.
    Unanswered,
    /// It is done, and the answer is nonsense.
    Garbled,
    /// It is not done: too many requests.
    Busy,
    /// It is not done: an internal error.
    Broken,
    /// It is not done: a proxy in between has something to say.
    Proxied,
    /// It is not done: a proxy in between does not know the path.
    Misled,
    /// It is not done: a quota does not allow it, whether or not the object is there.
    Denied,
    /// It is not done: a webhook says that the object is there.
    Taken,
    /// It is begun and never ends, unless by force.
    Stubborn,
}

impl Fault {
    /// Those that pass.
    pub const ALL: [Self; 7] =
        [Self::Lost, Self::Unanswered, Self::Garbled, Self::Busy, Self::Broken, Self::Proxied, Self::Misled];
}

/// Which requests fail: by their number, from 0, and their name (`create pods`).
type Plan = dyn Fn(usize, &str) -> Option<Fault> + Send + Sync;

/// The API server.
#[derive(Clone)]
pub struct FakeKube(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    changed: Notify,
    plan: Box<Plan>,
}

#[derive(Default)]
struct State {
    version: u64,
    /// By their paths.
    objects: BTreeMap<String, Value>,
    /// What happened, as watches tell it: the path of the collection, and the line.
    history: Vec<(u64, String, Value)>,
    requests: Vec<String>,
}

impl State {
    fn put(&mut self, path: &str, mut object: Value, what: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(path, what, &object);
        self.objects.insert(path.to_owned(), object.clone());
        object
    }

    fn tell(&mut self, path: &str, what: &str, object: &Value) {
        let collection = path.rsplit_once('/').unwrap().0.to_owned();
        self.history.push((self.version, collection, json!({"type": what, "object": object})));
    }

    fn remove(&mut self, path: &str) -> Option<Value> {
        let mut object = self.objects.remove(path)?;
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        self.tell(path, "DELETED", &object);
        Some(object)
    }
}

impl FakeKube {
    /// One that fails as planned.
    pub fn new(plan: impl Fn(usize, &str) -> Option<Fault> + Send + Sync + 'static) -> Self {
        let inner = Inner { state: Mutex::default(), changed: Notify::new(), plan: Box::new(plan) };
        Self(Arc::new(inner))
    }

    /// A client of it.
    pub fn client(&self) -> kube::Client {
        let this = self.clone();
        let service = tower::service_fn(move |request: Request<kube::client::Body>| {
            let this = this.clone();
            async move { Ok::<_, std::convert::Infallible>(this.answer(request).await) }
        });
        kube::Client::new(service, "default")
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// The names of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        self.state().requests.clone()
    }

    /// The names of all objects of a kind.
    pub fn names(&self, plural: &str) -> Vec<String> {
        let part = format!("/{plural}/");
        let state = self.state();
        state.objects.keys().filter_map(|path| path.split_once(&part)).map(|(_, name)| name.to_owned()).collect()
    }

    /// Puts an object there, as if somebody else had created it.
    pub fn put(&self, path: &str, object: Value) {
        self.state().put(path, object, "ADDED");
        self.0.changed.notify_waiters();
    }

    async fn answer(&self, request: Request<kube::client::Body>) -> Response<Body> {
        let (head, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (path, query) = (head.uri.path().to_owned(), head.uri.query().unwrap_or_default().to_owned());
        let watches = query.contains("watch=true");
        let name = format!("{} {}", if watches { "WATCH".to_owned() } else { head.method.to_string() }, plural(&path));
        let number = {
            let mut state = self.state();
            state.requests.push(name.clone());
            state.requests.len() - 1
        };
        let fault = (self.0.plan)(number, &name);
        match fault {
            Some(Fault::Lost) => return std::future::pending().await,
            Some(Fault::Busy) => return status(StatusCode::TOO_MANY_REQUESTS, "", "too many requests"),
            Some(Fault::Broken) => return status(StatusCode::INTERNAL_SERVER_ERROR, "", "etcdserver: leader changed"),
            Some(Fault::Denied) => return status(StatusCode::FORBIDDEN, "Forbidden", "exceeded quota: pods=0"),
            Some(Fault::Taken) => return status(StatusCode::CONFLICT, "AlreadyExists", "a webhook says so"),
            Some(Fault::Proxied) => {
                let answer = Response::builder().status(StatusCode::BAD_GATEWAY);
                return answer.body(Body::from("<html>Bad gateway</html>")).unwrap();
            }
            Some(Fault::Misled) => {
                let answer = Response::builder().status(StatusCode::NOT_FOUND);
                return answer.body(Body::from("404 page not found")).unwrap();
            }
            _ => {}
        }
        let answer = match fault {
            Some(Fault::Stubborn) if body["gracePeriodSeconds"] != 0 => self.go(&path),
            _ if watches => self.watch(path, &query),
            _ => self.act(&head.method, &path, body),
        };
        self.0.changed.notify_waiters();
        match fault {
            Some(Fault::Unanswered) => std::future::pending().await,
            Some(Fault::Garbled) => Response::new(Body::from("{\"kind\": \"Po")),
            _ => answer,
        }
    }

    /// An object that is being deleted, and stays.
    fn go(&self, path: &str) -> Response<Body> {
        let mut state = self.state();
        let mut object = state.objects[path].clone();
        object["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        json_answer(StatusCode::OK, &state.put(path, object, "MODIFIED"))
    }

    fn act(&self, method: &Method, path: &str, body: Value) -> Response<Body> {
        let mut state = self.state();
        let found = state.objects.get(path).cloned();
        match (method, found) {
            (&Method::POST, _) => {
                let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
                if state.objects.contains_key(&path) {
                    return status(StatusCode::CONFLICT, "AlreadyExists", "it already exists");
                }
                let mut object = body;
                object["metadata"]["uid"] = format!("uid-{}", state.version).into();
                let created = state.put(&path, object.clone(), "ADDED");
                if plural(&path) == "pods" {
                    object["status"] = json!({
                        "phase": "Running",
                        "podIP": "10.0.0.1",
                        "containerStatuses": [{
                            "name": "notebook", "ready": true, "restartCount": 0, "image": "", "imageID": "",
                            "state": {"running": {}},
                        }],
                    });
                    state.put(&path, object, "MODIFIED");
                }
                json_answer(StatusCode::CREATED, &created)
            }
            (&Method::PATCH, found) => {
                let mut object = body;
                let new = format!("uid-{}", state.version).into();
                object["metadata"]["uid"] = found.as_ref().map_or(new, |found| found["metadata"]["uid"].clone());
                let applied = state.put(path, object, if found.is_some() { "MODIFIED" } else { "ADDED" });
                json_answer(StatusCode::OK, &applied)
            }
            (&Method::DELETE, Some(found)) => {
                let wanted = &body["preconditions"]["uid"];
                if !wanted.is_null() && *wanted != found["metadata"]["uid"] {
                    return status(StatusCode::CONFLICT, "Conflict", "the UID in the precondition is another one");
                }
                state.remove(path);
                json_answer(StatusCode::OK, &found)
            }
            (&Method::GET, Some(found)) => json_answer(StatusCode::OK, &found),
            (&Method::GET, None) if ["pods", "events"].iter().any(|plural| path.ends_with(plural)) => {
                let within = format!("{path}/");
                let items: Vec<_> = state.objects.iter().filter(|(path, _)| path.starts_with(&within)).collect();
                let items: Vec<_> = items.into_iter().map(|(_, object)| object).collect();
                let metadata = json!({"resourceVersion": state.version.to_string()});
                json_answer(StatusCode::OK, &json!({"metadata": metadata, "items": items}))
            }
            _ => {
                let name = path.rsplit_once('/').unwrap().1;
                let details = json!({"kind": plural(path), "name": name});
                let status = json!({"kind": "Status", "code": 404, "reason": "NotFound", "details": details});
                json_answer(StatusCode::NOT_FOUND, &status)
            }
        }
    }

    /// What happened next in a collection, as soon as it has happened.
    async fn after(&self, collection: &str, version: u64) -> (u64, Value) {
        loop {
            let changed = self.0.changed.notified();
            let next = |(at, of, _): &&(u64, String, Value)| *at > version && of == collection;
            if let Some((at, _, line)) = self.state().history.iter().find(next) {
                return (*at, line.clone());
            }
            changed.await;
        }
    }

    fn watch(&self, path: String, query: &str) -> Response<Body> {
        let version = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion=")).unwrap();
        let from: u64 = version.parse().unwrap();
        let lines = futures_util::stream::unfold((self.clone(), path, from), |(this, path, from)| async move {
            let (version, line) = this.after(&path, from).await;
            Some((Ok::<_, std::io::Error>(format!("{line}\n")), (this, path, version)))
        });
        Response::new(Body::from_stream(lines))
    }
}

/// The kind that a path is about.
fn plural(path: &str) -> &str {
    let mut parts = path.split('/').skip_while(|part| *part != "namespaces").skip(2);
    parts.next().unwrap_or("namespaces")
}

fn json_answer(code: StatusCode, value: &Value) -> Response<Body> {
    Response::builder().status(code).body(Body::from(value.to_string())).unwrap()
}

fn status(code: StatusCode, reason: &str, message: &str) -> Response<Body> {
    let status = json!({"kind": "Status", "code": code.as_u16(), "reason": reason, "message": message});
    json_answer(code, &status)
}
