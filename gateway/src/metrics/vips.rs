//! Of virtual IPs: who holds them, how often that changed, and what went wrong.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus::proto::MetricFamily;
use vip::metrics::{AddressMetrics, Metrics, TAKEOVER_BOUNDS};

use super::families::Family;
use crate::vips::VipDesk;

type OfAddress = (&'static str, &'static str, fn(&AddressMetrics) -> f64);

const GAUGES: [OfAddress; 4] = [
    ("sluice_vip_holding", "Whether this gateway answers for the virtual IP (1) or not (0).", |cells| {
        f64::from(u8::from(cells.holding.load(Ordering::Relaxed)))
    }),
    ("sluice_vip_epoch", "The epoch of the virtual IP's register: one more with every takeover.", |cells| {
        value(&cells.epoch)
    }),
    (
        "sluice_vip_lease_remaining_seconds",
        "How long this gateway may hold the virtual IP if nobody grants it more.",
        AddressMetrics::lease_remaining_seconds,
    ),
    ("sluice_vip_grants_missing", "Grantors that have not answered the newest heartbeats.", |cells| {
        value(&cells.grants_missing)
    }),
];

const COUNTERS: [OfAddress; 3] = [
    (
        "sluice_vip_fence_refresh_errors_total",
        "How often the kernel refused to let this gateway hold the virtual IP.",
        |cells| value(&cells.fence_refresh_errors),
    ),
    ("sluice_vip_announcements_total", "How often neighbours were told where the virtual IP is.", |cells| {
        value(&cells.announcements)
    }),
    (
        "sluice_vip_conflicts_total",
        "How often another machine answered for a virtual IP that this gateway holds.",
        |cells| value(&cells.conflicts),
    ),
];

fn value(cell: &AtomicU64) -> f64 {
    cell.load(Ordering::Relaxed) as f64
}

/// Nothing but the drain while there is no driver: before the former process has let go, and at the end.
pub fn collect(desk: &VipDesk, families: &mut Vec<MetricFamily>) {
    let mut draining =
        Family::gauge("sluice_vip_draining", "Whether an operator has drained this gateway of virtual IPs.");
    draining.sample(&[], f64::from(u8::from(desk.is_draining())));
    families.extend(draining.finish());
    if let Some(driver) = desk.running() {
        of_addresses(driver.metrics(), families);
        of_gateway(driver.metrics(), families);
    }
}

fn of_addresses(metrics: &Metrics, families: &mut Vec<MetricFamily>) {
    let mut gauges = GAUGES.map(|(name, help, _)| Family::gauge(name, help));
    let mut counters = COUNTERS.map(|(name, help, _)| Family::counter(name, help));
    let mut transitions = Family::counter(
        "sluice_vip_transitions_total",
        "How often this gateway took the virtual IP (acquired) or let it go, by reason.",
    );
    let mut takeovers = Family::histogram(
        "sluice_vip_takeover_seconds",
        "From when the virtual IP was found to be nobody's to when this gateway answered for it.",
    );
    for (ip, cells) in metrics.addresses() {
        let ip = ip.to_string();
        let labels = [("address", ip.as_str())];
        for (family, (.., read)) in gauges.iter_mut().zip(GAUGES) {
            family.sample(&labels, read(cells));
        }
        for (family, (.., read)) in counters.iter_mut().zip(COUNTERS) {
            family.sample(&labels, read(cells));
        }
        for (reason, count) in cells.transitions() {
            transitions.sample(&[labels[0], ("reason", reason)], count as f64);
        }
        let (counts, seconds) = cells.takeovers();
        takeovers.counts(&labels, &TAKEOVER_BOUNDS, &counts, seconds);
    }
    families.extend(gauges.into_iter().chain(counters).filter_map(Family::finish));
    families.extend([transitions, takeovers].into_iter().filter_map(Family::finish));
}

fn of_gateway(metrics: &Metrics, families: &mut Vec<MetricFamily>) {
    let mut eligible = Family::gauge(
        "sluice_vip_eligible",
        "Whether this check lets the gateway take virtual IPs (1) or not (0).",
    );
    for (check, is_good) in metrics.eligible() {
        eligible.sample(&[("check", check.as_str())], f64::from(u8::from(is_good)));
    }
    let counters = [
        (
            "sluice_vip_stale_addresses_removed_total",
            "Virtual IPs that an earlier process left on the interface.",
            &metrics.stale_addresses_removed,
        ),
        (
            "sluice_vip_messages_refused_total",
            "Datagrams to vip.peer_listen that no peer would send: another key, malformed.",
            &metrics.messages_refused,
        ),
        (
            "sluice_vip_namesakes_total",
            "How often another process was found to have this gateway's name.",
            &metrics.namesakes,
        ),
    ];
    let counters = counters
        .into_iter()
        .filter_map(|(name, help, cell)| super::collect::plain(Family::counter(name, help), value(cell)));
    families.extend(eligible.finish().into_iter().chain(counters));
}
