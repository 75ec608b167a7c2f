//! What a gateway serves, as it is in force: apps, their endpoints and filters, routes, and what is held back.

use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::filters::FilterView;
use super::openapi::{BuildProblems, ReadProblems};
use super::problem::Problem;
use super::query::{Narrow, Nothing, Queried};
use super::views::{self, AppView, EndpointsView, Page, TableView};
use super::{AdminState, MAX_ROWS, build, filters};

/// Apps as they are in force, at most 10,000. A tenant asks for one of its own.
#[utoipa::path(
    get, path = "/v1/apps", tag = "table", operation_id = "list_apps", params(Narrow),
    responses((status = 200, body = Page<AppView>), BuildProblems),
)]
pub async fn apps(
    State(state): State<Arc<AdminState>>,
    narrow: Queried<Narrow>,
) -> Result<Response, Problem> {
    let app = narrow?.only()?;
    let table = state.sources.shared.table.load_full();
    build(move || views::apps(&table, app.as_ref(), MAX_ROWS)).await
}

/// Endpoints with their health and load, at most 10,000. A tenant asks for those of one of its own apps.
#[utoipa::path(
    get, path = "/v1/endpoints", tag = "table", operation_id = "list_endpoints", params(Narrow),
    responses((status = 200, body = EndpointsView), BuildProblems),
)]
pub async fn endpoints(
    State(state): State<Arc<AdminState>>,
    narrow: Queried<Narrow>,
) -> Result<Response, Problem> {
    let app = narrow?.only()?;
    let table = state.sources.shared.table.load_full();
    build(move || views::endpoints(&table, app.as_ref(), MAX_ROWS)).await
}

/// Filters in the order in which they act, at most 10,000. A tenant asks for those of one of its own apps.
#[utoipa::path(
    get, path = "/v1/filters", tag = "table", operation_id = "list_filters", params(Narrow),
    responses((status = 200, body = Page<FilterView>), BuildProblems),
)]
pub async fn filters(
    State(state): State<Arc<AdminState>>,
    narrow: Queried<Narrow>,
) -> Result<Response, Problem> {
    let app = narrow?.only()?;
    let table = state.sources.shared.table.load_full();
    build(move || filters::view(&table, app.as_ref(), MAX_ROWS)).await
}

/// Hosts and paths, where the table comes from, and what of its sources is not in force.
#[utoipa::path(
    get, path = "/v1/table", tag = "table", operation_id = "show_table",
    responses((status = 200, body = TableView), BuildProblems),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    query?;
    let table = state.sources.shared.table.load_full();
    let registry = state.sources.registry.borrow().clone();
    let doubts = state.sources.doubts.borrow().clone();
    build(move || views::table(&state.gateway_id, &table, (&registry, &doubts), MAX_ROWS)).await
}

/// What was held back is in force now.
#[derive(Debug, Serialize, ToSchema)]
pub struct AcceptedView {
    /// Keys that were held.
    let_go: usize,
}

/// The registry is right as it is: what was held back of it is let go.
#[utoipa::path(
    post, path = "/v1/registry/accept", tag = "table", operation_id = "accept_registry",
    responses((status = 200, body = AcceptedView), ReadProblems),
)]
pub async fn accept(
    State(state): State<Arc<AdminState>>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    query?;
    let let_go = state.sources.doubts.borrow().held.len();
    tracing::warn!(held = let_go, "an operator accepts the registry as it is");
    state.sources.acceptance.notify_one();
    Ok(axum::Json(AcceptedView { let_go }).into_response())
}
