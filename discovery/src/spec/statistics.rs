//! The `[statistics]` section.

use crate::document::Table;

/// `None`: as the gateway has it.
pub(super) fn read_statistics(spec: &Table<'_>) -> Option<bool> {
    let table = spec.table("statistics")?;
    let enabled = table.boolean("enabled");
    let enabled = table.required("enabled", enabled, "enabled = true");
    table.finish();
    enabled
}
