//! What workers give up under load, and what they measure for it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use prometheus::proto::MetricFamily;

use super::WorkerMetrics;
use super::families::Family;
use crate::worker::{Shared, Step};

pub fn overload(shared: &Shared, workers: &[Arc<WorkerMetrics>], families: &mut Vec<MetricFamily>) {
    let mut shedding =
        Family::gauge("sluice_shedding", "Workers that give this up because they are overloaded.");
    let mut shed = Family::counter("sluice_shed_total", "What was given up because a worker was overloaded.");
    for step in Step::ALL {
        let labels = [("step", step.as_str())];
        let now: i64 = workers.iter().map(|worker| worker.shedding[step as usize].value()).sum();
        let count: u64 = workers.iter().map(|worker| worker.shed[step as usize].value()).sum();
        shedding.sample(&labels, now as f64);
        shed.sample(&labels, count as f64);
    }
    let mut lag = Family::gauge(
        "sluice_worker_lag_seconds",
        "How late a worker's event loop is by its own work, the latest one's.",
    );
    let latest = workers.iter().map(|worker| worker.lag_millis.value()).max().unwrap_or(0);
    lag.sample(&[], latest as f64 / 1e3);
    let mut buffers = Family::gauge("sluice_buffer_bytes", "Buffers that hold bytes on their way.");
    buffers.sample(&[], workers.iter().map(|worker| worker.buffer_bytes.value()).sum::<i64>() as f64);
    let mut budget = Family::gauge("sluice_buffer_budget_bytes", "What they may grow to, max_buffers.");
    budget.sample(&[], (shared.buffer_budget.load(Ordering::Relaxed) * workers.len()) as f64);
    families.extend([shedding, shed, lag, buffers, budget].into_iter().filter_map(Family::finish));
}

/// Whether any worker takes no new connections, or answers new requests with 503.
pub fn is_overloaded(workers: &[Arc<WorkerMetrics>]) -> bool {
    let refuses = |worker: &Arc<WorkerMetrics>| {
        [Step::Connections, Step::Requests].iter().any(|step| worker.shedding[*step as usize].value() > 0)
    };
    workers.iter().any(refuses)
}
