//! The `[limits]` section: what an app takes of its clients, and see [`super::capacity`].

use std::sync::Arc;

use topology::{AppLimits, Capacity};

use super::capacity::read_capacity;
use crate::document::Table;

/// Nobody means more than a terabyte.
const MAX_BODY_BYTES: u64 = 1 << 40;
/// As for listeners: a thousand times their default.
const MAX_BODY_RATE: u32 = 240_000;

/// Two kinds of limits stand in one section: on clients, and on what the app itself may use.
pub(super) fn read_limits(spec: &Table<'_>) -> (Option<Arc<AppLimits>>, Option<Capacity>) {
    let Some(table) = spec.table("limits") else { return (None, None) };
    let max_body = table.size("max_body", 0..=MAX_BODY_BYTES);
    let min_body_rate = table.integer("min_body_rate", 1..=MAX_BODY_RATE);
    let capacity = read_capacity(&table);
    table.finish();
    let limits = AppLimits { max_body, min_body_rate };
    ((limits != AppLimits::default()).then(|| Arc::new(limits)), capacity)
}
