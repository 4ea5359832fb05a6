//! How fast the API server is asked, and who is first.

use std::num::NonZeroU32;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::Mutex;

use super::Limits;

/// Requests get their turns in the order in which they came; but what is to end waits for nothing that is to begin.
#[derive(Debug)]
pub struct Pace {
    /// Who holds this is the next one of those that are not urgent.
    queue: Mutex<()>,
    /// Who holds this is the next one.
    front: Mutex<()>,
    rate: DefaultDirectRateLimiter,
}

impl Pace {
    pub fn new(limits: &Limits) -> Self {
        let at_least_one = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(limits.rate)).allow_burst(at_least_one(limits.burst));
        Self { queue: Mutex::default(), front: Mutex::default(), rate: RateLimiter::direct(quota) }
    }

    /// Waits for a turn. Alone, those who wait at the rate would race, so that some wait for ever.
    pub async fn turn(&self, urgent: bool) {
        let _queue = if urgent { None } else { Some(self.queue.lock().await) };
        let _front = self.front.lock().await;
        self.rate.until_ready().await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::future::join_all;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_in_order_and_ends_wait_for_one_at_most() {
        let pace = Pace::new(&Limits { rate: 1000, burst: 1, timeout: Duration::ZERO });
        let order = std::sync::Mutex::new(Vec::new());
        let one = async |number, urgent| {
            pace.turn(urgent).await;
            order.lock().unwrap().push(number);
        };
        join_all((0..20).map(|number| one(number, number == 19))).await;
        let expected: Vec<_> = [0, 1, 19].into_iter().chain(2..19).collect();
        assert_eq!(*order.lock().unwrap(), expected);
    }
}
