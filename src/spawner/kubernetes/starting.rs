//! How a server is started, or found: create what is missing, then follow the pod until it is ready or never will be.

mod creation;
mod teller;

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::creation::Creation;
use self::teller::Teller;
use super::api::{Patience, one_line};
use super::events::{Line, is_pulling};
use super::failures::{self, Problem};
use super::options::Options;
use super::plan::{self, Place, Telling};
use super::settings::Settings;
use super::view::{Following, Seen, Sighting};
use super::{Kubernetes, place_of, watch};
use crate::error::{Error, Result};
use crate::model::{Handle, Launch, Uid};
use crate::spawner::{Progress, Started};

/// The lines of log that go with a failure.
const LAST_LINES: usize = 20;
/// The first look for a pod that the view does not show, and how often such a look is taken.
const FIRST_LOOK: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(15);
/// An image may take this long before its time becomes the server's.
const LONGEST_PULL: Duration = Duration::from_secs(3600);

impl Kubernetes {
    pub(super) async fn start_server(&self, handle: &Handle, launch: &Launch, progress: &Progress) -> Result<Started> {
        let place = place_of(handle)?;
        let settings = self.settings.load_full();
        let planned = plan::plan(&settings, launch, &place, &self.identity()?);
        self.watch(&place.namespace);
        let following = self.view.follow(&launch.uid, &place.namespace, &place.pod);
        progress.say(5, "Asking the cluster for the server.");

        let begun = Instant::now();
        let plan = match planned {
            Ok(plan) => plan,
            // The settings were changed. A pod that is there already goes on.
            Err(error) => {
                let options = Options::read(&settings.options).map_err(Error::internal)?;
                let time = options.start_timeout;
                let Some(id) = self.pod_of(&launch.uid, &place, Patience::until(begun + time)).await? else {
                    return Err(error);
                };
                watch::recall(&self.cluster, &self.view, &place.namespace, &place.pod).await;
                let waiting = Waiting { backend: self, settings: &settings, place: &place, id, following };
                let teller = Teller::new(progress, Telling::of(&options), begun);
                return waiting.until_ready(teller, Budget::new(time)).await;
            }
        };
        let (start_timeout, telling) = (plan.start_timeout, plan.telling.clone());

        let dropped = CancellationToken::new();
        let _guard = dropped.clone().drop_guard();
        let (cluster, patience) = self.cluster.patient(start_timeout, dropped);
        let creation = Creation {
            cluster,
            settings: settings.clone(),
            capacity: self.capacity.clone(),
            turns: self.turns.clone(),
            uid: launch.uid.clone(),
            place: place.clone(),
            plan,
            patience,
            progress: progress.clone(),
        };
        let created = self.context.tracker.spawn(creation.run()).await.map_err(Error::internal)??;
        if created.found {
            watch::recall(&self.cluster, &self.view, &place.namespace, &place.pod).await;
        }
        // What it took to ask is not the server's fault.
        let budget = Budget::new(start_timeout);
        let waiting = Waiting { backend: self, settings: &settings, place: &place, id: created.pod, following };
        waiting.until_ready(Teller::new(progress, telling, begun), budget).await
    }

    /// The cluster's identifier of a server's pod that is there.
    async fn pod_of(&self, uid: &Uid, place: &Place, patience: Patience) -> Result<Option<String>> {
        let find = || self.cluster.get::<Pod, Sighting>(Some(&place.namespace), &place.pod);
        let found = patience.until_answered(find).await.map_err(|error| creation::refused(&error))?;
        match found {
            Some(pod) if self.is_of(uid, &pod)? && !pod.is_going() => Ok(Some(pod.metadata.uid)),
            _ => Ok(None),
        }
    }
}

/// A start whose pod exists.
struct Waiting<'a> {
    backend: &'a Kubernetes,
    settings: &'a Settings,
    place: &'a Place,
    id: String,
    following: Following,
}

impl Waiting<'_> {
    async fn until_ready(mut self, mut teller: Teller<'_>, mut budget: Budget) -> Result<Started> {
        let mut failing: Option<(Problem, Instant)> = None;
        let mut known = false;
        let mut look = Instant::now() + FIRST_LOOK;
        loop {
            let seen = self.following.seen.borrow_and_update().clone();
            let pod = seen.pod.as_deref().filter(|pod| pod.metadata.uid == self.id);
            teller.tell(pod, &seen.events, &self.id);
            match pod {
                Some(pod) if pod.is_ready() => return self.started(pod),
                // It was there. A list that was begun before it was does not know it.
                None if known => {
                    known = false;
                    self.look(known).await?;
                    continue;
                }
                _ => known = pod.is_some(),
            }
            let now = Instant::now();
            // An event may be lost, or old: the pod knows whether its containers are there.
            budget.note(now, pod.is_some_and(Sighting::is_being_made) && is_pulling(self.events(&seen)));
            let problem = pod.and_then(|pod| failures::problem(pod, &seen.events, self.settings.autoscaler));
            failing = problem.map(|problem| match failing {
                Some((before, since)) if before.class == problem.class => (problem, since),
                _ => (problem, now),
            });
            let mut next = teller.ask_for_patience(now).map_or(look, |again| again.min(look));
            if let Some((problem, since)) = &failing {
                let end = *since + problem.class.patience(&self.settings.fail_after);
                if now >= end {
                    return Err(self.failed(problem.sentence.clone(), problem.container.as_deref(), pod).await);
                }
                next = next.min(end);
            }
            if let Some(end) = budget.end() {
                if now >= end {
                    let why = failing.map(|(problem, _)| problem.sentence).or_else(|| self.last_words(&seen));
                    return Err(self.failed(too_late(budget.whole, why), None, pod).await);
                }
                next = next.min(end);
            }
            tokio::select! {
                changed = self.following.seen.changed() => changed.map_err(Error::internal)?,
                () = tokio::time::sleep_until(next) => {
                    if next == look {
                        look += LOOK;
                        self.look(known).await?;
                    }
                }
            }
        }
    }

    fn events<'a>(&self, seen: &'a Seen) -> impl Iterator<Item = &'a Line> + use<'a> {
        let id = self.id.clone();
        seen.events.iter().map(|line| &**line).filter(move |line| line.object.uid == id)
    }

    fn last_words(&self, seen: &Seen) -> Option<String> {
        let said = self.events(seen).filter(|line| line.kind == "Warning").last()?;
        let what = "The last that the cluster said about it";
        Some(failures::said_by_cluster(what, &one_line(&said.message), failures::TELL))
    }

    /// Asks for a pod that the watch does not show, for whatever reason.
    async fn look(&self, known: bool) -> Result<()> {
        let Place { namespace, pod, .. } = self.place;
        if known && self.backend.is_fresh(namespace) {
            return Ok(());
        }
        match self.backend.cluster.get::<Pod, Sighting>(Some(namespace), pod).await {
            Ok(Some(found)) if found.metadata.uid == self.id => {
                self.backend.view.apply(found);
                Ok(())
            }
            Ok(_) => Err(removed()),
            Err(error) => {
                tracing::warn!(cause = %error, "the pod of a start cannot be looked at");
                Ok(())
            }
        }
    }

    fn started(&self, pod: &Sighting) -> Result<Started> {
        let host = self.place.host.clone().or_else(|| pod.status.pod_ip.clone()).unwrap_or_default();
        at(host, self.place.port)
    }

    async fn failed(&self, message: String, container: Option<&str>, pod: Option<&Sighting>) -> Error {
        let logs = match pod {
            Some(pod) => self.backend.tail(pod, container, LAST_LINES).await.unwrap_or_default(),
            None => Vec::new(),
        };
        Error::Failed { message, logs }
    }
}

/// What a hub is told, who splits it at its one colon.
fn at(host: String, port: u16) -> Result<Started> {
    if host.contains(':') {
        return Err(Error::failed(
            "The address of your server is one of IPv6, which no hub can be told. Please tell the administrators of this \
             system: with `services_enabled` a server has a name.",
        ));
    }
    Ok(Started { host, port })
}

fn removed() -> Error {
    Error::failed("Your server was removed from the cluster while it started.")
}

fn too_late(whole: Duration, why: Option<String>) -> String {
    let late = format!("Your server was not ready within {} seconds.", whole.as_secs());
    match why {
        Some(why) => format!("{late} {why}"),
        None => format!("{late} Please try again, or tell the administrators of this system."),
    }
}

/// The time that a start has left. It does not run while an image is being pulled.
#[derive(Debug)]
struct Budget {
    whole: Duration,
    left: Duration,
    since: Instant,
    pulling: bool,
    pulled: Duration,
}

impl Budget {
    fn new(whole: Duration) -> Self {
        Self { whole, left: whole, since: Instant::now(), pulling: false, pulled: Duration::ZERO }
    }

    fn note(&mut self, now: Instant, pulling: bool) {
        let passed = now - self.since;
        if self.pulling {
            self.pulled += passed;
        } else {
            self.left = self.left.saturating_sub(passed);
        }
        self.since = now;
        self.pulling = pulling && self.pulled < LONGEST_PULL;
    }

    /// When the time is over, as far as is known.
    fn end(&self) -> Option<Instant> {
        (!self.pulling).then_some(self.since + self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hub_is_told_no_address_with_colons() {
        assert_eq!(at("10.0.0.1".to_owned(), 8888).unwrap().host, "10.0.0.1");
        let refusal = at("fd00::1".to_owned(), 8888).unwrap_err().to_string();
        assert!(refusal.contains("IPv6") && refusal.contains("services_enabled"), "{refusal}");
    }

    #[test]
    fn pulling_takes_no_time() {
        let second = Duration::from_secs(1);
        let mut budget = Budget::new(10 * second);
        let begun = budget.since;
        budget.note(begun + 4 * second, true);
        assert_eq!(budget.end(), None);
        budget.note(begun + 1000 * second, true);
        budget.note(begun + 1004 * second, false);
        assert_eq!(budget.end(), Some(begun + 1010 * second));
        budget.note(begun + 1010 * second, true);
        assert_eq!((budget.left, budget.end()), (Duration::ZERO, None));
        budget.note(begun + 1010 * second + LONGEST_PULL, true);
        assert!(budget.end().is_some(), "but not for ever");
    }
}
