//! What all gateways of the registry run, and waiting until they have applied a change.

use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use discovery::registry::State as Registry;
use serde::{Deserialize, Serialize};

use super::AdminState;
use crate::control::report::{FAMILY, Report};

const DEFAULT_TIMEOUT: u64 = 30;
/// In seconds: whoever waits longer asks again.
const MAX_TIMEOUT: u64 = 300;
/// More gateways than any registry has.
const MAX_GATEWAYS: usize = 1_000;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// The registry's revision that all are to have applied.
    applied: Option<u64>,
    /// In seconds.
    timeout: Option<u64>,
}

#[derive(Debug, Serialize)]
struct RevisionsView {
    /// The registry's revision, as this gateway has seen it last.
    registry_revision: u64,
    /// What all that report have applied; absent where none does.
    applied: Option<u64>,
    gateways: Vec<GatewayView>,
}

#[derive(Debug, Serialize)]
struct GatewayView {
    id: String,
    /// `None`: what stands there is no report.
    #[serde(flatten)]
    report: Option<Report>,
}

/// 200 with every gateway's report. With `applied` it waits until all have applied that revision; 504 when
/// they have not in time.
pub async fn show(State(state): State<Arc<AdminState>>, Query(wanted): Query<Wanted>) -> Response {
    let timeout = wanted.timeout.unwrap_or(DEFAULT_TIMEOUT);
    if timeout > MAX_TIMEOUT {
        return (StatusCode::BAD_REQUEST, format!("timeout: write 0 to {MAX_TIMEOUT} seconds\n"))
            .into_response();
    }
    let mut registry = state.sources.registry.clone();
    let mut status = StatusCode::OK;
    if let Some(revision) = wanted.applied {
        let applied =
            registry.wait_for(|registry| view(registry).applied.is_some_and(|applied| applied >= revision));
        if !matches!(tokio::time::timeout(Duration::from_secs(timeout), applied).await, Ok(Ok(_))) {
            status = StatusCode::GATEWAY_TIMEOUT;
        }
    }
    let view = view(&registry.borrow());
    (status, axum::Json(view)).into_response()
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
