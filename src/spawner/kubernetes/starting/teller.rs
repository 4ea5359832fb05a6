//! What the user hears while a server starts: the pod's own phases and the cluster's events, each once and in order.

use std::sync::Arc;

use crate::spawner::Progress;
use crate::spawner::kubernetes::events::Line;
use crate::spawner::kubernetes::manifest::NOTEBOOK;
use crate::spawner::kubernetes::view::Sighting;

/// Says what is new.
pub struct Teller<'a> {
    progress: &'a Progress,
    percent: u8,
    phase: u8,
    events: usize,
}

impl<'a> Teller<'a> {
    /// Nothing was said yet.
    pub fn new(progress: &'a Progress) -> Self {
        Self { progress, percent: 10, phase: 0, events: 0 }
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
        for words in new.iter().filter(|line| line.object.uid == id).filter_map(|line| line.words()) {
            self.say(words);
        }
        if self.phase == 1 && phase > 1 {
            self.say("The server was started. Waiting until it is ready.");
            self.phase = 2;
        }
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
