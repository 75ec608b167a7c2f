//! Open tunnels, listed and closed by hand.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;
use topology::{AppId, InstanceId};

use super::AdminState;
use crate::serve::Command;
use crate::worker::tunnels::{Listed, Order, TunnelId, Wanted};

/// Of each worker in one answer: it copies them between two connections' turns. More are asked for by app.
const MAX_LISTED: usize = 1_000;
/// A worker answers within a tick. One that does not has other troubles.
const PATIENCE: Duration = Duration::from_secs(2);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    app: Option<String>,
    instance: Option<String>,
    id: Option<String>,
}

impl Filter {
    fn wanted(&self) -> Result<Wanted, String> {
        let app = self.app.as_deref().map(AppId::parse).transpose();
        let instance = self.instance.as_deref().map(InstanceId::parse).transpose();
        let id = self.id.as_deref().map(|id| TunnelId::parse(id).ok_or("is none, such as 1-42")).transpose();
        Ok(Wanted {
            app: app.map_err(|error| format!("app: {error}"))?,
            instance: instance.map_err(|error| format!("instance: {error}"))?,
            id: id.map_err(|error| format!("id: {error}"))?,
        })
    }
}

#[derive(Debug, Serialize)]
struct TunnelsView {
    total: usize,
    truncated: bool,
    items: Vec<TunnelView>,
}

#[derive(Debug, Serialize)]
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

#[derive(Debug, Serialize)]
struct ClosedView {
    closed: usize,
}

pub async fn list(State(state): State<Arc<AdminState>>, Query(filter): Query<Filter>) -> Response {
    let wanted = match filter.wanted() {
        Ok(wanted) => wanted,
        Err(message) => return bad_request(&message),
    };
    let order = |reply| Order::List { wanted: wanted.clone(), most: MAX_LISTED, reply };
    let answers = ask(&state.workers, order).await;
    let total = answers.iter().map(|(total, _)| total).sum();
    let items: Vec<_> = answers.into_iter().flat_map(|(_, listed)| listed).map(view).collect();
    axum::Json(TunnelsView { total, truncated: items.len() < total, items }).into_response()
}

pub async fn close(State(state): State<Arc<AdminState>>, Query(filter): Query<Filter>) -> Response {
    let wanted = match filter.wanted() {
        Ok(wanted) if wanted == Wanted::default() => {
            return bad_request("say which: app=…, with or without instance=…, or id=…");
        }
        Ok(wanted) => wanted,
        Err(message) => return bad_request(&message),
    };
    let order = |reply| Order::Close { wanted: wanted.clone(), reply };
    let closed = ask(&state.workers, order).await.into_iter().sum();
    tracing::info!(
        app = filter.app.as_deref().unwrap_or(""),
        instance = filter.instance.as_deref().unwrap_or(""),
        id = filter.id.as_deref().unwrap_or(""),
        closed,
        "tunnels closed by an operator"
    );
    axum::Json(ClosedView { closed }).into_response()
}

fn bad_request(message: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{message}\n")).into_response()
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
