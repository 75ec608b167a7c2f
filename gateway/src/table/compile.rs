//! The next table from the last one and a new snapshot, at the cost of what differs.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use healthcheck::adaptive::AdaptiveLimit;
use imbl::ordmap::DiffItem;
use rustls::pki_types::ServerName;
use topology::{App, AppId, Balance, Endpoint, HashAlgorithm, HostPattern, Protocol, Snapshot, VersionId};

use super::RoutingTable;
use super::app::{CompiledApp, Manner, Nearness, Pool, PooledEndpoint, Spread, Upstream};
use super::hosts::HostRoutes;
use super::limits::{Gate, Tenants};
use super::live::{AppLive, fresh_id};
use super::matches::{self, shares_of};
use super::sessions::Sessions;
use super::tally::Tally;
use crate::balance::{SplitSchedule, StickyKeys};
use crate::filter::{self, Compiling, Filters, Sources};
use crate::listener::tls::{EndpointTls, UpstreamProfiles};
use crate::metrics::ServiceMetrics;

/// What is fixed for the life of the process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Apps without hosts answer below it; without one they answer nowhere.
    pub base_domain: Option<String>,
    /// How many workers count requests.
    pub shards: usize,
    /// What apps may name as their TLS.
    pub upstream_tls: Arc<UpstreamProfiles>,
    /// What apps' owners may use.
    pub tenants: Arc<Tenants>,
    /// Whether the traffic of apps that do not say is counted by path and client.
    pub statistics: bool,
    /// What filters read.
    pub sources: Arc<Sources>,
    /// Where this gateway runs. `None`: all endpoints are as near.
    pub zone: Option<Arc<str>>,
    /// What cookies of apps with `sticky` are signed with.
    pub sticky: Arc<StickyKeys>,
}

/// An app that differs, as it is now; `None`: gone.
pub type Change = (AppId, Option<Arc<CompiledApp>>);

/// A new table, and the apps in it that differ from the former one's.
pub fn compile(
    settings: &Settings,
    former: &RoutingTable,
    snapshot: Snapshot,
) -> (RoutingTable, Vec<Change>) {
    let mut apps = former.apps.clone();
    let mut hosts = former.hosts.clone();
    let mut changes = Vec::new();
    for difference in former.snapshot.apps.diff(&snapshot.apps) {
        let (id, app) = match difference {
            DiffItem::Add(id, app) | DiffItem::Update { new: (id, app), .. } => (id, Some(app)),
            DiffItem::Remove(id, _) => (id, None),
        };
        let old = apps.get(id).cloned();
        let new = app.map(|app| Arc::new(compile_app(settings, old.as_deref(), app)));
        let claims = [&old, &new].into_iter().flatten().flat_map(|app| app.hosts().iter().cloned());
        for host in claims.collect::<BTreeSet<_>>() {
            let routes = reclaim(hosts.of(&host), &host, id, new.as_ref());
            hosts.set(&host, routes);
        }
        match &new {
            Some(new) => apps.insert(id.clone(), new.clone()),
            None => apps.remove(id),
        };
        changes.push((id.clone(), new));
    }
    (RoutingTable { snapshot, apps, hosts }, changes)
}

/// A host's routes after app `id` has become `new`. `None`: nobody claims it any more.
fn reclaim(
    former: Option<&Arc<HostRoutes>>,
    host: &HostPattern,
    id: &AppId,
    new: Option<&Arc<CompiledApp>>,
) -> Option<Arc<HostRoutes>> {
    let mut claims = former.map(|routes| routes.apps()).unwrap_or_default();
    claims.retain(|app| app.id != *id);
    claims.extend(new.filter(|app| app.hosts().contains(host)).cloned());
    if claims.is_empty() { None } else { Some(Arc::new(HostRoutes::new(&claims))) }
}

fn compile_app(settings: &Settings, old: Option<&CompiledApp>, written: &App) -> CompiledApp {
    let (app, upstream, rejection) = accept(settings, old, written);
    let app = &*app;
    let services = services(settings, old, app);
    // Kept connections and what probes found hold for one way to speak to an endpoint.
    let is_alike = |old: &&CompiledApp| {
        old.upstream.is_same(&upstream) && old.spec.proxy_protocol == app.spec.proxy_protocol
    };
    let alike = old.filter(is_alike);
    let manner = Manner { tls: upstream.tls().cloned(), proxy_protocol: app.spec.proxy_protocol };
    let gate = gate(settings, old, app);
    let compile = |endpoint| {
        let counting = (gate.as_ref(), counts(app, endpoint));
        compile_endpoint(&services, alike, (&manner, settings.zone.as_deref()), counting, endpoint)
    };
    let endpoints: Vec<_> = app.endpoints.iter().map(compile).collect();
    count_where_needed(settings, app, &endpoints);
    let is_udp = |endpoint: &&Arc<PooledEndpoint>| endpoint.protocol == Protocol::Udp;
    let datagrams: Vec<_> = endpoints.iter().filter(is_udp).cloned().collect();
    let former_udp = old.and_then(|old| old.udp.as_deref());
    let udp = (!datagrams.is_empty()).then(|| Arc::new(spread(former_udp, app, datagrams)));
    let streams = endpoints.iter().filter(|endpoint| !is_udp(endpoint)).cloned().collect();
    let only_http = endpoints.iter().all(|endpoint| endpoint.protocol.is_http());
    let tcp = Arc::new(spread(old.map(|old| &*old.tcp), app, streams));
    let http = if only_http {
        tcp.clone()
    } else {
        let speakers = endpoints.iter().filter(|endpoint| endpoint.protocol.is_http()).cloned().collect();
        // Pools that were shared with TCP stay TCP's: two pools with one identity would make workers
        // confuse their rotations.
        let own = old.filter(|old| !Arc::ptr_eq(&old.http, &old.tcp)).map(|old| &*old.http);
        Arc::new(spread(own, app, speakers))
    };
    let former_sessions = old.and_then(|old| old.sessions.as_deref());
    let sessions = Sessions::compile(settings, former_sessions, app, &endpoints).map(Arc::new);
    let (matches, mirror) = matches::compile(settings, old, app, &http, &endpoints);
    CompiledApp {
        id: app.id.clone(),
        spec: app.spec.clone(),
        own_host: own_host(settings, app),
        claimed: app.claimed,
        speaks_http1: endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Http1),
        speaks_http2: endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Http2),
        live: old.map_or_else(|| Arc::new(AppLive::default()), |old| old.live.clone()),
        sessions,
        matches,
        mirror,
        gate,
        endpoints,
        http,
        tcp,
        udp,
        metrics: old.map_or_else(
            || Arc::new(ServiceMetrics::new(&app.id, None, settings.shards)),
            |old| old.metrics.clone(),
        ),
        services,
        is_counted: app.spec.statistics.unwrap_or(settings.statistics),
        upstream,
        filters: filters(settings, old, app),
        rejection,
    }
}

/// Those of an app whose settings did not change go on as they are.
fn filters(settings: &Settings, old: Option<&CompiledApp>, app: &App) -> Option<Arc<Filters>> {
    let wanted = app.spec.filters.as_ref()?;
    let former = old.and_then(|old| old.filters.as_ref());
    if let Some(former) = former.filter(|former| former.are_of(wanted)) {
        return Some(former.clone());
    }
    let former = former.map(|former| &**former);
    let with = Compiling { app: &app.id, former, workers: settings.shards, sources: &settings.sources };
    Some(Arc::new(filter::compile(wanted, with)))
}

/// The app as far as this gateway can serve it. One whose TLS it has no settings for keeps its last good
/// spec with its present endpoints, and says why.
fn accept<'a>(
    settings: &Settings,
    old: Option<&CompiledApp>,
    written: &'a App,
) -> (Cow<'a, App>, Upstream, Option<Arc<str>>) {
    let why = match endpoint_tls(settings, written) {
        Ok(None) => return (Cow::Borrowed(written), Upstream::Plain, None),
        Ok(Some(tls)) => {
            let former = old.and_then(|old| old.upstream.tls()).filter(|former| former.is_same(&tls));
            let tls = former.cloned().unwrap_or_else(|| Arc::new(tls));
            return (Cow::Borrowed(written), Upstream::Tls(tls), None);
        }
        Err(why) => Arc::from(why),
    };
    match old.filter(|old| !matches!(old.upstream, Upstream::Unknown)) {
        Some(old) => {
            let app = App { spec: old.spec.clone(), ..written.clone() };
            (Cow::Owned(app), old.upstream.clone(), Some(why))
        }
        None => (Cow::Borrowed(written), Upstream::Unknown, Some(why)),
    }
}

/// How the app's endpoints are to be spoken to; `None`: in clear text.
///
/// # Errors
/// What is wrong with the app's `tls` on a gateway of these settings.
pub fn endpoint_tls(settings: &Settings, app: &App) -> Result<Option<EndpointTls>, String> {
    let Some(wanted) = &app.spec.tls else { return Ok(None) };
    let Some(profile) = settings.upstream_tls.find(&wanted.profile) else {
        let known: Vec<_> = settings.upstream_tls.names().collect();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        return Err(format!(
            "tls.profile: this gateway has no [[gateway.upstream_tls]] named {:?}; it has {known}",
            wanted.profile
        ));
    };
    let first_host = || {
        let own = own_host(settings, app);
        app.spec.hosts.iter().chain(&own).find_map(|host| match host {
            HostPattern::Exact(name) => Some(name.clone()),
            HostPattern::Wildcard(_) | HostPattern::Any => None,
        })
    };
    let server_name = match (&wanted.server_name, &profile.server_name) {
        (Some(name), _) => proven(name)?,
        (None, Some(name)) => name.clone(),
        (None, None) => {
            let host = first_host().ok_or(
                "tls.server_name: is missing, and neither the profile nor a host says what endpoints must \
                 prove to be; write server_name = \"shop.internal\"",
            )?;
            proven(&host)?
        }
    };
    Ok(Some(EndpointTls { profile: profile.clone(), server_name }))
}

/// A host as certificates name it: an IPv6 address without brackets.
fn proven(host: &str) -> Result<ServerName<'static>, String> {
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned())
        .map_err(|_| format!("tls.server_name: {host:?} is no name that a certificate can prove"))
}

/// The counters of every version that has an endpoint, ordered by version.
fn services(settings: &Settings, old: Option<&CompiledApp>, app: &App) -> Vec<Arc<ServiceMetrics>> {
    // Endpoints are ordered by key, which begins with the version.
    let mut versions: Vec<_> = app.endpoints.iter().map(|endpoint| &endpoint.key.version).collect();
    versions.dedup();
    let service = |version| {
        let former = old.and_then(|old| old.services.iter().find(|s| s.version() == Some(version)));
        former
            .cloned()
            .unwrap_or_else(|| Arc::new(ServiceMetrics::new(&app.id, Some(version), settings.shards)))
    };
    versions.into_iter().map(service).collect()
}

/// Of an app that claims no hosts.
fn own_host(settings: &Settings, app: &App) -> Option<HostPattern> {
    let domain = settings.base_domain.as_ref().filter(|_| app.spec.hosts.is_empty())?;
    HostPattern::parse(&format!("{}.{domain}", app.id)).ok()
}

fn compile_endpoint(
    services: &[Arc<ServiceMetrics>],
    old: Option<&CompiledApp>,
    (manner, zone): (&Manner, Option<&str>),
    (gate, is_counted): (Option<&Arc<Gate>>, bool),
    endpoint: &Endpoint,
) -> Arc<PooledEndpoint> {
    let same = old.and_then(|old| old.endpoint(&endpoint.key));
    let weight = endpoint.effective_weight();
    let metrics = services
        .iter()
        .find(|service| service.version() == Some(&endpoint.key.version))
        .expect("every endpoint's version has a service");
    if let Some(same) = same
        && (same.address, same.weight, same.word, same.protocol)
            == (endpoint.address, weight, endpoint.word, endpoint.protocol)
        && Arc::ptr_eq(&same.metrics, metrics)
        && same.gate.as_ref().map(Arc::as_ptr) == gate.map(Arc::as_ptr)
        && same.is_counted == is_counted
        && (&same.zone, same.is_backup) == (&endpoint.zone, endpoint.is_backup)
    {
        return same.clone();
    }
    // Another address is another process: what is known of the old one's health says nothing about it.
    let same = same.filter(|same| same.address == endpoint.address);
    if same.is_some_and(|same| !same.word.state.admits() && endpoint.word.state.admits()) {
        // Released from an operator's word, it begins to serve as one that was down does.
        same.inspect(|same| same.live.returned());
    }
    let live = same.map(|same| same.live.clone());
    Arc::new(PooledEndpoint {
        key: endpoint.key.clone(),
        address: endpoint.address,
        weight,
        word: endpoint.word,
        protocol: endpoint.protocol,
        zone: endpoint.zone.clone(),
        nearness: Nearness::of(endpoint.zone.as_deref(), zone),
        is_backup: endpoint.is_backup,
        manner: manner.clone(),
        live: live.unwrap_or_default(),
        gate: gate.cloned(),
        is_counted,
        metrics: metrics.clone(),
        log_fields: OnceLock::new(),
    })
}

fn gate(settings: &Settings, old: Option<&CompiledApp>, app: &App) -> Option<Arc<Gate>> {
    let tenant = settings.tenants.find(app.spec.tenant().map_or(app.id.as_str(), |tenant| tenant));
    let is_http2 = app.endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Http2);
    Gate::new(&app.spec, tenant, is_http2, settings.shards, old.and_then(|old| old.gate.as_ref()))
}

/// Whether the endpoint's requests under way are to be known. Sessions of datagrams are limited by their listener.
fn counts(app: &App, endpoint: &Endpoint) -> bool {
    let is_limited = app.spec.capacity().is_some() && endpoint.protocol != Protocol::Udp;
    is_limited || app.spec.balance.counts_requests()
}

/// Gives endpoints the counters that the app's settings need and that outlive it.
fn count_where_needed(settings: &Settings, app: &App, endpoints: &[Arc<PooledEndpoint>]) {
    let limits = app.spec.capacity();
    let adaptive = limits.and_then(|limits| limits.adaptive);
    for endpoint in endpoints {
        if endpoint.is_counted || endpoint.gate.as_ref().is_some_and(|gate| gate.limits_connections()) {
            let load = endpoint.live.load.get_or_init(Box::default);
            if let Some(range) = adaptive {
                load.begin_to_adapt(AdaptiveLimit::new(&range).limit());
            }
        }
        if adaptive.is_some() || app.spec.outliers().compares() {
            endpoint.live.tally.get_or_init(|| Tally::new(settings.shards));
        }
    }
}

fn spread(old: Option<&Spread>, app: &App, endpoints: Vec<Arc<PooledEndpoint>>) -> Spread {
    let former = |version: Option<&VersionId>| {
        old.and_then(|old| old.pools.iter().find(|pool| pool.version.as_ref() == version))
    };
    let Some(split) = &app.spec.split else {
        return Spread::new(vec![Arc::new(pool(former(None), hashes(app), None, endpoints))], None);
    };
    let shares = shares_of(split);
    let pools = shares.iter().map(|(version, _)| {
        let members = endpoints.iter().filter(|endpoint| endpoint.key.version == *version).cloned().collect();
        Arc::new(pool(former(Some(version)), hashes(app), Some(version.clone()), members))
    });
    let schedule = SplitSchedule::new(&shares.iter().map(|(_, share)| *share).collect::<Vec<_>>());
    Spread::new(pools.collect(), Some(schedule))
}

/// With the identity that it had in the former table. `hashes`: how, where its endpoints are chosen by key.
pub(super) fn pool(
    former: Option<&Arc<Pool>>,
    hashes: Option<HashAlgorithm>,
    version: Option<VersionId>,
    endpoints: Vec<Arc<PooledEndpoint>>,
) -> Pool {
    let id = former.map_or_else(fresh_id, |pool| pool.id);
    let pool = Pool { id, edition: fresh_id(), version, endpoints, keys: OnceLock::new() };
    if let Some((former, algorithm)) = former.zip(hashes) {
        pool.inherit_keys(algorithm, former);
    }
    pool
}

pub(super) fn hashes(app: &App) -> Option<HashAlgorithm> {
    match &app.spec.balance {
        Balance::Hash(hashing) => Some(hashing.algorithm),
        _ => None,
    }
}
