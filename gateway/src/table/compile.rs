//! The next table from the last one and a new snapshot, at the cost of what differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use imbl::ordmap::DiffItem;
use topology::{App, AppId, Endpoint, HostPattern, InstanceKey, Protocol, Snapshot, VersionId};

use super::RoutingTable;
use super::app::{CompiledApp, Pool, PooledEndpoint, Spread};
use super::hosts::HostRoutes;
use super::live::{AppLive, fresh_id};
use crate::balance::SplitSchedule;
use crate::metrics::ServiceMetrics;

/// What is fixed for the life of the process.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Apps without hosts answer below it; without one they answer nowhere.
    pub base_domain: Option<String>,
    /// How many workers count requests.
    pub shards: usize,
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
        let claims = [&old, &new].into_iter().flatten().flat_map(|app| app.hosts.iter().cloned());
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
    claims.extend(new.filter(|app| app.hosts.contains(host)).cloned());
    if claims.is_empty() { None } else { Some(Arc::new(HostRoutes::new(&claims))) }
}

fn compile_app(settings: &Settings, old: Option<&CompiledApp>, app: &App) -> CompiledApp {
    let services = services(settings, old, app);
    let endpoints: Vec<_> = app.endpoints.iter().map(|e| compile_endpoint(&services, old, e)).collect();
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
    CompiledApp {
        id: app.id.clone(),
        spec: app.spec.clone(),
        hosts: hosts_of(settings, app),
        claimed: app.claimed,
        speaks_http1: endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Http1),
        speaks_http2: endpoints.iter().any(|endpoint| endpoint.protocol == Protocol::Http2),
        live: old.map_or_else(|| Arc::new(AppLive::default()), |old| old.live.clone()),
        endpoints,
        http,
        tcp,
        udp,
        metrics: old.map_or_else(
            || Arc::new(ServiceMetrics::new(&app.id, None, settings.shards)),
            |old| old.metrics.clone(),
        ),
        services,
    }
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

fn hosts_of(settings: &Settings, app: &App) -> Vec<HostPattern> {
    if !app.spec.hosts.is_empty() {
        return app.spec.hosts.clone();
    }
    let name = settings.base_domain.as_ref().map(|domain| format!("{}.{domain}", app.id));
    name.and_then(|name| HostPattern::parse(&name).ok()).into_iter().collect()
}

fn compile_endpoint(
    services: &[Arc<ServiceMetrics>],
    old: Option<&CompiledApp>,
    endpoint: &Endpoint,
) -> Arc<PooledEndpoint> {
    let same = old.and_then(|old| find(old, &endpoint.key));
    let metrics = services
        .iter()
        .find(|service| service.version() == Some(&endpoint.key.version))
        .expect("every endpoint's version has a service");
    if let Some(same) = same
        && (same.address, same.weight, same.protocol)
            == (endpoint.address, endpoint.weight, endpoint.protocol)
        && Arc::ptr_eq(&same.metrics, metrics)
    {
        return same.clone();
    }
    // Another address is another process: what is known of the old one's health says nothing about it.
    let live = same.filter(|same| same.address == endpoint.address).map(|same| same.live.clone());
    Arc::new(PooledEndpoint {
        key: endpoint.key.clone(),
        address: endpoint.address,
        weight: endpoint.weight,
        protocol: endpoint.protocol,
        live: live.unwrap_or_default(),
        metrics: metrics.clone(),
    })
}

fn find<'a>(app: &'a CompiledApp, key: &InstanceKey) -> Option<&'a Arc<PooledEndpoint>> {
    let position = app.endpoints.binary_search_by(|endpoint| endpoint.key.cmp(key)).ok()?;
    app.endpoints.get(position)
}

fn spread(old: Option<&Spread>, app: &App, endpoints: Vec<Arc<PooledEndpoint>>) -> Spread {
    let Some(split) = &app.spec.split else {
        return Spread { pools: vec![pool(old, None, endpoints)], split: None };
    };
    let shares: Vec<_> = split.shares().iter().filter(|(_, share)| *share > 0).collect();
    let pools = shares.iter().map(|(version, _)| {
        let members = endpoints.iter().filter(|endpoint| endpoint.key.version == *version).cloned().collect();
        pool(old, Some(version.clone()), members)
    });
    let schedule = SplitSchedule::new(&shares.iter().map(|(_, share)| *share).collect::<Vec<_>>());
    Spread { pools: pools.collect(), split: Some(schedule) }
}

fn pool(old: Option<&Spread>, version: Option<VersionId>, endpoints: Vec<Arc<PooledEndpoint>>) -> Pool {
    let former = old.and_then(|old| old.pools.iter().find(|pool| pool.version == version));
    Pool { id: former.map_or_else(fresh_id, |pool| pool.id), edition: fresh_id(), version, endpoints }
}
