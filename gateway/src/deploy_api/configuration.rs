//! `/v1/apps/{app}/config`: values for an app's secrets and files. They come in, and are shown to nobody.

use axum::Extension;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use deploy::engine::ConfigChange;
use deploy::model::{OperationKind, fingerprint};
use serde::Serialize;
use serde::de::DeserializeOwned;
use topology::AppId;
use utoipa::ToSchema;

use super::names::ByApp;
use super::openapi::{ChangeProblems, ReadProblems};
use super::operations::{Change, LOOK, mark_replayed};
use super::router::{ApiState, etag};
use crate::admin::auth::Identity;
use crate::admin::body::read_json_bytes;
use crate::admin::problem::Problem;

/// Until a change is seen here that was just written, half a second each.
const LOOKS: usize = 4;

/// What an app's configuration has.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ConfigView {
    pub id: String,
    pub names: Vec<String>,
    /// Those of the wanted version that are not there: it cannot start.
    pub missing: Vec<String>,
}

/// A configuration that was changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Configured {
    pub id: String,
    /// Of what is wanted of the app, which it is a part of; missing where there is no app, or where it is not seen yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// The registry's, with the change: for `after`, where its status is asked for. Missing where nothing was written now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<u64>,
    /// All that it has now.
    pub names: Vec<String>,
    pub operation: String,
}

/// The names that an app's configuration has; its values are shown to nobody.
#[utoipa::path(
    get, path = "/v1/apps/{app}/config", tag = "apps", params(ByApp),
    responses((status = 200, body = ConfigView), (status = 422, body = Problem, content_type = "application/problem+json"),
        (status = 503, body = Problem, content_type = "application/problem+json"), ReadProblems),
)]
pub(super) async fn show(State(api): State<ApiState>, ByApp(app): ByApp) -> Result<Response, Problem> {
    let names = api.operator.config_names(&app).await?;
    let status = api.operator.status(&app);
    let wanted = status.as_ref().and_then(|status| status.deployment.as_ref()?.wanted());
    let used = wanted.into_iter().flat_map(|spec| spec.secrets.values().chain(spec.files.values()));
    let mut missing: Vec<String> = used.filter(|name| !names.contains(name)).cloned().collect();
    missing.sort();
    missing.dedup();
    Ok(axum::Json(ConfigView { id: app.to_string(), names, missing }).into_response())
}

/// Replaces the app's configuration: names and values, which its versions refer to. Rolls the app.
#[utoipa::path(
    put, path = "/v1/apps/{app}/config", tag = "apps",
    params(ByApp, ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to ask again.")),
    request_body(content = BTreeMap<String, String>, content_type = "application/json"),
    responses((status = 200, body = Configured), ChangeProblems),
)]
pub(super) async fn replace(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByApp(app): ByApp,
    request: Request,
) -> Result<Response, Problem> {
    change(&api, &identity, &app, request, ConfigChange::Replace).await
}

/// Sets names of the app's configuration, or removes them (`null`); others stay. Rolls the app.
#[utoipa::path(
    patch, path = "/v1/apps/{app}/config", tag = "apps",
    params(ByApp, ("Idempotency-Key" = Option<String>, Header, description = "Makes it safe to ask again.")),
    request_body(content = BTreeMap<String, Option<String>>, content_type = "application/json"),
    responses((status = 200, body = Configured), ChangeProblems),
)]
pub(super) async fn merge(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByApp(app): ByApp,
    request: Request,
) -> Result<Response, Problem> {
    change(&api, &identity, &app, request, ConfigChange::Merge).await
}

async fn change<T: DeserializeOwned>(
    api: &ApiState,
    identity: &Identity,
    app: &AppId,
    request: Request,
    into: impl FnOnce(T) -> ConfigChange,
) -> Result<Response, Problem> {
    let change = Change::of(identity, request.method(), request.uri(), request.headers())?;
    let body = read_json_bytes(request).await?;
    // What the parser says may quote a value.
    let read: T = serde_json::from_slice(&body).map_err(|_| {
        Problem::malformed("", "the body: write an object of names and values, which are strings")
    })?;
    let asked = change.asks(OperationKind::Configure, &body);
    let accepted = api.operator.configure(app, &into(read), &asked).await?;
    let names = api.operator.config_names(app).await?;
    let etag = await_wanted(api, app, accepted.operation.wanted.as_deref()).await;
    let operation = accepted.operation.id.clone();
    let revision = accepted.version;
    let shown = axum::Json(Configured { id: app.to_string(), etag, revision, names, operation });
    Ok(mark_replayed(&accepted, shown.into_response()))
}

/// The ETag of what is wanted, when it is seen: whoever waits for it next does not see what was wanted before.
async fn await_wanted(api: &ApiState, app: &AppId, wanted: Option<&str>) -> Option<String> {
    let wanted = wanted?;
    let mut changes = api.operator.changes();
    for _ in 0..LOOKS {
        changes.mark_unchanged();
        let found = api.operator.written(app);
        if let Some((_, version)) = found.filter(|(value, _)| fingerprint(&[value]) == wanted) {
            return Some(etag(version));
        }
        let _ = tokio::time::timeout(LOOK, changes.changed()).await;
    }
    None
}
