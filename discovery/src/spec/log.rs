//! The `[log]` section.

use std::sync::Arc;

use topology::{LogSettings, Sample};

use crate::document::Table;

/// The settings, when the section says anything but the default.
pub(super) fn read_log(spec: &Table<'_>) -> Option<Arc<LogSettings>> {
    let table = spec.table("log")?;
    let enabled = table.boolean("enabled").unwrap_or(true);
    let sample = table.fraction("sample").and_then(Sample::of).unwrap_or(Sample::ALL);
    let errors = table.boolean("errors").unwrap_or(true);
    if !enabled {
        // Settings that do nothing would be taken for protection.
        for key in ["sample", "errors"].into_iter().filter(|key| table.has(key)) {
            let advice = "enabled = false logs nothing at all; remove one of the two, or write sample = 0 to log failures only";
            table.mistake(key, format!("means nothing beside enabled = false: {advice}"));
        }
    }
    table.finish();
    match enabled {
        false => Some(Arc::new(LogSettings::OFF)),
        true if sample == Sample::ALL => None,
        true => Some(Arc::new(LogSettings { sample, errors })),
    }
}
