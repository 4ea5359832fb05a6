//! Usage records for accounting, as text that comes in parts: however many there are, few are in memory.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::admin;
use crate::error::{Error, Result};
use crate::model::{Usage, UsageFilter, printable_json};
use crate::store::Store;

/// How many records are read at once.
const PAGE: i64 = 1000;

/// What an export is written as.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Format {
    /// An array of objects.
    Json,
    /// A header and one line a record, as spreadsheets read it.
    Csv,
}

/// An export under way.
#[derive(Debug)]
pub struct Export {
    store: Store,
    filter: UsageFilter,
    now: DateTime<Utc>,
    after: Option<String>,
    ended: bool,
}

impl Export {
    /// The records that fit the filter.
    ///
    /// # Errors
    /// The period is none; the hub is not known and never had a server; the database does not answer.
    pub async fn new(store: Store, filter: UsageFilter) -> admin::Result<Self> {
        filter.check().map_err(admin::Error::Invalid)?;
        if let Some(hub) = &filter.hub
            && !store.hubs().await?.iter().any(|row| row.name == *hub)
        {
            let of_hub = UsageFilter { hub: filter.hub.clone(), ..UsageFilter::default() };
            if store.runs(&of_hub, "", 1).await?.is_empty() {
                return Err(admin::Error::Missing(format!("there is no hub {hub:?}, and no record of one")));
            }
        }
        let now = store.clock().now();
        Ok(Self { store, filter, now, after: None, ended: false })
    }

    /// The next records; empty: there are no more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn records(&mut self) -> Result<Vec<Usage>> {
        let runs = self.store.runs(&self.filter, self.after.as_deref().unwrap_or_default(), PAGE).await?;
        self.after = runs.last().map(|run| run.id.clone()).or(self.after.take());
        Ok(runs.into_iter().map(|run| run.within(&self.filter, self.now)).collect())
    }

    /// The next part of the text; `None`: that was all.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn text(&mut self, format: Format) -> Result<Option<String>> {
        if self.ended {
            return Ok(None);
        }
        let first = self.after.is_none();
        let records = self.records().await?;
        self.ended = records.is_empty();
        let text = match format {
            Format::Json => json(&records, first),
            Format::Csv => csv(&records, first),
        };
        text.map(Some)
    }

    /// Everything, summed up by hub, user and flavor.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sums(mut self) -> Result<BTreeMap<(String, String, String), Sum>> {
        let mut sums: BTreeMap<_, Sum> = BTreeMap::new();
        loop {
            let records = self.records().await?;
            if records.is_empty() {
                return Ok(sums);
            }
            for record in records {
                let sum = sums.entry((record.hub, record.user, record.flavor.unwrap_or_default())).or_default();
                sum.servers += 1;
                sum.hours += record.seconds / 3600.0;
                sum.cpu_hours += record.cpu_hours;
                sum.memory_gib_hours += record.memory_gib_hours;
                sum.gpu_hours += record.gpu_hours;
            }
        }
    }
}

/// What several servers used.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sum {
    /// How many.
    pub servers: u64,
    /// Hours that they ran.
    pub hours: f64,
    /// Processors times hours.
    pub cpu_hours: f64,
    /// GiB times hours.
    pub memory_gib_hours: f64,
    /// Devices times hours.
    pub gpu_hours: f64,
}

/// An array that is opened by its first part and closed by the one without records.
fn json(records: &[Usage], first: bool) -> Result<String> {
    let mut text = String::new();
    for (at, record) in records.iter().enumerate() {
        text.push_str(if first && at == 0 { "[\n" } else { ",\n" });
        text.push_str(&serde_json::to_string(record).map_err(Error::internal)?);
    }
    if records.is_empty() {
        text.push_str(if first { "[]\n" } else { "\n]\n" });
    }
    Ok(printable_json(text))
}

fn csv(records: &[Usage], first: bool) -> Result<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    if first {
        writer.write_record(Usage::COLUMNS).map_err(Error::internal)?;
    }
    for record in records {
        writer.write_record(record.cells()).map_err(Error::internal)?;
    }
    let bytes = writer.into_inner().map_err(Error::internal)?;
    String::from_utf8(bytes).map_err(Error::internal)
}
