//! Open tunnels, listed and closed by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use topology::InstanceId;
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::openapi::ReadProblems;
use super::problem::Problem;
use super::query::{Queried, only_app};
use crate::serve::Command;
use crate::worker::tunnels::{Listed, Order, TunnelId, Wanted};

/// Of each worker in one answer: it copies them between two connections' turns. More are asked for by app.
const MAX_LISTED: usize = 1_000;
/// A worker answers within a tick. One that does not has other troubles.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// Only those of this app.
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: Option<String>,
    /// Only those to this instance.
    #[param(example = "c1", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    instance: Option<String>,
    /// Only this one.
    #[param(example = "1-42", pattern = "^[0-9]{1,5}-[0-9]{1,20}$")]
    id: Option<String>,
}

impl Filter {
    fn wanted(&self) -> Result<Wanted, Problem> {
        let instance = self.instance.as_deref().map(InstanceId::parse).transpose();
        let instance = instance.map_err(|error| Problem::malformed("instance", error.to_string()))?;
        let no_id = || Problem::malformed("id", "is no tunnel's; write one of the list, such as 1-42");
        let id = self.id.as_deref().map(|id| TunnelId::parse(id).ok_or_else(no_id)).transpose()?;
        Ok(Wanted { app: only_app(self.app.as_deref())?, instance, id })
    }
}

/// Open tunnels, at most 1,000 of each worker.
#[derive(Debug, Serialize, ToSchema)]
struct TunnelsView {
    total: usize,
    truncated: bool,
    items: Vec<TunnelView>,
}

/// A tunnel: bytes that pass both ways.
#[derive(Debug, Serialize, ToSchema)]
struct TunnelView {
    id: String,
    app: String,
    version: String,
    instance: String,
    address: String,
    listener: String,
    client: String,
    /// `tcp`, `connect`, or the protocol that HTTP was left for.
    kind: String,
    seconds: f64,
}

/// What was closed.
#[derive(Debug, Serialize, ToSchema)]
struct ClosedView {
    closed: usize,
}

/// Open tunnels. A tenant asks for those of one of its own apps.
#[utoipa::path(
    get, path = "/v1/tunnels", tag = "gateway", operation_id = "list_tunnels", params(Filter),
    responses((status = 200, body = TunnelsView), ReadProblems),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    filter: Queried<Filter>,
) -> Result<Response, Problem> {
    let Query(filter) = filter?;
    let wanted = filter.wanted()?;
    let order = |reply| Order::List { wanted: wanted.clone(), most: MAX_LISTED, reply };
    let answers = ask(&state.workers, order).await;
    let total = answers.iter().map(|(total, _)| total).sum();
    let items: Vec<_> = answers.into_iter().flat_map(|(_, listed)| listed).map(view).collect();
    Ok(axum::Json(TunnelsView { total, truncated: items.len() < total, items }).into_response())
}

/// Closes tunnels: all to which every parameter applies that is given, and one has to be.
#[utoipa::path(
    delete, path = "/v1/tunnels", tag = "gateway", operation_id = "close_tunnels", params(Filter),
    responses((status = 200, body = ClosedView), ReadProblems),
)]
pub async fn close(
    State(state): State<Arc<AdminState>>,
    filter: Queried<Filter>,
) -> Result<Response, Problem> {
    let Query(filter) = filter?;
    let wanted = filter.wanted()?;
    if wanted == Wanted::default() {
        let which = "say which tunnels: app=…, with or without instance=…, or id=…";
        return Err(Problem::malformed("query", which));
    }
    let order = |reply| Order::Close { wanted: wanted.clone(), reply };
    let closed = ask(&state.workers, order).await.into_iter().sum();
    tracing::info!(
        app = filter.app.as_deref().unwrap_or(""),
        instance = filter.instance.as_deref().unwrap_or(""),
        id = filter.id.as_deref().unwrap_or(""),
        closed,
        "tunnels closed by an operator"
    );
    Ok(axum::Json(ClosedView { closed }).into_response())
}

/// Every worker's answer; one that has ended has none.
async fn ask<T>(workers: &[UnboundedSender<Command>], order: impl Fn(oneshot::Sender<T>) -> Order) -> Vec<T> {
    let asked: Vec<_> = workers
        .iter()
        .filter_map(|worker| {
            let (reply, answer) = oneshot::channel();
            worker.send(Command::Tunnels(order(reply))).ok().map(|()| answer)
        })
        .collect();
    let mut answers = Vec::with_capacity(asked.len());
    for answer in asked {
        if let Ok(Ok(answer)) = tokio::time::timeout(PATIENCE, answer).await {
            answers.push(answer);
        }
    }
    answers
}

fn view(Listed { id, begun, age }: Listed) -> TunnelView {
    let endpoint = begun.endpoint;
    TunnelView {
        id: id.to_string(),
        app: endpoint.metrics.app().to_string(),
        version: endpoint.key.version.to_string(),
        instance: endpoint.key.instance.to_string(),
        address: endpoint.address.to_string(),
        listener: begun.listener.to_string(),
        client: begun.client.to_string(),
        kind: begun.kind.as_str().to_owned(),
        seconds: age.as_secs_f64(),
    }
}
