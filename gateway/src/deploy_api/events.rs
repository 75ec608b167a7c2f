//! `/v1/events`: what happens, as server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event as Sent, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use deploy::engine::Event;
use futures::StreamExt as _;
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;

use super::openapi::ReadProblems;
use super::router::{ApiState, Narrow, Queried, asked};
use super::views::time;
use crate::admin::auth::Identity;
use crate::admin::problem::Problem;

/// A comment, so that proxies and clients know that it lives.
const BEAT: Duration = Duration::from_secs(15);

/// Of the engine in this process, from now on. Who is too slow is told how many were missed.
#[utoipa::path(
    get, path = "/v1/events", tag = "apps", params(Narrow),
    responses((status = 200, body = String, content_type = "text/event-stream"), ReadProblems),
)]
pub(super) async fn stream(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    narrow: Queried<Narrow>,
) -> Result<Response, Problem> {
    let only = asked(narrow)?.only()?;
    let permit = api.place()?;
    let receiver = api.operator.events();
    let end = api.cancel.clone().cancelled_owned();
    let events = futures::stream::unfold(receiver, |mut receiver| async {
        match receiver.recv().await {
            Ok(event) => Some((Ok(event), receiver)),
            Err(RecvError::Lagged(missed)) => Some((Err(missed), receiver)),
            Err(RecvError::Closed) => None,
        }
    });
    let events = events.take_until(end).filter_map(move |event| {
        let _held = &permit;
        let is_shown = |event: &Event| {
            only.as_ref().is_none_or(|only| *only == event.app) && api.sees(&identity, &event.app)
        };
        let sent = match &event {
            Ok(event) => is_shown(event).then(|| shown(event)),
            Err(missed) => Some(Sent::default().event("missed").data(missed.to_string())),
        };
        futures::future::ready(sent.map(Ok::<_, Infallible>))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(BEAT)).into_response())
}

fn shown(event: &Event) -> Sent {
    let instance = event.instance.as_ref().map(ToString::to_string);
    let data = json!({ "at": time(event.at), "app": event.app.to_string(), "instance": instance, "text": &*event.text });
    Sent::default().event("deploy").data(data.to_string())
}
