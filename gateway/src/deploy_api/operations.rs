//! What is asked of an app has a name, can be waited for, and may be asked again.

use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, Method, Uri};
use axum::response::{IntoResponse, Response};
use deploy::engine::{Accepted, Asked, OperationState};
use deploy::model::{Operation, OperationKind, Repeat, fingerprint};
use serde::{Deserialize, Serialize};
use topology::AppId;
use utoipa::{IntoParams, ToSchema};

use super::names::{ByApp, ByOperation};
use super::openapi::ReadProblems;
use super::router::{ApiState, Queried, asked};
use super::views::{Shown, time};
use crate::admin::auth::Identity;
use crate::admin::problem::Problem;

/// In seconds: whoever waits longer asks again.
pub(super) const MAX_WAIT: u64 = 300;
/// What stands in no registry is looked at this often while somebody waits.
pub(super) const LOOK: Duration = Duration::from_millis(500);
/// As `Idempotency-Key` of the IETF's draft: opaque, and as long as a URL of a build may be.
const KEY: &str = "idempotency-key";
const MAX_KEY_BYTES: usize = 255;

/// Of an answer that was given before.
const REPLAYED: &str = "idempotency-replayed";

/// One request that changed something, and what has become of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationView {
    pub id: String,
    pub app: String,
    /// `deploy`, `remove`, `scale`, `configure`, `pause`, `resume`, `promote`, `undo`, `retry`.
    #[schema(value_type = String)]
    pub kind: &'static str,
    /// `running`; `waiting` for an operator; `done`; `failed`; `overtaken` by another request.
    #[schema(value_type = String)]
    pub state: &'static str,
    /// Whether nothing comes of waiting longer.
    pub settled: bool,
    /// What it waits for, or why it did not become what was asked for.
    pub reason: Option<String>,
    pub at: Option<String>,
    /// Who asked.
    pub by: String,
    /// When it was found to be over.
    pub ended: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OperationList {
    /// The newest first.
    pub items: Vec<OperationView>,
}

impl OperationView {
    fn of(app: &AppId, operation: &Operation, state: &OperationState) -> Self {
        let ended = match state {
            OperationState::Over(outcome) => time(outcome.at),
            _ => None,
        };
        Self {
            id: operation.id.clone(),
            app: app.to_string(),
            kind: operation.kind.name(),
            state: state.name(),
            settled: state.is_settled(),
            reason: state.reason().map(str::to_owned),
            at: time(operation.at),
            by: operation.by.clone(),
            ended,
        }
    }
}

/// A request that changes something, before its body is read.
pub(super) struct Change {
    method: Method,
    uri: Uri,
    key: Option<String>,
    by: String,
}

impl Change {
    /// # Errors
    /// A key that is none.
    pub(super) fn of(
        identity: &Identity,
        method: &Method,
        uri: &Uri,
        fields: &HeaderMap,
    ) -> Result<Self, Problem> {
        let key = fields.get(KEY).map(read_key).transpose()?;
        Ok(Self { method: method.clone(), uri: uri.clone(), key, by: identity.name.to_string() })
    }

    pub(super) fn asks(&self, kind: OperationKind, body: &[u8]) -> Asked {
        let repeat = self.key.as_ref().map(|key| {
            let key = key.as_bytes();
            let target = self.uri.path_and_query().map_or("", |target| target.as_str()).as_bytes();
            Repeat {
                key: fingerprint(&[self.by.as_bytes(), key]),
                request: fingerprint(&[key, self.method.as_str().as_bytes(), target, body]),
            }
        });
        Asked { kind, by: self.by.clone(), repeat }
    }
}

/// With or without the quotes that the draft wants.
fn read_key(value: &HeaderValue) -> Result<String, Problem> {
    let text = value.to_str().unwrap_or_default().trim();
    let bare = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    let usable =
        (1..=MAX_KEY_BYTES).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_graphic());
    let why = || format!("write 1 to {MAX_KEY_BYTES} visible ASCII characters, such as a UUID");
    usable.then(|| bare.to_owned()).ok_or_else(|| Problem::malformed("Idempotency-Key", why()))
}

/// Says of an answer that nothing was done for it now.
pub(super) fn mark_replayed(accepted: &Accepted, response: Response) -> Response {
    let mut response = response;
    if accepted.version.is_none() {
        response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

/// What was asked of an app in the last day, at most 64 of them.
#[utoipa::path(
    get, path = "/v1/apps/{app}/operations", tag = "operations", params(ByApp),
    responses((status = 200, body = OperationList), ReadProblems),
)]
pub(super) async fn list(State(api): State<ApiState>, ByApp(app): ByApp) -> Result<Response, Problem> {
    let known = api.operator.operations(&app);
    if known.is_empty() && api.operator.status(&app).is_none() {
        return Err(Problem::not_found(format!("there is no app {app}")));
    }
    let items = known.iter().rev().map(|(operation, state)| OperationView::of(&app, operation, state));
    Ok(axum::Json(OperationList { items: items.collect() }).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wait {
    /// In seconds, until nothing comes of waiting longer.
    #[param(maximum = 300)]
    wait: Option<u64>,
}

/// One operation, when it is over or waits for an operator, or `wait` is.
#[utoipa::path(
    get, path = "/v1/apps/{app}/operations/{operation}", tag = "operations", params(ByOperation, Wait),
    responses((status = 200, body = OperationView), ReadProblems),
)]
pub(super) async fn show(
    State(api): State<ApiState>,
    ByOperation(app, id): ByOperation,
    wait: Queried<Wait>,
) -> Result<Response, Problem> {
    let seconds = asked(wait)?.wait.unwrap_or(0);
    if seconds > MAX_WAIT {
        return Err(Problem::malformed("wait", format!("write 0 to {MAX_WAIT} seconds")));
    }
    // Each looks at everything now and then.
    let _place = if seconds > 0 { Some(api.place()?) } else { None };
    let until = tokio::time::Instant::now() + Duration::from_secs(seconds);
    let mut changes = api.operator.changes();
    loop {
        changes.mark_unchanged();
        let known = api.operator.operations(&app);
        let found = known.iter().find(|(operation, _)| operation.id == id);
        let missing = || Problem::not_found(format!("{app} has no operation {id:.40}, or it is forgotten"));
        let (operation, state) = found.ok_or_else(missing)?;
        if state.is_settled() || tokio::time::Instant::now() >= until || api.cancel.is_cancelled() {
            return Ok(axum::Json(OperationView::of(&app, operation, state)).into_response());
        }
        api.anything(&mut changes, until).await;
    }
}

impl ApiState {
    /// Returns when something may be otherwise.
    pub(super) async fn anything(&self, changes: &mut Shown, until: tokio::time::Instant) {
        tokio::select! {
            _ = changes.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            () = tokio::time::sleep_until(until) => {}
            () = self.cancel.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(key: Option<&str>) -> Result<Change, Problem> {
        let identity = Identity { name: "ada".into(), role: crate::admin::auth::Role::Operate };
        let name: axum::http::HeaderName = KEY.parse().unwrap();
        let fields: HeaderMap = key.map(|key| (name, key.parse().unwrap())).into_iter().collect();
        Change::of(&identity, &Method::PUT, &"/v1/apps/shop?x=1".parse().unwrap(), &fields)
    }

    #[test]
    fn the_same_request_is_known_again_and_another_one_told_apart() {
        let repeat = |key, body: &[u8]| change(Some(key)).unwrap().asks(OperationKind::Deploy, body).repeat;
        let first = repeat("k-1", b"{}").unwrap();
        assert_eq!(repeat("\"k-1\"", b"{}").as_ref(), Some(&first));
        let other = repeat("k-1", b"{ }").unwrap();
        assert!(other.key == first.key && other.request != first.request);
        assert_ne!(repeat("k-2", b"{}").unwrap().key, first.key);
        assert!(change(None).unwrap().asks(OperationKind::Deploy, b"").repeat.is_none());
    }

    #[test]
    fn keys_that_are_none_are_refused() {
        for bad in ["", " ", "\"\"", "two words", &"k".repeat(256)] {
            assert_eq!(change(Some(bad)).err().map(|problem| problem.status), Some(400), "{bad}");
        }
    }
}
