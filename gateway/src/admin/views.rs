//! What the admin API shows: plain shapes of the table in force.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use discovery::doubt::{Doubt, Report};
use discovery::registry::{Link, State};
use healthcheck::ProbeResult;
use serde::Serialize;
use topology::{AppId, Balance, InstanceKey, OperatorWord, Rejection};
use utoipa::ToSchema;

use crate::balance::slow_start;
use crate::table::live::uptime;
use crate::table::{CompiledApp, CompiledMatch, Out, PooledEndpoint, RoutingTable, Sessions, Stage};

/// A list, and whether it is all of it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T> {
    pub revision: u64,
    pub total: usize,
    pub truncated: bool,
    pub items: Vec<T>,
}

/// An app as it is in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct AppView {
    id: String,
    hosts: Vec<String>,
    paths: Vec<String>,
    listeners: Option<Vec<String>>,
    split: Option<BTreeMap<String, u16>>,
    balance: BalanceView,
    /// Absent: no client comes back to its endpoint by a cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky: Option<StickyView>,
    /// Tried in this order.
    matches: Vec<MatchView>,
    /// Endpoints by health.
    endpoints: BTreeMap<&'static str, usize>,
    /// Whether all of them are used because fewer are healthy than `health.panic_threshold` asks for.
    panics: bool,
    /// Whether backups take requests beside the others because fewer of those are healthy than it asks for.
    backups_help: bool,
    /// Routes that an earlier app holds: this one never gets their requests.
    conflicts: Vec<ConflictView>,
    /// What of its sources is not in force, and why.
    rejections: Vec<RejectionView>,
}

/// With the settings that its kind has.
#[derive(Debug, Serialize, ToSchema)]
pub struct BalanceView {
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    algorithm: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bounded_load: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decay_seconds: Option<f64>,
}

/// The cookie by which clients come back to their endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub struct StickyView {
    cookie: String,
    max_age_seconds: Option<u64>,
    path: String,
    same_site: &'static str,
    /// Absent: as the client came.
    secure: Option<bool>,
    /// Whether other gateways know its endpoints by it, and this one after a restart.
    is_shared: bool,
}

/// Requests that an app treats otherwise than the others.
#[derive(Debug, Serialize, ToSchema)]
pub struct MatchView {
    name: String,
    /// All of them must hold; as app files write them.
    conditions: Vec<String>,
    /// Empty: what becomes of requests that no match takes.
    effect: String,
    requests: u64,
}

/// A route that an earlier app holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConflictView {
    host: String,
    path: String,
    held_by: String,
}

/// What of the sources is not in force.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectionView {
    place: String,
    app: Option<String>,
    reason: String,
}

/// An endpoint with its health and load.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointView {
    app: String,
    version: String,
    instance: String,
    address: String,
    weight: u16,
    /// Where it runs, as it says.
    #[serde(skip_serializing_if = "Option::is_none")]
    zone: Option<String>,
    /// Asked only where no other one can be.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    backup: bool,
    /// What it has of that by now; below 100 for as long as the app's `slow_start` lasts.
    weight_percent: u32,
    /// Since it began or returned; absent while it is out.
    serving_seconds: Option<f64>,
    /// Requests under way; absent where the app neither limits them nor balances by them.
    in_flight: Option<u32>,
    /// How many it may have, where something limits them.
    in_flight_limit: Option<u32>,
    /// Open, where the app limits something.
    connections: Option<u32>,
    /// How soon it is expected to answer, where the app balances by that and something is known.
    expected_seconds: Option<f64>,
    state: &'static str,
    /// What an operator says of it.
    operator: Option<OperatorView>,
    /// Why it takes no traffic; absent while it does.
    why: Option<String>,
    since: String,
    last_probe: Option<String>,
    /// The word that `sluice_probes_total` counts it by.
    last_probe_result: Option<&'static str>,
    last_probe_seconds: Option<f64>,
    last_error: Option<String>,
    last_error_at: Option<String>,
    /// Gateways whose verdict the state is; absent: this one's own.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    verdict_of: Vec<String>,
    probes_passed: u64,
    probes_failed: u64,
}

/// An operator's word on an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub struct OperatorView {
    state: &'static str,
    /// Instead of the registrar's.
    weight: Option<u16>,
}

impl OperatorView {
    fn of(word: OperatorWord) -> Option<Self> {
        (!word.says_nothing()).then(|| Self { state: word.state.as_str(), weight: word.weight })
    }
}

/// An operator's word on an endpoint that there is not, or not yet.
#[derive(Debug, Serialize, ToSchema)]
pub struct IdleWordView {
    app: String,
    version: String,
    instance: String,
    #[serde(flatten)]
    word: OperatorView,
}

/// Endpoints, and what operators say of others.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointsView {
    #[serde(flatten)]
    page: Page<EndpointView>,
    idle_words: Vec<IdleWordView>,
}

/// What is served, and where it comes from.
#[derive(Debug, Serialize, ToSchema)]
pub struct TableView {
    gateway: String,
    revision: u64,
    registry_revision: u64,
    registry: &'static str,
    registry_error: Option<String>,
    /// Why the registry as a whole is not believed.
    doubt: Option<&'static str>,
    /// Keys that are served although the registry lacks them or has them otherwise.
    held: Vec<String>,
    held_truncated: bool,
    apps: usize,
    hosts: usize,
    routes: Vec<RouteView>,
    routes_truncated: bool,
    rejections: Vec<RejectionView>,
}

/// Which app has a host and path.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteView {
    host: String,
    path: String,
    app: String,
}

pub fn apps(table: &RoutingTable, only: Option<&AppId>, most: usize) -> Page<AppView> {
    let view = |app: &Arc<CompiledApp>| {
        let mut endpoints = BTreeMap::new();
        for endpoint in &app.endpoints {
            *endpoints.entry(endpoint.state()).or_default() += 1;
        }
        let (split, stage) = (app.spec.split.as_ref(), app.stage());
        let rejections = table.snapshot.rejections.iter();
        AppView {
            id: app.id.to_string(),
            hosts: app.hosts().iter().map(ToString::to_string).collect(),
            paths: app.spec.paths.iter().map(ToString::to_string).collect(),
            listeners: app
                .spec
                .listeners
                .as_ref()
                .map(|names| names.iter().map(ToString::to_string).collect()),
            split: split
                .map(|split| split.shares().iter().map(|(v, share)| (v.to_string(), *share)).collect()),
            balance: balance_view(&app.spec.balance),
            sticky: app.sessions.as_deref().map(sticky_view),
            matches: app.matches.iter().flat_map(|matches| matches.iter()).map(match_view).collect(),
            endpoints,
            panics: stage == Stage::Panic,
            backups_help: stage == Stage::Helped,
            conflicts: conflicts(table, app),
            rejections: rejections
                .filter(|(_, r)| r.app.as_ref() == Some(&app.id))
                .map(rejection)
                .chain(refused(app))
                .chain(unreadable(app))
                .collect(),
        }
    };
    let selected = || table.apps.values().filter(|app| only.is_none_or(|only| app.id == *only));
    page(table, selected().count(), selected().take(most).map(view).collect())
}

pub fn balance_view(balance: &Balance) -> BalanceView {
    let mut view = BalanceView {
        kind: balance.kind(),
        key: None,
        algorithm: None,
        bounded_load: None,
        decay_seconds: None,
    };
    match balance {
        Balance::RoundRobin | Balance::Random | Balance::LeastRequests => {}
        Balance::PeakEwma { decay } => view.decay_seconds = Some(decay.as_secs_f64()),
        Balance::Hash(hashing) => {
            view.key = Some(hashing.key.to_string());
            view.algorithm = Some(hashing.algorithm.as_str());
            view.bounded_load = hashing.bounded_load.map(|percent| f64::from(percent) / 100.0);
        }
    }
    view
}

pub fn sticky_view(sessions: &Sessions) -> StickyView {
    let settings = &sessions.settings;
    StickyView {
        cookie: settings.cookie.to_string(),
        max_age_seconds: settings.max_age.map(|age| age.as_secs()),
        path: settings.path.to_string(),
        same_site: settings.same_site.as_str(),
        secure: settings.secure,
        is_shared: sessions.are_shared(),
    }
}

fn match_view(entry: &CompiledMatch) -> MatchView {
    MatchView {
        name: entry.name().to_owned(),
        conditions: entry.conditions().iter().map(ToString::to_string).collect(),
        effect: entry.spec().effect.to_string(),
        requests: entry.live.taken(),
    }
}

pub fn endpoints(table: &RoutingTable, only: Option<&AppId>, most: usize) -> EndpointsView {
    let selected = || {
        let apps = table.apps.values().filter(|app| only.is_none_or(|only| app.id == *only));
        apps.flat_map(|app| app.endpoints.iter().map(move |endpoint| (app, endpoint)))
    };
    let shown = selected().take(most).map(|(app, e)| endpoint(app, e)).collect();
    EndpointsView { page: page(table, selected().count(), shown), idle_words: idle_words(table, only, most) }
}

fn idle_words(table: &RoutingTable, only: Option<&AppId>, most: usize) -> Vec<IdleWordView> {
    let words = table.snapshot.words.iter().filter(|(app, _)| only.is_none_or(|only| *app == only));
    let words = words.flat_map(|(app, words)| words.iter().map(move |(key, word)| (app, key, word)));
    let idle = words.filter(|(app, key, _)| table.app(app).is_none_or(|app| app.endpoint(key).is_none()));
    let view = |(app, key, word): (&AppId, &InstanceKey, &OperatorWord)| {
        Some(IdleWordView {
            app: app.to_string(),
            version: key.version.to_string(),
            instance: key.instance.to_string(),
            word: OperatorView::of(*word)?,
        })
    };
    idle.filter_map(view).take(most).collect()
}

pub fn table(
    gateway: &str,
    table: &RoutingTable,
    (registry, doubts): (&State, &Report),
    most: usize,
) -> TableView {
    let (state, error) = match &registry.link {
        Link::Connecting { why } => ("connecting", why.as_ref().map(ToString::to_string)),
        Link::Connected { .. } => ("connected", None),
        Link::Lost { why, .. } => ("lost", Some(why.to_string())),
    };
    let routes = table.hosts().flat_map(|(host, routes)| {
        let routes: Vec<_> = routes
            .iter()
            .map(|(path, app)| RouteView {
                host: host.clone(),
                path: path.to_string(),
                app: app.id.to_string(),
            })
            .collect();
        routes
    });
    let mut shown: Vec<_> = routes.take(most + 1).collect();
    let routes_truncated = shown.len() > most;
    shown.truncate(most);
    shown.sort_by(|a, b| (&a.host, &a.path).cmp(&(&b.host, &b.path)));
    TableView {
        gateway: gateway.to_owned(),
        revision: table.snapshot.revision.0,
        registry_revision: table.snapshot.registry_revision,
        registry: state,
        registry_error: error,
        doubt: doubts.doubt.map(Doubt::as_str),
        held: doubts.held.iter().take(most).map(ToString::to_string).collect(),
        held_truncated: doubts.held.len() > most,
        apps: table.apps.len(),
        hosts: table.host_count(),
        routes: shown,
        routes_truncated,
        rejections: table
            .snapshot
            .rejections
            .iter()
            .map(rejection)
            .chain(table.apps.values().filter_map(refused))
            .take(most)
            .collect(),
    }
}

pub(super) fn page<T>(table: &RoutingTable, total: usize, items: Vec<T>) -> Page<T> {
    Page { revision: table.snapshot.revision.0, total, truncated: items.len() < total, items }
}

fn conflicts(table: &RoutingTable, app: &CompiledApp) -> Vec<ConflictView> {
    let routes = app.hosts().iter().flat_map(|host| app.spec.paths.iter().map(move |path| (host, path)));
    let lost = routes.filter_map(|(host, path)| {
        let owner = table.routes_of(host)?.owner(app, path)?;
        (owner.id != app.id).then(|| ConflictView {
            host: host.to_string(),
            path: path.to_string(),
            held_by: owner.id.to_string(),
        })
    });
    lost.collect()
}

fn rejection((place, rejection): (&Arc<str>, &Rejection)) -> RejectionView {
    RejectionView {
        place: place.to_string(),
        app: rejection.app.as_ref().map(ToString::to_string),
        reason: rejection.reason.to_string(),
    }
}

/// Files of filters that are not in force as they are now.
fn unreadable(app: &Arc<CompiledApp>) -> impl Iterator<Item = RejectionView> {
    let problems = app.filters.as_ref().map(|filters| filters.problems()).unwrap_or_default();
    let view =
        |reason| RejectionView { place: format!("app {}", app.id), app: Some(app.id.to_string()), reason };
    problems.into_iter().map(view)
}

/// What this gateway could not do of a spec that is right in itself.
fn refused(app: &Arc<CompiledApp>) -> Option<RejectionView> {
    let reason = app.rejection.as_ref()?.to_string();
    Some(RejectionView { place: format!("app {}", app.id), app: Some(app.id.to_string()), reason })
}

pub fn endpoint(app: &CompiledApp, endpoint: &PooledEndpoint) -> EndpointView {
    let report = endpoint.live.health.report();
    let error = report.last_error.as_ref();
    let ejection = endpoint.live.ejection.report();
    let serving_for = endpoint.live.serving_for();
    let load = endpoint.gate.as_ref().zip(endpoint.live.load.get());
    // In a panic it takes requests all the same.
    let panics = app.live.stage() == Stage::Panic;
    let keeps_out = |out: &Out| !panics || !matches!(out, Out::Down { .. } | Out::Ejected { .. });
    let why = endpoint.out().filter(keeps_out).map(|out| why(&out));
    let since = ejection.filter(|_| report.state.is_up()).map_or(report.since, |ejection| ejection.since);
    EndpointView {
        app: app.id.to_string(),
        version: endpoint.key.version.to_string(),
        instance: endpoint.key.instance.to_string(),
        address: endpoint.address.to_string(),
        weight: endpoint.weight,
        zone: endpoint.zone.as_ref().map(ToString::to_string),
        backup: endpoint.is_backup,
        weight_percent: app
            .spec
            .slow_start()
            .map_or(slow_start::WHOLE, |ramp| slow_start::share(serving_for, ramp)),
        serving_seconds: endpoint.is_available().then_some(serving_for.as_secs_f64()),
        in_flight: endpoint.counted().map(|load| load.in_flight.used()),
        in_flight_limit: load
            .map(|(gate, load)| gate.most_of(endpoint, load))
            .filter(|most| *most < u32::MAX),
        connections: load
            .filter(|(gate, _)| gate.limits_connections())
            .map(|(_, load)| load.connections.used()),
        expected_seconds: expected_seconds(app, endpoint),
        state: endpoint.state(),
        operator: OperatorView::of(endpoint.word),
        why,
        since: moment(since),
        last_probe: report.last_probe.map(moment),
        last_probe_result: report.last_result.map(ProbeResult::as_str),
        last_probe_seconds: report.last_latency.as_ref().map(Duration::as_secs_f64),
        last_error: error.map(|error| error.text.to_string()),
        last_error_at: error.map(|error| moment(error.at)),
        verdict_of: report.heard_from.iter().map(ToString::to_string).collect(),
        probes_passed: report.passes_total,
        probes_failed: report.failures_total,
    }
}

/// Why an endpoint takes nothing, for people.
pub(super) fn why(out: &Out) -> String {
    match out {
        Out::Withdrawn(state) => format!("operator: {}", state.as_str()),
        Out::Down { error: None } => "down".to_owned(),
        Out::Down { error: Some(error) } => format!("probe failed: {error}"),
        Out::Ejected { until, why } => format!("ejected until {}: {why}", moment(*until)),
        Out::Weightless { by_operator: false } => "weight is 0".to_owned(),
        Out::Weightless { by_operator: true } => "operator: weight is 0".to_owned(),
    }
}

fn expected_seconds(app: &CompiledApp, endpoint: &PooledEndpoint) -> Option<f64> {
    let Balance::PeakEwma { decay } = app.spec.balance else { return None };
    endpoint.counted()?.latency.expected(uptime(), decay).map(|latency| latency.as_secs_f64())
}

/// RFC 3339, UTC.
pub(super) fn moment(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at)
        .map_or_else(|_| String::new(), |at| at.strftime("%Y-%m-%dT%H:%M:%S%.3fZ").to_string())
}
