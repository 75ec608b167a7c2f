//! What an app takes of its clients.

use std::sync::Arc;

use topology::AppLimits;

use crate::document::Table;

/// Nobody means more than a terabyte.
const MAX_BODY_BYTES: u64 = 1 << 40;
/// As for listeners: a thousand times their default.
const MAX_BODY_RATE: u32 = 240_000;

pub(super) fn read_limits(spec: &Table<'_>) -> Option<Arc<AppLimits>> {
    let table = spec.table("limits")?;
    let max_body = table.size("max_body", 0..=MAX_BODY_BYTES);
    let min_body_rate = table.integer("min_body_rate", 1..=MAX_BODY_RATE);
    table.finish();
    let limits = AppLimits { max_body, min_body_rate };
    (limits != AppLimits::default()).then(|| Arc::new(limits))
}
