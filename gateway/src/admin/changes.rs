//! Many entries at once, what was changed before, and the way back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Extension;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use discovery::change::history::Record;
use discovery::change::{
    ChangeError, Changed, Difference, EntryKey, MAX_MESSAGE, Occasion, Outcome, Scope, Wanted,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use topology::AppId;
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::auth::{Denied, Identity, Role};
use super::body::read_json;
use super::openapi::{BuildProblems, RecordProblems, RollbackProblems, WriteProblems};
use super::problem::{FieldMistake, Problem};
use super::query::{Queried, number, only_app};
use crate::listener::tls::show_time;

/// Of one answer of the history.
const MAX_RECORDS: usize = 256;
const DEFAULT_RECORDS: usize = 50;

/// How a change is meant.
#[derive(Debug, Clone, Copy)]
pub struct Wanting<'w> {
    pub dry_run: bool,
    pub message: Option<&'w str>,
}

impl Wanting<'_> {
    /// # Errors
    /// A message that is none.
    pub fn occasion(&self, identity: &Identity) -> Result<Occasion, Problem> {
        let message = self.message.unwrap_or_default();
        if message.chars().count() > MAX_MESSAGE || message.chars().any(|letter| letter.is_control()) {
            let told = format!("write at most {MAX_MESSAGE} characters, without control characters");
            return Err(Problem::malformed("message", told));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Occasion {
            author: identity.name.to_string(),
            message: message.to_owned(),
            time: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
        })
    }
}

/// What a change came to, or with `dry_run` would come to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Applied {
    /// Of the history; absent where nothing was written.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// The registry's: wait for it with `GET /v1/revisions?applied=`.
    #[serde(skip_serializing_if = "Option::is_none")]
    registry_revision: Option<u64>,
    dry_run: bool,
    /// In the order of their keys; empty where nothing differs.
    changes: Vec<ChangeView>,
    /// What is not wrong and still hardly wanted.
    warnings: Vec<String>,
}

/// What became of one entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangeView {
    /// Such as `app/shop`.
    key: String,
    /// `create`, `update` or `delete`.
    action: String,
    /// Where it differs; of a sealed value only that it does.
    diff: Vec<DifferenceView>,
}

/// One place at which an entry differs.
#[derive(Debug, Serialize, ToSchema)]
pub struct DifferenceView {
    /// Such as `hosts[0]`; empty: the whole value.
    path: String,
    /// Absent: it was not there.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// Absent: it is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

impl From<Difference> for DifferenceView {
    fn from(Difference { path, before, after }: Difference) -> Self {
        Self { path, before, after }
    }
}

impl From<&Changed> for ChangeView {
    fn from(change: &Changed) -> Self {
        Self {
            key: change.entry.to_string(),
            action: change.action().to_owned(),
            diff: change.differences().into_iter().map(DifferenceView::from).collect(),
        }
    }
}

impl Applied {
    pub fn of(outcome: Outcome, dry_run: bool) -> Self {
        Self {
            revision: outcome.revision,
            registry_revision: outcome.version,
            dry_run,
            changes: outcome.changes.iter().map(ChangeView::from).collect(),
            warnings: outcome.warnings,
        }
    }
}

/// Many entries, all or none.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApplyRequest {
    /// By key, such as `app/shop`; at most 100. A value is an object, or the text of a sealed value; `null`: the entry goes.
    #[schema(value_type = BTreeMap<String, Option<Object>>)]
    entries: BTreeMap<String, Value>,
    /// Whether entries go that are not named here, among those of the kinds that are.
    #[serde(default)]
    prune: bool,
    /// Judge it and say what it would change, and write nothing.
    #[serde(default)]
    dry_run: bool,
    /// Only where the ETag of `GET /v1/config` is still this one.
    #[serde(default)]
    if_match: Option<String>,
    /// Why, for the history; at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// Makes entries what the body says: all are right, or nothing is written. One conditional write, one record.
#[utoipa::path(
    post, path = "/v1/config/apply", tag = "config",
    request_body(content = ApplyRequest, content_type = "application/json"),
    responses(
        (status = 200, body = Applied),
        WriteProblems
    ),
)]
pub async fn apply(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, Problem> {
    let asked: ApplyRequest = read_json(request).await?;
    let (mut wanted, mut mistakes) = (BTreeMap::new(), Vec::new());
    for (key, value) in asked.entries {
        match EntryKey::parse(&key) {
            Ok(entry) if !identity.sees(&entry) => {
                return Err(state.refuse(&identity, Denied::Role, &key));
            }
            Ok(entry) => {
                let value = if value.is_null() { Wanted::Absent } else { Wanted::Json(value) };
                wanted.insert(entry, value);
            }
            Err(error) => {
                let (entry, field) = (key.chars().take(256).collect(), String::new());
                mistakes.push(FieldMistake { entry, field, message: error.to_string() });
            }
        }
    }
    if !mistakes.is_empty() {
        mistakes.truncate(50);
        return Err(Problem { mistakes, ..Problem::malformed("entries", "some keys are no entries") });
    }
    let wanting = Wanting { dry_run: asked.dry_run, message: asked.message.as_deref() };
    let occasion = wanting.occasion(&identity)?;
    let tag = asked.if_match.as_deref().map(|tag| tag.trim_matches('"'));
    let scope = identity.scope();
    let prune = asked.prune.then_some(&scope);
    let outcome = state.editor.apply(wanted, prune, tag, &occasion, asked.dry_run).await;
    let outcome = state.conclude(&identity, &wanting, outcome)?;
    Ok(axum::Json(Applied::of(outcome, asked.dry_run)).into_response())
}

/// What was changed, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct HistoryView {
    records: Vec<RecordSummary>,
}

/// One change.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordSummary {
    revision: u64,
    /// RFC 3339.
    time: String,
    author: String,
    message: String,
    /// The revision that this change went back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    rolled_back_to: Option<u64>,
    changes: Vec<ActionView>,
}

/// What happened to one entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct ActionView {
    key: String,
    /// `create`, `update` or `delete`.
    action: String,
}

/// One change with what it changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct RecordView {
    revision: u64,
    /// RFC 3339.
    time: String,
    author: String,
    message: String,
    /// The revision that this change went back to.
    #[serde(skip_serializing_if = "Option::is_none")]
    rolled_back_to: Option<u64>,
    changes: Vec<FullChange>,
}

/// One entry before and after a change.
#[derive(Debug, Serialize, ToSchema)]
pub struct FullChange {
    key: String,
    /// `create`, `update` or `delete`.
    action: String,
    diff: Vec<DifferenceView>,
    /// Absent: it did not exist.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<Value>,
    /// Absent: it does not exist any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<Value>,
}

impl From<&Changed> for FullChange {
    fn from(change: &Changed) -> Self {
        let ChangeView { key, action, diff } = ChangeView::from(change);
        let value = |stored: &Option<discovery::change::Stored>| stored.as_ref().map(|value| value.json());
        Self { key, action, diff, before: value(&change.before), after: value(&change.after) }
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// At most so many, the newest; 1 to 256, 50 where it is absent.
    #[param(value_type = Option<usize>, minimum = 1, maximum = 256)]
    limit: Option<String>,
    /// Only changes of this app's entries.
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: Option<String>,
}

/// The changes that are kept, newest first. A tenant sees those of its apps.
#[utoipa::path(
    get, path = "/v1/history", tag = "history", params(Selection),
    responses(
        (status = 200, body = HistoryView),
        BuildProblems
    ),
)]
pub async fn history(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    selection: Queried<Selection>,
) -> Result<Response, Problem> {
    let Query(selection) = selection?;
    let limit = number("limit", selection.limit.as_deref(), (1..=MAX_RECORDS, ""))?;
    let limit = limit.unwrap_or(DEFAULT_RECORDS);
    let app = only_app(selection.app.as_deref())?;
    let scope = narrow(&identity, app);
    // Opening and parsing all of them may take a while.
    let records = tokio::task::spawn_blocking(move || summaries(&state, &scope, limit)).await;
    let records = records.map_err(|error| Problem::internal(&error))?;
    Ok(axum::Json(HistoryView { records }).into_response())
}

fn summaries(state: &AdminState, scope: &Scope, limit: usize) -> Vec<RecordSummary> {
    let mut records = state.editor.records();
    records.reverse();
    let summary = |record: Record| {
        let changes = record.changes.iter().filter(|change| scope.has(&change.entry));
        let action =
            |change: &Changed| ActionView { key: change.entry.to_string(), action: change.action().into() };
        let changes: Vec<_> = changes.map(action).collect();
        (!changes.is_empty()).then(|| RecordSummary {
            revision: record.revision,
            time: show_time(record.time),
            author: record.author,
            message: record.message,
            rolled_back_to: record.rolled_back_to,
            changes,
        })
    };
    records.into_iter().filter_map(summary).take(limit).collect()
}

/// Only this app of what somebody may see.
fn narrow(identity: &Identity, app: Option<AppId>) -> Scope {
    match (app, &identity.role) {
        (None, _) => identity.scope(),
        (Some(app), Role::Tenant(apps)) if !apps.contains(&app) => Scope::Apps(Vec::new()),
        (Some(app), _) => Scope::Apps(vec![app]),
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Revision {
    /// Of the history.
    #[param(example = 1, minimum = 0)]
    revision: u64,
}

/// One change, with each entry as it was and as it became.
#[utoipa::path(
    get, path = "/v1/history/{revision}", tag = "history", params(Revision),
    responses(
        (status = 200, body = RecordView),
        RecordProblems
    ),
)]
pub async fn record(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    revision: Result<Path<Revision>, axum::extract::rejection::PathRejection>,
) -> Result<Response, Problem> {
    let revision = revision.map_err(|error| Problem::malformed("revision", error.body_text()))?.revision;
    let missing = || Problem::not_found(format!("revision {revision} is not kept"));
    let record = state.editor.record(revision).await?.ok_or_else(missing)?;
    let seen = record.changes.iter().filter(|change| identity.sees(&change.entry));
    let changes: Vec<_> = seen.map(FullChange::from).collect();
    if changes.is_empty() {
        return Err(missing());
    }
    let shown = RecordView {
        revision,
        time: show_time(record.time),
        author: record.author,
        message: record.message,
        rolled_back_to: record.rolled_back_to,
        changes,
    };
    Ok(axum::Json(shown).into_response())
}

/// The way back.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackRequest {
    /// Entries become what this revision left. 0: what was there before the first one.
    to: u64,
    /// Only this app's entries.
    #[serde(default)]
    app: Option<String>,
    /// Say what it would change, and write nothing.
    #[serde(default)]
    dry_run: bool,
    /// Why, for the history; at most 1,000 characters.
    #[serde(default)]
    #[schema(max_length = 1000)]
    message: Option<String>,
}

/// Writes the values that entries had at a revision, as a new change. A tenant's apps only, where a tenant asks.
#[utoipa::path(
    post, path = "/v1/rollback", tag = "history",
    request_body(content = RollbackRequest, content_type = "application/json"),
    responses(
        (status = 200, body = Applied),
        RollbackProblems
    ),
)]
pub async fn roll_back(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    request: Request,
) -> Result<Response, Problem> {
    let asked: RollbackRequest = read_json(request).await?;
    let app = only_app(asked.app.as_deref())?;
    let wanting = Wanting { dry_run: asked.dry_run, message: asked.message.as_deref() };
    let occasion = wanting.occasion(&identity)?;
    let scope = narrow(&identity, app);
    let outcome = state.editor.roll_back(asked.to, &scope, &occasion, asked.dry_run).await;
    let outcome = state.conclude(&identity, &wanting, outcome)?;
    Ok(axum::Json(Applied::of(outcome, asked.dry_run)).into_response())
}

impl AdminState {
    /// Leaves an audit line, counts, and says what went wrong.
    pub fn conclude(
        &self,
        identity: &Identity,
        wanting: &Wanting<'_>,
        outcome: Result<Outcome, ChangeError>,
    ) -> Result<Outcome, Problem> {
        if wanting.dry_run {
            return Ok(outcome?);
        }
        if let Ok(outcome) = outcome.as_ref()
            && outcome.revision.is_none()
        {
            // Nothing differed, and nothing was written.
            return Ok(outcome.clone());
        }
        self.metrics.change(outcome.is_ok());
        match outcome {
            Ok(outcome) => {
                let told = |change: &Changed| format!("{} {}", change.action(), change.entry);
                let changes: Vec<_> = outcome.changes.iter().map(told).collect();
                tracing::info!(
                    target: "sluice::audit",
                    author = &*identity.name,
                    role = identity.role.as_str(),
                    revision = outcome.revision,
                    changes = changes.join(", "),
                    why = wanting.message.unwrap_or_default(),
                    "configuration changed"
                );
                Ok(outcome)
            }
            Err(error) => {
                let problem = Problem::from(error);
                tracing::warn!(
                    target: "sluice::audit",
                    author = &*identity.name,
                    role = identity.role.as_str(),
                    problem = problem.kind,
                    detail = problem.detail,
                    "configuration not changed"
                );
                Err(problem)
            }
        }
    }
}
