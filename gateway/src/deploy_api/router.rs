//! Which request goes where, and what its problems are called.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::Query;
use axum::extract::rejection::QueryRejection;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::routing::{get, post, put};
use deploy::engine::{Operator, OperatorError};
use discovery::registry::Expect;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use topology::AppId;
use utoipa::IntoParams;

use super::{apps, configuration, events, instances, openapi, operations};
use crate::admin::Gate;
use crate::admin::auth::{Denied, Identity, Role};
use crate::admin::guard;
use crate::admin::problem::Problem;

/// Answers that go on: logs that are followed, events, waits. They leave half of the connections to others.
const MAX_STREAMS: usize = 128;

#[derive(Clone)]
pub(super) struct ApiState {
    pub operator: Operator,
    pub gate: Gate,
    pub streams: Arc<Semaphore>,
    /// Ends what goes on.
    pub cancel: CancellationToken,
}

pub(super) fn router(operator: Operator, gate: Gate, cancel: CancellationToken) -> Router {
    let state =
        ApiState { operator, gate: gate.clone(), streams: Arc::new(Semaphore::new(MAX_STREAMS)), cancel };
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(|| async { "ready\n" }))
        .route("/v1/apps", get(apps::list))
        .route("/v1/apps/{app}", get(apps::show).put(apps::put).delete(apps::remove))
        .route("/v1/apps/{app}/status", get(apps::status))
        .route("/v1/apps/{app}/scale", post(apps::scale))
        .route("/v1/apps/{app}/rollout", post(apps::command))
        .route(
            "/v1/apps/{app}/config",
            get(configuration::show).put(configuration::replace).patch(configuration::merge),
        )
        .route("/v1/apps/{app}/operations", get(operations::list))
        .route("/v1/apps/{app}/operations/{operation}", get(operations::show))
        .route("/v1/apps/{app}/explain", get(apps::explain))
        .route("/v1/instances", get(instances::list))
        .route("/v1/instances/{instance}/logs", get(instances::logs))
        .route("/v1/hosts", get(instances::hosts))
        .route("/v1/hosts/{host}", put(instances::put_host).delete(instances::remove_host))
        .route("/v1/events", get(events::stream))
        .route("/v1/openapi.json", get(openapi::serve))
        .layer(axum::middleware::from_fn_with_state(gate, guard::check))
        .with_state(state)
}

impl ApiState {
    /// A place for an answer that goes on, for as long as it does.
    ///
    /// # Errors
    /// All are taken.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Problem> {
        const TAKEN: &str = "too many logs and events are followed, or ends of rollouts waited for";
        let taken = |_| Problem::new(StatusCode::TOO_MANY_REQUESTS, "busy", TAKEN);
        self.streams.clone().try_acquire_owned().map_err(taken)
    }

    /// Whose apps somebody is shown.
    pub fn sees(&self, identity: &Identity, app: &AppId) -> bool {
        match &identity.role {
            Role::Read | Role::Operate => true,
            Role::Tenant(own) => own.contains(app),
        }
    }

    /// # Errors
    /// Somebody else's.
    pub fn permit(&self, identity: &Identity, app: &AppId) -> Result<(), Problem> {
        match self.sees(identity, app) {
            true => Ok(()),
            false => Err(self.gate.refuse(identity, Denied::Role, &format!("deploy/{app}"))),
        }
    }
}

pub(super) type Queried<T> = Result<Query<T>, QueryRejection>;

pub(super) fn asked<T>(query: Queried<T>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem::malformed("query", error.body_text()))
}

pub(super) fn app_id(text: &str) -> Result<AppId, Problem> {
    AppId::parse(text).map_err(|error| Problem::malformed("app", error.to_string()))
}

/// Only what concerns one app.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Narrow {
    /// Only of this app.
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: Option<String>,
}

impl Narrow {
    pub(super) fn only(&self) -> Result<Option<AppId>, Problem> {
        self.app.as_deref().map(app_id).transpose()
    }
}

/// The version in a document's ETag.
pub(super) fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// What `If-Match` and `If-None-Match` want.
///
/// # Errors
/// Something that is neither `*` nor an ETag of ours.
pub(super) fn expectation(fields: &HeaderMap, is_there: bool) -> Result<Expect, Problem> {
    let field = |name: HeaderName| {
        fields.get(&name).map(|value| value.to_str().unwrap_or_default().trim().to_owned())
    };
    match (field(header::IF_MATCH).as_deref(), field(header::IF_NONE_MATCH).as_deref()) {
        (None, None) => Ok(Expect::Any),
        (None, Some("*")) => Ok(Expect::Absent),
        (Some("*"), None) if is_there => Ok(Expect::Any),
        (Some("*"), None) => {
            Err(Problem::new(StatusCode::PRECONDITION_FAILED, "conflict", "it does not exist"))
        }
        (Some(tag), None) => {
            let version = tag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
            let version = version.and_then(|version| version.parse().ok());
            version
                .map(Expect::Version)
                .ok_or_else(|| Problem::malformed("If-Match", "write the ETag as it was sent"))
        }
        (_, Some(_)) => {
            Err(Problem::malformed("If-None-Match", "only * is understood, and not with If-Match"))
        }
    }
}

impl From<OperatorError> for Problem {
    fn from(error: OperatorError) -> Self {
        let detail = error.to_string();
        match error {
            OperatorError::Invalid(mistakes) => Self::invalid(&mistakes),
            OperatorError::Cycle(_) => {
                let mut problem = Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", &*detail);
                problem.mistakes = Self::malformed("depends_on", detail).mistakes;
                problem
            }
            OperatorError::NoSuchApp(_) | OperatorError::NoSuchInstance(..) => Self::not_found(detail),
            OperatorError::Refused(_) => Self::new(StatusCode::CONFLICT, "refused", detail),
            OperatorError::Changed(_) => Self::new(StatusCode::PRECONDITION_FAILED, "conflict", detail),
            OperatorError::KeyReused(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "key-reused", detail),
            OperatorError::Config(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", detail),
            OperatorError::Host(_) => Self::new(StatusCode::BAD_GATEWAY, "host", detail),
            OperatorError::Registry(error) => Self::registry(&error),
        }
    }
}

/// An error and what it comes from, in one line.
pub(super) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text.push_str(&format!(": {said}"));
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preconditions_are_ours_or_refused() {
        let with = |name: HeaderName, value: &str| HeaderMap::from_iter([(name, value.parse().unwrap())]);
        assert_eq!(expectation(&HeaderMap::new(), false).unwrap(), Expect::Any);
        assert_eq!(expectation(&with(header::IF_NONE_MATCH, "*"), true).unwrap(), Expect::Absent);
        assert_eq!(expectation(&with(header::IF_MATCH, "\"7\""), true).unwrap(), Expect::Version(7));
        assert_eq!(expectation(&with(header::IF_MATCH, "*"), false).unwrap_err().status, 412);
        for bad in ["7", "\"x\"", "W/\"7\"", "\"7\", \"8\"", ""] {
            assert_eq!(expectation(&with(header::IF_MATCH, bad), true).unwrap_err().status, 400, "{bad}");
        }
        assert_eq!(expectation(&with(header::IF_NONE_MATCH, "\"7\""), true).unwrap_err().status, 400);
    }
}
