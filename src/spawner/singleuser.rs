//! What a single-user server is told in JupyterHub's own variables, whichever backend runs it: where it listens and which
//! certificates it has.

use std::fmt::Display;

use secrecy::ExposeSecret;

use crate::model::{Certificates, Launch};

/// Variables of the three files of `internal_ssl`, with the files' names.
pub const SSL_FILES: [(&str, &str); 3] = [
    ("JUPYTERHUB_SSL_KEYFILE", "ssl.key"),
    ("JUPYTERHUB_SSL_CERTFILE", "ssl.crt"),
    ("JUPYTERHUB_SSL_CLIENT_CA", "notebooks-ca_trust.crt"),
];

/// Where the server has to listen (`JUPYTERHUB_SERVICE_URL`): the hub's scheme and path at our `address`, a host and a port.
#[must_use]
pub fn service_url(launch: &Launch, address: impl Display) -> String {
    let sent = launch.environment.get("JUPYTERHUB_SERVICE_URL").unwrap_or_default();
    let (scheme, rest) = sent.split_once("://").unwrap_or_default();
    let scheme = match scheme {
        "http" | "https" => scheme,
        _ if launch.certificates.is_some() => "https",
        _ => "http",
    };
    let path = rest.find('/').map(|at| &rest[at..]).unwrap_or_else(|| base_url(launch));
    format!("{scheme}://{address}{path}")
}

/// The path of the server's pages.
#[must_use]
pub fn base_url(launch: &Launch) -> &str {
    launch.environment.get("JUPYTERHUB_SERVICE_PREFIX").filter(|path| path.starts_with('/')).unwrap_or("/")
}

/// The texts of the files of [`SSL_FILES`], by name; the authorities are those of the request and the hub's own, as
/// `KubeSpawner` puts them together.
#[must_use]
pub fn ssl_texts(certificates: &Certificates) -> [(&'static str, String); 3] {
    let mut authorities = certificates.cafile.expose_secret().to_owned();
    if let Some(hub) = certificates.trust_bundles.get("hub-ca") {
        if !authorities.ends_with('\n') {
            authorities.push('\n');
        }
        authorities.push_str(hub.expose_secret());
    }
    let [(_, key), (_, certificate), (_, authority)] = SSL_FILES;
    [
        (key, certificates.keyfile.expose_secret().to_owned()),
        (certificate, certificates.certfile.expose_secret().to_owned()),
        (authority, authorities),
    ]
}
