//! `/v1/apps`: what is wanted of an app, how it is, and what operators say to its rollout.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use deploy::engine::{AppStatus, OperatorError};
use deploy::model::{Deployment, keys};
use deploy::rollout::command::Command;
use discovery::registry::Expect;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use topology::AppId;

use super::router::{ApiState, Asked, app_id, asked, etag, expectation};
use super::views;
use crate::admin::auth::Identity;
use crate::admin::body::{read_json, read_json_bytes};
use crate::admin::problem::Problem;

/// In seconds: whoever waits longer asks again.
const MAX_WAIT: u64 = 300;
/// Probes' words are in no registry: while somebody waits they are looked at this often.
const LOOK: Duration = Duration::from_millis(500);
/// Changes of one value by several at once, each on what the other left.
const ATTEMPTS: usize = 8;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn list(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    query: Asked<Nothing>,
) -> Result<Response, Problem> {
    asked(query)?;
    let apps = api.operator.apps();
    let shown = apps.iter().filter(|(app, _)| api.sees(&identity, app));
    let items: Vec<_> = shown.map(|(app, status)| views::app(app, status)).collect();
    Ok(axum::Json(json!({ "items": items })).into_response())
}

fn find(api: &ApiState, app: &AppId) -> Result<AppStatus, Problem> {
    api.operator.status(app).ok_or_else(|| OperatorError::NoSuchApp(app.clone()).into())
}

pub(super) async fn show(State(api): State<ApiState>, Path(app): Path<String>) -> Result<Response, Problem> {
    let app = app_id(&app)?;
    let status = find(&api, &app)?;
    let mut view = views::app(&app, &status);
    let written = api.operator.written(&app);
    view.deployment = written.as_ref().and_then(|(value, _)| serde_json::from_slice(value).ok());
    view.etag = written.map(|(_, version)| etag(version));
    let tag = view.etag.clone().map(|tag| [(header::ETAG, tag)]);
    let body = axum::Json(view);
    Ok(match tag {
        Some(tag) => (tag, body).into_response(),
        None => body.into_response(),
    })
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manner {
    #[serde(default)]
    dry_run: bool,
}

/// Writes what is wanted. With `dry_run`: judges it, and says where one more instance would go.
pub(super) async fn put(
    State(api): State<ApiState>,
    Path(app): Path<String>,
    manner: Asked<Manner>,
    request: Request,
) -> Result<Response, Problem> {
    let (app, manner) = (app_id(&app)?, asked(manner)?);
    let before = api.operator.written(&app);
    let expect = expectation(request.headers(), before.is_some())?;
    let value = read_json_bytes(request).await?;
    if manner.dry_run {
        let deployment = Deployment::parse(&keys::deployment(&app), &value);
        let deployment = deployment.map_err(|mistakes| Problem::invalid(&mistakes))?;
        let verdicts = api.operator.dry_run(&app, &deployment);
        let shown: Vec<_> = verdicts.iter().map(views::verdict).collect();
        return Ok(axum::Json(json!({ "dry_run": true, "hosts": shown })).into_response());
    }
    let value = keep_generation(&app, before.as_ref(), value)?;
    let version = api.operator.put(&app, value, expect).await?;
    let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(written(status, &app, version))
}

fn written(status: StatusCode, app: &AppId, version: u64) -> Response {
    let body = axum::Json(json!({ "id": app.to_string(), "etag": etag(version) }));
    (status, [(header::ETAG, etag(version))], body).into_response()
}

/// Whoever writes what is wanted need not know how often the configuration was changed.
fn keep_generation(app: &AppId, before: Option<&(Bytes, u64)>, value: Bytes) -> Result<Bytes, Problem> {
    let generation = before.and_then(|(former, _)| {
        let former: Value = serde_json::from_slice(former).ok()?;
        former.get("config_generation").cloned()
    });
    let Some(generation) = generation else { return Ok(value) };
    // What is no object is refused with its reason by whoever reads it.
    let Ok(mut members) = serde_json::from_slice::<Map<String, Value>>(&value) else { return Ok(value) };
    if members.contains_key("config_generation") {
        return Ok(value);
    }
    members.insert("config_generation".to_owned(), generation);
    let failed = |error: serde_json::Error| Problem::malformed("", format!("deploy/{app}: {error}"));
    serde_json::to_vec(&members).map(Bytes::from).map_err(failed)
}

pub(super) async fn remove(
    State(api): State<ApiState>,
    Path(app): Path<String>,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    let app = app_id(&app)?;
    let expect = expectation(&fields, api.operator.written(&app).is_some())?;
    api.operator.delete(&app, expect).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(json!({ "id": app.to_string() }))).into_response())
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// In seconds, until nothing changes by itself any more.
    wait: Option<u64>,
    /// Of an earlier answer: returns as soon as anything else is shown.
    unlike: Option<String>,
}

/// How an app is. 404 when nothing of it is left.
pub(super) async fn status(
    State(api): State<ApiState>,
    Path(app): Path<String>,
    wait: Asked<Wait>,
) -> Result<Response, Problem> {
    let (app, wait) = (app_id(&app)?, asked(wait)?);
    let seconds = wait.wait.unwrap_or(0);
    if seconds > MAX_WAIT {
        return Err(Problem::malformed("wait", format!("write 0 to {MAX_WAIT} seconds")));
    }
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut changes = api.operator.changes();
    loop {
        changes.mark_unchanged();
        let view = views::app(&app, &find(&api, &app)?);
        let mut shown = serde_json::to_value(&view).unwrap_or_default();
        let mark = mark(&shown);
        let is_other = wait.unlike.as_ref().is_some_and(|unlike| *unlike != mark);
        if view.settled || is_other || tokio::time::Instant::now() >= until || api.cancel.is_cancelled() {
            shown["mark"] = mark.into();
            return Ok(axum::Json(shown).into_response());
        }
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = tokio::time::sleep_until(until) => {}
            () = api.cancel.cancelled() => {}
        }
    }
}

/// The same for the same view, in every process of this release.
fn mark(shown: &Value) -> String {
    use std::hash::BuildHasher as _;
    format!("{:016x}", foldhash::fast::FixedState::default().hash_one(shown.to_string()))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    instances: u32,
}

pub(super) async fn scale(
    State(api): State<ApiState>,
    Path(app): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let app = app_id(&app)?;
    let wanted: Scale = read_json(request).await?;
    let version = change(&api, &app, |members| {
        if members.contains_key("autoscale") {
            let detail = "the app has autoscale, which decides: change its bounds, or remove it";
            return Err(Problem::new(StatusCode::CONFLICT, "refused", detail));
        }
        members.insert("instances".to_owned(), wanted.instances.into());
        Ok(())
    });
    Ok(written(StatusCode::OK, &app, version.await?))
}

/// Changes what is wanted, on the condition that nobody else does meanwhile; made anew where somebody did.
async fn change(
    api: &ApiState,
    app: &AppId,
    make: impl Fn(&mut Map<String, Value>) -> Result<(), Problem>,
) -> Result<u64, Problem> {
    let mut changes = api.operator.changes();
    for _ in 0..ATTEMPTS {
        changes.mark_unchanged();
        let found = api.operator.written(app).ok_or_else(|| OperatorError::NoSuchApp(app.clone()))?;
        let (value, version) = found;
        let mut members: Map<String, Value> = serde_json::from_slice(&value)
            .map_err(|error| Problem::malformed("", format!("deploy/{app}: {error}")))?;
        make(&mut members)?;
        let value =
            serde_json::to_vec(&members).map_err(|error| Problem::malformed("", error.to_string()))?;
        match api.operator.put(app, value.into(), Expect::Version(version)).await {
            Err(OperatorError::Changed(_)) => {
                // The watch shows it in a moment.
                let _ = tokio::time::timeout(LOOK, changes.changed()).await;
            }
            done => return Ok(done?),
        }
    }
    Err(Problem::new(StatusCode::CONFLICT, "busy", "others keep changing the same app; try again"))
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    action: Action,
    /// With `undo`, of a rollout that is over: the version to go back to.
    to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Pause,
    Resume,
    Promote,
    Undo,
    Retry,
}

pub(super) async fn command(
    State(api): State<ApiState>,
    Path(app): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let app = app_id(&app)?;
    let order: Order = read_json(request).await?;
    if let Some(to) = order.to {
        if order.action != Action::Undo {
            return Err(Problem::malformed("to", "is for action = \"undo\" only; remove it"));
        }
        let version = change(&api, &app, |members| {
            members.insert("version".to_owned(), to.clone().into());
            Ok(())
        });
        return Ok(written(StatusCode::OK, &app, version.await?));
    }
    let command = match order.action {
        Action::Pause => Command::Pause,
        Action::Resume => Command::Resume,
        Action::Promote => Command::Promote,
        Action::Undo => Command::Undo,
        Action::Retry => Command::Retry,
    };
    let rollout = api.operator.command(&app, command).await?;
    let body = json!({ "id": app.to_string(), "status": rollout.status.name(), "number": rollout.number });
    Ok(axum::Json(body).into_response())
}

/// Replaces the app's configuration: names and values, which its versions refer to. It is shown to nobody.
pub(super) async fn configure(
    State(api): State<ApiState>,
    Path(app): Path<String>,
    request: Request,
) -> Result<Response, Problem> {
    let app = app_id(&app)?;
    let config = read_json(request).await?;
    api.operator.configure(&app, &config).await?;
    Ok(axum::Json(json!({ "id": app.to_string(), "names": config.len() })).into_response())
}

/// Where one more instance of what is wanted would go, and why not elsewhere.
pub(super) async fn explain(
    State(api): State<ApiState>,
    Path(app): Path<String>,
) -> Result<Response, Problem> {
    let app = app_id(&app)?;
    let verdicts = api.operator.explain(&app)?;
    let shown: Vec<_> = verdicts.iter().map(views::verdict).collect();
    Ok(axum::Json(json!({ "id": app.to_string(), "hosts": shown })).into_response())
}
