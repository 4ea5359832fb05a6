//! How a server is ended: asked, told, and then made to. The supervisor climbs this ladder, and Outpost where the
//! supervisor is gone.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};

/// How long a server has after each signal.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
pub struct Patience {
    /// After SIGINT.
    pub interrupt: Duration,
    /// After SIGTERM.
    pub term: Duration,
    /// After SIGKILL.
    pub kill: Duration,
}

/// Where on the ladder we are.
#[derive(Debug)]
pub struct Ladder {
    rungs: std::vec::IntoIter<(Signal, Duration)>,
    due: Instant,
}

impl Ladder {
    /// The foot of the ladder.
    #[must_use]
    pub fn new(patience: Patience, now: Instant) -> Self {
        let rungs = vec![
            (Signal::SIGINT, patience.interrupt),
            (Signal::SIGTERM, patience.term),
            (Signal::SIGKILL, patience.kill),
        ];
        Self { rungs: rungs.into_iter(), due: now }
    }

    /// The signal that is to be sent now, if its time has come; each is answered once.
    pub fn step(&mut self, now: Instant) -> Option<Signal> {
        if now < self.due {
            return None;
        }
        let (signal, patience) = self.rungs.next()?;
        self.due = now + patience;
        Some(signal)
    }

    /// Whether all signals were sent and the time after the last one is over.
    #[must_use]
    pub fn is_over(&self, now: Instant) -> bool {
        self.rungs.len() == 0 && now >= self.due
    }
}

impl Patience {
    /// All of it.
    #[must_use]
    pub fn total(self) -> Duration {
        self.interrupt + self.term + self.kill
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_rung_after_the_other() {
        let second = Duration::from_secs(1);
        let now = Instant::now();
        let mut ladder = Ladder::new(Patience { interrupt: 10 * second, term: 5 * second, kill: 5 * second }, now);
        let mut sent = Vec::new();
        for at in 0..30 {
            if let Some(signal) = ladder.step(now + at * second) {
                sent.push((at, signal));
            }
            assert_eq!(ladder.is_over(now + at * second), at >= 20);
        }
        assert_eq!(sent, [(0, Signal::SIGINT), (10, Signal::SIGTERM), (15, Signal::SIGKILL)]);
    }
}
