//! The admin API: every resource, on both databases.

mod access;
mod definitions;
mod hubs;
mod services;
mod usage;

use outpost::admin::Admin;
use outpost::auth::TokenScope;
use outpost::model::Actor;
use reqwest::header::CONTENT_TYPE;
use reqwest::{Method, RequestBuilder};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::support::server::{Reply, body, client};
use crate::support::{Kind, TestDb, TestOutpost};

/// An Outpost, and tokens for its admin API: `looker` may read, `changer` may write.
pub struct Site {
    pub outpost: TestOutpost,
    pub reader: String,
    pub writer: String,
}

impl Site {
    pub async fn start(kind: Kind, toml: &str) -> Option<Self> {
        let outpost = TestOutpost::start_with(TestDb::new(kind).await?, toml).await;
        let config = outpost.outpost.config.load_full();
        let admin = Admin { store: &outpost.outpost.store, config: &config, actor: Actor::Cli("test".into()) };
        let (reader, _) = admin.add_token("looker", TokenScope::Read, None).await.unwrap();
        let (writer, _) = admin.add_token("changer", TokenScope::Write, None).await.unwrap();
        let [reader, writer] = [reader, writer].map(|token| token.expose_secret().to_owned());
        Some(Self { outpost, reader, writer })
    }

    pub fn request(&self, method: Method, path: &str, token: &str) -> RequestBuilder {
        client().request(method, format!("{}/api/v1{path}", self.outpost.admin_url)).bearer_auth(token)
    }

    pub async fn get(&self, path: &str) -> Reply {
        self.outpost.send(self.request(Method::GET, path, &self.reader)).await
    }

    pub async fn delete(&self, path: &str) -> Reply {
        self.outpost.send(self.request(Method::DELETE, path, &self.writer)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Reply {
        self.outpost.send(self.request(Method::POST, path, &self.writer).json(body)).await
    }

    pub async fn put(&self, path: &str, body: &Value) -> Reply {
        self.outpost.send(self.request(Method::PUT, path, &self.writer).json(body)).await
    }

    /// What was done, the newest first, without when.
    pub async fn deeds(&self) -> Vec<Value> {
        let deeds = self.get("/audit").await.body["deeds"].as_array().unwrap().clone();
        deeds.iter().map(|deed| json!([deed["actor"], deed["action"], deed["subject"], deed["detail"]])).collect()
    }

    /// Starts a server of `hub1`.
    pub async fn start_server(&self, name: &str) {
        self.start_flavored(name, "").await;
    }

    /// Starts a server of `hub1` with a flavor.
    pub async fn start_flavored(&self, name: &str, flavor: &str) {
        let mut body = body(name, "1", "http://127.0.0.1:1/hub/api");
        if !flavor.is_empty() {
            body["user_options"]["flavor"] = json!(flavor);
        }
        let started = self.outpost.post("/services", &body).await;
        assert_eq!(started.status, 200, "{:?}", started.body);
    }
}

/// Checks that an answer has this status, and problem details; gives the sentence.
pub fn problem(reply: &Reply, status: u16) -> String {
    assert_eq!(reply.status, status, "{:?}", reply.body);
    assert_eq!(reply.headers[CONTENT_TYPE], "application/problem+json");
    assert_eq!((&reply.body["type"], &reply.body["status"]), (&json!("about:blank"), &json!(status)));
    assert_eq!(reply.body["title"], reply.status.canonical_reason().unwrap());
    assert_eq!(reply.body["instance"].as_str().unwrap(), reply.headers["x-request-id"].to_str().unwrap());
    let detail = reply.body["detail"].as_str().unwrap();
    assert!(!detail.is_empty());
    detail.to_owned()
}
