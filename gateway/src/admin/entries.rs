//! `/v1/config`: one entry or all of them, read and written.

use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequestParts, Path, Query, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use discovery::change::{Edit, EntryKey, Kind, Outcome, Precondition, Stored, Wanted};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::auth::{Denied, Identity};
use super::body::{read_json, read_json_or_pem};
use super::changes::{Applied, Wanting};
use super::openapi::{PutProblems, ReadProblems, RegistryProblems, RemoveProblems, WriteProblems};
use super::problem::Problem;
use super::query::Queried;

/// Rows of one answer; more are asked for by prefix.
const MAX_ROWS: usize = 10_000;
/// No version is so high.
const NO_VERSION: u64 = u64::MAX;

/// An entry's version as HTTP has it.
pub fn etag(version: u64) -> String {
    format!("\"{version}\"")
}

/// The entries that the API knows.
#[derive(Debug, Serialize, ToSchema)]
pub struct Entries {
    /// Of all entries together, for `if_match` of `POST /v1/config/apply`.
    etag: String,
    /// The newest revision of the history; 0: nothing was changed by the API yet.
    revision: u64,
    /// Whether there are more than are shown; ask for a prefix.
    truncated: bool,
    entries: Vec<EntryView>,
}

/// One entry.
#[derive(Debug, Serialize, ToSchema)]
pub struct EntryView {
    /// Such as `app/shop`.
    key: String,
    /// Changes with every write.
    etag: String,
    /// An object, or the text of a sealed value.
    value: Value,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Narrow {
    /// Only keys that begin so, such as `app` or `operator/shop/`.
    #[param(example = "app/")]
    prefix: Option<String>,
}

/// Every entry: apps, routes, certificates and operators' words.
#[utoipa::path(
    get, path = "/v1/config", tag = "config", params(Narrow),
    responses(
        (status = 200, body = Entries, headers(("ETag" = String, description = "Of all entries together."))),
        ReadProblems
    ),
)]
pub async fn list(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    narrow: Queried<Narrow>,
) -> Result<Response, Problem> {
    let Query(narrow) = narrow?;
    let prefix = narrow.prefix.unwrap_or_default();
    let now = state.editor.state();
    let known = now.known().filter(|(entry, _)| identity.sees(entry));
    let wanted = known.filter(|(entry, _)| entry.to_string().starts_with(&prefix));
    let mut entries: Vec<_> = wanted
        .take(MAX_ROWS + 1)
        .map(|(entry, found)| EntryView {
            key: entry.to_string(),
            etag: etag(found.version),
            value: Stored::of_bytes(found.value.clone()).json(),
        })
        .collect();
    let truncated = entries.len() > MAX_ROWS;
    entries.truncate(MAX_ROWS);
    let etag = format!("\"{}\"", now.tag());
    let shown = Entries { etag: etag.clone(), revision: now.head, truncated, entries };
    Ok(([(header::ETAG, etag)], axum::Json(shown)).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Named {
    /// `apps`, `routes` or `certificates`.
    #[param(example = "apps", pattern = "^(apps|routes|certificates)$")]
    kind: String,
    /// The entry's own name.
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    id: String,
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Path)]
pub struct Instance {
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: String,
    #[param(example = "v1", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    version: String,
    #[param(example = "c1", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    instance: String,
}

impl Named {
    fn entry(&self) -> Result<EntryKey, Problem> {
        let kinds = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Operator);
        let kind = kinds.into_iter().find(|kind| kind.collection() == self.kind);
        let unknown = || {
            format!("{:.80?} is no kind of entry; write apps, routes, certificates or operators", self.kind)
        };
        let kind = kind.ok_or_else(|| Problem::not_found(unknown()))?;
        EntryKey::of(kind, &self.id).map_err(|error| Problem::malformed("id", error.to_string()))
    }
}

impl Instance {
    fn entry(&self) -> Result<EntryKey, Problem> {
        let id = format!("{}/{}/{}", self.app, self.version, self.instance);
        EntryKey::of(Kind::Operator, &id).map_err(|error| Problem::malformed("id", error.to_string()))
    }
}

/// The entry that a path names.
#[derive(Debug)]
pub struct ByName(EntryKey);

/// The operator's word that a path names.
#[derive(Debug)]
pub struct ByInstance(EntryKey);

impl<S: Send + Sync> FromRequestParts<S> for ByName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<Named>::from_request_parts(parts, state).await;
        named.map_err(|error| Problem::malformed("path", error.body_text()))?.entry().map(Self)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ByInstance {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let named = Path::<Instance>::from_request_parts(parts, state).await;
        named.map_err(|error| Problem::malformed("path", error.body_text()))?.entry().map(Self)
    }
}

/// How a write is meant.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Manner {
    /// Judge it and say what it would change, and write nothing.
    #[serde(default)]
    dry_run: bool,
    /// Seal the value for its place with `registry.key_file`: nobody without that file can read it.
    #[serde(default)]
    seal: bool,
    /// Why, for the history; at most 1,000 characters.
    #[param(max_length = 1000)]
    message: Option<String>,
}

/// One entry, as the registry has it.
#[utoipa::path(
    get, path = "/v1/config/{kind}/{id}", tag = "config", params(Named),
    responses(
        (status = 200, body = EntryView, headers(("ETag" = String, description = "Its version."))),
        (status = 304, description = "It is still the one that `If-None-Match` names."),
        RegistryProblems
    ),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    ByName(entry): ByName,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    show_entry(&state, &identity, &entry, &fields).await
}

/// Creates or replaces one entry. The value is read by the code that reads the registry; all mistakes are told at once.
#[utoipa::path(
    put, path = "/v1/config/{kind}/{id}", tag = "config",
    params(
        Named, Manner,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one; `*`: only where it exists."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only where it does not exist."),
    ),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, body = Applied, headers(("ETag" = String, description = "Its version."))),
        (status = 201, body = Applied, headers(("ETag" = String, description = "Its version."))),
        PutProblems
    ),
)]
pub async fn put(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    ByName(entry): ByName,
    manner: Queried<Manner>,
    request: Request,
) -> Result<Response, Problem> {
    put_entry(&state, &identity, entry, manner, request).await
}

/// Removes one entry.
#[utoipa::path(
    delete, path = "/v1/config/{kind}/{id}", tag = "config",
    params(
        Named, Manner,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one."),
    ),
    responses(
        (status = 200, body = Applied),
        RemoveProblems
    ),
)]
pub async fn remove(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    ByName(entry): ByName,
    manner: Queried<Manner>,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    remove_entry(&state, &identity, entry, manner, &fields).await
}

/// An operator's word on one endpoint.
#[utoipa::path(
    get, path = "/v1/config/operators/{app}/{version}/{instance}", tag = "config", params(Instance),
    responses(
        (status = 200, body = EntryView, headers(("ETag" = String, description = "Its version."))),
        (status = 304, description = "It is still the one that `If-None-Match` names."),
        RegistryProblems
    ),
)]
pub async fn show_word(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    ByInstance(entry): ByInstance,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    show_entry(&state, &identity, &entry, &fields).await
}

/// Says something of one endpoint: `{"state": "ready|drain|maintenance", "weight": 0 to 65535}`, both if wanted.
#[utoipa::path(
    put, path = "/v1/config/operators/{app}/{version}/{instance}", tag = "config",
    params(
        Instance, Manner,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one; `*`: only where it exists."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only where it does not exist."),
    ),
    request_body(content = Object, content_type = "application/json"),
    responses(
        (status = 200, body = Applied, headers(("ETag" = String, description = "Its version."))),
        (status = 201, body = Applied, headers(("ETag" = String, description = "Its version."))),
        WriteProblems
    ),
)]
pub async fn put_word(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    ByInstance(entry): ByInstance,
    manner: Queried<Manner>,
    request: Request,
) -> Result<Response, Problem> {
    put_entry(&state, &identity, entry, manner, request).await
}

/// Takes an operator's word back.
#[utoipa::path(
    delete, path = "/v1/config/operators/{app}/{version}/{instance}", tag = "config",
    params(
        Instance, Manner,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one."),
    ),
    responses(
        (status = 200, body = Applied),
        RemoveProblems
    ),
)]
pub async fn remove_word(
    State(state): State<Arc<AdminState>>,
    Extension(identity): Extension<Identity>,
    ByInstance(entry): ByInstance,
    manner: Queried<Manner>,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    remove_entry(&state, &identity, entry, manner, &fields).await
}

async fn show_entry(
    state: &AdminState,
    identity: &Identity,
    entry: &EntryKey,
    fields: &HeaderMap,
) -> Result<Response, Problem> {
    // Whether it exists is nobody else's business.
    state.permit_entry(identity, entry)?;
    let found = state.editor.read(entry).await?;
    let (value, version) = found.ok_or_else(|| Problem::not_found(format!("{entry} does not exist")))?;
    let etag = etag(version);
    let known = fields.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let is_known = known.flat_map(|value| value.split(',')).any(|tag| {
        let tag = tag.trim();
        tag == "*" || tag.trim_start_matches("W/") == etag
    });
    if is_known {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response());
    }
    let shown = EntryView { key: entry.to_string(), etag: etag.clone(), value: value.json() };
    Ok(([(header::ETAG, etag)], axum::Json(shown)).into_response())
}

async fn put_entry(
    state: &AdminState,
    identity: &Identity,
    entry: EntryKey,
    manner: Queried<Manner>,
    request: Request,
) -> Result<Response, Problem> {
    state.permit_entry(identity, &entry)?;
    let Query(manner) = manner?;
    let precondition = precondition(state, &entry, request.headers()).await?;
    let value = match entry.kind() {
        Kind::Certificate => read_json_or_pem(request).await?,
        _ => read_json(request).await?,
    };
    let wanted = if manner.seal { Wanted::Seal(value) } else { Wanted::Json(value) };
    let edit = Edit { entry: entry.clone(), wanted, precondition };
    let outcome = change(state, identity, edit, &manner).await?;
    let is_new = outcome.revision.is_some() && outcome.changes.iter().any(|change| change.before.is_none());
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    let version = match (outcome.version, manner.dry_run) {
        (Some(version), _) => Some(version),
        (None, true) => None,
        // Nothing differed.
        (None, false) => state.editor.read(&entry).await?.map(|(_, version)| version),
    };
    let mut response = (status, axum::Json(Applied::of(outcome, manner.dry_run))).into_response();
    if let Some(value) = version.and_then(|version| etag(version).parse().ok()) {
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}

async fn remove_entry(
    state: &AdminState,
    identity: &Identity,
    entry: EntryKey,
    manner: Queried<Manner>,
    fields: &HeaderMap,
) -> Result<Response, Problem> {
    state.permit_entry(identity, &entry)?;
    let Query(manner) = manner?;
    let precondition = precondition(state, &entry, fields).await?;
    if precondition == Precondition::Any && state.editor.read(&entry).await?.is_none() {
        return Err(Problem::not_found(format!("{entry} does not exist")));
    }
    let edit = Edit { entry, wanted: Wanted::Absent, precondition };
    let outcome = change(state, identity, edit, &manner).await?;
    Ok(axum::Json(Applied::of(outcome, manner.dry_run)).into_response())
}

async fn change(
    state: &AdminState,
    identity: &Identity,
    edit: Edit,
    manner: &Manner,
) -> Result<Outcome, Problem> {
    let wanting = Wanting { dry_run: manner.dry_run, message: manner.message.as_deref() };
    let occasion = wanting.occasion(identity)?;
    let outcome = state.editor.change(vec![edit], &occasion, manner.dry_run).await;
    state.conclude(identity, &wanting, outcome)
}

/// RFC 9110 section 13.1. Of several versions the one that it has, if it has one of them.
async fn precondition(
    state: &AdminState,
    entry: &EntryKey,
    fields: &HeaderMap,
) -> Result<Precondition, Problem> {
    if let Some(value) = fields.get(header::IF_NONE_MATCH) {
        if value != "*" || fields.contains_key(header::IF_MATCH) {
            let message = "of a write it can be * only, and alone: the entry must not exist";
            return Err(Problem::malformed("If-None-Match", message));
        }
        return Ok(Precondition::Absent);
    }
    let given = fields.get_all(header::IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default());
    let tags: Vec<_> = given.flat_map(|value| value.split(',')).map(str::trim).collect();
    let version = |tag: &str| tag.strip_prefix('"')?.strip_suffix('"')?.parse().ok();
    Ok(match tags[..] {
        [] => Precondition::Any,
        ["*"] => Precondition::Present,
        // A tag that is none of ours is no version's.
        [tag] => Precondition::Version(version(tag).unwrap_or(NO_VERSION)),
        ref tags => {
            let present = state.editor.read(entry).await?.map(|(_, version)| version);
            let named = tags.iter().filter_map(|tag| version(tag)).find(|tag| Some(*tag) == present);
            Precondition::Version(named.unwrap_or(NO_VERSION))
        }
    })
}

impl AdminState {
    fn permit_entry(&self, identity: &Identity, entry: &EntryKey) -> Result<(), Problem> {
        match identity.sees(entry) {
            true => Ok(()),
            false => Err(self.refuse(identity, Denied::Role, &entry.to_string())),
        }
    }
}
