//! Of the `[limits]` section: what an app may use of the gateway and of its endpoints. And whose app it is.

use std::sync::Arc;
use std::time::Duration;

use topology::{Adaptive, AppId, Capacity};

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

pub(super) fn read_capacity(table: &Table<'_>) -> Option<Capacity> {
    let default = Capacity::none();
    let capacity = Capacity {
        in_flight: table.integer("in_flight", 1..=MAX_PLACES),
        in_flight_per_endpoint: table.integer("in_flight_per_endpoint", 1..=MAX_PLACES),
        connections: table.integer("connections", 1..=MAX_PLACES),
        connections_per_endpoint: table.integer("connections_per_endpoint", 1..=MAX_PLACES),
        queue: table.integer("queue", 0..=MAX_QUEUE).unwrap_or(default.queue),
        queue_timeout: table
            .duration("queue_timeout", MIN_QUEUE_TIMEOUT..=MAX_QUEUE_TIMEOUT)
            .unwrap_or(default.queue_timeout),
        adaptive: optional(table, "adaptive", read_adaptive),
    };
    let limiting =
        ["in_flight", "in_flight_per_endpoint", "connections", "connections_per_endpoint", "adaptive"];
    if !limiting.iter().any(|key| table.has(key)) {
        for key in ["queue", "queue_timeout"].into_iter().filter(|key| table.has(key)) {
            // A queue in front of nothing would be taken for protection.
            table.mistake(
                key,
                "is for requests that find no room; add a limit such as in_flight_per_endpoint = 100",
            );
        }
    }
    capacity.limits_anything().then_some(capacity)
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
