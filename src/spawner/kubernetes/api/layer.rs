//! What every request to the cluster passes, a watch's too.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::{Method, Request, Response, StatusCode, Uri};
use kube::Client;
use kube::client::Body;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::Source;
use crate::metrics::{KubernetesLabels, Metrics};

/// Credentials that were refused are read again at most this often.
const RENEWAL: Duration = Duration::from_secs(2);

/// How much is asked of the API server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Requests per second in the long run; 0 counts as 1.
    pub rate: u32,
    /// Requests that may come at once; 0 counts as 1.
    pub burst: u32,
    /// How long an answer may take to begin, and then to end.
    pub timeout: Duration,
}

/// The cluster that servers are in, and where credentials for it are found.
#[derive(Debug)]
pub struct Home {
    pub source: Source,
    pub address: Uri,
}

impl Home {
    async fn client(&self) -> Result<Client, String> {
        let config = self.source.config().await?;
        if config.cluster_url != self.address {
            return Err(format!(
                "kubeconfig: it names the cluster {} now, and Outpost's servers are in {}",
                config.cluster_url, self.address
            ));
        }
        made(config)
    }
}

/// A client of a cluster.
pub fn made(mut config: kube::Config) -> Result<Client, String> {
    // What is worth trying again is decided here, with a deadline.
    config.default_retry = false;
    Client::try_from(config).map_err(|error| format!("the client of the cluster cannot be made: {error}"))
}

/// The layer: it sends, waits for the answer's head, counts.
pub struct Layer {
    client: ArcSwap<Client>,
    home: Option<Home>,
    renewed: Mutex<Option<Instant>>,
    timeout: Duration,
    metrics: Arc<Metrics>,
}

impl Layer {
    pub fn new(client: Client, home: Option<Home>, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            client: ArcSwap::from_pointee(client),
            home,
            renewed: Mutex::default(),
            timeout: limits.timeout,
            metrics,
        }
    }

    pub async fn send(self: Arc<Self>, request: Request<Body>) -> Result<Response<Body>, kube::Error> {
        let (verb, resource) = name(request.method(), request.uri().path(), request.uri().query());
        let begun = Instant::now();
        let client = self.client.load_full();
        let answer = tokio::time::timeout(self.timeout, client.send(request)).await;
        let answer = answer.unwrap_or_else(|_| Err(kube::Error::Service("it did not answer in time".into())));
        let code = answer.as_ref().map_or(0, |response| response.status().as_u16());
        self.metrics.kubernetes(KubernetesLabels { verb, resource, code }, begun.elapsed());
        if code == StatusCode::UNAUTHORIZED.as_u16() {
            self.renew(&client).await;
        }
        answer
    }

    /// Reads the credentials anew, if `refused` is still the client that is used.
    async fn renew(&self, refused: &Arc<Client>) {
        let Some(home) = &self.home else { return };
        let mut renewed = self.renewed.lock().await;
        if !Arc::ptr_eq(refused, &self.client.load()) || renewed.is_some_and(|at| at.elapsed() < RENEWAL) {
            return;
        }
        *renewed = Some(Instant::now());
        match home.client().await {
            Ok(client) => self.client.store(Arc::new(client)),
            Err(mistake) => {
                tracing::warn!(mistake, "the cluster refuses Outpost's credentials, and no others can be read")
            }
        }
    }
}

/// A request's verb in the words of RBAC, and the resource that its path names.
fn name(method: &Method, path: &str, query: Option<&str>) -> (&'static str, String) {
    let mut parts = path.trim_matches('/').split('/');
    let rest: Vec<&str> = match parts.next() {
        Some("api") => parts.skip(1).collect(),
        Some("apis") => parts.skip(2).collect(),
        _ => Vec::new(),
    };
    // `namespaces/<namespace>/<resource>`, where there is a resource.
    let rest = if rest.first() == Some(&"namespaces") && rest.len() > 2 { &rest[2..] } else { &rest[..] };
    let (resource, named, sub) = match rest {
        [] => ("discovery", false, None),
        [resource] => (*resource, false, None),
        [resource, _] => (*resource, true, None),
        [resource, _, sub, ..] => (*resource, true, Some(sub)),
    };
    let verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ if query.is_some_and(|query| query.split('&').any(|pair| pair == "watch=true")) => "watch",
        _ if named => "get",
        _ => "list",
    };
    (verb, sub.map_or_else(|| resource.to_owned(), |sub| format!("{resource}/{sub}")))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[tokio::test]
    async fn credentials_for_another_cluster_are_not_taken() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |address: &str, current: &str| {
            let context =
                |name: &str| format!("{{\"name\": \"{name}\", \"context\": {{\"cluster\": \"c\", \"user\": \"u\"}}}}");
            let text = format!(
                "{{\"current-context\": \"{current}\", \"contexts\": [{}, {}],
                \"clusters\": [{{\"name\": \"c\", \"cluster\": {{\"server\": \"{address}\"}}}}],
                \"users\": [{{\"name\": \"u\", \"user\": {{\"token\": \"t\"}}}}]}}",
                context("one"),
                context("two")
            );
            std::fs::write(file.path(), text).unwrap();
        };
        write("http://one.test", "one");
        let source = Source { kubeconfig: Some(file.path().to_owned()), context: None }.pinned().await;
        assert_eq!(source.context.as_deref(), Some("one"));
        let home = Home { address: source.config().await.unwrap().cluster_url, source };
        write("http://one.test", "two");
        assert!(home.client().await.is_ok());
        write("http://two.test", "one");
        let mistake = home.client().await.err().unwrap();
        assert!(mistake.contains("two.test") && mistake.contains("one.test"), "{mistake}");
    }

    #[rstest]
    #[case(Method::POST, "/api/v1/namespaces/a/pods", None, "create", "pods")]
    #[case(Method::GET, "/api/v1/namespaces/a/pods", Some("limit=1"), "list", "pods")]
    #[case(Method::GET, "/api/v1/pods", Some("a=b&watch=true"), "watch", "pods")]
    #[case(Method::GET, "/api/v1/namespaces/a/pods/b", None, "get", "pods")]
    #[case(Method::GET, "/api/v1/namespaces/a/pods/b/log", None, "get", "pods/log")]
    #[case(Method::DELETE, "/api/v1/namespaces/a", None, "delete", "namespaces")]
    #[case(Method::PATCH, "/apis/apps/v1/namespaces/a/deployments/b", None, "patch", "deployments")]
    #[case(
        Method::POST,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        None,
        "create",
        "selfsubjectaccessreviews"
    )]
    #[case(Method::GET, "/version", None, "list", "discovery")]
    fn requests_have_names(
        #[case] method: Method,
        #[case] path: &str,
        #[case] query: Option<&str>,
        #[case] verb: &str,
        #[case] resource: &str,
    ) {
        assert_eq!(name(&method, path, query), (verb, resource.to_owned()));
    }
}
