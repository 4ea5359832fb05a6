//! The HTTP API: the URL table and the layer stack, each in one function.
//!
//! Hubs talk to [`router`], probes and Prometheus to [`admin::router`] on a listener of its own.

pub mod admin;
mod body;
mod caller;
mod error;
mod flavors;
mod observe;
mod openapi;
mod path;
mod serve;
mod services;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::MatchedPath;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::routing::{get, post};
use serde::Deserialize;
use tower_http::catch_panic::CatchPanicLayer;

pub use self::openapi::document as openapi_document;
pub use self::serve::{Listener, Tls};
use crate::outpost::Outpost;

/// `[http]`.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where hubs reach the API. Default: loopback, port 8080.
    pub listen: SocketAddr,
    /// Where `/healthz`, `/readyz`, `/metrics` and the admin API are. Default: loopback, port 8081. It speaks no TLS: a
    /// proxy has to, where tokens of the admin API would cross a network.
    pub admin_listen: SocketAddr,
    /// A path that every URL is reachable below as well, for example `/outpost`.
    pub base_path: String,
    /// The largest body of a request, in bytes.
    pub body_limit: usize,
    /// How long a client may take for the head and for the body of a request.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long Outpost goes on as before, but says that it is not ready, when it is asked to stop: whoever sends it requests
    /// has to notice.
    #[serde(with = "humantime_serde")]
    pub drain_delay: Duration,
    /// How long requests in flight may take to end when Outpost stops, after `drain_delay`.
    #[serde(with = "humantime_serde")]
    pub shutdown_timeout: Duration,
    /// The certificate chain (PEM). With it and `tls_key` the API is served by HTTPS.
    pub tls_cert: Option<PathBuf>,
    /// The private key (PEM).
    pub tls_key: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            admin_listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)),
            base_path: String::new(),
            body_limit: 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            drain_delay: Duration::ZERO,
            shutdown_timeout: Duration::from_secs(20),
            tls_cert: None,
            tls_key: None,
        }
    }
}

impl Settings {
    /// Checks what needs no file.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn check(&self) -> Result<(), String> {
        let path = self.base_path.as_str();
        let plain = |segment: &str| {
            !segment.is_empty() && segment.chars().all(|c| c.is_ascii_alphanumeric() || "-._~".contains(c))
        };
        let sound = path.strip_prefix('/').is_some_and(|path| path.trim_end_matches('/').split('/').all(plain));
        if !path.trim_end_matches('/').is_empty() && !sound {
            return Err("base_path: has to be a plain path that begins with a slash, for example /outpost".to_owned());
        }
        let first = path.split('/').nth(1).unwrap_or_default();
        if ["services", "flavors", "userflavors", "credits", "usercredits", "ping", "openapi.json"].contains(&first) {
            return Err(format!("base_path: must not begin with /{first}, which is a path of the API itself"));
        }
        if self.listen == self.admin_listen && self.listen.port() != 0 {
            return Err("admin_listen: has to be another address than listen".to_owned());
        }
        if self.request_timeout.is_zero() {
            return Err("request_timeout: must not be 0s".to_owned());
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err("tls_cert and tls_key: there have to be both or neither".to_owned());
        }
        if self.body_limit < 1024 {
            return Err("body_limit: has to be at least 1024 bytes".to_owned());
        }
        Ok(())
    }
}

/// The state of all handlers.
pub(crate) type App = Arc<Outpost>;

/// Every URL that a hub can use, each with and without a slash at its end.
fn routes() -> Router<App> {
    let services = post(services::start).get(services::list);
    Router::new()
        .route("/ping", get(services::ping))
        .route("/ping/", get(services::ping))
        .route("/services", services.clone())
        .route("/services/", services)
        // `{name}/{start_id}` with names that may be empty or hold slashes: see `path`.
        .route("/services/{*path}", get(services::poll).delete(services::stop))
        .route("/flavors", get(flavors::flavors))
        .route("/flavors/", get(flavors::flavors))
        .route("/userflavors", post(flavors::user_flavors))
        .route("/userflavors/", post(flavors::user_flavors))
        .route("/credits", get(flavors::credits))
        .route("/credits/", get(flavors::credits))
        .route("/usercredits", post(flavors::user_credits))
        .route("/usercredits/", post(flavors::user_credits))
        .route("/openapi.json", get(openapi::serve))
        .fallback(not_found)
        .method_not_allowed_fallback(method_not_allowed)
}

/// The API below the root and below the base path, with its layers. The last layer is the first to see a request.
pub fn router(outpost: App) -> Router {
    let base_path = outpost.config.load().http.base_path.trim_end_matches('/').to_owned();
    let routes = if base_path.is_empty() { routes() } else { routes().nest(&base_path, routes()) };
    routes
        .layer(CatchPanicLayer::custom(error::panicked))
        .layer(axum::middleware::from_fn(observe::no_head))
        .layer(axum::middleware::from_fn_with_state(outpost.clone(), observe::observe))
        .with_state(outpost)
}

async fn not_found() -> Response {
    error::detail(StatusCode::NOT_FOUND, "Not Found")
}

async fn method_not_allowed(path: MatchedPath) -> Response {
    let mut response = error::detail(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(observe::allowed(path.as_str())));
    response
}
