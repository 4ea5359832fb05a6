//! Run-time ends: a warning to the user, then a stop.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Entry, Outpost, State};
use crate::error::Result;
use crate::hub::{Report, Reporter};
use crate::model::Phase;
use crate::store::Outcome;

/// An ended server that no hub asked about for this long is removed: a hub that has seen the end asks no more, and does not
/// delete it either.
const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);

impl Outpost {
    /// Warns users whose servers end soon, and stops servers whose time is over.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn expire(self: &Arc<Self>) -> Result<()> {
        let now = self.clock.now();
        let ahead = TimeDelta::from_std(self.config.load().flavors.warn_before).unwrap_or(TimeDelta::MAX);
        for entry in self.view.all() {
            let due = {
                let State { server, .. } = &*entry.state();
                matches!(server.phase, Phase::Running if server.end_date.is_some()) || server.phase == Phase::Ended
            };
            if !due || !self.drives(&entry) {
                continue;
            }
            let server = entry.server();
            match (server.phase, server.end_date) {
                (Phase::Running, Some(end)) if end <= now => self.end(&entry).await?,
                (Phase::Running, Some(end)) if end - now <= ahead => self.warn(&entry, end, end - now).await?,
                (Phase::Ended, _)
                    if now - server.last_update.max(server.start_date) > FORGOTTEN_AFTER
                        && entry.move_to(Phase::Stopping, |_| ()) =>
                {
                    let outcome = Outcome { kind: "stopped", reason: server.exit.map(|exit| exit.reason) };
                    self.tracker.spawn(self.clone().finish_stop(entry, outcome));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Stops a server whose time is over, unless somebody has just given it more.
    async fn end(self: &Arc<Self>, entry: &Arc<Entry>) -> Result<()> {
        if self.store.expire_server(&entry.uid).await? && entry.move_to(Phase::Stopping, |_| ()) {
            tracing::info!(server.uid = %entry.uid, hub.name = ?entry.id.hub, server.name = ?entry.id.name, "the time of a server is over");
            let reason = Some("Its run time was over.".to_owned());
            self.tracker.spawn(self.clone().finish_stop(entry.clone(), Outcome { kind: "expired", reason }));
        }
        Ok(())
    }

    /// Tells the user when a server ends, once for each end.
    async fn warn(self: &Arc<Self>, entry: &Arc<Entry>, end: DateTime<Utc>, left: TimeDelta) -> Result<()> {
        if entry.warned_of() == Some(end) {
            return Ok(());
        }
        if self.store.warned_of(&entry.uid).await? == Some(end) {
            entry.set_warned_of(end);
            return Ok(());
        }
        let Some((hub, callbacks)) = self.callbacks(entry).await else { return Ok(()) };
        entry.set_warned_of(end);
        let message = format!(
            "This server is stopped in {} (at {} UTC), since its run time is over then. Please save your work.",
            in_words(left),
            end.format("%Y-%m-%d %H:%M")
        );
        let reporter = Reporter { hub, callbacks, clock: self.clock.clone() };
        let (this, uid) = (self.clone(), entry.uid.clone());
        self.tracker.spawn(async move {
            reporter.last_word(&Report::Notice { message }).await;
            // After it: told twice is better than never.
            if let Err(error) = this.store.note_warning(&uid, end).await {
                tracing::warn!(server.uid = %uid, cause = error.cause(), "a warning may be told again");
            }
        });
        Ok(())
    }
}

/// A time for people, in whole minutes, or in seconds below one.
fn in_words(left: TimeDelta) -> String {
    let seconds = left.num_seconds().max(0);
    let plural = |count: i64, unit: &str| format!("{count} {unit}{}", if count == 1 { "" } else { "s" });
    match (seconds + 30) / 60 {
        0 => plural(seconds, "second"),
        minutes if minutes < 120 => plural(minutes, "minute"),
        minutes => plural((minutes + 30) / 60, "hour"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        let words = |seconds| in_words(TimeDelta::seconds(seconds));
        assert_eq!(
            [words(-1), words(1), words(29), words(600), words(570), words(60), words(86_400)],
            ["0 seconds", "1 second", "29 seconds", "10 minutes", "10 minutes", "1 minute", "24 hours"]
        );
    }
}
