//! Of names: who asked for what, what was held back, and what other servers were told.

use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;

use super::collect::plain;
use super::families::Family;
use crate::dns::cells::{Count, DnsCells, UpdateCells};
use crate::dns::{DnsDesk, Published};

/// Nothing where there is no `[dns]`.
pub fn collect(desk: &DnsDesk, families: &mut Vec<MetricFamily>) {
    let Some(published) = desk.published() else { return };
    of_zone(&published, families);
    of_queries(&desk.cells, families);
    of_connections(&desk.cells, families);
    of_secondaries(&desk.cells, families);
    of_updates(&desk.cells.updates(), families);
}

fn of_zone(published: &Published, families: &mut Vec<MetricFamily>) {
    let zone = &published.zone;
    families.extend(plain(
        Family::gauge("sluice_dns_serial", "The serial of the zone as it is served."),
        f64::from(zone.serial),
    ));
    families.extend(plain(
        Family::gauge("sluice_dns_names", "Names in the zone that lead somewhere."),
        zone.names.len() as f64,
    ));
    let mut good = Family::gauge(
        "sluice_dns_address_good",
        "Whether an address that names lead to is given out (1) or left out while others are good (0).",
    );
    for address in published.addresses.iter() {
        let labels = [("address", address.ip.to_string())];
        let labels = labels.each_ref().map(|(name, value)| (*name, value.as_str()));
        good.sample(&labels, f64::from(u8::from(address.is_good)));
    }
    families.extend(good.finish());
}

fn of_queries(cells: &DnsCells, families: &mut Vec<MetricFamily>) {
    let mut queries = Family::counter(
        "sluice_dns_queries_total",
        "Queries that were answered, or would have been but for the rate limit, by transport, code and type.",
    );
    for (transport, code, kind, count) in cells.queries() {
        let labels = [("transport", transport), ("code", code), ("type", kind)];
        queries.sample(&labels, count as f64);
    }
    let ignored = [("short", &cells.short), ("response", &cells.responses)];
    let limited = [("drop", &cells.limited_drop), ("slip", &cells.limited_slip)];
    families.extend(queries.finish());
    families.extend(by_label(
        Family::counter("sluice_dns_ignored_total", "Datagrams that are no queries, by what they are."),
        "reason",
        &ignored,
    ));
    families.extend(by_label(
        Family::counter(
            "sluice_dns_rate_limited_total",
            "Answers that the rate limit held back: dropped, or sent truncated so that who asked comes by TCP.",
        ),
        "action",
        &limited,
    ));
    let totals = [
        ("sluice_dns_truncated_total", "Answers that did not fit a datagram.", &cells.truncated),
        ("sluice_dns_unsent_total", "Answers that the network was not ready to take.", &cells.unsent),
    ];
    for (name, help, count) in totals {
        families.extend(plain(Family::counter(name, help), count.value() as f64));
    }
}

fn of_connections(cells: &DnsCells, families: &mut Vec<MetricFamily>) {
    families.extend(plain(
        Family::gauge("sluice_dns_connections", "Connections that are open for queries."),
        cells.connections.load(Ordering::Relaxed) as f64,
    ));
    let fates = [
        ("accepted", &cells.connections_total),
        ("evicted", &cells.evicted),
        ("refused", &cells.refused_connections),
    ];
    families.extend(by_label(
        Family::counter(
            "sluice_dns_connections_total",
            "Connections for queries: accepted, closed while idle to make room, refused for want of room.",
        ),
        "event",
        &fates,
    ));
}

fn of_secondaries(cells: &DnsCells, families: &mut Vec<MetricFamily>) {
    let transfers = [("done", &cells.transfers_done), ("failed", &cells.transfers_failed)];
    families.extend(by_label(
        Family::counter("sluice_dns_transfers_total", "Transfers of the zone that began, by how they ended."),
        "result",
        &transfers,
    ));
    let notifies = [("answered", &cells.notifies_answered), ("failed", &cells.notifies_failed)];
    families.extend(by_label(
        Family::counter(
            "sluice_dns_notifies_total",
            "Secondaries that were told of a serial, and whether they answered.",
        ),
        "result",
        &notifies,
    ));
}

fn of_updates(all: &[std::sync::Arc<UpdateCells>], families: &mut Vec<MetricFamily>) {
    type Gauge = (&'static str, &'static str, fn(&UpdateCells) -> f64);
    const GAUGES: [Gauge; 4] = [
        (
            "sluice_dns_update_leads",
            "Whether this gateway is the one that writes names to the server.",
            |cells| cells.leads.load(Ordering::Relaxed) as f64,
        ),
        ("sluice_dns_update_names", "Names of ours on the server, by the last look.", |cells| {
            cells.owned.load(Ordering::Relaxed) as f64
        }),
        ("sluice_dns_update_conflicts", "Names that somebody else has there, by the last look.", |cells| {
            cells.conflicts.load(Ordering::Relaxed) as f64
        }),
        ("sluice_dns_update_timestamp_seconds", "When the server had all names last.", |cells| {
            cells.in_step_at.load(Ordering::Relaxed) as f64
        }),
    ];
    let mut gauges = GAUGES.map(|(name, help, _)| Family::gauge(name, help));
    let mut updates = Family::counter(
        "sluice_dns_updates_total",
        "Names that were created, changed and removed on other servers, and rounds that failed.",
    );
    for cells in all {
        let labels = [("server", cells.server.as_str()), ("zone", cells.zone.as_str())];
        for (family, (.., read)) in gauges.iter_mut().zip(GAUGES) {
            family.sample(&labels, read(cells));
        }
        let results = [
            ("created", &cells.created),
            ("changed", &cells.replaced),
            ("removed", &cells.removed),
            ("failed", &cells.failed),
        ];
        for (result, count) in results {
            updates.sample(&[labels[0], labels[1], ("result", result)], count.value() as f64);
        }
    }
    families.extend(gauges.into_iter().chain([updates]).filter_map(Family::finish));
}

fn by_label(mut family: Family, label: &'static str, counts: &[(&str, &Count)]) -> Option<MetricFamily> {
    for (value, count) in counts {
        family.sample(&[(label, value)], count.value() as f64);
    }
    family.finish()
}
