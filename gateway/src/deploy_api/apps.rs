//! `/v1/apps`: what is wanted of an app, how it is, and what operators say to its rollout.

use std::time::Duration;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use deploy::engine::{Accepted, AppStatus, Asked, OperatorError};
use deploy::model::{Deployment, OperationKind, fingerprint, keys};
use deploy::rollout::command::Command;
use discovery::registry::Expect;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use topology::AppId;
use utoipa::{IntoParams, ToSchema};

use super::names::ByApp;
use super::openapi::{ChangeProblems, ReadProblems};
use super::operations::{Change, LOOK, MAX_WAIT, mark_replayed};
use super::router::{ApiState, Queried, asked, etag, expectation};
use super::views::{self, AppList, AppView, Explained, Judged, Told, Written};
use crate::admin::auth::Identity;
use crate::admin::body::read_json_bytes;
use crate::admin::problem::Problem;

/// For a change to come from the registry to whoever has made it, at most: the rest is for whoever asks to decide.
const LAG: Duration = Duration::from_secs(1);
/// Changes of one value by several at once, each on what the other left.
const ATTEMPTS: usize = 8;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// How every app is.
#[utoipa::path(
    get, path = "/v1/apps", tag = "apps",
    responses((status = 200, body = AppList), ReadProblems),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    query: Queried<Nothing>,
) -> Result<Response, Problem> {
    asked(query)?;
    let apps = api.operator.apps();
    let shown = apps.iter().filter(|(app, _)| api.sees(&identity, app));
    let items = shown.map(|(app, status)| views::app(app, status)).collect();
    Ok(axum::Json(AppList { items }).into_response())
}

fn find(api: &ApiState, app: &AppId) -> Result<AppStatus, Problem> {
    api.operator.status(app).ok_or_else(|| OperatorError::NoSuchApp(app.clone()).into())
}

/// What is wanted of an app, as it was written, and how it is.
#[utoipa::path(
    get, path = "/v1/apps/{app}", tag = "apps", params(ByApp),
    responses(
        (status = 200, body = AppView, headers(("ETag" = String, description = "Of what is wanted."))),
        ReadProblems
    ),
)]
pub(super) async fn show(State(api): State<ApiState>, ByApp(app): ByApp) -> Result<Response, Problem> {
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

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Manner {
    /// Judge it, and say where one more instance would go, and write nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Says what is wanted of an app: an app's file as JSON, without its `id`.
#[utoipa::path(
    put, path = "/v1/apps/{app}", tag = "apps",
    params(
        ByApp, Manner,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one; `*`: only where it exists."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only where it does not exist."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to ask again."),
    ),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, body = inline(views::PutAnswer), headers(("ETag" = String, description = "Of what is wanted."))),
        (status = 201, body = Written, headers(("ETag" = String, description = "Of what is wanted."))),
        ChangeProblems
    ),
)]
pub(super) async fn put(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByApp(app): ByApp,
    manner: Queried<Manner>,
    request: Request,
) -> Result<Response, Problem> {
    let manner = asked(manner)?;
    let before = api.operator.written(&app);
    let change = Change::of(&identity, request.method(), request.uri(), request.headers())?;
    let expect = expectation(request.headers(), before.is_some());
    let value = read_json_bytes(request).await?;
    if manner.dry_run {
        expect?;
        let deployment = Deployment::parse(&keys::deployment(&app), &value);
        let deployment = deployment.map_err(|mistakes| Problem::invalid(&mistakes))?;
        let verdicts = api.operator.dry_run(&app, &deployment);
        let hosts = verdicts.iter().map(views::verdict).collect();
        return Ok(axum::Json(Judged { dry_run: true, hosts }).into_response());
    }
    let asks = change.asks(OperationKind::Deploy, &value);
    if let Some(accepted) = api.operator.known(&app, &asks).await? {
        return Ok(written(&api, StatusCode::OK, &app, &accepted));
    }
    let value = keep_generation(&app, before.as_ref(), value)?;
    let accepted = api.operator.put(&app, value, expect?, &asks).await?;
    let status = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    Ok(written(&api, status, &app, &accepted))
}

/// The ETag of what was asked for, where that is wanted still.
fn tag(api: &ApiState, app: &AppId, accepted: &Accepted) -> Option<String> {
    if let Some(version) = accepted.version {
        return Some(etag(version));
    }
    let (value, version) = api.operator.written(app)?;
    let is_same = accepted.operation.wanted.as_deref() == Some(&*fingerprint(&[&value]));
    is_same.then(|| etag(version))
}

fn written(api: &ApiState, status: StatusCode, app: &AppId, accepted: &Accepted) -> Response {
    let tag = tag(api, app, accepted);
    let operation = accepted.operation.id.clone();
    let body =
        axum::Json(Written { id: app.to_string(), etag: tag.clone(), revision: accepted.version, operation });
    let response = match tag {
        Some(tag) => (status, [(header::ETAG, tag)], body).into_response(),
        None => (status, body).into_response(),
    };
    mark_replayed(accepted, response)
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

/// Wants nothing of an app any more: all of it goes, last its configuration.
#[utoipa::path(
    delete, path = "/v1/apps/{app}", tag = "apps",
    params(
        ByApp,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one."),
        ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to ask again."),
    ),
    responses((status = 202, body = Written), ChangeProblems),
)]
pub(super) async fn remove(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByApp(app): ByApp,
    method: Method,
    uri: Uri,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    let asks = Change::of(&identity, &method, &uri, &fields)?.asks(OperationKind::Remove, &[]);
    let accepted = match api.operator.known(&app, &asks).await? {
        Some(before) => before,
        None => {
            let expect = expectation(&fields, api.operator.written(&app).is_some())?;
            api.operator.delete(&app, expect, &asks).await?
        }
    };
    let operation = accepted.operation.id.clone();
    let body = axum::Json(Written { id: app.to_string(), etag: None, revision: accepted.version, operation });
    Ok(mark_replayed(&accepted, (StatusCode::ACCEPTED, body).into_response()))
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// In seconds, until nothing changes by itself any more.
    #[param(maximum = 300)]
    wait: Option<u64>,
    /// `mark` of an earlier answer: returns as soon as anything else is shown.
    unlike: Option<String>,
    /// `revision` of a change: nothing older is shown. 409 `behind` where it does not come here within `wait`, of
    /// which this may take a second.
    after: Option<u64>,
}

/// How an app is, when nothing changes by itself any more or `wait` is over. 404 when nothing of it is left. Whoever has
/// changed something asks with `after`: what is seen here may be older than the answer to that, whichever process gave it.
#[utoipa::path(
    get, path = "/v1/apps/{app}/status", tag = "apps", params(ByApp, Wait),
    responses(
        (status = 200, body = AppView),
        (status = 409, body = Problem, content_type = "application/problem+json"),
        ReadProblems
    ),
)]
pub(super) async fn status(
    State(api): State<ApiState>,
    ByApp(app): ByApp,
    wait: Queried<Wait>,
) -> Result<Response, Problem> {
    let wait = asked(wait)?;
    let seconds = wait.wait.unwrap_or(0);
    if seconds > MAX_WAIT {
        return Err(Problem::malformed("wait", format!("write 0 to {MAX_WAIT} seconds")));
    }
    // Each looks at everything now and then.
    let _place = if seconds > 0 { Some(api.place()?) } else { None };
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut changes = api.operator.changes();
    let is_over = |until| tokio::time::Instant::now() >= until || api.cancel.is_cancelled();
    let comes_until = until.min(tokio::time::Instant::now() + LAG);
    while let Some(after) = wait.after.filter(|after| changes.borrow_and_update().revision < *after) {
        if is_over(comes_until) {
            return Err(behind(after));
        }
        api.anything(&mut changes, comes_until).await;
    }
    loop {
        changes.mark_unchanged();
        let mut view = views::app(&app, &find(&api, &app)?);
        let mark = mark(&view);
        let is_other = wait.unlike.as_ref().is_some_and(|unlike| *unlike != mark);
        if view.settled || is_other || is_over(until) {
            view.mark = Some(mark);
            return Ok(axum::Json(view).into_response());
        }
        api.anything(&mut changes, until).await;
    }
}

fn behind(revision: u64) -> Problem {
    let detail = format!("revision {revision} of the registry has not come here yet; ask again");
    Problem::new(StatusCode::CONFLICT, "behind", detail)
}

/// The same for the same view, in every process of this release.
fn mark(view: &AppView) -> String {
    use std::hash::BuildHasher as _;
    let shown = serde_json::to_string(view).unwrap_or_default();
    format!("{:016x}", foldhash::fast::FixedState::default().hash_one(shown))
}

/// Another number of instances, other limits of each, or both.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Scale {
    #[schema(minimum = 0, maximum = 1000)]
    instances: Option<u32>,
    /// Of each instance of the version that is wanted.
    #[schema(example = "512MiB")]
    memory: Option<String>,
    /// Processors, likewise.
    #[schema(value_type = Option<f64>, example = 0.5)]
    cpu: Option<serde_json::Number>,
}

impl Scale {
    fn apply(&self, members: &mut Map<String, Value>) -> Result<(), Problem> {
        if let Some(instances) = self.instances {
            if members.contains_key("autoscale") {
                let detail = "the app has autoscale, which decides: change its bounds, or remove it";
                return Err(Problem::new(StatusCode::CONFLICT, "refused", detail));
            }
            members.insert("instances".to_owned(), instances.into());
        }
        let memory = self.memory.clone().map(|memory| ("memory", Value::from(memory)));
        let cpu = self.cpu.clone().map(|cpu| ("cpu", Value::Number(cpu)));
        let limits: Vec<_> = memory.into_iter().chain(cpu).collect();
        if limits.is_empty() {
            return Ok(());
        }
        let unreadable = || Problem::malformed("", "what is wanted now cannot be read; write it anew");
        let named = members.get("version").and_then(Value::as_str).map(str::to_owned);
        let versions = members.get_mut("versions").and_then(Value::as_object_mut).ok_or_else(unreadable)?;
        let version = named.or_else(|| versions.keys().next().cloned()).ok_or_else(unreadable)?;
        let spec = versions.get_mut(&version).and_then(Value::as_object_mut).ok_or_else(unreadable)?;
        let resources = spec.entry("resources").or_insert_with(|| Map::new().into());
        let resources = resources.as_object_mut().ok_or_else(unreadable)?;
        resources.extend(limits.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(())
    }
}

/// Wants another number of instances, or other limits: in place, where their hosts can.
#[utoipa::path(
    post, path = "/v1/apps/{app}/scale", tag = "apps",
    params(ByApp, ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to ask again.")),
    request_body(content = Scale, content_type = "application/json"),
    responses(
        (status = 200, body = Written, headers(("ETag" = String, description = "Of what is wanted."))),
        ChangeProblems
    ),
)]
pub(super) async fn scale(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByApp(app): ByApp,
    request: Request,
) -> Result<Response, Problem> {
    let change = Change::of(&identity, request.method(), request.uri(), request.headers())?;
    let body = read_json_bytes(request).await?;
    let wanted: Scale = parse(&body)?;
    let asks = change.asks(OperationKind::Scale, &body);
    if wanted.instances.is_none() && wanted.memory.is_none() && wanted.cpu.is_none() {
        return Err(Problem::malformed("", "write instances, memory or cpu"));
    }
    let accepted = rewrite(&api, &app, &asks, |members| wanted.apply(members));
    Ok(written(&api, StatusCode::OK, &app, &accepted.await?))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| Problem::malformed("", format!("the body: {error}")))
}

/// Changes what is wanted, on the condition that nobody else does meanwhile; made anew where somebody did.
async fn rewrite(
    api: &ApiState,
    app: &AppId,
    asks: &Asked,
    make: impl Fn(&mut Map<String, Value>) -> Result<(), Problem>,
) -> Result<Accepted, Problem> {
    if let Some(before) = api.operator.known(app, asks).await? {
        return Ok(before);
    }
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
        match api.operator.put(app, value.into(), Expect::Version(version), asks).await {
            Err(OperatorError::Changed(_)) => {
                // The watch shows it in a moment.
                let _ = tokio::time::timeout(LOOK, changes.changed()).await;
            }
            done => return Ok(done?),
        }
    }
    Err(Problem::new(StatusCode::CONFLICT, "busy", "others keep changing the same app; try again"))
}

/// What an operator says to a rollout.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Order {
    action: Action,
    /// With `undo`, of a rollout that is over: the version to go back to.
    to: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Action {
    Pause,
    Resume,
    Promote,
    Undo,
    Retry,
}

/// Says something to an app's rollout.
#[utoipa::path(
    post, path = "/v1/apps/{app}/rollout", tag = "apps",
    params(ByApp, ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to ask again.")),
    request_body(content = Order, content_type = "application/json"),
    responses((status = 200, body = Told), ChangeProblems),
)]
pub(super) async fn command(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByApp(app): ByApp,
    request: Request,
) -> Result<Response, Problem> {
    let change = Change::of(&identity, request.method(), request.uri(), request.headers())?;
    let body = read_json_bytes(request).await?;
    let order: Order = parse(&body)?;
    if let Some(to) = order.to {
        if order.action != Action::Undo {
            return Err(Problem::malformed("to", "is for action = \"undo\" only; remove it"));
        }
        let asks = change.asks(OperationKind::Deploy, &body);
        let accepted = rewrite(&api, &app, &asks, |members| {
            members.insert("version".to_owned(), to.clone().into());
            Ok(())
        });
        let accepted = accepted.await?;
        let status = api.operator.status(&app).unwrap_or_default();
        let rollout = status.rollout.unwrap_or_default();
        return Ok(told(&app, &rollout, &accepted, tag(&api, &app, &accepted)));
    }
    let command = match order.action {
        Action::Pause => Command::Pause,
        Action::Resume => Command::Resume,
        Action::Promote => Command::Promote,
        Action::Undo => Command::Undo,
        Action::Retry => Command::Retry,
    };
    let asks = change.asks(command.operation(), &body);
    let (rollout, accepted) = api.operator.command(&app, command, &asks).await?;
    Ok(told(&app, &rollout, &accepted, None))
}

fn told(app: &AppId, rollout: &deploy::model::Rollout, accepted: &Accepted, tag: Option<String>) -> Response {
    let body = Told {
        id: app.to_string(),
        etag: tag,
        revision: accepted.version,
        status: rollout.status.name(),
        number: rollout.number,
        operation: accepted.operation.id.clone(),
    };
    mark_replayed(accepted, axum::Json(body).into_response())
}

/// Where one more instance of what is wanted would go, and why not elsewhere.
#[utoipa::path(
    get, path = "/v1/apps/{app}/explain", tag = "apps", params(ByApp),
    responses((status = 200, body = Explained), ReadProblems),
)]
pub(super) async fn explain(State(api): State<ApiState>, ByApp(app): ByApp) -> Result<Response, Problem> {
    let verdicts = api.operator.explain(&app)?;
    let hosts = verdicts.iter().map(views::verdict).collect();
    Ok(axum::Json(Explained { id: app.to_string(), hosts }).into_response())
}
