//! `filters.faults` and `filters.mirror`, which may ask what match took a request.

use std::sync::Arc;
use std::time::Duration;

use topology::filters::{Fault, Mirror, MirrorTarget};
use topology::{AppId, RequestMatch, VersionId};

use crate::document::{Table, nearest};

/// More would be no experiment.
const MAX_FAULTS: usize = 16;
/// As many as an app has at the most.
const MAX_MATCHES: usize = 64;
/// As long as the name of a match may be.
const MAX_SHOWN_CHARS: usize = 64;
/// The finest that the unit allows.
const MIN_DELAY: Duration = Duration::from_millis(1);
/// As long as an endpoint may take.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// A copy holds its body in memory.
const MAX_MIRRORED_BODY: u32 = 1 << 20;
const MAX_IN_FLIGHT: u32 = 10_000;

pub(super) fn read_faults(filters: &Table<'_>, known: &[RequestMatch]) -> Vec<Fault> {
    filters.tables("faults", MAX_FAULTS).into_iter().filter_map(|table| read_fault(table, known)).collect()
}

fn read_fault(table: Table<'_>, known: &[RequestMatch]) -> Option<Fault> {
    let matches = read_matches(&table, known);
    let percent = table.integer("percent", 1..=100u8);
    let percent =
        table.required("percent", percent, "percent = 10, the share of requests that it happens to");
    let delay = table.duration("delay", MIN_DELAY..=MAX_DELAY);
    let abort = table.integer("abort", 400..=599u16);
    if !table.has("delay") && !table.has("abort") {
        table.mistake_here("does nothing; write delay = \"500ms\", abort = 503 or both");
    }
    table.finish();
    Some(Fault { matches, percent: percent?, delay, abort })
}

pub(super) fn read_mirror(filters: &Table<'_>, known: &[RequestMatch]) -> Option<Mirror> {
    let table = filters.table("mirror")?;
    let version = table.parsed("version", VersionId::parse);
    let app = table.parsed("app", AppId::parse);
    if table.has("version") == table.has("app") {
        table.mistake_here("needs either version = \"v2\" or app = \"shop-next\"");
    }
    let matches = read_matches(&table, known);
    let percent = table.integer("percent", 1..=100u8);
    let max_body_bytes = table.integer("max_body_bytes", 0..=MAX_MIRRORED_BODY);
    let max_in_flight = table.integer("max_in_flight", 1..=MAX_IN_FLIGHT);
    table.finish();
    Some(Mirror {
        to: version.map(MirrorTarget::Version).or(app.map(MirrorTarget::App))?,
        matches,
        percent: percent.unwrap_or(100),
        max_body_bytes: max_body_bytes.unwrap_or(Mirror::DEFAULT_MAX_BODY_BYTES),
        max_in_flight: max_in_flight.unwrap_or(Mirror::DEFAULT_MAX_IN_FLIGHT),
    })
}

/// Names of the app's own matches.
fn read_matches(table: &Table<'_>, known: &[RequestMatch]) -> Vec<Arc<str>> {
    let names = table.list("match", MAX_MATCHES, |name| {
        let found = known.iter().find(|entry| *entry.name == *name);
        found.map(|entry| entry.name.clone()).ok_or_else(|| {
            let meant = nearest(name, known.iter().map(|entry| &*entry.name));
            let meant = meant.map_or_else(String::new, |meant| format!("; did you mean {meant:?}?"));
            let shown: String = name.chars().take(MAX_SHOWN_CHARS).collect();
            format!("the app has no [[match]] named {shown:?}{meant}")
        })
    });
    table.refuse_empty("match", "name one of the app's matches, or leave it out for every request");
    names.unwrap_or_default()
}
