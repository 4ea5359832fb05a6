//! What the user hears while a server starts: the pod's own phases and the cluster's events, each once and in order.

use std::sync::Arc;

use tokio::time::Instant;

use crate::spawner::Progress;
use crate::spawner::kubernetes::events::Line;
use crate::spawner::kubernetes::manifest::NOTEBOOK;
use crate::spawner::kubernetes::plan::Telling;
use crate::spawner::kubernetes::view::Sighting;

/// Says what is new.
pub struct Teller<'a> {
    progress: &'a Progress,
    percent: u8,
    phase: u8,
    events: usize,
    telling: Telling,
    begun: Instant,
    /// When to say that it takes long.
    slow: Instant,
}

impl<'a> Teller<'a> {
    /// Nothing was said yet.
    pub fn new(progress: &'a Progress, telling: Telling, begun: Instant) -> Self {
        Self { progress, percent: 10, phase: 0, events: 0, slow: begun + telling.slow_after, telling, begun }
    }

    /// Says something.
    pub fn say(&mut self, message: impl Into<String>) {
        self.percent += (90 - self.percent) / 3;
        self.progress.say(self.percent, message);
    }

    /// Says what a pod and the events about it tell that was not said yet.
    pub fn tell(&mut self, pod: Option<&Sighting>, events: &[Arc<Line>], id: &str) {
        let phase = pod.map_or(0, phase);
        if self.phase == 0 && phase > 0 {
            let node = pod.and_then(|pod| pod.spec.node_name.as_deref()).unwrap_or_default();
            self.say(format!("There is a place for the server: the node {node}."));
            self.phase = 1;
        }
        let new = events.get(self.events..).unwrap_or_default();
        self.events = events.len();
        let told = |line: &&Arc<Line>| self.telling.events && line.object.uid == id;
        let words: Vec<_> = new.iter().filter(told).filter_map(|line| line.words()).collect();
        for words in words {
            self.say(words);
        }
        if self.phase == 1 && phase > 1 {
            self.say("The server was started. Waiting until it is ready.");
            self.phase = 2;
        }
    }

    /// Says that it takes long, when it does. The answer is when to say so again.
    pub fn ask_for_patience(&mut self, now: Instant) -> Option<Instant> {
        if self.telling.slow_after.is_zero() {
            return None;
        }
        if now >= self.slow {
            let seconds = (now - self.begun).as_secs().to_string();
            if let Ok(words) = self.telling.slow_words.render(&[("seconds", seconds)].into()) {
                self.progress.say(self.percent, words);
            }
            self.slow = now + self.telling.slow_every;
        }
        Some(self.slow)
    }
}

/// 0: no node yet; 1: there is one; 2: the server's container runs.
fn phase(pod: &Sighting) -> u8 {
    let runs = pod.status.container_statuses.iter().any(|container| {
        container.name == NOTEBOOK && container.state.as_ref().is_some_and(|state| state.running.is_some())
    });
    match (&pod.spec.node_name, runs) {
        (_, true) => 2,
        (Some(node), false) if !node.is_empty() => 1,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Template;

    #[test]
    fn patience_is_asked_for_again_and_again() {
        let (progress, mut said) = Progress::channel();
        let second = Duration::from_secs(1);
        let slow_words = Template::parse("{seconds} seconds", &["seconds"]).unwrap();
        let telling = Telling { events: true, slow_after: 60 * second, slow_every: 5 * second, slow_words };
        let begun = Instant::now();
        let mut teller = Teller::new(&progress, telling.clone(), begun);
        assert_eq!(teller.ask_for_patience(begun), Some(begun + 60 * second));
        for (at, next) in [(60, 65), (62, 65), (70, 75)] {
            assert_eq!(teller.ask_for_patience(begun + at * second), Some(begun + next * second));
        }
        let words: Vec<_> = std::iter::from_fn(|| said.try_recv().ok()).map(|event| event.message).collect();
        assert_eq!(words, ["60 seconds", "70 seconds"]);
        let silent = Telling { slow_after: Duration::ZERO, ..telling };
        assert_eq!(Teller::new(&progress, silent, begun).ask_for_patience(begun + 99 * second), None);
    }
}
