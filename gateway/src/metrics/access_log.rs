//! How the access log fares.

use std::sync::Arc;

use prometheus::proto::MetricFamily;

use super::WorkerMetrics;
use super::collect::plain;
use super::families::Family;
use crate::access_log::LogWatch;

pub(super) fn log(watch: &LogWatch, workers: &[Arc<WorkerMetrics>], families: &mut Vec<MetricFamily>) {
    let LogWatch { status, backlog } = watch;
    let sum = |count: fn(&WorkerMetrics) -> u64| workers.iter().map(|worker| count(worker)).sum::<u64>();
    let dropped = sum(|worker| worker.log_lines_dropped.value()) + status.lost_lines();
    let counters = [
        (
            "sluice_access_log_lines_total",
            "Lines that were made and not dropped.",
            sum(|worker| worker.log_lines.value()).saturating_sub(status.lost_lines()),
        ),
        (
            "sluice_access_log_dropped_lines_total",
            "Lines that the log's target was too slow for, or that it did not take.",
            dropped,
        ),
        (
            "sluice_access_log_written_bytes_total",
            "Bytes that the log's target took.",
            status.written_bytes(),
        ),
        (
            "sluice_access_log_rotations_total",
            "Files that were moved away for their size.",
            status.rotations(),
        ),
        ("sluice_access_log_errors_total", "Writes, connects and rotations that failed.", status.errors()),
    ];
    families.extend(
        counters
            .into_iter()
            .filter_map(|(name, help, value)| plain(Family::counter(name, help), value as f64)),
    );
    families.extend(plain(
        Family::gauge("sluice_access_log_up", "Whether the log's target takes lines (1) or failed last (0)."),
        f64::from(u8::from(status.is_up())),
    ));
    families.extend(plain(
        Family::gauge("sluice_access_log_backlog_bytes", "Lines that wait for the log's target."),
        backlog.bytes() as f64,
    ));
}
