//! How statistics and tracing fare.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;

use super::WorkerMetrics;
use super::collect::plain;
use super::families::Family;
use crate::statistics::Store;
use crate::trace::ExportStatus;

pub(super) fn statistics(store: &Store, workers: &[Arc<WorkerMetrics>], families: &mut Vec<MetricFamily>) {
    let status = store.status();
    let dropped: u64 = workers.iter().map(|worker| worker.statistics_dropped.value()).sum();
    let gauges = [
        (
            "sluice_statistics_services",
            "Versions of apps that traffic statistics are kept of.",
            status.services,
        ),
        ("sluice_statistics_bytes", "What traffic statistics take.", status.bytes),
    ];
    families.extend(
        gauges.into_iter().filter_map(|(name, help, value)| plain(Family::gauge(name, help), value as f64)),
    );
    let counters = [
        (
            "sluice_statistics_forgotten_total",
            "Versions of apps whose statistics had to go for those of others.",
            status.forgotten,
        ),
        (
            "sluice_statistics_dropped_requests_total",
            "Requests that statistics do not know of: the control plane was behind.",
            dropped,
        ),
    ];
    families.extend(
        counters
            .into_iter()
            .filter_map(|(name, help, value)| plain(Family::counter(name, help), value as f64)),
    );
}

pub(super) fn tracing(
    status: &ExportStatus,
    workers: &[Arc<WorkerMetrics>],
    families: &mut Vec<MetricFamily>,
) {
    let early: u64 = workers.iter().map(|worker| worker.spans_dropped.value()).sum();
    let counters = [
        (
            "sluice_trace_exported_spans_total",
            "Spans that the collector took.",
            status.exported_spans.load(Ordering::Relaxed),
        ),
        (
            "sluice_trace_dropped_spans_total",
            "Spans that the collector was too slow for, or did not take.",
            early + status.dropped_spans.load(Ordering::Relaxed),
        ),
        (
            "sluice_trace_export_failures_total",
            "Attempts to export spans that failed.",
            status.failures.load(Ordering::Relaxed),
        ),
    ];
    families.extend(
        counters
            .into_iter()
            .filter_map(|(name, help, value)| plain(Family::counter(name, help), value as f64)),
    );
}
