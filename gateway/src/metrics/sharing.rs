//! Probes that a fleet of gateways shares.

use healthcheck::SharingStats;
use prometheus::proto::MetricFamily;

use super::collect::plain;
use super::families::Family;

pub fn collect(sharing: &SharingStats, families: &mut Vec<MetricFamily>) {
    let mut received = Family::counter(
        "sluice_verdicts_received_total",
        "Verdicts of other gateways that this one has looked into or begun to rely on, by what they say; repeated ones are not counted.",
    );
    for (state, count) in sharing.received() {
        received.sample(&[("state", state.as_str())], count as f64);
    }
    families.extend(received.finish());
    let counters = [
        (
            "sluice_probes_saved_total",
            "Probes that other gateways' verdicts have made needless.",
            sharing.saved() as f64,
        ),
        (
            "sluice_verdicts_stale_total",
            "Endpoints that are probed here again since no other gateway says anything of them that counts.",
            sharing.stale() as f64,
        ),
    ];
    let (colleagues, silent) = sharing.colleagues();
    let gauges = [
        (
            "sluice_endpoints_probed_elsewhere",
            "Endpoints that other gateways probe for this one.",
            sharing.heeded() as f64,
        ),
        (
            "sluice_endpoints_disputed",
            "Endpoints that other gateways have to probe, and of which this one's probes do not find what they say.",
            sharing.disputed() as f64,
        ),
        ("sluice_probe_sharers", "Other gateways that this one shares its probes with.", colleagues as f64),
        ("sluice_probe_sharers_silent", "Of those, such as have not been heard lately.", silent as f64),
    ];
    families.extend(
        counters.into_iter().filter_map(|(name, help, value)| plain(Family::counter(name, help), value)),
    );
    families
        .extend(gauges.into_iter().filter_map(|(name, help, value)| plain(Family::gauge(name, help), value)));
}
