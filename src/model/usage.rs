//! What a server used, for accounting.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use serde::Serialize;

use super::printable;

/// What is accounted for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UsageFilter {
    /// From then on; `None`: from the beginning.
    pub from: Option<DateTime<Utc>>,
    /// Until then, not included; `None`: until now.
    pub to: Option<DateTime<Utc>>,
    /// Of this hub.
    pub hub: Option<String>,
    /// Of the user with this name.
    pub user: Option<String>,
}

impl UsageFilter {
    /// Checks that there is a time within the period.
    ///
    /// # Errors
    /// A sentence that names the end.
    pub fn check(&self) -> Result<(), String> {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from >= to => Err("to: has to be later than from".to_owned()),
            _ => Ok(()),
        }
    }

    /// Reads a point in time: RFC 3339, or a date, whose midnight (UTC) is meant.
    ///
    /// # Errors
    /// A part of a sentence: what was expected.
    pub fn parse_time(text: &str) -> Result<DateTime<Utc>, String> {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc();
        let time = DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
        let time = time.or_else(|_| NaiveDate::parse_from_str(text, "%Y-%m-%d").map(midnight));
        // Databases know no others.
        let usual = DateTime::UNIX_EPOCH..midnight(NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or_default());
        time.ok().filter(|time| usual.contains(time)).ok_or_else(|| {
            "has to be a date like 2026-12-01 or a time like 2026-12-01T12:00:00Z, from 1970 to 9999".to_owned()
        })
    }
}

/// The time that a server ran, and what it took up.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Run {
    /// Outpost's identifier.
    pub id: String,
    /// The hub's name.
    pub hub: String,
    /// JupyterHub's name of the user.
    pub user_name: String,
    /// JupyterHub's number of the user.
    pub user_id: i64,
    /// The server's name on the hub.
    pub name: String,
    /// The flavor that was asked for.
    pub flavor: Option<String>,
    /// Thousandths of a processor.
    pub cpu_millis: i64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Devices.
    pub gpus: i64,
    /// When it began to run.
    pub began: DateTime<Utc>,
    /// When it ended; `None`: it did not yet.
    pub ended: Option<DateTime<Utc>>,
    /// How it left, else its phase.
    pub outcome: String,
}

/// One line of an account.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Usage {
    /// Outpost's identifier of the server.
    pub id: String,
    /// The hub's name.
    pub hub: String,
    /// JupyterHub's name of the user.
    pub user: String,
    /// JupyterHub's number of the user.
    pub user_id: i64,
    /// The server's name on the hub; empty for the default server.
    pub name: String,
    /// The flavor that was asked for.
    pub flavor: Option<String>,
    /// Processors.
    pub cpu: f64,
    /// Bytes.
    pub memory_bytes: i64,
    /// Devices.
    pub gpus: i64,
    /// When it began to run.
    pub start: DateTime<Utc>,
    /// When it ended; `null`: it did not yet.
    pub end: Option<DateTime<Utc>>,
    /// How long it ran within the period.
    pub seconds: f64,
    /// Processors times hours within the period.
    pub cpu_hours: f64,
    /// GiB times hours within the period.
    pub memory_gib_hours: f64,
    /// Devices times hours within the period.
    pub gpu_hours: f64,
    /// `running`, `ended`, `stopping`, or how it left: `stopped`, `expired`, `failed`, `cancelled`, `lost`.
    pub outcome: String,
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Thousandths are exact enough for people and keep the digits of a sum readable; a microsecond is nothing to charge.
fn rounded(value: f64, digits: i32) -> f64 {
    let scale = 10_f64.powi(digits);
    (value * scale).round() / scale
}

#[expect(clippy::cast_precision_loss, reason = "an account is not exact to one in nine quadrillions")]
impl Run {
    /// What of it falls into the period. A server that still runs is charged until `now`.
    #[must_use]
    pub fn within(self, filter: &UsageFilter, now: DateTime<Utc>) -> Usage {
        let end = self.ended.unwrap_or(now).min(filter.to.unwrap_or(DateTime::<Utc>::MAX_UTC));
        let begin = self.began.max(filter.from.unwrap_or(DateTime::UNIX_EPOCH));
        let time = (end - begin).max(TimeDelta::zero());
        let seconds = time.num_milliseconds() as f64 / 1000.0;
        let hours = seconds / 3600.0;
        let cpu = self.cpu_millis as f64 / 1000.0;
        Usage {
            id: self.id,
            hub: self.hub,
            user: self.user_name,
            user_id: self.user_id,
            name: self.name,
            flavor: self.flavor,
            cpu,
            memory_bytes: self.memory_bytes,
            gpus: self.gpus,
            start: self.began,
            end: self.ended,
            seconds: rounded(seconds, 3),
            cpu_hours: rounded(cpu * hours, 6),
            memory_gib_hours: rounded(self.memory_bytes as f64 / GIB * hours, 6),
            gpu_hours: rounded(self.gpus as f64 * hours, 6),
            outcome: self.outcome,
        }
    }
}

impl Usage {
    /// The names of the columns of [`Usage::cells`].
    pub const COLUMNS: [&str; 16] = [
        "id",
        "hub",
        "user",
        "user_id",
        "name",
        "flavor",
        "cpu",
        "memory_bytes",
        "gpus",
        "start",
        "end",
        "seconds",
        "cpu_hours",
        "memory_gib_hours",
        "gpu_hours",
        "outcome",
    ];

    /// The line as the cells of a table that a spreadsheet may open: a text that it would take for a formula gets an
    /// apostrophe in front, and what could steer a terminal is escaped.
    #[must_use]
    pub fn cells(&self) -> [String; 16] {
        [
            inert(&self.id),
            inert(&self.hub),
            inert(&self.user),
            self.user_id.to_string(),
            inert(&self.name),
            inert(self.flavor.as_deref().unwrap_or_default()),
            self.cpu.to_string(),
            self.memory_bytes.to_string(),
            self.gpus.to_string(),
            time(self.start),
            self.end.map(time).unwrap_or_default(),
            self.seconds.to_string(),
            self.cpu_hours.to_string(),
            self.memory_gib_hours.to_string(),
            self.gpu_hours.to_string(),
            inert(&self.outcome),
        ]
    }
}

fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

fn inert(text: &str) -> String {
    let text = printable(text);
    if text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        UsageFilter::parse_time(text).unwrap()
    }

    fn run(began: &str, ended: Option<&str>) -> Run {
        Run {
            id: "1".to_owned(),
            hub: "=1+1".to_owned(),
            user_name: "@ada".to_owned(),
            user_id: -7,
            name: "\t\u{1b}[31mx".to_owned(),
            flavor: None,
            cpu_millis: 1500,
            memory_bytes: 2 << 30,
            gpus: 1,
            began: at(began),
            ended: ended.map(at),
            outcome: "stopped".to_owned(),
        }
    }

    #[test]
    fn only_the_time_within_the_period_counts() {
        let filter = UsageFilter { from: Some(at("2026-11-01")), to: Some(at("2026-12-01")), ..UsageFilter::default() };
        let now = at("2026-11-20T01:00:00Z");
        let cases = [
            ("2026-11-02", Some("2026-11-02T02:00:00Z"), 2.0),
            ("2026-10-31T23:00:00Z", Some("2026-11-01T03:00:00Z"), 3.0),
            ("2026-10-01", Some("2026-12-02"), 30.0 * 24.0),
            ("2026-11-20", None, 1.0),
            ("2026-11-21", None, 0.0),
            ("2026-10-01", Some("2026-10-02"), 0.0),
        ];
        for (began, ended, hours) in cases {
            let usage = run(began, ended).within(&filter, now);
            assert_eq!(usage.seconds, hours * 3600.0, "{began}");
            assert_eq!(
                (usage.cpu_hours, usage.memory_gib_hours, usage.gpu_hours),
                (1.5 * hours, 2.0 * hours, hours),
                "{began}"
            );
        }
    }

    #[test]
    fn no_text_becomes_a_formula() {
        let usage = run("2026-11-02", None).within(&UsageFilter::default(), at("2026-11-03"));
        assert_eq!(usage.cells()[1..5], ["'=1+1", "'@ada", "-7", "\\t\\u{1b}[31mx"]);
        assert_eq!(Usage::COLUMNS.len(), usage.cells().len());
        let fields = serde_json::to_value(&usage).unwrap();
        assert!(fields.as_object().unwrap().keys().eq(Usage::COLUMNS));
    }

    #[test]
    fn a_period_has_a_time_in_it() {
        let filter = |from, to| UsageFilter { from, to, ..UsageFilter::default() };
        let (one, two) = (Some(at("2026-11-01")), Some(at("2026-12-01")));
        assert_eq!(filter(two, one).check().unwrap_err(), "to: has to be later than from");
        assert!(filter(one, one).check().is_err());
        assert!([filter(one, two), filter(one, None), filter(None, one)].iter().all(|filter| filter.check().is_ok()));
    }

    #[test]
    fn times_are_dates_or_rfc_3339() {
        assert_eq!(at("2026-12-01"), at("2026-12-01T01:00:00+01:00"));
        for bad in ["", "yesterday", "2026-13-01", "01.12.2026", "12026-01-01", "1950-01-01", "2026-12-01T12:00:00"] {
            assert!(UsageFilter::parse_time(bad).is_err(), "{bad}");
        }
    }
}
