//! Volume claims: those of users who come back are found again, those of users who never do are deleted when their time
//! is over. What is stored in them cannot be made again, so that every doubt keeps a claim.

use std::collections::HashSet;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim as Claim, Pod};
use kube::ResourceExt as _;
use kube::api::ListParams;
use serde_json::json;

use super::api::{ApiError, Cluster, Patience};
use super::names::{HUB, INSTALLATION, SPAWNER, USERNAME};
use crate::error::{Error, Result};

/// The annotation of a claim: when it was last known to be in use. Only written where claims are deleted at all.
pub const LAST_USED: &str = "outpost.jupyter.org/last-used";

/// The annotation of one claim of a namespace: when claims were last looked at.
pub const LOOKED_AT: &str = "outpost.jupyter.org/looked-at";

/// How exactly it is known when a claim was last used. A fraction of the shortest retention.
const TOUCH: TimeDelta = TimeDelta::hours(6);

/// Whoever did not look for longer does not know which claims were in use.
const BLIND: TimeDelta = TimeDelta::days(1);

/// The pause between two changes: nobody waits for them.
const LEISURE: Duration = Duration::from_millis(100);

/// What is done about the claim of a start.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Whether it is made where there is none.
    pub is_made: bool,
    /// Whether one without a label of ours is taken, if it is annotated with this user's name.
    pub is_adopted: bool,
    /// When it is used, which nobody has to know where claims are never deleted.
    pub used: Option<DateTime<Utc>>,
}

/// Makes sure that a claim is there and the user's.
///
/// # Errors
/// [`Error::Failed`]: it is not there, belongs to somebody else, or cannot be made.
pub async fn ensure(cluster: &Cluster, wanted: &Claim, terms: &Terms, patience: &Patience) -> Result<()> {
    let (namespace, name) = (wanted.metadata.namespace.as_deref(), wanted.name_any());
    let find = || patience.until_answered(|| cluster.get::<Claim, Claim>(namespace, &name));
    let mut wanted = wanted.clone();
    if let Some(now) = terms.used {
        wanted.annotations_mut().insert(LAST_USED.to_owned(), written(now));
    }
    let found = match find().await.map_err(failed)? {
        Some(found) => found,
        None if !terms.is_made => return Err(absent(&name)),
        None => match patience.until_answered(|| cluster.create(&wanted)).await {
            Ok(_) => return Ok(()),
            // Made by somebody else meanwhile; or the quota is used up, by this claim too.
            Err(denied) if denied.is_conflict() || denied.code() == Some(403) => match find().await.map_err(failed)? {
                Some(found) => found,
                None => return Err(failed(denied)),
            },
            Err(denied) => return Err(failed(denied)),
        },
    };
    usable(&found, &wanted, terms.is_adopted)?;
    let Some(now) = terms.used.filter(|now| is_ours(&found, &wanted) && is_due(&found, *now)) else { return Ok(()) };
    match patience.until_answered(|| note(cluster, &found, LAST_USED, now)).await {
        Ok(noted) => usable(&noted, &wanted, terms.is_adopted),
        Err(error) if error.code() == Some(404) => Err(being_deleted(&name)),
        Err(error) => Err(failed(error)),
    }
}

fn failed(error: ApiError) -> Error {
    tracing::warn!(cause = %error, "a volume claim cannot be had");
    Error::failed(error.sentence())
}

fn absent(name: &str) -> Error {
    Error::failed(format!(
        "The storage \"{name}\" that your server is to have is not there. Please tell the administrators of this system."
    ))
}

fn being_deleted(name: &str) -> Error {
    Error::failed(format!(
        "Your storage \"{name}\" is being deleted. Please try again in a minute, or ask the administrators of this system."
    ))
}

/// Whether this claim may be mounted: it was made for this user of this hub by this installation, or, without a label of
/// ours, for this user by the KubeSpawner of the hub whose claims are adopted.
fn usable(found: &Claim, wanted: &Claim, is_adopted: bool) -> Result<()> {
    let name = found.name_any();
    if found.metadata.deletion_timestamp.is_some() {
        return Err(being_deleted(&name));
    }
    let unlabelled = [INSTALLATION, SPAWNER, HUB].iter().all(|label| !found.labels().contains_key(*label));
    let same_hub = found.labels().get(HUB) == wanted.labels().get(HUB);
    let same_user = found.annotations().get(USERNAME) == wanted.annotations().get(USERNAME);
    if same_user && (unlabelled && is_adopted || is_ours(found, wanted) && same_hub) {
        return Ok(());
    }
    let owner = found.annotations().get(USERNAME);
    if unlabelled && owner.is_none() {
        tracing::warn!(
            claim = name,
            namespace = found.namespace(),
            annotation = USERNAME,
            value = wanted.annotations().get(USERNAME),
            "a volume claim that says nothing about its owner has the name that a server's storage is to have; the annotation \
             with this value gives it to the user"
        );
        return Err(Error::failed(format!(
            "The storage \"{name}\" that your server is to have is not known to be yours. Please tell the administrators of \
             this system."
        )));
    }
    if same_user && unlabelled {
        tracing::warn!(
            claim = name,
            namespace = found.namespace(),
            hub = wanted.labels().get(HUB),
            "a volume claim of this user's name was not made by Outpost; `adopt_claims_of` says whose users have such claims"
        );
        return Err(Error::failed(format!(
            "The storage \"{name}\" that your server is to have was not made for users of your JupyterHub, as far as is known. \
             Please tell the administrators of this system."
        )));
    }
    tracing::warn!(
        claim = name, namespace = found.namespace(), labels = ?found.labels(), owner,
        "a volume claim has the name that a server's storage is to have, and is of another user, hub or installation"
    );
    Err(Error::failed(format!(
        "The storage \"{name}\" that your server is to have belongs to somebody else. Please tell the administrators of \
         this system."
    )))
}

fn is_ours(found: &Claim, wanted: &Claim) -> bool {
    found.labels().get(INSTALLATION) == wanted.labels().get(INSTALLATION)
}

/// Whether its last use is to be noted anew.
fn is_due(claim: &Claim, now: DateTime<Utc>) -> bool {
    time(claim, LAST_USED).is_none_or(|used| now - used > TOUCH)
}

fn time(claim: &Claim, annotation: &str) -> Option<DateTime<Utc>> {
    claim.annotations().get(annotation)?.parse().ok()
}

fn written(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Writes a time on a claim, unless it has been changed or replaced by another of its name.
async fn note(cluster: &Cluster, claim: &Claim, annotation: &str, now: DateTime<Utc>) -> Result<Claim, ApiError> {
    let metadata = json!({"uid": claim.metadata.uid, "annotations": {annotation: written(now)}});
    cluster.merge(claim.metadata.namespace.as_deref(), &claim.name_any(), &json!({"metadata": metadata})).await
}

/// What becomes of a claim.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Fate {
    Keep,
    /// It is noted as used now.
    Note,
    Delete,
}

/// `blind`: nobody looked for so long that what is written of its use is not known to be true.
fn fate(used: Option<DateTime<Utc>>, in_use: bool, blind: bool, retention: TimeDelta, now: DateTime<Utc>) -> Fate {
    let Some(used) = used else { return Fate::Note };
    let age = now - used;
    if blind || in_use {
        return if age > TOUCH { Fate::Note } else { Fate::Keep };
    }
    if age > retention { Fate::Delete } else { Fate::Keep }
}

/// One pass over the claims of this backend in a namespace (`None`: in all): those in use are noted as such, those that
/// were not for `retention` are deleted. Nothing that changes meanwhile is.
///
/// # Errors
/// The cluster does not answer as it should; the rest is done by the next pass.
pub async fn retire(
    cluster: &Cluster,
    namespace: Option<&str>,
    selector: &str,
    retention: Duration,
    now: DateTime<Utc>,
) -> Result<(), ApiError> {
    let retention = TimeDelta::from_std(retention).unwrap_or(TimeDelta::MAX);
    let mut claims: Vec<Claim> = Vec::new();
    let list = ListParams::default().labels(selector);
    cluster.each::<Claim, Claim>(namespace, &list, |claim| claims.push(claim)).await?;
    claims.retain(|claim| claim.metadata.deletion_timestamp.is_none());
    if claims.is_empty() {
        return Ok(());
    }
    let mut mounted = HashSet::new();
    cluster.each::<Pod, Pod>(namespace, &ListParams::default(), |pod| mounted.extend(claims_of(pod))).await?;
    let looked = claims.iter().filter_map(|claim| time(claim, LOOKED_AT)).filter(|looked| *looked <= now).max();
    let blind = looked.is_none_or(|looked| now - looked > BLIND);
    let decide = |claim: &Claim| {
        let in_use = mounted.contains(&(claim.namespace(), claim.name_any()));
        fate(time(claim, LAST_USED), in_use, blind, retention, now)
    };
    let decided: Vec<_> = claims.iter().map(|claim| (claim, decide(claim))).collect();
    let mut all_noted = true;
    for (claim, fate) in &decided {
        let done = match fate {
            Fate::Keep => continue,
            Fate::Note => ignore_changed(note(cluster, claim, LAST_USED, now).await).inspect_err(|_| all_noted = false),
            Fate::Delete => {
                tracing::info!(
                    claim = claim.name_any(), namespace = claim.namespace(), hub.user = ?claim.annotations().get(USERNAME),
                    last_used = claim.annotations().get(LAST_USED),
                    "deleting a volume claim that nobody used for the time of storage_retention"
                );
                ignore_changed(cluster.delete_unchanged(*claim).await)
            }
        };
        // One claim must not keep the others from their due.
        if let Err(error) = done {
            tracing::warn!(claim = claim.name_any(), cause = %error, "a volume claim cannot be changed");
        }
        tokio::time::sleep(LEISURE).await;
    }
    // On a claim that stays; only when all uses are noted is it true.
    match decided.iter().find(|(_, fate)| *fate != Fate::Delete) {
        Some((claim, _)) if all_noted => ignore_changed(note(cluster, claim, LOOKED_AT, now).await),
        _ => Ok(()),
    }
}

/// What was changed or deleted by somebody else meanwhile is looked at by the next pass.
fn ignore_changed<T>(result: Result<T, ApiError>) -> Result<(), ApiError> {
    match result {
        Err(error) if !matches!(error.code(), Some(404 | 409)) => Err(error),
        _ => Ok(()),
    }
}

fn claims_of(pod: Pod) -> Vec<(Option<String>, String)> {
    let (namespace, spec) = (pod.metadata.namespace, pod.spec.unwrap_or_default());
    let claims = spec.volumes.into_iter().flatten().filter_map(|volume| volume.persistent_volume_claim);
    claims.map(|claim| (namespace.clone(), claim.claim_name)).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::Value;

    use super::*;

    fn claim(labels: &Value, annotations: &Value) -> Claim {
        let metadata = json!({"name": "claim-ada", "labels": labels, "annotations": annotations});
        serde_json::from_value(json!({"metadata": metadata})).unwrap()
    }

    fn labels(installation: &str, hub: &str) -> Value {
        json!({INSTALLATION: installation, HUB: hub, SPAWNER: "cluster"})
    }

    #[rstest]
    #[case::of_this_user(labels("i", "hub"), json!({USERNAME: "Ada"}), true)]
    #[case::of_another_backend(json!({INSTALLATION: "i", HUB: "hub", SPAWNER: "other"}), json!({USERNAME: "Ada"}), true)]
    #[case::of_another_user(labels("i", "hub"), json!({USERNAME: "ada"}), false)]
    #[case::of_another_hub(labels("i", "other"), json!({USERNAME: "Ada"}), false)]
    #[case::of_another_installation(labels("j", "hub"), json!({USERNAME: "Ada"}), false)]
    #[case::of_another_user_there(json!({}), json!({USERNAME: "Bob"}), false)]
    #[case::of_nobody(json!({}), json!({}), false)]
    #[case::half_labelled(json!({HUB: "hub"}), json!({USERNAME: "Ada"}), false)]
    fn a_claim_is_its_users(#[case] found: Value, #[case] annotations: Value, #[case] expected: bool) {
        let wanted = claim(&labels("i", "hub"), &json!({USERNAME: "Ada"}));
        for is_adopted in [false, true] {
            assert_eq!(usable(&claim(&found, &annotations), &wanted, is_adopted).is_ok(), expected);
        }
    }

    #[rstest]
    #[case::of_the_user("Ada", true)]
    #[case::of_another_user("Bob", false)]
    fn a_claim_of_a_kubespawner_is_adopted_for_one_hub(#[case] user: &str, #[case] expected: bool) {
        let found = claim(&json!({"component": "singleuser-storage"}), &json!({USERNAME: user}));
        let wanted = claim(&labels("i", "hub"), &json!({USERNAME: "Ada"}));
        assert_eq!(usable(&found, &wanted, true).is_ok(), expected);
        assert!(usable(&found, &wanted, false).is_err());
    }

    #[rstest]
    #[case::of_another_user(json!({USERNAME: "Bob"}), "belongs to somebody else")]
    #[case::of_nobody(json!({}), "is not known to be yours")]
    fn what_is_not_used_is_told(#[case] annotations: Value, #[case] why: &str) {
        let wanted = claim(&labels("i", "hub"), &json!({USERNAME: "Ada"}));
        let sentence = usable(&claim(&json!({}), &annotations), &wanted, true).unwrap_err().to_string();
        assert!(sentence.contains(why), "{sentence}");
    }

    #[test]
    fn a_claim_that_goes_is_not_used() {
        let mut found = claim(&labels("i", "hub"), &json!({USERNAME: "Ada"}));
        let wanted = found.clone();
        found.metadata.deletion_timestamp = serde_json::from_value(json!("2026-11-01T00:00:00Z")).unwrap();
        assert!(usable(&found, &wanted, false).unwrap_err().to_string().contains("is being deleted"));
    }

    #[rstest]
    #[case::unknown(None, false, false, Fate::Note)]
    #[case::fresh(Some(1), false, false, Fate::Keep)]
    #[case::nearly_over(Some(7 * 24), false, false, Fate::Keep)]
    #[case::over(Some(7 * 24 + 1), false, false, Fate::Delete)]
    #[case::over_but_in_use(Some(7 * 24 + 1), true, false, Fate::Note)]
    #[case::in_use_and_noted(Some(5), true, false, Fate::Keep)]
    #[case::over_but_nobody_looked(Some(7 * 24 + 1), false, true, Fate::Note)]
    #[case::fresh_though_nobody_looked(Some(5), false, true, Fate::Keep)]
    #[case::of_the_future(Some(-100), false, false, Fate::Keep)]
    fn fates(#[case] hours: Option<i64>, #[case] in_use: bool, #[case] blind: bool, #[case] expected: Fate) {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let used = hours.map(|hours| now - TimeDelta::hours(hours));
        assert_eq!(fate(used, in_use, blind, TimeDelta::days(7), now), expected);
    }
}
