//! The cluster's API: one client with a rate limit, time-outs, metrics and credentials that are read anew when they expire;
//! the few requests that this backend makes; and patience where trying again helps.

mod denial;
mod layer;
mod pace;
mod patience;

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
pub use self::layer::Limits;
use self::layer::{Home, Layer, made};
use self::pace::Pace;
pub use self::patience::Patience;
use self::patience::Waited;
use crate::metrics::Metrics;

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
    /// What it says.
    ///
    /// # Errors
    /// A sentence: what is wrong with the file or the environment.
    async fn config(&self) -> Result<kube::Config, String> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match (&self.kubeconfig, &self.context) {
            (Some(path), _) => {
                let mistake = |error| format!("kubeconfig: {}: {error}", path.display());
                let file = Kubeconfig::read_from(path).map_err(mistake)?;
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(mistake)
            }
            (None, Some(_)) => {
                kube::Config::from_kubeconfig(&options).await.map_err(|error| format!("context: {error}"))
            }
            (None, None) => kube::Config::infer().await.map_err(|error| {
                format!("kubeconfig: none is given, none is found, and this is no pod with a service account: {error}")
            }),
        }
    }

    /// With its current context by name, if it has one: another one may be current when it is read again.
    async fn pinned(self) -> Self {
        let file = self.kubeconfig.as_ref().map_or_else(Kubeconfig::read, Kubeconfig::read_from);
        let context = self.context.clone().or_else(|| file.ok()?.current_context);
        let pinned = Self { context, ..self.clone() };
        if pinned.config().await.is_ok() { pinned } else { self }
    }
}

/// The API of one cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    timeout: Duration,
    /// Who is first; `None`: these requests do not wait.
    pace: Option<Arc<Pace>>,
    waited: Waited,
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
        let source = source.pinned().await;
        let config = source.config().await?;
        let home = Home { source, address: config.cluster_url.clone() };
        Ok(Self::build(made(config)?, Some(home), limits, metrics))
    }

    /// The cluster that a client talks to.
    #[must_use]
    pub fn new(client: Client, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self::build(client, None, limits, metrics)
    }

    fn build(client: Client, home: Option<Home>, limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let namespace = client.default_namespace().to_owned();
        let layer = Arc::new(Layer::new(client, home, limits, metrics));
        let service = tower::service_fn(move |request| layer.clone().send(request));
        let pace = Some(Arc::new(Pace::new(limits)));
        Self { client: Client::new(service, namespace), timeout: limits.timeout, pace, waited: Waited::default() }
    }

    /// For watches: their requests are few, and what is to be seen must not wait for what is to be done.
    #[must_use]
    pub fn unpaced(&self) -> Self {
        Self { pace: None, ..self.clone() }
    }

    /// For the requests of one who has time for `period`, which passes not while they wait for their turns.
    #[must_use]
    pub fn patient(&self, period: Duration, dropped: CancellationToken) -> (Self, Patience) {
        let waited = Waited::default();
        let patience = Patience::new(Instant::now() + period, waited.clone(), dropped);
        (Self { waited, ..self.clone() }, patience)
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

    /// Deletes an object; `false`: it is not there, or is another one than `id` says, so that it is deleted already.
    ///
    /// # Errors
    /// The API's answer, or that there was none.
    pub async fn delete<K>(
        &self,
        namespace: Option<&str>,
        name: &str,
        id: Option<&str>,
        grace: Option<u32>,
    ) -> Result<bool, ApiError>
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
    ) -> Result<bool, ApiError> {
        let preconditions = id.map(|id| Preconditions { uid: Some(id.to_owned()), resource_version: None });
        let params = DeleteParams { grace_period_seconds: grace, preconditions, ..DeleteParams::background() };
        match self.read::<serde_json::Value>(target, target.request().delete(name, &params)).await {
            Err(error) if error.is_absence_of(name) || id.is_some() && error.code() == Some(409) => Ok(false),
            Err(error) => Err(error),
            Ok(_) => Ok(true),
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
        self.delete_at(&Target::dynamic("delete", resource, Some(namespace)), name, id, None).await.map(drop)
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
        if let Some(pace) = &self.pace {
            let begun = Instant::now();
            pace.turn(target.verb == "delete").await;
            self.waited.add(begun.elapsed());
        }
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
