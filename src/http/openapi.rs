//! The OpenAPI document of the hubs' API and of the admin API.

use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{admin, flavors, services};

#[derive(OpenApi)]
#[openapi(
    info(title = "Outpost", description = "Starts Jupyter servers for remote JupyterHubs. Compatible with JupyterHub Outpost 2.3.\n\nThe paths below `/api/v1` are the admin API: they are on the listener of `http.admin_listen`, ask for a token of `outpost token add`, and answer with problem details (RFC 9457) where something is wrong."),
    paths(
        services::ping, services::start, services::poll, services::stop, services::list,
        flavors::flavors, flavors::user_flavors, flavors::credits, flavors::user_credits,
        admin::hubs::list, admin::hubs::add, admin::hubs::rotate, admin::hubs::remove,
        admin::ssh_keys::list, admin::ssh_keys::add, admin::ssh_keys::remove,
        admin::host_keys::list, admin::host_keys::rotate,
        admin::services::list, admin::services::show, admin::services::stop, admin::services::extend,
        admin::definitions::show, admin::definitions::versions, admin::definitions::show_version,
        admin::definitions::replace, admin::definitions::set, admin::definitions::remove, admin::definitions::diff,
        admin::usage::export, admin::explain::explain, admin::reload::reload, admin::audit::list,
    ),
    components(schemas(admin::services::PastServices)),
    modifiers(&Credentials),
    security(("hub" = [])),
)]
struct Document;

struct Credentials;

impl Modify for Credentials {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let basic = SecurityScheme::Http(Http::new(HttpAuthScheme::Basic));
        let bearer = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("hub", basic);
        components.add_security_scheme("admin", bearer);
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
