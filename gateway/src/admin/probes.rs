//! What machines ask of the gateway itself, in plain text: its metrics, and whether it lives and serves.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::AdminState;
use super::openapi::{GuardProblems, OpenProblems};
use crate::metrics::{Exporter, is_overloaded};

/// All figures, as Prometheus reads them. What each counts is in docs/observing.md.
#[utoipa::path(
    get, path = "/metrics", tag = "probes",
    responses(
        (status = 200, body = String, content_type = "text/plain"),
        (status = 500, description = "They could not be written down.", body = String, content_type = "text/plain"),
        GuardProblems
    ),
)]
pub async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    let rendered = tokio::task::spawn_blocking(move || state.exporter.render()).await;
    match rendered {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, Exporter::content_type())], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// Whether the process answers at all. Nobody has to say who he is.
#[utoipa::path(
    get, path = "/live", tag = "probes",
    responses((status = 200, body = String, content_type = "text/plain", example = "live\n"), OpenProblems),
)]
pub async fn live() -> &'static str {
    "live\n"
}

/// Whether new connections are welcome: 503 before, after, and while a worker has too much to do. Nobody has to say who he
/// is.
#[utoipa::path(
    get, path = "/ready", tag = "probes",
    responses(
        (status = 200, body = String, content_type = "text/plain", example = "serving\n"),
        (status = 503, description = "`overloaded`, or how far it has come.", body = String, content_type = "text/plain"),
        OpenProblems
    ),
)]
pub async fn ready(State(state): State<Arc<AdminState>>) -> Response {
    if state.sources.serving.is_serving() && is_overloaded(&state.sources.workers) {
        return (StatusCode::SERVICE_UNAVAILABLE, "overloaded\n").into_response();
    }
    let serving = state.sources.serving.now();
    let status =
        if state.sources.serving.is_serving() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", serving.as_str())).into_response()
}
