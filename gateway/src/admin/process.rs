//! Which process serves, and which former ones drain.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use vip::Serving;

use super::AdminState;
use super::openapi::ReadProblems;
use super::problem::Problem;
use super::query::{Nothing, Queried};
use super::views::moment;
use crate::handover::Lineage;

/// The process that answers, and its predecessors.
#[derive(Debug, Serialize, ToSchema)]
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

/// A former process that serves what it had begun.
#[derive(Debug, Serialize, ToSchema)]
pub struct DrainingView {
    pid: u32,
    generation: u64,
    /// As it said within the last seconds.
    connections: Option<u64>,
}

/// Which process serves, and which former ones drain.
#[utoipa::path(
    get, path = "/v1/process", tag = "gateway", operation_id = "show_process",
    responses((status = 200, body = ProcessView), ReadProblems),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Json<ProcessView>, Problem> {
    query?;
    Ok(Json(view(&state.sources.lineage, state.sources.serving.now())))
}

fn view(lineage: &Lineage, serving: Serving) -> ProcessView {
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
