//! The `[health]` section.

mod kind;

use std::sync::Arc;
use std::time::Duration;

use topology::{HealthSettings, OnFailure};

use crate::document::{Table, show_duration};

/// Below it, probing an app of 100 endpoints becomes a load of its own (1,000 requests a second).
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Rarer probes tell nothing about the present.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// The finest that the unit allows; no network answers faster.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);
/// At an interval of 5 s, more than 8 minutes.
const MAX_PROBES_IN_A_ROW: u32 = 100;
/// A probe's target is a constant, not a query language.
const MAX_PATH_BYTES: usize = 1 << 10;

const ON_FAILURE: [(&str, OnFailure); 3] =
    [("eject", OnFailure::Eject), ("restart", OnFailure::Restart), ("stop", OnFailure::Stop)];

/// The settings, when the section is there, and whether anybody is probed.
pub(super) fn read_health(spec: &Table<'_>) -> (Option<HealthSettings>, bool) {
    let Some(table) = spec.table("health") else {
        return (None, true);
    };
    let default = HealthSettings::default();
    let probing = table.boolean("enabled").unwrap_or(true);
    let kind = kind::read_kind(&table);
    let path = table.parsed("path", probe_path).unwrap_or(default.path);
    let http = kind::read_http(&table);
    let interval = table.duration("interval", MIN_INTERVAL..=MAX_INTERVAL).unwrap_or(default.interval);
    // Who names one interval means it for every endpoint.
    let unhealthy = table.duration("unhealthy_interval", MIN_INTERVAL..=MAX_INTERVAL);
    let unhealthy_interval = unhealthy.unwrap_or(interval);
    let timeout = read_timeout(&table, (interval, unhealthy_interval), default.timeout);
    let rise = table.integer("rise", 1..=MAX_PROBES_IN_A_ROW).unwrap_or(default.rise);
    let fall = table.integer("fall", 1..=MAX_PROBES_IN_A_ROW).unwrap_or(default.fall);
    let on_failure = table.choice("on_failure", &ON_FAILURE).unwrap_or(default.on_failure);
    let panic_threshold = table.integer("panic_threshold", 0..=100).unwrap_or(default.panic_threshold);
    kind::refuse_foreign_keys(&table, &kind);
    table.finish();
    let settings = HealthSettings {
        kind,
        path,
        http,
        interval,
        unhealthy_interval,
        timeout,
        rise,
        fall,
        on_failure,
        panic_threshold,
    };
    (Some(settings), probing)
}

/// One probe of an endpoint at a time: a shorter interval than the default timeout shortens that, and
/// a timeout above an interval is a mistake.
fn read_timeout(table: &Table<'_>, intervals: (Duration, Duration), default: Duration) -> Duration {
    let (interval, unhealthy_interval) = intervals;
    let Some(timeout) = table.duration("timeout", MIN_TIMEOUT..=MAX_INTERVAL) else {
        return default.min(interval).min(unhealthy_interval);
    };
    let shown = show_duration(timeout);
    if timeout > interval {
        let interval = show_duration(interval);
        table.mistake("timeout", format!("{shown} is longer than the interval of {interval}"));
    } else if timeout > unhealthy_interval {
        let interval = show_duration(unhealthy_interval);
        table.mistake("timeout", format!("{shown} is longer than the unhealthy_interval of {interval}"));
    }
    timeout
}

fn probe_path(text: &str) -> Result<Arc<str>, String> {
    let target = text.starts_with('/')
        && text.len() <= MAX_PATH_BYTES
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if target {
        Ok(Arc::from(text))
    } else {
        Err(format!("is no path; write / and at most {MAX_PATH_BYTES} visible ASCII characters"))
    }
}

#[cfg(test)]
mod tests;
