//! The admin listener: metrics, probes of the gateway itself, what it knows, as JSON, and changes of what it serves.
//!
//! `serve.rs` has the doors: this machine's loopback, a Unix socket, or TLS, and never a worker's thread. `guard.rs` and
//! `auth/` know who asks and may. `entries.rs` and `changes.rs` speak HTTP for [`discovery::change`], which makes changes;
//! the rest shows.

pub mod auth;
pub(crate) mod body;
mod certificates;
mod changes;
mod dns;
pub(crate) mod entries;
mod explain;
mod filters;
pub(crate) mod guard;
mod judge;
mod openapi;
mod ports;
pub(crate) mod problem;
mod process;
mod revisions;
mod serve;
mod traffic;
mod tunnels;
mod views;
mod vips;

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use discovery::change::Editor;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use topology::AppId;

use crate::metrics::{AdminMetrics, Exporter, Sources, is_overloaded};
use crate::serve::Command;
use crate::statistics::MINUTES;

pub use auth::Authenticator;
pub use guard::Gate;
pub use judge::GatewayJudge;
pub use serve::{Doors, bind, serve};

/// Rows of one answer; more are asked for by app. Bounds what one request can make us build.
const MAX_ROWS: usize = 10_000;

/// Of traffic: long enough to be more than a moment, short enough to be now.
const DEFAULT_MINUTES: u32 = 5;

pub struct AdminState {
    gateway_id: String,
    sources: Sources,
    exporter: Exporter,
    workers: Vec<UnboundedSender<Command>>,
    editor: Editor,
    gate: Gate,
    metrics: Arc<AdminMetrics>,
}

impl AdminState {
    /// `workers` are asked about what only they know; `editor` changes the registry for those whom `auth` knows.
    pub fn new(
        gateway_id: String,
        sources: Sources,
        workers: Vec<UnboundedSender<Command>>,
        editor: Editor,
        auth: Arc<Authenticator>,
    ) -> Arc<Self> {
        let (exporter, metrics) = (Exporter::new(sources.clone()), sources.admin.clone());
        let gate = Gate { auth, metrics: metrics.clone(), permits: auth::permits };
        Arc::new(Self { gateway_id, sources, exporter, workers, editor, gate, metrics })
    }
}

/// Serves operators and tenants until `cancel`.
pub fn start(doors: Doors, state: Arc<AdminState>, cancel: CancellationToken) -> JoinHandle<()> {
    let auth = state.gate.auth.clone();
    tokio::spawn(serve(doors, auth, router(state), cancel))
}

fn router(state: Arc<AdminState>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/v1/apps", get(apps))
        .route("/v1/endpoints", get(endpoints))
        .route("/v1/explain", get(explain::show))
        .route("/v1/filters", get(filters))
        .route("/v1/table", get(table))
        .route("/v1/revisions", get(revisions::show))
        .route("/v1/registry/accept", post(accept_registry))
        .route("/v1/certificates", get(certificates))
        .route("/v1/tunnels", get(tunnels::list).delete(tunnels::close))
        .route("/v1/process", get(process))
        .route("/v1/vips", get(vips::list))
        .route("/v1/vips/drain", post(vips::drain))
        .route("/v1/vips/undrain", post(vips::undrain))
        .route("/v1/vips/{ip}/move", post(vips::hand_over))
        .route("/v1/ports", get(ports::list))
        .route("/v1/dns", get(dns::show))
        .route("/v1/traffic", get(traffic))
        .route("/v1/config", get(entries::list))
        .route("/v1/config/apply", post(changes::apply))
        .route("/v1/config/{kind}/{id}", get(entries::show).put(entries::put).delete(entries::remove))
        .route(
            "/v1/config/operators/{app}/{version}/{instance}",
            get(entries::show_word).put(entries::put_word).delete(entries::remove_word),
        )
        .route("/v1/history", get(changes::history))
        .route("/v1/history/{revision}", get(changes::record))
        .route("/v1/rollback", post(changes::roll_back))
        .route("/v1/openapi.json", get(description))
        .layer(axum::middleware::from_fn_with_state(state.gate.clone(), guard::check))
        .with_state(state)
}

async fn description() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], openapi::document()).into_response()
}

async fn metrics(State(state): State<Arc<AdminState>>) -> Response {
    let rendered = tokio::task::spawn_blocking(move || state.exporter.render()).await;
    match rendered {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, Exporter::content_type())], text).into_response(),
        Ok(Err(error)) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// 200 while new connections are welcome, 503 before, after, and while a worker has too much to do.
async fn ready(State(state): State<Arc<AdminState>>) -> Response {
    if state.sources.serving.is_serving() && is_overloaded(&state.sources.workers) {
        return (StatusCode::SERVICE_UNAVAILABLE, "overloaded\n").into_response();
    }
    let serving = state.sources.serving.now();
    let status =
        if state.sources.serving.is_serving() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, format!("{}\n", serving.as_str())).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Filter {
    app: Option<String>,
}

impl Filter {
    fn app(&self) -> Result<Option<AppId>, Box<Response>> {
        let parsed = self.app.as_deref().map(AppId::parse).transpose();
        parsed.map_err(|error| Box::new((StatusCode::BAD_REQUEST, format!("app: {error}\n")).into_response()))
    }
}

async fn apps(State(state): State<Arc<AdminState>>, Query(filter): Query<Filter>) -> Response {
    let app = match filter.app() {
        Ok(app) => app,
        Err(response) => return *response,
    };
    let table = state.sources.shared.table.load_full();
    build(move || views::apps(&table, app.as_ref(), MAX_ROWS)).await
}

async fn endpoints(State(state): State<Arc<AdminState>>, Query(filter): Query<Filter>) -> Response {
    let app = match filter.app() {
        Ok(app) => app,
        Err(response) => return *response,
    };
    let table = state.sources.shared.table.load_full();
    build(move || views::endpoints(&table, app.as_ref(), MAX_ROWS)).await
}

async fn filters(State(state): State<Arc<AdminState>>, Query(filter): Query<Filter>) -> Response {
    let app = match filter.app() {
        Ok(app) => app,
        Err(response) => return *response,
    };
    let table = state.sources.shared.table.load_full();
    build(move || filters::view(&table, app.as_ref(), MAX_ROWS)).await
}

async fn table(State(state): State<Arc<AdminState>>) -> Response {
    let table = state.sources.shared.table.load_full();
    let registry = state.sources.registry.borrow().clone();
    let doubts = state.sources.doubts.borrow().clone();
    build(move || views::table(&state.gateway_id, &table, (&registry, &doubts), MAX_ROWS)).await
}

/// What was held back is let go: the registry is right as it is.
async fn accept_registry(State(state): State<Arc<AdminState>>) -> Response {
    let held = state.sources.doubts.borrow().held.len();
    tracing::warn!(held, "an operator accepts the registry as it is");
    state.sources.acceptance.notify_one();
    axum::Json(serde_json::json!({ "let_go": held })).into_response()
}

async fn certificates(State(state): State<Arc<AdminState>>) -> Response {
    let tls = state.sources.tls.clone();
    build(move || certificates::view(&tls)).await
}

async fn process(State(state): State<Arc<AdminState>>) -> Response {
    axum::Json(process::view(&state.sources.lineage, state.sources.serving.now())).into_response()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TrafficFilter {
    app: Option<String>,
    minutes: Option<u32>,
}

async fn traffic(State(state): State<Arc<AdminState>>, Query(filter): Query<TrafficFilter>) -> Response {
    let app = match (Filter { app: filter.app }).app() {
        Ok(app) => app,
        Err(response) => return *response,
    };
    let minutes = filter.minutes.unwrap_or(DEFAULT_MINUTES);
    if !(1..=MINUTES).contains(&minutes) {
        return (StatusCode::BAD_REQUEST, format!("minutes: write 1 to {MINUTES}\n")).into_response();
    }
    let store = state.sources.statistics.clone();
    build(move || traffic::view(&store, app.as_ref(), minutes, MAX_ROWS)).await
}

/// Large views are built where they hold nobody up.
async fn build<T: Serialize + Send + 'static>(view: impl FnOnce() -> T + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(move || axum::Json(view()).into_response()).await {
        Ok(response) => response,
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
