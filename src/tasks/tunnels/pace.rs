//! How fast one hub is asked: a hub that makes its tunnels quickly is asked more at once, one that does not is left in peace.

use std::time::{Duration, Instant};

/// A hub that takes longer for a tunnel is not asked more at once: its plugin runs processes with limits of a few seconds.
const QUICK: Duration = Duration::from_secs(1);

/// After so many failures without a tunnel between them, a hub is taken to be unable to make any.
const UNABLE: u32 = 3;

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
    /// How many pauses there were since the last tunnel.
    pauses: u32,
    /// How many of them a failure began.
    failures: u32,
    until: Option<Instant>,
}

/// A pause that begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Pause {
    pub(super) time: Duration,
    /// Whether it has just turned out that the hub can make no tunnels.
    pub(super) unable: bool,
}

impl Pace {
    /// Begins with one question.
    pub(super) const fn new(most: usize) -> Self {
        Self { at_once: 1, most, pauses: 0, failures: 0, until: None }
    }

    /// Whether one more may be asked beside those that are under way.
    pub(super) fn allows(&self, under_way: usize, now: Instant) -> bool {
        under_way < self.at_once && self.until.is_none_or(|until| until <= now)
    }

    /// The hub made a tunnel: if that was quick, one more is asked at once, so that their number doubles with each round.
    pub(super) fn made(&mut self, took: Duration) {
        if took <= QUICK {
            self.at_once = (self.at_once + 1).min(self.most);
        }
        (self.pauses, self.failures, self.until) = (0, 0, None);
    }

    /// The hub did not answer: it is asked one question after a pause, which is given if this one begins it.
    pub(super) fn silent(&mut self, now: Instant) -> Option<Pause> {
        self.missed(now, false)
    }

    /// The hub could not make a tunnel, for which it may have stopped the server: as for silence, and after some of them at the
    /// slowest pace until it makes one.
    pub(super) fn failed(&mut self, now: Instant) -> Option<Pause> {
        self.missed(now, true)
    }

    fn missed(&mut self, now: Instant, failed: bool) -> Option<Pause> {
        self.at_once = 1;
        // What was asked together fails together.
        if self.until.is_some_and(|until| now < until) {
            return None;
        }
        self.pauses = self.pauses.saturating_add(1);
        self.failures = self.failures.saturating_add(failed.into());
        let time = pause(if self.failures < UNABLE { self.pauses } else { u32::MAX });
        self.until = Some(now + time);
        Some(Pause { time, unable: failed && self.failures == UNABLE })
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

    fn at_once(pace: &Pace, now: Instant) -> usize {
        (0..10).take_while(|under_way| pace.allows(*under_way, now)).count()
    }

    #[test]
    fn a_hub_that_is_quick_is_asked_more_and_a_silent_one_is_left_in_peace() {
        let now = Instant::now();
        let mut pace = Pace::new(4);
        let mut seen = Vec::new();
        for took in [0, 2000, 1000, 0, 0, 0] {
            seen.push(at_once(&pace, now));
            pace.made(Duration::from_millis(took));
        }
        assert_eq!(seen, [1, 2, 2, 3, 4, 4]);
        let pause = pace.silent(now).unwrap().time;
        assert_eq!(pace.silent(now), None, "the rest of what was asked together");
        assert_eq!((at_once(&pace, now), at_once(&pace, now + pause)), (0, 1));
        assert!(pace.silent(now + pause).unwrap().time > pause, "the next pause is longer");
        pace.made(Duration::ZERO);
        assert_eq!(at_once(&pace, now), 2);
    }

    #[test]
    fn a_hub_that_cannot_make_tunnels_is_asked_as_seldom_as_can_be() {
        let mut now = Instant::now();
        let mut pace = Pace::new(4);
        let mut fail = |pace: &mut Pace| {
            let Pause { time, unable } = pace.failed(now).unwrap();
            assert_eq!((at_once(pace, now), pace.failed(now)), (0, None));
            now += time;
            assert_eq!(at_once(pace, now), 1);
            (time > LONGEST / 2, unable)
        };
        let slow = (true, false);
        assert_eq!([(); 5].map(|()| fail(&mut pace)), [(false, false), (false, false), (true, true), slow, slow]);
        pace.made(Duration::ZERO);
        assert_eq!([(); 3].map(|()| fail(&mut pace)), [(false, false), (false, false), (true, true)]);
    }
}
