//! `/v1/traffic`: what apps' traffic was over the last minutes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use axum::extract::{Query, State};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use topology::AppId;
use utoipa::{IntoParams, ToSchema};

use super::openapi::BuildProblems;
use super::problem::Problem;
use super::query::{Queried, number, only_app};
use super::views::moment;
use super::{AdminState, MAX_ROWS, build};
use crate::statistics::{CLASSES, Counts, Item, MINUTES, Period, STEP, Store, Top, address_of};

/// Long enough to be more than a moment, short enough to be now.
const DEFAULT_MINUTES: u32 = 5;

/// What fits on a screen.
const MOST_SHOWN: usize = 10;

/// What was served in a while.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrafficView {
    from: String,
    to: String,
    seconds: f64,
    truncated: bool,
    items: Vec<ServiceView>,
}

/// A version of an app; without a version: requests that came to none.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServiceView {
    app: String,
    version: Option<String>,
    requests: u64,
    /// Those with a reason code, or answered with 500 and above.
    failures: u64,
    received_bytes: u64,
    sent_bytes: u64,
    statuses: BTreeMap<&'static str, u64>,
    /// Different ones, about: see docs/observing.md.
    clients: u64,
    seconds: Quantiles,
    /// The rest only where one app is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}

/// Of durations, in seconds; absent where there was no request.
#[derive(Debug, Serialize, ToSchema)]
pub struct Quantiles {
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
}

/// Of one app.
#[derive(Debug, Serialize, ToSchema)]
pub struct Details {
    top_paths: Vec<TopView>,
    top_clients: Vec<TopView>,
    course: Vec<StepView>,
}

/// One of those with the most requests.
#[derive(Debug, Serialize, ToSchema)]
pub struct TopView {
    name: String,
    requests: u64,
    /// By how much `requests` may be too high.
    excess: u64,
}

/// Ten seconds, the oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct StepView {
    from: String,
    requests: u64,
    failures: u64,
    received_bytes: u64,
    sent_bytes: u64,
}

/// Which traffic is meant.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct Wanted {
    /// Only of this app, with its paths, its clients and its course.
    #[param(example = "shop", pattern = "^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$")]
    app: Option<String>,
    /// Of the last so many minutes; 1 to 10, 5 where it is absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 10)]
    minutes: Option<String>,
}

/// What apps' traffic was over the last minutes; a tenant asks for that of one of its own.
#[utoipa::path(
    get, path = "/v1/traffic", tag = "gateway", operation_id = "show_traffic", params(Wanted),
    responses((status = 200, body = TrafficView), BuildProblems),
)]
pub async fn show(
    State(state): State<Arc<AdminState>>,
    wanted: Queried<Wanted>,
) -> Result<Response, Problem> {
    let Query(wanted) = wanted?;
    let app = only_app(wanted.app.as_deref())?;
    let minutes = number("minutes", wanted.minutes.as_deref(), (1..=MINUTES, " minutes"))?;
    let minutes = minutes.unwrap_or(DEFAULT_MINUTES);
    let store = state.sources.statistics.clone();
    build(move || view(&store, app.as_ref(), minutes, MAX_ROWS)).await
}

fn view(store: &Store, app: Option<&AppId>, minutes: u32, most: usize) -> TrafficView {
    let (instant, now) = (Instant::now(), SystemTime::now());
    // One more than is shown tells whether that is all.
    let (mut periods, reaches) = store.periods(app, minutes, most + 1, instant);
    let truncated = periods.len() > most;
    periods.truncate(most);
    let from = now - reaches;
    TrafficView {
        from: moment(from),
        to: moment(now),
        seconds: reaches.as_secs_f64(),
        truncated,
        items: periods.into_iter().map(|period| service(&period, app.is_some(), from)).collect(),
    }
}

fn service(period: &Period, is_detailed: bool, from: SystemTime) -> ServiceView {
    const NAMES: [&str; CLASSES] = ["1xx", "2xx", "3xx", "4xx", "5xx"];
    let tally = &period.tally;
    let Counts { requests, failures, received_bytes, sent_bytes, classes } = tally.counts;
    let quantile = |share| tally.latencies.quantile(share).as_ref().map(Duration::as_secs_f64);
    ServiceView {
        app: period.app.to_string(),
        version: period.version.as_ref().map(ToString::to_string),
        requests,
        failures,
        received_bytes,
        sent_bytes,
        statuses: NAMES.into_iter().zip(classes).filter(|(_, count)| *count > 0).collect(),
        clients: tally.clients.estimate(),
        seconds: Quantiles { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99) },
        details: is_detailed.then(|| details(period, from)),
    }
}

fn details(period: &Period, from: SystemTime) -> Details {
    let path = |item: &Item| String::from_utf8_lossy(&item.name).into_owned();
    let client = |item: &Item| address_of(&item.name).map_or_else(String::new, |address| address.to_string());
    let step = |(number, counts): (usize, &Counts)| StepView {
        from: moment(from + STEP * number as u32),
        requests: counts.requests,
        failures: counts.failures,
        received_bytes: counts.received_bytes,
        sent_bytes: counts.sent_bytes,
    };
    Details {
        top_paths: top(&period.tally.top_paths, path),
        top_clients: top(&period.tally.top_clients, client),
        course: period.course.iter().enumerate().map(step).collect(),
    }
}

fn top(top: &Top, name: impl Fn(&Item) -> String) -> Vec<TopView> {
    let view = |item: &Item| TopView { name: name(item), requests: item.count, excess: item.excess };
    top.most(MOST_SHOWN).into_iter().map(view).collect()
}
