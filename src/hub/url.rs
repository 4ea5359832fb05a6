//! Which URLs a hub may have called.

use std::net::SocketAddr;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

use crate::model::is_forbidden;

/// Reads the URL of a hub's API.
///
/// # Errors
/// A sentence that says what it has to be.
pub fn base_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text.trim_end_matches('/')).map_err(|error| format!("is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
        return Err("has to be an http or https URL, for example https://hub.example.org/hub/api".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err("has to be a plain URL without user, query and fragment".to_owned());
    }
    if is_forbidden_host(&url) {
        return Err("has to name a host that may be called; link-local addresses may not".to_owned());
    }
    Ok(url)
}

/// Whether `url` is at the same scheme, host and port as `base` and its path below `base`'s. Dots in the path are resolved
/// when a URL is parsed, so that none is left that could lead upwards.
#[must_use]
pub fn is_below(base: &Url, url: &Url) -> bool {
    url.scheme() == base.scheme()
        && url.host() == base.host()
        && url.port_or_known_default() == base.port_or_known_default()
        && url.username().is_empty()
        && url.password().is_none()
        && url.path().strip_prefix(base.path().trim_end_matches('/')).is_some_and(|rest| rest.starts_with('/'))
        && !is_forbidden_host(url)
}

fn is_forbidden_host(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => is_forbidden(address.into()),
        Some(Host::Ipv6(address)) => is_forbidden(address.into()),
        Some(Host::Domain(_)) => false,
        None => true,
    }
}

/// The system's resolver without the addresses that may not be called, so that no name leads to them.
#[derive(Clone, Copy, Debug)]
pub(super) struct PublicResolver;

impl Resolve for PublicResolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| !is_forbidden(address.ip())).collect();
            if allowed.is_empty() {
                return Err("the host's name leads to no address that may be called".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_below_the_api_is_called() {
        let base = base_url("https://hub.example.org/hub/api/").unwrap();
        for good in [
            "https://hub.example.org/hub/api/users/progress/events/ü n/s",
            "https://HUB.example.org:443/hub/api/x",
            "https://hub.example.org/hub/api//x",
        ] {
            assert!(is_below(&base, &Url::parse(good).unwrap()), "{good}");
        }
        for bad in [
            "http://hub.example.org/hub/api/x",
            "https://hub.example.org:8443/hub/api/x",
            "https://hub.example.org/hub/apix",
            "https://hub.example.org/hub/api",
            "https://hub.example.org/hub/api/../x",
            "https://hub.example.org/hub/api/%2e%2e/x",
            "https://hub.example.org/hub/api/%2E./x",
            "https://user@hub.example.org/hub/api/x",
            "https://hub.example.org.evil/hub/api/x",
            "https://hub.example.org@evil/hub/api/x",
            "https://evil/https://hub.example.org/hub/api/x",
        ] {
            assert!(!is_below(&base, &Url::parse(bad).unwrap()), "{bad}");
        }
    }

    #[test]
    fn metadata_addresses_are_no_hub() {
        for bad in [
            "http://169.254.169.254/latest",
            "http://[fe80::1]/x",
            "http://[::ffff:169.254.169.254]/",
            "http://0.0.0.0/",
            "http://0xa9fea9fe/",
            "http://[fd00:ec2::254]/",
            "ftp://hub/x",
            "hub/api",
            "http://user:pw@hub/hub/api",
        ] {
            assert!(base_url(bad).is_err(), "{bad}");
        }
        assert!(base_url("http://127.0.0.1:8081/hub/api").is_ok());
    }
}
