//! `/v1/instances` and `/v1/hosts`: what runs, what it writes, and where.

use std::time::{Duration, SystemTime};

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use deploy::runtime::{LogLine, LogRequest, LogSource, RuntimeError};
use futures::StreamExt as _;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use topology::{AppId, InstanceId};
use utoipa::IntoParams;

use super::names::{ByHost, ByInstance};
use super::openapi::{ChangeProblems, HostProblems, ReadProblems};
use super::router::{ApiState, Narrow, Queried, asked, chain, etag, expectation};
use super::views::{self, HostList, HostWritten, InstanceList};
use crate::admin::auth::Identity;
use crate::admin::body::read_json_bytes;
use crate::admin::problem::Problem;

/// Lines of one answer, where it is not followed.
const MAX_TAIL: u32 = 100_000;
/// Without it: what somebody reads.
const DEFAULT_TAIL: u32 = 1_000;
/// A line of nothing, so that who has gone is noticed.
const BEAT: Duration = Duration::from_secs(15);

/// Every instance: where it runs, and how far it is.
#[utoipa::path(
    get, path = "/v1/instances", tag = "instances", params(Narrow),
    responses((status = 200, body = InstanceList), ReadProblems),
)]
pub(super) async fn list(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    narrow: Queried<Narrow>,
) -> Result<Response, Problem> {
    let only = asked(narrow)?.only()?;
    let apps = api.operator.apps();
    let shown = apps
        .iter()
        .filter(|(app, _)| api.sees(&identity, app) && only.as_ref().is_none_or(|only| only == *app));
    let items = shown.flat_map(|(app, status)| views::instances(app, status)).collect();
    Ok(axum::Json(InstanceList { items }).into_response())
}

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Go on until it ends.
    #[serde(default)]
    follow: bool,
    /// Only the last lines.
    #[param(maximum = 100_000)]
    tail: Option<u32>,
}

/// What an instance writes: one JSON object per line, `at`, `source`, `text`; an empty line is a sign of life.
#[utoipa::path(
    get, path = "/v1/instances/{instance}/logs", tag = "instances", params(ByInstance, Wanted),
    responses((status = 200, body = String, content_type = "application/x-ndjson"), HostProblems),
)]
pub(super) async fn logs(
    State(api): State<ApiState>,
    Extension(identity): Extension<Identity>,
    ByInstance(instance): ByInstance,
    wanted: Queried<Wanted>,
) -> Result<Response, Problem> {
    let wanted = asked(wanted)?;
    let app = owner_of(&api, &instance)?;
    api.permit(&identity, &app)?;
    let tail = wanted.tail.unwrap_or(DEFAULT_TAIL);
    if tail > MAX_TAIL {
        return Err(Problem::malformed("tail", format!("write 0 to {MAX_TAIL} lines")));
    }
    let permit = api.place()?;
    let (runtime, id) = api.operator.instance(&app, &instance)?;
    let request = LogRequest { follow: wanted.follow, since: None, tail: Some(tail) };
    let lines = runtime.logs(&id, &request).await.map_err(|error| of_runtime(&error))?;
    let lines = lines.map(|line| line.map(|line| Bytes::from(shown(&line))));
    let end = api.cancel.clone().cancelled_owned();
    let beats = futures::stream::unfold((), |()| async {
        tokio::time::sleep(BEAT).await;
        Some((Ok(Bytes::from_static(b"\n")), ()))
    });
    // Beats go on for as long as there may be lines.
    let lines = lines.map(Some).chain(futures::stream::once(async { None }));
    let merged = futures::stream::select(lines, beats.map(Some));
    let merged =
        merged.take_while(|item| futures::future::ready(item.is_some())).filter_map(futures::future::ready);
    let body = merged.take_until(end).map(move |line| {
        let _held = &permit;
        line.map_err(|error: RuntimeError| std::io::Error::other(chain(&error)))
    });
    let kind = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    Ok((kind, Body::from_stream(body)).into_response())
}

/// Instances' names are nobody's before or after, so one is enough.
fn owner_of(api: &ApiState, instance: &InstanceId) -> Result<AppId, Problem> {
    let apps = api.operator.apps();
    let found = apps.into_iter().find(|(_, status)| status.instances.contains_key(instance));
    found.map(|(app, _)| app).ok_or_else(|| Problem::not_found(format!("there is no instance {instance}")))
}

fn of_runtime(error: &RuntimeError) -> Problem {
    let mut problem = Problem::new(StatusCode::BAD_GATEWAY, "host", chain(error));
    problem.kind = format!("urn:sluice:{}", error.fault.code().replace('_', "-"));
    problem
}

fn shown(line: &LogLine) -> String {
    let since = line.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let micros = i64::try_from(since.as_micros()).unwrap_or(i64::MAX);
    let at = Timestamp::from_microsecond(micros).map(|at| format!("{at:.6}")).unwrap_or_default();
    let source = match line.source {
        LogSource::Out => "out",
        LogSource::Error => "error",
    };
    format!("{}\n", json!({ "at": at, "source": source, "text": String::from_utf8_lossy(&line.text) }))
}

/// Every host: what it has, and what of it is given out.
#[utoipa::path(
    get, path = "/v1/hosts", tag = "hosts",
    responses((status = 200, body = HostList), ReadProblems),
)]
pub(super) async fn hosts(State(api): State<ApiState>) -> Response {
    let items = api.operator.hosts().iter().map(|(id, status)| views::host(id, status)).collect();
    axum::Json(HostList { items }).into_response()
}

/// Enters a host, or changes it.
#[utoipa::path(
    put, path = "/v1/hosts/{host}", tag = "hosts",
    params(
        ByHost,
        ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one; `*`: only where it exists."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: only where it does not exist."),
    ),
    request_body(content = Object, content_type = "application/json"),
    responses((status = 200, body = HostWritten), (status = 201, body = HostWritten), ChangeProblems),
)]
pub(super) async fn put_host(
    State(api): State<ApiState>,
    ByHost(host): ByHost,
    request: Request,
) -> Result<Response, Problem> {
    let is_there = api.operator.hosts().contains_key(&host);
    let expect = expectation(request.headers(), is_there)?;
    let value = read_json_bytes(request).await?;
    let version = api.operator.put_host(&host, value, expect).await?;
    let status = if is_there { StatusCode::OK } else { StatusCode::CREATED };
    let body = axum::Json(HostWritten { id: host.to_string(), etag: Some(etag(version)) });
    Ok((status, [(header::ETAG, etag(version))], body).into_response())
}

/// Removes a host. What ran there counts as gone: empty it first by `drained`.
#[utoipa::path(
    delete, path = "/v1/hosts/{host}", tag = "hosts",
    params(ByHost, ("If-Match" = Option<String>, Header, description = "Only where its ETag is still this one.")),
    responses((status = 200, body = HostWritten), ChangeProblems),
)]
pub(super) async fn remove_host(
    State(api): State<ApiState>,
    ByHost(host): ByHost,
    fields: HeaderMap,
) -> Result<Response, Problem> {
    let is_there = api.operator.hosts().contains_key(&host);
    if !is_there {
        return Err(Problem::not_found(format!("there is no host {host}")));
    }
    api.operator.delete_host(&host, expectation(&fields, is_there)?).await?;
    Ok(axum::Json(HostWritten { id: host.to_string(), etag: None }).into_response())
}
