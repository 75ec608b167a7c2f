//! `/v1/ports`: which ports of their own apps ask for, and which they have.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::AdminState;
use super::openapi::ReadProblems;
use super::problem::Problem;
use super::query::{Nothing, Queried};
use crate::ports::Asked;

/// Ports that apps have of their own.
#[derive(Debug, Serialize, ToSchema)]
pub struct PortsView {
    items: Vec<PortView>,
}

/// A port of an app.
#[derive(Debug, Serialize, ToSchema)]
struct PortView {
    app: String,
    /// With its port.
    #[schema(value_type = String)]
    address: SocketAddr,
    protocol: &'static str,
    /// Connections or datagrams are passed to the app.
    open: bool,
    /// Why not.
    refused: Option<String>,
}

/// Which ports of their own apps ask for, and which they have.
#[utoipa::path(
    get, path = "/v1/ports", tag = "gateway", operation_id = "list_ports",
    responses((status = 200, body = PortsView), ReadProblems),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Json<PortsView>, Problem> {
    query?;
    let board = state.sources.ports.load();
    Ok(Json(PortsView { items: board.iter().map(view).collect() }))
}

fn view(asked: &Asked) -> PortView {
    PortView {
        app: asked.app.to_string(),
        address: asked.port.address,
        protocol: asked.port.protocol.as_str(),
        open: asked.refusal.is_none(),
        refused: asked.refusal.clone(),
    }
}
