//! The cluster's API: one client with a rate limit, time-outs, metrics and credentials that are read anew when they expire;
//! the few requests that this backend makes; and patience where trying again helps.

mod denial;
mod layer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::header::RETRY_AFTER;
use futures_util::{Stream, StreamExt as _};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GetParams, ListParams, LogParams, Patch, PatchParams, PostParams,
    Preconditions, WatchEvent, WatchParams,
};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Request;
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use self::denial::{ApiError, Fault, one_line};
use self::layer::Layer;
pub use self::layer::Limits;
use crate::metrics::Metrics;

/// The pauses between tries, where the API server names none.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many objects a page of a list has at most.
const PAGE: u32 = 500;

/// Who applies objects, in the words of server-side apply.
pub const FIELD_MANAGER: &str = "outpost";

/// Where credentials are read from, again when they expire.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The kubeconfig; `None`: as `kubectl` finds it, else the service account of the pod that Outpost runs in.
    pub kubeconfig: Option<PathBuf>,
    /// One of its contexts; `None`: its current one.
    pub context: Option<String>,
}

impl Source {
    /// A client of this cluster. Nothing is asked of it yet.
    ///
    /// # Errors
    /// A sentence: what is wrong with the file or the environment.
    pub async fn client(&self) -> Result<Client, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        let mut config = match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let mistake = |error| format!("kubeconfig: {}: {error}", path.display());
                let file = Kubeconfig::read_from(path).map_err(mistake)?;
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(mistake)?
            }
            (None, Some(_)) => {
                kube::Config::from_kubeconfig(&options).await.map_err(|error| format!("context: {error}"))?
            }
            (None, None) => kube::Config::infer().await.map_err(|error| {
                format!("kubeconfig: none is given, none is found, and this is no pod with a service account: {error}")
            })?,
        };
        // What is worth trying again is decided here, with a deadline.
        config.default_retry = false;
        Client::try_from(config).map_err(|error| format!("the client of the cluster cannot be made: {error}"))
    }
}

/// The API of one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    timeout: Duration,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("namespace", &self.client.default_namespace()).finish_non_exhaustive()
    }
}

impl Cluster {
    /// The cluster of a source. Needs a runtime; nothing is asked of the cluster yet.
    ///
    /// # Errors
    /// A sentence: what is wrong with the file or the environment.
    pub async fn connect(source: Source, limits: &Limits, metrics: Arc<Metrics>) -> Result<Self, String> {
        let client = source.client().await?;
        Ok(Self::build(client, Some(source), limits, metrics))
    }

    /// The cluster that a client talks to.
    #[must_use]
    pub fn new(client: Client, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self::build(client, None, limits, metrics)
    }

    fn build(client: Client, source: Option<Source>, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let namespace = client.default_namespace().to_owned();
        let layer = Arc::new(Layer::new(client, source, limits, metrics));
        let service = tower::service_fn(move |request| layer.clone().send(request));
        Self { client: Client::new(service, namespace), timeout: limits.timeout }
    }

    /// The namespace that the credentials belong to.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.client.default_namespace()
    }

    /// Creates an object in its namespace.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn create<K>(&self, object: &K) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = ()> + Serialize + DeserializeOwned,
    {
        let target = Target::of::<K>("create", object.meta().namespace.as_deref());
        let body = serde_json::to_vec(object).map_err(|error| target.unsound(&error))?;
        let request = target.request().create(&PostParams::default(), body);
        self.read(&target, request).await
    }

    /// An object of kind `K`, if there is one, as far as `T` wants to know it.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn get<K, T>(&self, namespace: Option<&str>, name: &str) -> Result<Option<T>, ApiError>
    where
        K: Resource<DynamicType = ()>,
        T: DeserializeOwned,
    {
        self.get_at(&Target::of::<K>("get", namespace), name).await
    }

    async fn get_at<T: DeserializeOwned>(&self, target: &Target, name: &str) -> Result<Option<T>, ApiError> {
        match self.read(target, target.request().get(name, &GetParams::default())).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_absence_of(name) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// One page of the objects of kind `K`, as far as `T` wants to know them.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn list<K, T>(&self, namespace: Option<&str>, params: &ListParams) -> Result<Page<T>, ApiError>
    where
        K: Resource<DynamicType = ()>,
        T: DeserializeOwned,
    {
        let target = Target::of::<K>("list", namespace);
        self.read(&target, target.request().list(params)).await
    }

    /// What happens to objects of kind `K` after `version`, as far as `T` wants to know them. The stream ends after the
    /// time-out of `params`, or earlier.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn watch<K, T>(
        &self,
        namespace: Option<&str>,
        params: &WatchParams,
        version: &str,
    ) -> Result<impl Stream<Item = Result<WatchEvent<T>, ApiError>> + use<K, T>, ApiError>
    where
        K: Resource<DynamicType = ()>,
        T: DeserializeOwned + Clone,
    {
        let target = Target::of::<K>("watch", namespace);
        let request = target.request().watch(params, version).map_err(|error| target.unsound(&error))?;
        let stream = self.client.request_events::<T>(request).await.map_err(|error| target.failed(error))?;
        Ok(stream.map(move |event| match event {
            Ok(WatchEvent::Error(status)) => Err(target.error(Fault::Denied(status))),
            Ok(event) => Ok(event),
            Err(error) => Err(target.failed(error)),
        }))
    }

    /// All objects, page by page.
    ///
    /// # Errors
    /// The API's answer, or that there was none; objects before that were taken.
    pub async fn each<K, T>(
        &self,
        namespace: Option<&str>,
        params: &ListParams,
        mut take: impl FnMut(T) + Send,
    ) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()>,
        T: DeserializeOwned,
    {
        let mut params = params.clone().limit(PAGE);
        loop {
            let page = self.list::<K, T>(namespace, &params).await?;
            page.items.into_iter().for_each(&mut take);
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                return Ok(());
            }
        }
    }

    /// Changes keys of an object by a merge patch.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn merge<K>(&self, namespace: Option<&str>, name: &str, patch: &serde_json::Value) -> Result<K, ApiError>
    where
        K: Resource<DynamicType = ()> + DeserializeOwned,
    {
        let target = Target::of::<K>("patch", namespace);
        self.read(&target, target.request().patch(name, &PatchParams::default(), &Patch::Merge(patch))).await
    }

    /// Deletes an object, unless it was changed since it was read.
    ///
    /// # Errors
    /// The API's answer, or that there was none: 409 if it was changed.
    pub async fn delete_unchanged<K>(&self, object: &K) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()>,
    {
        let (metadata, target) = (object.meta(), Target::of::<K>("delete", object.meta().namespace.as_deref()));
        let (uid, resource_version) = (metadata.uid.clone(), metadata.resource_version.clone());
        let preconditions = Some(Preconditions { uid, resource_version });
        let params = DeleteParams { preconditions, ..DeleteParams::background() };
        let name = metadata.name.as_deref().unwrap_or_default();
        self.read::<serde_json::Value>(&target, target.request().delete(name, &params)).await.map(drop)
    }

    /// Deletes an object; one that is not there, or that is another one than `id` says, is deleted already.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn delete<K>(
        &self,
        namespace: Option<&str>,
        name: &str,
        id: Option<&str>,
        grace: Option<u32>,
    ) -> Result<(), ApiError>
    where
        K: Resource<DynamicType = ()>,
    {
        self.delete_at(&Target::of::<K>("delete", namespace), name, id, grace).await
    }

    async fn delete_at(
        &self,
        target: &Target,
        name: &str,
        id: Option<&str>,
        grace: Option<u32>,
    ) -> Result<(), ApiError> {
        let preconditions = id.map(|id| Preconditions { uid: Some(id.to_owned()), resource_version: None });
        let params = DeleteParams { grace_period_seconds: grace, preconditions, ..DeleteParams::background() };
        match self.read::<serde_json::Value>(target, target.request().delete(name, &params)).await {
            Err(error) if error.is_absence_of(name) || id.is_some() && error.code() == Some(409) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Ok(()),
        }
    }

    /// Makes an object of any kind what `object` says, by server-side apply.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn apply(&self, object: &DynamicObject, resource: &ApiResource) -> Result<(), ApiError> {
        let target = Target::dynamic("patch", resource, object.metadata.namespace.as_deref());
        let name = object.metadata.name.clone().unwrap_or_default();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let request = target.request().patch(&name, &params, &Patch::Apply(object));
        self.read::<serde_json::Value>(&target, request).await.map(drop)
    }

    /// An object of any kind, if there is one.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn get_any(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
    ) -> Result<Option<DynamicObject>, ApiError> {
        self.get_at(&Target::dynamic("get", resource, Some(namespace)), name).await
    }

    /// Deletes an object of any kind; one that is not there, or that is another one than `id` says, is deleted already.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn delete_any(
        &self,
        resource: &ApiResource,
        namespace: &str,
        name: &str,
        id: Option<&str>,
    ) -> Result<(), ApiError> {
        self.delete_at(&Target::dynamic("delete", resource, Some(namespace)), name, id, None).await
    }

    /// The last lines of a container's log.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn logs(&self, namespace: &str, pod: &str, params: &LogParams) -> Result<String, ApiError> {
        let mut target = Target::of::<k8s_openapi::api::core::v1::Pod>("get", Some(namespace));
        let request = target.request().logs(pod, params);
        target.resource.push_str("/log");
        self.text(&target, request).await
    }

    async fn read<T: DeserializeOwned>(
        &self,
        target: &Target,
        request: Result<Made, kube::core::request::Error>,
    ) -> Result<T, ApiError> {
        let text = self.text(target, request).await?;
        serde_json::from_str(&text).map_err(|error| target.unsound(&error))
    }

    async fn text(
        &self,
        target: &Target,
        request: Result<Made, kube::core::request::Error>,
    ) -> Result<String, ApiError> {
        let request = request.map_err(|error| target.unsound(&error))?;
        let response = self.client.send(request.map(Into::into)).await.map_err(|error| target.silent(&error))?;
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = tokio::time::timeout(self.timeout, response.into_body().collect()).await;
        let body = body
            .map_err(|_| target.silent(&"the answer did not end in time"))?
            .map_err(|error| target.silent(&error))?
            .to_bytes();
        if status.is_success() {
            return String::from_utf8(body.into()).map_err(|error| target.unsound(&error));
        }
        Err(target.error(Fault::answer(status.as_u16(), retry_after, &body)))
    }
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<T> {
    /// What the list is as of, and how to get the next page.
    #[serde(default)]
    pub metadata: ListMeta,
    /// The objects.
    pub items: Vec<T>,
}

type Made = axum::http::Request<Vec<u8>>;

/// What a request is about: for its path, and for sentences.
#[derive(Debug)]
struct Target {
    verb: &'static str,
    resource: String,
    namespace: Option<String>,
    path: String,
}

impl Target {
    fn of<K: Resource<DynamicType = ()>>(verb: &'static str, namespace: Option<&str>) -> Self {
        let (resource, path) = (K::plural(&()).into_owned(), K::url_path(&(), namespace));
        Self { verb, resource, namespace: namespace.map(str::to_owned), path }
    }

    fn dynamic(verb: &'static str, resource: &ApiResource, namespace: Option<&str>) -> Self {
        let path = DynamicObject::url_path(resource, namespace);
        Self { verb, resource: resource.plural.clone(), namespace: namespace.map(str::to_owned), path }
    }

    fn request(&self) -> Request {
        Request::new(&*self.path)
    }

    fn error(&self, fault: Fault) -> ApiError {
        ApiError { verb: self.verb, resource: self.resource.clone(), namespace: self.namespace.clone(), fault }
    }

    fn silent(&self, error: &dyn std::fmt::Display) -> ApiError {
        self.error(Fault::Silent(error.to_string()))
    }

    fn unsound(&self, error: &dyn std::fmt::Display) -> ApiError {
        self.error(Fault::Unsound(error.to_string()))
    }

    fn failed(&self, error: kube::Error) -> ApiError {
        match error {
            kube::Error::Api(status) => self.error(Fault::Denied(status)),
            kube::Error::SerdeError(error) => self.unsound(&error),
            error => self.silent(&error),
        }
    }
}

/// How long requests are tried again: a busy or failing API server is asked again after a pause.
#[derive(Clone, Debug)]
pub struct Patience {
    deadline: Instant,
    dropped: CancellationToken,
}

impl Patience {
    /// Patience until the deadline, or until nobody wants the answer any more.
    #[must_use]
    pub const fn new(deadline: Instant, dropped: CancellationToken) -> Self {
        Self { deadline, dropped }
    }

    /// Patience until the deadline.
    #[must_use]
    pub fn until(deadline: Instant) -> Self {
        Self::new(deadline, CancellationToken::new())
    }

    /// Whether nobody wants the answer any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.dropped.is_cancelled()
    }

    /// Waits; `false`: for that, there is no time.
    pub async fn pause(&self, pause: Duration) -> bool {
        if Instant::now() + pause >= self.deadline {
            return false;
        }
        tokio::select! {
            () = self.dropped.cancelled() => false,
            () = tokio::time::sleep(pause) => true,
        }
    }

    /// Makes a request until it is answered for good. One that is under way is always waited for.
    ///
    /// # Errors
    /// The last error.
    pub async fn until_answered<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, ApiError>
    where
        F: Future<Output = Result<T, ApiError>>,
    {
        let mut pause = FIRST_PAUSE;
        loop {
            let error = match request().await {
                Err(error) if error.may_pass() => error,
                result => return result,
            };
            let wait = error.retry_after().unwrap_or_else(|| pause.mul_f64(0.5 + rand::random::<f64>() / 2.0));
            if !self.pause(wait).await {
                return Err(error);
            }
            tracing::debug!(%error, "the cluster is asked again");
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}
