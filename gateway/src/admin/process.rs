//! Which process serves, and which former ones drain.

use serde::Serialize;
use vip::Serving;

use super::views::moment;
use crate::handover::Lineage;

#[derive(Debug, Serialize)]
pub struct ProcessView {
    pid: u32,
    version: &'static str,
    state: &'static str,
    started: String,
    generation: u64,
    /// Whom it took over from; absent for one that began anew.
    predecessor: Option<u32>,
    handovers_failed: u64,
    /// Of this process.
    last_failure: Option<String>,
    draining: Vec<DrainingView>,
}

#[derive(Debug, Serialize)]
pub struct DrainingView {
    pid: u32,
    generation: u64,
    /// As it said within the last seconds.
    connections: Option<u64>,
}

pub fn view(lineage: &Lineage, serving: Serving) -> ProcessView {
    let draining = lineage.draining().into_iter().map(|drainer| DrainingView {
        pid: drainer.pid,
        generation: drainer.generation,
        connections: drainer.connections,
    });
    ProcessView {
        pid: lineage.pid,
        version: env!("CARGO_PKG_VERSION"),
        state: serving.as_str(),
        started: moment(lineage.started),
        generation: lineage.generation,
        predecessor: lineage.predecessor,
        handovers_failed: lineage.failed(),
        last_failure: lineage.last_failure(),
        draining: draining.collect(),
    }
}
