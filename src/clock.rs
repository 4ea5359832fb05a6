//! Time: UTC, in microseconds.
//!
//! PostgreSQL keeps microseconds and SQLite keeps what it is given, so that time is cut here, once. The rest of the
//! crate takes a [`Clock`]; clippy refuses `Utc::now` elsewhere.

use std::sync::{Arc, Mutex};

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

/// Tells the time; a test can hold it still.
#[derive(Clone, Debug)]
pub enum Clock {
    /// The machine's clock.
    System,
    /// A clock that moves only when it is told to.
    Manual(Arc<Mutex<DateTime<Utc>>>),
}

impl Clock {
    /// A clock that stands at `now` until [`Clock::advance`].
    #[must_use]
    pub fn manual(now: DateTime<Utc>) -> Self {
        Self::Manual(Arc::new(Mutex::new(now)))
    }

    /// The time now, UTC, cut to microseconds.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            #[expect(clippy::disallowed_methods, reason = "the one place that asks the machine")]
            Self::System => {
                let now = Utc::now();
                now.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(now)
            }
            Self::Manual(now) => *now.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
        }
    }

    /// Moves a manual clock; the system's clock cannot be moved.
    pub fn advance(&self, by: TimeDelta) {
        if let Self::Manual(now) = self {
            *now.lock().unwrap_or_else(std::sync::PoisonError::into_inner) += by;
        }
    }
}
