//! Tokens, and what every request has in common.

use chrono::TimeDelta;
use insta::{assert_json_snapshot, assert_snapshot};
use outpost::admin::{authenticate, tokens};
use outpost::clock::Clock;
use outpost::config::Config;
use outpost::error::Error;
use rstest::rstest;

use super::*;
use crate::support::eventually;

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn a_token_is_valid_until_it_expires_or_is_revoked(#[case] kind: Kind) {
    let Some(db) = TestDb::new(kind).await else { return };
    let clock = Clock::manual(Clock::System.now());
    let store = db.store(clock.clone()).await;
    let config = Config::parse("").unwrap();
    let admin = Admin { store: &store, config: &config, actor: Actor::Cli("ada".into()) };
    let (token, end) = admin.add_token("bill", TokenScope::Read, Some(TimeDelta::hours(1))).await.unwrap();
    assert_eq!(end, Some(clock.now() + TimeDelta::hours(1)));
    let header = format!("Bearer {}", token.expose_secret());
    let who = async || authenticate(&store, Some(header.as_bytes())).await;
    let used = async || tokens(&store).await.unwrap().remove(0).used_at;

    assert_eq!(used().await, None);
    assert_eq!(who().await.unwrap(), (Actor::Token("bill".into()), TokenScope::Read));
    let first = clock.now();
    clock.advance(TimeDelta::seconds(59));
    who().await.unwrap();
    assert_eq!(used().await, Some(first), "noted once a minute");
    clock.advance(TimeDelta::seconds(1));
    who().await.unwrap();
    assert_eq!(used().await, Some(clock.now()));
    clock.advance(TimeDelta::hours(1));
    assert!(matches!(who().await, Err(Error::Unauthorized(_))));
    assert!(tokens(&store).await.unwrap()[0].expired);

    let again = admin.add_token("bill", TokenScope::Write, None).await.unwrap_err();
    assert_eq!(again.to_string(), r#"there is a token "bill" already"#);
    for bad in ["", "a b", "a:b", "ü", &"x".repeat(101)] {
        assert!(admin.add_token(bad, TokenScope::Read, None).await.is_err(), "{bad}");
    }
    admin.revoke_token("bill").await.unwrap();
    assert_eq!(admin.revoke_token("bill").await.unwrap_err().to_string(), r#"there is no token "bill""#);
    let (second, _) = admin.add_token("bill", TokenScope::Write, None).await.unwrap();
    assert!(who().await.is_err(), "one of the same name is another one");
    let header = format!("Bearer {}", second.expose_secret());
    assert_eq!(authenticate(&store, Some(header.as_bytes())).await.unwrap().1, TokenScope::Write);

    // What was not done is not in the table.
    let deeds = store.deeds(None, 100).await.unwrap();
    let actions: Vec<_> = deeds.iter().map(|deed| format!("{} {} {}", deed.actor, deed.action, deed.subject)).collect();
    assert_eq!(actions, ["cli:ada token.add bill", "cli:ada token.revoke bill", "cli:ada token.add bill"]);
    let said = format!("{deeds:?}{:?}", store.tokens().await.unwrap());
    let secret = token.expose_secret().splitn(3, '_').nth(2).unwrap();
    assert!(!said.contains(secret), "{said}");
}

#[tokio::test]
async fn mistakes_are_problem_details() {
    let site = Site::start(Kind::Sqlite, "[http]\nbody_limit = 1024").await.unwrap();
    let send = async |request: RequestBuilder| site.outpost.send(request).await;
    let writer = site.writer.clone();
    let request = |method, path: &str| site.request(method, path, &writer);

    let anonymous = send(client().get(format!("{}/api/v1/hubs", site.outpost.admin_url))).await;
    assert_eq!(anonymous.headers["www-authenticate"], "Bearer");
    assert_json_snapshot!(anonymous.body, {".instance" => "id"}, @r#"
    {
      "type": "about:blank",
      "title": "Unauthorized",
      "status": 401,
      "detail": "A token is needed: `Authorization: Bearer …`. `outpost token add` makes one.",
      "instance": "id"
    }
    "#);
    let forbidden = send(site.request(Method::POST, "/reload", &site.reader)).await;
    assert_snapshot!(problem(&forbidden, 403), @"This token may only read; `outpost token add --scope write` makes one that may write.");
    for path in ["", "/", "/nothing", "/hubs/", "/hubs/a/b/c", "/services/x", "/hubs/%ff/rotate"] {
        let reply = send(request(Method::GET, path)).await;
        assert!(matches!(reply.status.as_u16(), 404 | 405), "{path}: {:?}", reply.status);
        problem(&reply, reply.status.as_u16());
    }
    let method = send(request(Method::PATCH, "/hubs")).await;
    assert_snapshot!(problem(&method, 405), @"This path does not know this method.");
    assert_eq!(method.headers["allow"], "GET,HEAD,POST");
    let kind = send(request(Method::POST, "/hubs").header("content-type", "text/plain").body("{}")).await;
    assert_snapshot!(problem(&kind, 415), @"The body has to be application/json (or application/yaml where a document of flavors or credits is expected), and Content-Type has to say so.");
    let large = send(request(Method::POST, "/hubs").json(&json!({ "name": "x".repeat(2000) }))).await;
    assert_snapshot!(problem(&large, 413), @"The body of a request may have at most 1024 bytes");
    let syntax = send(request(Method::POST, "/hubs").header("content-type", "application/json").body("{")).await;
    assert_snapshot!(problem(&syntax, 422), @"The body: EOF while parsing an object at line 1 column 1.");
    let key = send(request(Method::POST, "/hubs").json(&json!({ "nam": "x" }))).await;
    assert_snapshot!(problem(&key, 422), @"The body: unknown field `nam`, expected `name` at line 1 column 6.");
    for query in ["limit=0", "limit=1001", "limit=x", "after=x", "nope=1", "limit=1&limit=2", "after=%00"] {
        let reply = send(request(Method::GET, &format!("/audit?{query}"))).await;
        problem(&reply, 422);
    }

    for path in ["/healthz", "/readyz", "/metrics"] {
        let open = send(client().get(format!("{}{path}", site.outpost.admin_url))).await;
        assert_eq!(open.status, 200, "{path} needs no token");
    }
    let hubs = send(client().get(format!("{}/api/v1/hubs", site.outpost.url)).bearer_auth(&writer)).await;
    assert_eq!(hubs.status, 404, "not where hubs are");
    site.outpost.outpost.store.close().await;
    let down = send(request(Method::GET, "/hubs")).await;
    assert_snapshot!(problem(&down, 503), @"Outpost's database does not answer just now. Please try again in a minute.");
}

#[rstest]
#[case::sqlite(Kind::Sqlite)]
#[case::postgres(Kind::Postgres)]
#[tokio::test]
async fn deeds_are_read_page_by_page(#[case] kind: Kind) {
    let Some(site) = Site::start(kind, "").await else { return };
    for name in ["a", "b", "c"] {
        assert_eq!(site.post("/hubs", &json!({ "name": name })).await.status, 201);
    }
    let (mut subjects, mut path) = (Vec::new(), "/audit?limit=2".to_owned());
    loop {
        let page = site.get(&path).await.body;
        let deeds = page["deeds"].as_array().unwrap();
        subjects.extend(deeds.iter().map(|deed| deed["subject"].as_str().unwrap().to_owned()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/audit?limit=2&after={next}");
    }
    assert_eq!(subjects, ["c", "b", "a", "changer", "looker"]);
}

#[tokio::test]
async fn a_change_is_finished_without_its_client() {
    use tokio::io::AsyncWriteExt as _;
    let site = Site::start(Kind::Sqlite, "").await.unwrap();
    let address = site.outpost.admin_url.trim_start_matches("http://");
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = r#"{"name": "site"}"#;
    let head = format!(
        "POST /api/v1/hubs HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        site.writer,
        body.len()
    );
    client.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    drop(client);
    eventually("the hub has a password", || async {
        let hubs = site.get("/hubs").await.body;
        hubs["hubs"].as_array().unwrap().iter().any(|hub| hub["hub"] == "site" && hub["passwords"] == 1).then_some(())
    })
    .await;
    assert_eq!(site.deeds().await[0], json!(["token:changer", "hub.add", "site", {}]));
}
