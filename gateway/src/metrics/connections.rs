//! What listeners count of their connections and sessions, as families.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::families::Family;
use super::{ByReason, Counter, DatagramCells, ListenerCells, ListenerMetrics};
use crate::reason::Reason;

pub fn of_listeners(listeners: &ListenerMetrics, families: &mut Vec<MetricFamily>) {
    let mut open = Family::gauge("sluice_connections_open", "Client connections by listener.");
    let mut counters = COUNTERS.map(|(name, help, _)| Family::counter(name, help));
    let mut by_reason = BY_REASON.map(|(name, help, _)| Family::counter(name, help));
    let mut closed = Family::counter(
        "sluice_connections_closed_total",
        "Client connections closed between requests, by the limit that they had reached.",
    );
    let mut datagrams = datagram_families();
    listeners.for_each(|name, workers| {
        let (cells, labels) = (|| workers.iter(), [("listener", name)]);
        open.sample(&labels, cells().map(|cells| cells.open.value()).sum::<i64>() as f64);
        for (family, (.., counter)) in counters.iter_mut().zip(COUNTERS) {
            family.sample(&labels, total(workers, counter));
        }
        for (limit, counter) in LIMITS {
            closed.sample(&[labels[0], ("limit", limit)], total(workers, counter));
        }
        for (family, (.., row)) in by_reason.iter_mut().zip(BY_REASON) {
            for reason in Reason::ALL {
                let count: u64 = cells().map(|cells| row(cells).value(*reason)).sum();
                if count > 0 {
                    family.sample(&[labels[0], ("reason", reason.as_str())], count as f64);
                }
            }
        }
        if cells().any(|cells| cells.datagrams.are_used()) {
            for (family, (.., value)) in datagrams.iter_mut().zip(DATAGRAMS) {
                family.sample(&labels, cells().map(|cells| value(&cells.datagrams)).sum::<u64>() as f64);
            }
        }
    });
    let all = [open, closed].into_iter().chain(counters).chain(by_reason).chain(datagrams);
    families.extend(all.filter_map(Family::finish));
}

fn total(workers: &[Arc<ListenerCells>], counter: Counting) -> f64 {
    workers.iter().map(|cells| counter(cells).value()).sum::<u64>() as f64
}

type Counting = fn(&ListenerCells) -> &Counter;
type Counted = (&'static str, &'static str, Counting);
const COUNTERS: [Counted; 2] = [
    ("sluice_connections_accepted_total", "Client connections accepted.", |cells| &cells.accepted),
    ("sluice_tls_handshake_failures_total", "TLS handshakes that failed.", |cells| &cells.handshake_failures),
];

/// By the key of the limit.
const LIMITS: [(&str, Counting); 2] =
    [("keepalive_timeout", |cells| &cells.idled_out), ("max_requests", |cells| &cells.used_up)];

type Sorted = (&'static str, &'static str, fn(&ListenerCells) -> &ByReason);
const BY_REASON: [Sorted; 2] = [
    ("sluice_connections_failed_total", "Client connections that came to no app, by reason.", |cells| {
        &cells.failures
    }),
    (
        "sluice_connections_refused_total",
        "Client connections closed before anything was read of them, by reason.",
        |cells| &cells.refused,
    ),
];

type Datagrams = (&'static str, &'static str, fn(&DatagramCells) -> u64);
/// The first is a gauge, the others count.
const DATAGRAMS: [Datagrams; 7] = [
    ("sluice_udp_sessions_open", "Sessions of UDP clients by listener.", |cells| {
        u64::try_from(cells.sessions.value()).unwrap_or(0)
    }),
    ("sluice_udp_sessions_total", "Sessions begun.", |cells| cells.begun.value()),
    ("sluice_udp_sessions_expired_total", "Sessions that ended in silence.", |cells| cells.expired.value()),
    ("sluice_udp_refused_total", "Datagrams of clients that found the table of sessions full.", |cells| {
        cells.refused.value()
    }),
    ("sluice_udp_received_total", "Datagrams passed on to endpoints.", |cells| cells.received.value()),
    ("sluice_udp_sent_total", "Datagrams passed on to clients.", |cells| cells.sent.value()),
    (
        "sluice_udp_dropped_total",
        "Datagrams that no endpoint was there for, or that no socket took.",
        |cells| cells.dropped.value(),
    ),
];

fn datagram_families() -> Vec<Family> {
    let family = |(at, (name, help, _)): (usize, Datagrams)| match at {
        0 => Family::gauge(name, help),
        _ => Family::counter(name, help),
    };
    DATAGRAMS.into_iter().enumerate().map(family).collect()
}
