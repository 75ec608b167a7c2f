//! What filters decided.

use prometheus::proto::MetricFamily;

use super::families::Family;
use crate::filter::{Kind, RateLimits, RequestFilter};
use crate::table::RoutingTable;

pub(super) fn collect(limits: Option<&RateLimits>, table: &RoutingTable, families: &mut Vec<MetricFamily>) {
    let mut requests = Family::counter(
        "sluice_filter_requests_total",
        "Requests that a filter let pass, and that it refused or answered itself.",
    );
    let mut limited = Family::counter(
        "sluice_rate_limited_total",
        "Requests above a limit; app is empty for limits of the gateway.",
    );
    for (limit, count) in limits.into_iter().flat_map(RateLimits::refused) {
        limited.sample(&[("app", ""), ("limit", limit)], count as f64);
    }
    for app in table.apps.values() {
        let Some(filters) = &app.filters else { continue };
        for kind in Kind::ALL {
            let (passed, refused) = filters.metrics.totals(kind);
            for (result, count) in [("passed", passed), ("refused", refused)] {
                if count > 0 {
                    let labels = [("app", app.id.as_str()), ("filter", kind.as_str()), ("result", result)];
                    requests.sample(&labels, count as f64);
                }
            }
        }
        for filter in &filters.request {
            if let RequestFilter::RateLimits(limits) = filter {
                for (limit, count) in limits.refused() {
                    limited.sample(&[("app", app.id.as_str()), ("limit", limit)], count as f64);
                }
            }
        }
    }
    families.extend([requests, limited].into_iter().filter_map(Family::finish));
}
