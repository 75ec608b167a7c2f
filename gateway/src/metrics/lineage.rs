//! Of hand-overs, and of former processes that still drain.

use prometheus::proto::MetricFamily;

use super::families::Family;
use crate::handover::Lineage;

pub fn lineage(lineage: &Lineage, families: &mut Vec<MetricFamily>) {
    let mut generation = Family::gauge(
        "sluice_generation",
        "1 for a process that took over from none, and one more each time.",
    );
    generation.sample(&[], lineage.generation as f64);
    let mut handovers = Family::counter(
        "sluice_handovers_total",
        "Hand-overs from process to process by result, over all generations.",
    );
    handovers.sample(&[("result", "completed")], lineage.completed() as f64);
    handovers.sample(&[("result", "failed")], lineage.failed() as f64);
    let draining = lineage.draining();
    let mut processes =
        Family::gauge("sluice_draining_processes", "Former processes whose connections have not ended yet.");
    processes.sample(&[], draining.len() as f64);
    let mut connections = Family::gauge("sluice_draining_connections", "Connections that these have open.");
    let open: u64 = draining.iter().filter_map(|drainer| drainer.connections).sum();
    connections.sample(&[], open as f64);
    families.extend([generation, handovers, processes, connections].into_iter().filter_map(Family::finish));
}
