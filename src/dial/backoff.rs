//! Pauses between tries, and saying the same only once.

use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// A connection that lasted this long was a good one.
const GOOD: Duration = Duration::from_secs(10);

/// The pauses between tries to connect: 1 s to 1 min, jittered, so that not all come at once to a server that is back.
#[derive(Debug)]
pub struct Backoff {
    pause: Duration,
    said: Option<String>,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { pause: FIRST, said: None }
    }
}

impl Backoff {
    /// The pause before the next try.
    pub fn pause(&mut self) -> Duration {
        let pause = self.pause.mul_f64(0.75 + 0.5 * rand::random::<f64>());
        self.pause = (self.pause * 2).min(LONGEST);
        pause
    }

    /// Whether a trouble is to be said: it was not the last one that was.
    pub fn is_news(&mut self, trouble: &str) -> bool {
        let news = self.said.as_deref() != Some(trouble);
        self.said = Some(trouble.to_owned());
        news
    }

    /// Begins anew after a connection that was there since `since`.
    pub fn connected(&mut self, since: Instant) {
        self.said = None;
        if since.elapsed() >= GOOD {
            self.pause = FIRST;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_minute() {
        let mut backoff = Backoff::default();
        let pauses: Vec<_> = std::iter::repeat_with(|| backoff.pause()).take(20).collect();
        assert!(pauses[0] < Duration::from_secs(2) && pauses[0] > Duration::from_millis(500));
        assert!(pauses[10..].iter().all(|pause| (45..=75).contains(&pause.as_secs())), "{pauses:?}");
    }

    #[test]
    fn the_same_is_said_once() {
        let mut backoff = Backoff::default();
        assert_eq!(["a", "a", "b", "a"].map(|trouble| backoff.is_news(trouble)), [true, false, true, true]);
        backoff.connected(Instant::now());
        assert!(backoff.is_news("a"));
    }
}
