//! The `[limits]` section, and whose app it is.

use std::sync::Arc;
use std::time::Duration;

use topology::{Adaptive, AppId, Limits};

use super::containment::optional;
use crate::document::Table;

/// More than one gateway has sockets for.
const MAX_PLACES: u32 = 1_000_000;
/// Each of them holds a connection; more would be the overload that a limit is to prevent.
const MAX_QUEUE: u32 = 100_000;
/// Deadlines are kept to a tenth of a second.
const MIN_QUEUE_TIMEOUT: Duration = Duration::from_millis(100);
/// Nobody waits longer without knowing for what.
const MAX_QUEUE_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) fn read_limits(spec: &Table<'_>) -> Option<Limits> {
    let table = spec.table("limits")?;
    let default = Limits::none();
    let limits = Limits {
        in_flight: table.integer("in_flight", 1..=MAX_PLACES),
        in_flight_per_endpoint: table.integer("in_flight_per_endpoint", 1..=MAX_PLACES),
        connections: table.integer("connections", 1..=MAX_PLACES),
        connections_per_endpoint: table.integer("connections_per_endpoint", 1..=MAX_PLACES),
        queue: table.integer("queue", 0..=MAX_QUEUE).unwrap_or(default.queue),
        queue_timeout: table
            .duration("queue_timeout", MIN_QUEUE_TIMEOUT..=MAX_QUEUE_TIMEOUT)
            .unwrap_or(default.queue_timeout),
        adaptive: optional(&table, "adaptive", read_adaptive),
    };
    let is_written = ["in_flight", "in_flight_per_endpoint", "connections", "connections_per_endpoint"];
    let is_limited = is_written.iter().any(|key| table.has(key)) || table.has("adaptive");
    if !is_limited {
        // A queue in front of nothing would be taken for protection.
        table.mistake_here("limits nothing; write in_flight_per_endpoint = 100, or remove the section");
    }
    table.finish();
    limits.limit_anything().then_some(limits)
}

fn read_adaptive(table: &Table<'_>) -> Adaptive {
    let default = Adaptive::default();
    let min = table.integer("min", 1..=MAX_PLACES).unwrap_or(default.min);
    let max = table.integer("max", 1..=MAX_PLACES);
    if max.is_some_and(|max| max < min) {
        table.mistake("max", format!("is less than min, which is {min}"));
    }
    Adaptive { min, max: max.unwrap_or(default.max.max(min)) }
}

/// A metric label, and the name of a section in `sluice.toml`: the alphabet of an app's id, which is the
/// name of an app that is a tenant of its own.
pub(super) fn tenant_name(text: &str) -> Result<Arc<str>, String> {
    let message = "is no tenant's name; write 1 to 128 of a-z A-Z 0-9 . _ -, not starting with a dot";
    AppId::parse(text).map(|_| Arc::from(text)).map_err(|_| message.to_owned())
}
