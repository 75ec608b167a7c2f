//! What all gateways of the registry run, and waiting until they have applied a change.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use discovery::registry::State as Registry;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::AdminState;
use super::openapi::ReadProblems;
use super::problem::Problem;
use super::query::{Queried, number};
use crate::control::report::{FAMILY, Report};

const DEFAULT_TIMEOUT: u64 = 30;
/// In seconds: whoever waits longer asks again.
const MAX_TIMEOUT: u64 = 300;
/// More gateways than any registry has.
const MAX_GATEWAYS: usize = 1_000;

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Wait until all have applied the registry's changes up to this revision, which is to be that of a change of an app, of what
    /// operators say of endpoints or of a certificate: what else is written to the registry is nothing to apply.
    #[param(value_type = Option<u64>, minimum = 0, example = 1)]
    applied: Option<String>,
    /// For so long, in seconds; 0 to 300, 30 where it is absent.
    #[param(value_type = Option<u64>, minimum = 0, maximum = 300)]
    timeout: Option<String>,
}

/// What gateways have applied.
#[derive(Debug, Serialize, ToSchema)]
struct RevisionsView {
    /// The registry's revision, as this gateway has seen it last.
    registry_revision: u64,
    /// What all that report have applied; absent where none does.
    applied: Option<u64>,
    gateways: Vec<GatewayView>,
}

/// A gateway with what it reports.
#[derive(Debug, Serialize, ToSchema)]
struct GatewayView {
    id: String,
    /// `None`: what stands there is no report.
    #[serde(flatten)]
    #[schema(value_type = Report)]
    report: Option<Report>,
}

/// What every gateway of the registry reports. With `applied` it waits until all have applied that revision.
#[utoipa::path(
    get, path = "/v1/revisions", tag = "gateway", operation_id = "list_revisions", params(Wanted),
    responses(
        (status = 200, body = RevisionsView),
        (status = 504, description = "Not all have applied it in time.", body = RevisionsView),
        ReadProblems
    ),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    wanted: Queried<Wanted>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted?;
    let timeout = number("timeout", wanted.timeout.as_deref(), (0..=MAX_TIMEOUT, " seconds"))?;
    let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT);
    let applied =
        number("applied", wanted.applied.as_deref(), (0..=u64::MAX, ", a revision of the registry"))?;
    let mut registry = state.sources.registry.clone();
    let mut status = StatusCode::OK;
    if let Some(revision) = applied {
        let applied =
            registry.wait_for(|registry| view(registry).applied.is_some_and(|applied| applied >= revision));
        if !matches!(tokio::time::timeout(Duration::from_secs(timeout), applied).await, Ok(Ok(_))) {
            status = StatusCode::GATEWAY_TIMEOUT;
        }
    }
    let view = view(&registry.borrow());
    Ok((status, axum::Json(view)).into_response())
}

fn view(registry: &Registry) -> RevisionsView {
    let from = (Bound::Included(FAMILY), Bound::Unbounded);
    let own = registry.entries.range::<_, str>(from);
    let own = own.take_while(|(key, _)| key.as_str().starts_with(FAMILY)).take(MAX_GATEWAYS);
    let gateways: Vec<_> = own
        .map(|(key, entry)| GatewayView {
            id: key.as_str()[FAMILY.len()..].to_owned(),
            report: serde_json::from_slice(&entry.value).ok(),
        })
        .collect();
    let applied =
        gateways.iter().map(|gateway| gateway.report.as_ref().map_or(0, |report| report.applied)).min();
    RevisionsView { registry_revision: registry.revision, applied, gateways }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use discovery::registry::{Entry, Key, Link};
    use imbl::OrdMap;

    use super::*;

    #[test]
    fn the_slowest_gateway_says_what_all_have_applied() {
        let entry =
            |value: String| Entry { value: Bytes::from(value), version: 1, created: 1, ephemeral: true };
        let report = |applied| serde_json::to_string(&Report { applied, ..Report::default() }).unwrap();
        let mut registry = Registry {
            link: Link::Connecting { why: None },
            revision: 9,
            ahead: false,
            entries: OrdMap::new(),
        };
        assert_eq!(view(&registry).applied, None);
        for (key, value) in [
            ("app/shop", "{}".to_owned()),
            ("gateway/a", report(8)),
            ("gateway/b", report(7)),
            ("vip/10.0.0.1", "x".to_owned()),
        ] {
            registry.entries.insert(Key::parse(key).unwrap(), entry(value));
        }
        let shown = view(&registry);
        assert_eq!((shown.applied, shown.gateways.len(), &*shown.gateways[0].id), (Some(7), 2, "a"));
        registry.entries.insert(Key::parse("gateway/c").unwrap(), entry("nonsense".to_owned()));
        assert_eq!(view(&registry).applied, Some(0));
    }
}
