//! `outpost check-config --cluster`: whether the cluster lets Outpost do what it will have to.

use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReviewStatus,
};

use super::api::{ApiError, Cluster, Source};
use super::rights::{Rule, Scope, rules};
use super::settings::Settings;
use super::{limits, settled};
use crate::metrics::Metrics;

/// How many questions are asked at once.
const AT_ONCE: usize = 8;

/// One verb for one resource in one namespace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Right {
    /// What is done.
    pub verb: &'static str,
    /// With what: `pods/log`, `jobs.batch`.
    pub resource: String,
    /// Where; `None`: in the whole cluster.
    pub namespace: Option<String>,
    /// What for.
    pub reason: &'static str,
    /// Whether the cluster allows it.
    pub allowed: bool,
}

/// Asks the cluster of these settings for every right that they need, in the order of the rules.
///
/// # Errors
/// A sentence: the cluster cannot be reached, or does not tell.
pub async fn check(settings: &Settings) -> Result<Vec<Right>, String> {
    let source = Source { kubeconfig: settings.kubeconfig.clone(), context: settings.context.clone() };
    let cluster = Cluster::connect(source, &limits(settings), Arc::new(Metrics::default())).await?;
    let rules = rules(&settled(settings.clone(), &cluster)?);
    let questions = rules.iter().flat_map(|rule| {
        let namespaces = match &rule.scope {
            Scope::Cluster => vec![None],
            Scope::Namespaces(names) => names.iter().map(Some).collect(),
        };
        let cluster = &cluster;
        let of_namespace = move |namespace: Option<&String>| {
            let namespace = namespace.cloned();
            rule.verbs.iter().map(move |verb| ask(cluster, rule, verb, namespace.clone()))
        };
        namespaces.into_iter().flat_map(of_namespace)
    });
    let questions: Vec<_> = questions.collect();
    stream::iter(questions).buffered(AT_ONCE).try_collect().await.map_err(|error: ApiError| error.to_string())
}

async fn ask(cluster: &Cluster, rule: &Rule, verb: &'static str, namespace: Option<String>) -> Result<Right, ApiError> {
    let (resource, subresource) = rule.resource.split_once('/').unzip();
    let attributes = ResourceAttributes {
        group: Some(rule.group.clone()),
        resource: Some(resource.unwrap_or(&rule.resource).to_owned()),
        subresource: subresource.map(str::to_owned),
        verb: Some(verb.to_owned()),
        namespace: namespace.clone(),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let allowed =
        matches!(cluster.create(&review).await?.status, Some(SubjectAccessReviewStatus { allowed: true, .. }));
    let group = if rule.group.is_empty() { String::new() } else { format!(".{}", rule.group) };
    Ok(Right { verb, resource: format!("{}{group}", rule.resource), namespace, reason: rule.reason, allowed })
}
