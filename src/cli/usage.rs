//! `outpost usage`

use std::io::Write as _;

use chrono::{DateTime, Utc};
use clap::Args;

use super::output::table;
use super::{Context, Failure, Outcome};
use crate::admin::{Export, Format};
use crate::model::UsageFilter;

/// What servers used, for accounting.
#[derive(Args)]
pub(super) struct Usage {
    /// From this time on: 2026-11-01 (midnight, UTC) or 2026-11-01T12:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = UsageFilter::parse_time)]
    from: Option<DateTime<Utc>>,
    /// Until this time, not included [default: now]
    #[arg(long, value_name = "TIME", value_parser = UsageFilter::parse_time)]
    to: Option<DateTime<Utc>>,
    /// Only of this hub.
    #[arg(long)]
    hub: Option<String>,
    /// Only of the user with this name.
    #[arg(long)]
    user: Option<String>,
    /// Print one line a server as CSV instead of sums.
    #[arg(long)]
    csv: bool,
    /// Print one object a server as JSON instead of sums.
    #[arg(long, conflicts_with = "csv")]
    json: bool,
}

pub(super) async fn run(context: &Context, usage: Usage) -> Outcome {
    let store = context.existing_store().await?;
    let filter = UsageFilter { from: usage.from, to: usage.to, hub: usage.hub, user: usage.user };
    let mut export = Export::new(store, filter).await?;
    let format = match (usage.csv, usage.json) {
        (true, _) => Format::Csv,
        (_, true) => Format::Json,
        _ => return sums(export).await,
    };
    let mut out = std::io::stdout().lock();
    while let Some(text) = export.text(format).await? {
        out.write_all(text.as_bytes()).map_err(|error| Failure::from(error.to_string()))?;
    }
    Ok(())
}

async fn sums(export: Export) -> Outcome {
    let hours = |hours: f64| format!("{hours:.2}");
    let rows = export.sums().await?.into_iter().map(|((hub, user, flavor), sum)| {
        let servers = sum.servers.to_string();
        let (cpu, memory, gpu) = (hours(sum.cpu_hours), hours(sum.memory_gib_hours), hours(sum.gpu_hours));
        vec![hub, user, flavor, servers, hours(sum.hours), cpu, memory, gpu]
    });
    let header = ["HUB", "USER", "FLAVOR", "SERVERS", "HOURS", "CPU HOURS", "GIB HOURS", "GPU HOURS"];
    table(&header, rows, "No server ran then.");
    Ok(())
}
