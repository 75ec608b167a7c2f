//! The `[timeouts]` section.

use std::time::Duration;

use topology::Timeouts;

use crate::document::{Table, show_duration};

/// Workers look at deadlines ten times a second: less would be a promise that they cannot keep.
const MIN: Duration = Duration::from_millis(100);
/// TCP itself gives up after about two minutes.
const MAX_CONNECT: Duration = Duration::from_secs(120);
/// A report that takes a night; whatever takes longer is a job and not a request.
const MAX_PHASE: Duration = Duration::from_secs(24 * 3600);
/// As for a TCP listener's `idle_timeout`.
const IDLE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);
/// Nobody keeps a connection without a request for longer.
const MAX_UPSTREAM_IDLE: Duration = Duration::from_secs(3600);

pub(super) fn read_timeouts(spec: &Table<'_>) -> Option<Timeouts> {
    let table = spec.table("timeouts")?;
    let timeouts = Timeouts {
        connect: table.duration("connect", MIN..=MAX_CONNECT),
        first_byte: table.duration("first_byte", MIN..=MAX_PHASE),
        between_bytes: table.duration("between_bytes", MIN..=MAX_PHASE),
        request: table.duration("request", MIN..=MAX_PHASE),
        tunnel_idle: table.duration("tunnel_idle", IDLE),
        upstream_idle: table.duration("upstream_idle", *IDLE.start()..=MAX_UPSTREAM_IDLE),
    };
    if let Some(whole) = timeouts.request {
        refuse_longer(&table, "connect", timeouts.connect, whole);
        refuse_longer(&table, "first_byte", timeouts.first_byte, whole);
        refuse_longer(&table, "between_bytes", timeouts.between_bytes, whole);
    }
    table.finish();
    Some(timeouts)
}

/// A phase that may take longer than the whole request would never be the one that ends it.
fn refuse_longer<'d>(table: &Table<'d>, key: &'d str, phase: Option<Duration>, whole: Duration) {
    if let Some(phase) = phase.filter(|phase| *phase > whole) {
        let (phase, whole) = (show_duration(phase), show_duration(whole));
        table.mistake(key, format!("{phase} is longer than the {whole} of the whole request"));
    }
}
