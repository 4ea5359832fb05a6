//! Tables for people, JSON for programs.

use chrono::{DateTime, Utc};
use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use super::{FAILED, Failure, Outcome};
use crate::model::{printable, printable_json};

/// Prints a value as indented JSON. Texts may come from hubs: what could steer a terminal is escaped.
pub(super) fn json(value: &impl Serialize) -> Outcome {
    let text = serde_json::to_string_pretty(value).map_err(|error| Failure(FAILED, error.to_string()))?;
    println!("{}", printable_json(text));
    Ok(())
}

/// A time for people, UTC.
pub(super) fn time(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

/// Prints rows under a header, or `empty` if there are none; likewise escaped.
pub(super) fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>, empty: &str) {
    let mut table = Table::new();
    table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(header.to_vec());
    let mut any = false;
    for row in rows {
        any = true;
        table.add_row(row.iter().map(|cell| printable(cell)).collect::<Vec<_>>());
    }
    if any {
        for line in table.lines() {
            println!("{}", line.trim_end());
        }
    } else {
        println!("{empty}");
    }
}
