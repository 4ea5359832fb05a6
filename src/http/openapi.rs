//! The OpenAPI document of the hub's API.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{flavors, services};

#[derive(OpenApi)]
#[openapi(
    info(title = "Outpost", description = "Starts Jupyter servers for remote JupyterHubs. Compatible with JupyterHub Outpost 2.3."),
    paths(
        services::ping, services::start, services::poll, services::stop, services::list,
        flavors::flavors, flavors::user_flavors, flavors::credits, flavors::user_credits,
    ),
    modifiers(&BasicAuthentication),
    security(("hub" = [])),
)]
struct Document;

struct BasicAuthentication;

impl Modify for BasicAuthentication {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        document.components.get_or_insert_default().add_security_scheme("hub", basic);
    }
}

/// The document as JSON, indented.
#[must_use]
pub fn document() -> String {
    Document::openapi().to_pretty_json().unwrap_or_default()
}

/// Serves the document. Needs no credentials: it holds nothing of this installation.
pub(super) async fn serve() -> Response {
    ([("content-type", "application/json")], document()).into_response()
}
