//! Probes, and what a fleet of gateways shares of them.

use healthcheck::{ProbeWatch, Standing};
use prometheus::proto::MetricFamily;

use super::collect::plain;
use super::families::Family;

pub fn collect(watch: &ProbeWatch, families: &mut Vec<MetricFamily>) {
    let (stats, Standing { lag, under_way, kept }) = (watch.stats(), watch.standing());
    let sharing = &stats.sharing;
    let mut probes = Family::counter("sluice_probes_total", "Health probes by result.");
    for (result, count) in stats.probes() {
        probes.sample(&[("result", result.as_str())], count as f64);
    }
    let mut turns = Family::counter(
        "sluice_endpoint_transitions_total",
        "Endpoints that went up or down by their probes.",
    );
    for (to, count) in stats.transitions() {
        turns.sample(&[("to", to.as_str())], count as f64);
    }
    let mut received = Family::counter(
        "sluice_verdicts_received_total",
        "Verdicts of other gateways that this one has looked into or begun to rely on, by what they say; repeated ones are not counted.",
    );
    for (state, count) in sharing.received() {
        received.sample(&[("state", state.as_str())], count as f64);
    }
    families.extend([probes, turns, received].into_iter().filter_map(Family::finish));
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
            "sluice_probe_lag_seconds",
            "How long the endpoint has been waiting that was to be probed first.",
            lag.as_secs_f64(),
        ),
        ("sluice_probes_under_way", "Probes that wait for an answer.", under_way as f64),
        ("sluice_probe_connections", "Connections to endpoints that wait for the next probe.", kept as f64),
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
    let counters = counters.map(|(name, help, value)| (Family::counter(name, help), value));
    let gauges = gauges.map(|(name, help, value)| (Family::gauge(name, help), value));
    let all = counters.into_iter().chain(gauges);
    families.extend(all.filter_map(|(family, value)| plain(family, value)));
}
