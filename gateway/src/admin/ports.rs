//! `/v1/ports`: which ports of their own apps ask for, and which they have.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;

use super::AdminState;
use crate::ports::Asked;

#[derive(Debug, Serialize)]
pub struct PortsView {
    items: Vec<PortView>,
}

#[derive(Debug, Serialize)]
struct PortView {
    app: String,
    address: SocketAddr,
    protocol: &'static str,
    /// Connections or datagrams are passed to the app.
    open: bool,
    /// Why not.
    refused: Option<String>,
}

pub async fn list(State(state): State<Arc<AdminState>>) -> Json<PortsView> {
    let board = state.sources.ports.load();
    Json(PortsView { items: board.iter().map(view).collect() })
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
