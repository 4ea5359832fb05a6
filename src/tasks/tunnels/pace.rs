//! How fast one hub is asked: a hub that answers is asked more at once, one that does not is left in peace.

use std::time::{Duration, Instant};

/// The longest pause.
const LONGEST: Duration = Duration::from_secs(300);

/// The pause before a question that failed so many times, once at least, is asked again: a second, doubled each time, up to five
/// minutes, and varied so that not all are asked at the same time.
pub(super) fn pause(failures: u32) -> Duration {
    let pause = Duration::from_secs(1 << failures.clamp(1, 16).saturating_sub(1));
    pause.min(LONGEST).mul_f64(0.75 + 0.5 * rand::random::<f64>())
}

/// How many questions one hub may be asked at once.
#[derive(Debug)]
pub(super) struct Pace {
    at_once: usize,
    most: usize,
    silences: u32,
    until: Option<Instant>,
}

impl Pace {
    /// Begins with one question.
    pub(super) const fn new(most: usize) -> Self {
        Self { at_once: 1, most, silences: 0, until: None }
    }

    /// Whether one more may be asked beside those that are under way.
    pub(super) fn allows(&self, under_way: usize, now: Instant) -> bool {
        under_way < self.at_once && self.until.is_none_or(|until| until <= now)
    }

    /// The hub answered: one more at once, so that their number doubles with each round.
    pub(super) fn answered(&mut self) {
        self.at_once = (self.at_once + 1).min(self.most);
        (self.silences, self.until) = (0, None);
    }

    /// The hub did not answer: it is asked one question after a pause, which is given if this one begins it.
    pub(super) fn silent(&mut self, now: Instant) -> Option<Duration> {
        self.at_once = 1;
        // What was asked together is silent together.
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        self.silences = self.silences.saturating_add(1);
        let pause = pause(self.silences);
        self.until = Some(now + pause);
        Some(pause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_bound() {
        for (failures, expected) in
            [(0, 1.0), (1, 1.0), (2, 2.0), (5, 16.0), (9, 256.0), (10, 300.0), (u32::MAX, 300.0)]
        {
            let seconds = pause(failures).as_secs_f64();
            assert!((expected * 0.7..expected * 1.3).contains(&seconds), "{failures}: {seconds}");
        }
    }

    #[test]
    fn a_hub_that_answers_is_asked_more_and_a_silent_one_is_left_in_peace() {
        let now = Instant::now();
        let mut pace = Pace::new(4);
        let at_once = |pace: &Pace, now| (0..10).take_while(|under_way| pace.allows(*under_way, now)).count();
        let mut seen = Vec::new();
        for _ in 0..5 {
            seen.push(at_once(&pace, now));
            pace.answered();
        }
        assert_eq!(seen, [1, 2, 3, 4, 4]);
        let pause = pace.silent(now).unwrap();
        assert_eq!(pace.silent(now), None, "the rest of what was asked together");
        assert_eq!((at_once(&pace, now), at_once(&pace, now + pause)), (0, 1));
        assert!(pace.silent(now + pause).unwrap() > pause, "the next pause is longer");
        pace.answered();
        assert_eq!(at_once(&pace, now), 2);
    }
}
