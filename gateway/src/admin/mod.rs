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
pub(crate) mod openapi;
mod ports;
mod probes;
pub(crate) mod problem;
mod process;
pub(crate) mod query;
mod revisions;
mod serve;
mod table;
mod traffic;
mod tunnels;
mod views;
mod vips;

use std::sync::Arc;

use axum::Router;
use axum::response::{IntoResponse, Response};
use discovery::change::Editor;
use serde::Serialize;
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::metrics::{AdminMetrics, Exporter, Sources};
use crate::serve::Command;
use problem::Problem;

pub use auth::Authenticator;
pub use guard::Gate;
pub use judge::GatewayJudge;
pub use serve::{Doors, bind, serve};

/// Rows of one answer; more are asked for by app. Bounds what one request can make us build.
const MAX_ROWS: usize = 10_000;

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

/// The router and its description, of one list: what is not described cannot be routed here.
fn routes() -> OpenApiRouter<Arc<AdminState>> {
    OpenApiRouter::with_openapi(openapi::Document::openapi())
        .routes(routes!(probes::metrics))
        .routes(routes!(probes::live))
        .routes(routes!(probes::ready))
        .routes(routes!(table::apps))
        .routes(routes!(table::endpoints))
        .routes(routes!(explain::show::show))
        .routes(routes!(table::filters))
        .routes(routes!(table::show))
        .routes(routes!(revisions::show))
        .routes(routes!(table::accept))
        .routes(routes!(certificates::show))
        .routes(routes!(tunnels::list, tunnels::close))
        .routes(routes!(process::show))
        .routes(routes!(vips::list))
        .routes(routes!(vips::drain))
        .routes(routes!(vips::undrain))
        .routes(routes!(vips::hand_over))
        .routes(routes!(ports::list))
        .routes(routes!(dns::show))
        .routes(routes!(traffic::show))
        .routes(routes!(entries::list))
        .routes(routes!(changes::apply))
        .routes(routes!(entries::show, entries::put, entries::remove))
        .routes(routes!(entries::show_word, entries::put_word, entries::remove_word))
        .routes(routes!(changes::history))
        .routes(routes!(changes::record))
        .routes(routes!(changes::roll_back))
        .routes(routes!(openapi::serve))
}

fn router(state: Arc<AdminState>) -> Router {
    let (router, _) = routes().split_for_parts();
    router.layer(axum::middleware::from_fn_with_state(state.gate.clone(), guard::check)).with_state(state)
}

/// Large views are built where they hold nobody up.
async fn build<T: Serialize + Send + 'static>(
    view: impl FnOnce() -> T + Send + 'static,
) -> Result<Response, Problem> {
    let built = tokio::task::spawn_blocking(move || axum::Json(view()).into_response()).await;
    built.map_err(|error| Problem::internal(&error))
}
