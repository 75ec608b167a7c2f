//! What keeps the harm of bad endpoints and bad apps small: `tenant`, `[outliers]`, `slow_start`.

use std::sync::Arc;
use std::time::Duration;

use topology::{Capacity, Containment, Outliers, Slowness, SuccessRate};

use super::capacity::tenant_name;
use crate::document::Table;

/// A worker counts its failures in 16 bits, and whoever waits for more in a row means "never".
const MAX_IN_A_ROW: u16 = 1_000;
/// A comparison more often than this compares noise.
const MIN_INTERVAL: Duration = Duration::from_millis(100);
/// Rarer ones tell nothing about the present.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// Below it an ejection ends before its effect can be seen.
const MIN_EJECTION: Duration = Duration::from_millis(100);
/// Whoever wants an endpoint out for longer wants it gone.
const MAX_EJECTION: Duration = Duration::from_secs(86_400);
/// A start that takes longer is a probe's matter.
const MAX_SLOW_START: Duration = Duration::from_secs(3600);
const MIN_SLOW_START: Duration = Duration::from_secs(1);
/// Beyond ten deviations or a hundred times the median lies nobody.
const MAX_DEVIATIONS: u8 = 10;
const MAX_FACTOR: u8 = 100;
const MAX_REQUESTS: u32 = 1_000_000;
const MAX_ENDPOINTS: u16 = 1_000;
/// Beyond a minute timeouts are at work.
const MAX_LEAST: Duration = Duration::from_secs(60);

/// `None` where the app asks for nothing.
pub(super) fn read_containment(spec: &Table<'_>, capacity: Option<Capacity>) -> Option<Arc<Containment>> {
    let outliers = read_outliers(spec);
    let slow_start = spec.duration("slow_start", MIN_SLOW_START..=MAX_SLOW_START);
    let tenant = spec.parsed("tenant", tenant_name);
    let read = Containment { tenant, capacity, outliers, slow_start };
    (read != Containment::default()).then(|| Arc::new(read))
}

fn read_outliers(spec: &Table<'_>) -> Outliers {
    let default = Outliers::default();
    let Some(table) = spec.table("outliers") else { return default };
    let enabled = table.boolean("enabled").unwrap_or(true);
    let failures = table.integer("failures", 0..=MAX_IN_A_ROW);
    let gateway_errors = table.integer("gateway_errors", 0..=MAX_IN_A_ROW);
    let success_rate = optional(&table, "success_rate", read_success_rate);
    let latency = optional(&table, "latency", read_slowness);
    let interval = table.duration("interval", MIN_INTERVAL..=MAX_INTERVAL);
    let ejection = table.duration("ejection", MIN_EJECTION..=MAX_EJECTION).unwrap_or(default.ejection);
    let max_ejection = table.duration("max_ejection", MIN_EJECTION..=MAX_EJECTION);
    if max_ejection.is_some_and(|most| most < ejection) {
        table.mistake("max_ejection", "is shorter than ejection, which it is to bound; write a longer one");
    }
    let max_ejected_percent = table.integer("max_ejected_percent", 0..=100);
    table.finish();
    let read = Outliers {
        failures: failures.unwrap_or(default.failures),
        gateway_errors: gateway_errors.unwrap_or(default.gateway_errors),
        success_rate,
        latency,
        interval: interval.unwrap_or(default.interval),
        ejection,
        max_ejection: max_ejection.unwrap_or(default.max_ejection.max(ejection)),
        max_ejected_percent: max_ejected_percent.unwrap_or(default.max_ejected_percent),
    };
    if enabled { read } else { Outliers::off() }
}

/// What is switched on by `true`, or by a table that says how.
pub(super) fn optional<'d, T: Default>(
    table: &Table<'d>,
    key: &'d str,
    read: impl FnOnce(&Table<'d>) -> T,
) -> Option<T> {
    if table.is_table(key) {
        let section = table.table(key)?;
        let value = read(&section);
        section.finish();
        return Some(value);
    }
    table.switch(key)?.then(T::default)
}

fn read_success_rate(table: &Table<'_>) -> SuccessRate {
    let default = SuccessRate::default();
    SuccessRate {
        deviations: table.integer("deviations", 1..=MAX_DEVIATIONS).unwrap_or(default.deviations),
        min_requests: table.integer("min_requests", 1..=MAX_REQUESTS).unwrap_or(default.min_requests),
        // One other says nothing of what is usual.
        min_endpoints: table.integer("min_endpoints", 2..=MAX_ENDPOINTS).unwrap_or(default.min_endpoints),
    }
}

fn read_slowness(table: &Table<'_>) -> Slowness {
    let default = Slowness::default();
    Slowness {
        factor: table.integer("factor", 2..=MAX_FACTOR).unwrap_or(default.factor),
        min_requests: table.integer("min_requests", 1..=MAX_REQUESTS).unwrap_or(default.min_requests),
        min_endpoints: table.integer("min_endpoints", 1..=MAX_ENDPOINTS).unwrap_or(default.min_endpoints),
        least: table.duration("least", Duration::ZERO..=MAX_LEAST).unwrap_or(default.least),
    }
}
