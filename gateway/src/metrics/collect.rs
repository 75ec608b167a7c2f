//! A scrape: every cell added up and written as Prometheus text. Runs beside the workers and takes
//! nothing from them but reads.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use deploy::engine::Meter;
use discovery::doubt::{Doubt, Report};
use discovery::registry::{Link, State};
use healthcheck::ProbeWatch;
use prometheus::core::Collector;
use prometheus::process_collector::ProcessCollector;
use prometheus::proto::MetricFamily;
use prometheus::{Encoder, TextEncoder};
use tokio::sync::{Notify, watch};
use topology::RetryCause;
use vip::{Serving, ServingWatch};

use super::cells::{Histogram, HistogramTotal};
use super::families::Family;
use super::service::RequestTotals;
use super::{
    AdminMetrics, HedgeResult, ListenerMetrics, Reloads, ServiceCells, ServiceMetrics, WorkerMetrics,
};
use crate::access_log::LogWatch;
use crate::control::{Applied, Failures};
use crate::dns::DnsDesk;
use crate::handover::Lineage;
use crate::listener::tls::TlsRegistry;
use crate::listeners::Doorways;
use crate::ports::Board;
use crate::statistics::Store;
use crate::table::limits::Tenants;
use crate::table::{Nearness, RoutingTable, Stage, Stay};
use crate::trace::ExportStatus;
use crate::vips::VipDesk;
use crate::worker::Shared;

/// Where the numbers come from.
#[derive(Debug, Clone)]
pub struct Sources {
    pub shared: Arc<Shared>,
    pub workers: Vec<Arc<WorkerMetrics>>,
    pub listeners: Arc<ListenerMetrics>,
    pub doorways: Doorways,
    pub reloads: Arc<Reloads>,
    pub registry: watch::Receiver<State>,
    /// What is served otherwise than the registry says.
    pub doubts: watch::Receiver<Report>,
    /// Told that an operator accepts the registry as it is.
    pub acceptance: Arc<Notify>,
    pub applied: Arc<Applied>,
    pub probes: ProbeWatch,
    /// Endpoints that are to be restarted or stopped.
    pub failures: Arc<Failures>,
    pub serving: ServingWatch,
    pub tls: Arc<TlsRegistry>,
    pub tenants: Arc<Tenants>,
    pub lineage: Arc<Lineage>,
    /// `None`: there is no log.
    pub access_log: Option<LogWatch>,
    pub statistics: Arc<Store>,
    /// `None`: nothing is traced.
    pub tracing: Option<Arc<ExportStatus>>,
    pub admin: Arc<AdminMetrics>,
    /// `None`: there are no virtual IPs.
    pub vips: Option<Arc<VipDesk>>,
    /// `None`: this process has no deploy API.
    pub deploy: Option<Arc<Meter>>,
    /// What apps have asked for, and what became of it.
    pub ports: Board,
    pub dns: Arc<DnsDesk>,
}

#[derive(Debug, Clone)]
pub struct Exporter(Sources);

impl Exporter {
    pub fn new(sources: Sources) -> Self {
        Self(sources)
    }

    /// The content type that [`Self::render`]'s text has.
    pub fn content_type() -> String {
        TextEncoder::new().format_type().to_owned()
    }

    /// # Errors
    /// When the encoder refuses a family, which names the mistake.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        let table = self.0.shared.table.load_full();
        let mut families = Vec::new();
        self.process(&mut families);
        self.control(&table, &mut families);
        reloads(&self.0.reloads, &mut families);
        super::admin::collect(&self.0.admin, &mut families);
        super::lineage::lineage(&self.0.lineage, &mut families);
        if let Some(vips) = &self.0.vips {
            super::vips::collect(vips, &mut families);
        }
        if let Some(meter) = &self.0.deploy {
            super::deploy::collect(meter, &mut families);
        }
        families.extend(ports(&self.0.ports).finish());
        super::dns::collect(&self.0.dns, &mut families);
        self.listeners(&mut families);
        super::overload::overload(&self.0.shared, &self.0.workers, &mut families);
        super::tls::certificates(&self.0.tls, &mut families);
        if let Some(log) = &self.0.access_log {
            super::access_log::log(log, &self.0.workers, &mut families);
        }
        super::observers::statistics(&self.0.statistics, &self.0.workers, &mut families);
        if let Some(status) = &self.0.tracing {
            super::observers::tracing(status, &self.0.workers, &mut families);
        }
        services(&self.0.shared, &table, &mut families);
        families.extend(sessions(&table).finish());
        families.extend(tunnels(&table, &self.0.applied.retired.held()).finish());
        super::filters::collect(self.0.shared.rate_limits.as_ref(), &table, &mut families);
        endpoints(&table, &mut families);
        families.extend(matches(&table).finish());
        super::effects::collect(&table, &mut families);
        ejections(&table, &mut families);
        families.extend(panics(&table).finish());
        in_flight(&table, &self.0.tenants, &mut families);
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }

    fn process(&self, families: &mut Vec<MetricFamily>) {
        let mut build = Family::gauge("sluice_build_info", "Always 1; what runs is in the labels.");
        build.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1.0);
        let mut serving =
            Family::gauge("sluice_serving", "Whether the gateway is in this state (1) or not (0).");
        let now = self.0.serving.now().as_str();
        for state in [Serving::Starting, Serving::Serving, Serving::Draining { since: Instant::now() }] {
            serving.sample(&[("state", state.as_str())], f64::from(u8::from(state.as_str() == now)));
        }
        families.extend([build, serving].into_iter().filter_map(Family::finish));
        families.extend(ProcessCollector::for_self().collect());
    }

    fn control(&self, table: &RoutingTable, families: &mut Vec<MetricFamily>) {
        let state = self.0.registry.borrow().clone();
        let age = match &state.link {
            Link::Connecting { .. } => 0.0,
            Link::Connected { since } | Link::Lost { since, .. } => since.elapsed().as_secs_f64(),
        };
        let connected = f64::from(u8::from(state.link.is_connected()));
        let report = self.0.doubts.borrow().clone();
        let mut doubted = Family::gauge(
            "sluice_registry_doubted",
            "Whether the last good table is served instead of what the registry says (1), and why.",
        );
        for doubt in Doubt::ALL {
            doubted.sample(&[("reason", doubt.as_str())], f64::from(u8::from(report.doubt == Some(doubt))));
        }
        families.extend(doubted.finish());
        let gauges = [
            (
                "sluice_registry_held_keys",
                "Keys that are served although the registry lacks them or has them otherwise.",
                report.held.len() as f64,
            ),
            (
                "sluice_registry_connected",
                "Whether the registry answers (1) or the last table is served without it (0).",
                connected,
            ),
            ("sluice_registry_link_age_seconds", "How long the registry has been connected, or lost.", age),
            (
                "sluice_registry_revision",
                "The registry's last revision that was seen.",
                state.revision as f64,
            ),
            (
                "sluice_table_revision",
                "The snapshot that requests are routed by.",
                table.snapshot.revision.0 as f64,
            ),
            (
                "sluice_table_age_seconds",
                "Since the last change was applied.",
                self.0.applied.age().as_secs_f64(),
            ),
            (
                "sluice_table_compile_seconds",
                "What the last change took to compile.",
                self.0.applied.took().as_secs_f64(),
            ),
            ("sluice_table_apps", "Apps that are routed.", table.apps.len() as f64),
        ];
        for (name, help, value) in gauges {
            families.extend(plain(Family::gauge(name, help), value));
        }
        families.extend(plain(
            Family::counter("sluice_table_changes_total", "Tables put in force."),
            self.0.applied.count() as f64,
        ));
        families.extend(rejects(table).finish());
        super::probes::collect(&self.0.probes, families);
        let mut failures = Family::counter(
            "sluice_endpoint_failures_total",
            "Endpoints that failed so many probes that they are to be restarted or stopped, and whether anybody heard.",
        );
        for (action, is_heard, count) in self.0.failures.counts() {
            let heard = if is_heard { "yes" } else { "no" };
            failures.sample(&[("action", action.as_str()), ("heard", heard)], count as f64);
        }
        families.extend(failures.finish());
    }

    fn listeners(&self, families: &mut Vec<MetricFamily>) {
        super::connections::of_listeners(&self.0.listeners, families);
        let workers = || self.0.workers.iter();
        families.extend(plain(
            Family::gauge("sluice_upstream_idle_connections", "Kept connections to endpoints."),
            workers().map(|worker| worker.idle_upstream_connections.value()).sum::<i64>() as f64,
        ));
        families.extend(plain(
            Family::counter(
                "sluice_http2_floods_total",
                "HTTP/2 connections closed because their clients only made the gateway work.",
            ),
            workers().map(|worker| worker.http2_floods.value()).sum::<u64>() as f64,
        ));
    }
}

fn reloads(reloads: &Reloads, families: &mut Vec<MetricFamily>) {
    let last = reloads.history();
    let gauges = [
        (
            "sluice_config_reload_success",
            "Whether the configuration file, as it was last read, is in force (1) or was refused (0).",
            f64::from(u8::from(last.is_good)),
        ),
        (
            "sluice_config_reload_timestamp_seconds",
            "When the configuration in force was read.",
            last.applied_at.as_secs_f64(),
        ),
        (
            "sluice_config_restart_pending",
            "Keys of the configuration file that differ from what runs and take a restart.",
            last.pending as f64,
        ),
    ];
    families
        .extend(gauges.into_iter().filter_map(|(name, help, value)| plain(Family::gauge(name, help), value)));
    let mut total = Family::counter("sluice_config_reloads_total", "Readings of the configuration file.");
    total.sample(&[("result", "applied")], last.applied as f64);
    total.sample(&[("result", "rejected")], last.rejected as f64);
    families.extend(total.finish());
}

pub(super) fn plain(mut family: Family, value: f64) -> Option<MetricFamily> {
    family.sample(&[], value);
    family.finish()
}

fn rejects(table: &RoutingTable) -> Family {
    let mut rejects =
        Family::gauge("sluice_config_rejects", "Files and registry keys that are not in force, by app.");
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for rejection in table.snapshot.rejections.values() {
        *counts.entry(rejection.app.as_ref().map_or("", |app| app.as_str())).or_default() += 1;
    }
    for app in table.apps.values() {
        let unread = app.filters.as_ref().map_or(0, |filters| filters.problems().len());
        let count = u32::from(app.rejection.is_some()) + unread as u32;
        if count > 0 {
            *counts.entry(app.id.as_str()).or_default() += count;
        }
    }
    // So that an alert has a series to compare with before the first reject.
    counts.entry("").or_default();
    counts.into_iter().for_each(|(app, count)| rejects.sample(&[("app", app)], f64::from(count)));
    rejects
}

/// Per service: what its workers counted, where they counted anything.
fn services(shared: &Shared, table: &RoutingTable, families: &mut Vec<MetricFamily>) {
    let (unrouted, is_zoned) = (&shared.unrouted, shared.is_zoned);
    let mut requests = Family::counter(
        "sluice_requests_total",
        "Requests by outcome; reason is empty where an endpoint answered.",
    );
    type Counted = (&'static str, &'static str, fn(&ServiceCells) -> u64);
    const COUNTERS: [Counted; 6] = [
        ("sluice_received_bytes_total", "Bytes received from clients.", |cells| cells.received_bytes.value()),
        ("sluice_sent_bytes_total", "Bytes sent to clients.", |cells| cells.sent_bytes.value()),
        ("sluice_upstream_connects_total", "Connections opened to endpoints.", |cells| {
            cells.connects.value()
        }),
        ("sluice_upstream_connect_failures_total", "Connections that an endpoint did not accept.", |cells| {
            cells.connect_failures.value()
        }),
        ("sluice_upstream_reuses_total", "Requests sent on a kept connection.", |cells| cells.reuses.value()),
        (
            "sluice_retry_budget_exhausted_total",
            "Attempts that were not followed by another one, or not hedged, because the budget was used up.",
            |cells| cells.retries_over_budget.value(),
        ),
    ];
    type Timed = (&'static str, &'static str, fn(&ServiceCells) -> &Histogram);
    const HISTOGRAMS: [Timed; 3] = [
        ("sluice_request_seconds", "From the request's head to the response's last byte.", |cells| {
            &cells.request_seconds
        }),
        ("sluice_upstream_seconds", "From the last attempt's start to the response's head.", |cells| {
            &cells.upstream_seconds
        }),
        ("sluice_added_seconds", "What the gateway itself took before it asked the endpoint.", |cells| {
            &cells.added_seconds
        }),
    ];
    let mut retries = Family::counter(
        "sluice_retries_total",
        "Attempts that were followed by another one, by what failed.",
    );
    let mut hedges =
        Family::counter("sluice_hedges_total", "Requests sent to a second endpoint, by what came of it.");
    let mut zones = Family::counter(
        "sluice_zone_requests_total",
        "Requests and connections sent to endpoints, by whether those are in the gateway's zone.",
    );
    let mut counters = COUNTERS.map(|(name, help, _)| Family::counter(name, help));
    let mut histograms = HISTOGRAMS.map(|(name, help, _)| Family::histogram(name, help));
    let of_apps = table.apps.values().flat_map(|app| app.services.iter().chain([&app.metrics]));
    for service in std::iter::once(unrouted).chain(of_apps).filter(|service| service.used().next().is_some())
    {
        let labels =
            [("app", service.app().as_str()), ("version", service.version().map_or("", |v| v.as_str()))];
        let mut totals = RequestTotals::default();
        service.used().for_each(|cells| cells.add_requests(&mut totals));
        for (method, status, reason, count) in totals.iter() {
            let outcome = [labels[0], labels[1], ("method", method), ("status", status), ("reason", reason)];
            requests.sample(&outcome, count as f64);
        }
        for (family, (.., value)) in counters.iter_mut().zip(COUNTERS) {
            family.sample(&labels, service.used().map(value).sum::<u64>() as f64);
        }
        for cause in RetryCause::ALL {
            let count: u64 = service.used().map(|cells| cells.retries[cause as usize].value()).sum();
            if count > 0 {
                retries.sample(&[labels[0], labels[1], ("reason", cause.as_str())], count as f64);
            }
        }
        for result in HedgeResult::ALL {
            let count: u64 = service.used().map(|cells| cells.hedges[result as usize].value()).sum();
            if count > 0 {
                hedges.sample(&[labels[0], labels[1], ("result", result.as_str())], count as f64);
            }
        }
        for nearness in Nearness::ALL.into_iter().filter(|_| is_zoned) {
            let count: u64 = service.used().map(|cells| cells.zones[nearness as usize].value()).sum();
            if count > 0 {
                zones.sample(&[labels[0], labels[1], ("zone", nearness.as_str())], count as f64);
            }
        }
        for (family, (.., histogram)) in histograms.iter_mut().zip(HISTOGRAMS) {
            let mut total = HistogramTotal::default();
            service.used().for_each(|cells| histogram(cells).add_to(&mut total));
            family.distribution(&labels, &total);
        }
    }
    families.extend([requests, retries, hedges, zones].into_iter().filter_map(Family::finish));
    families.extend(counters.into_iter().chain(histograms).filter_map(Family::finish));
}

/// Of apps with `sticky`.
fn sessions(table: &RoutingTable) -> Family {
    let mut requests = Family::counter(
        "sluice_sticky_requests_total",
        "Answered requests of sticky apps, by what became of the endpoint that their cookie names.",
    );
    for app in table.apps.values() {
        let Some(sessions) = &app.sessions else { continue };
        for stay in Stay::ALL {
            let labels = [("app", app.id.as_str()), ("result", stay.as_str())];
            requests.sample(&labels, sessions.live.total(stay) as f64);
        }
    }
    requests
}

fn matches(table: &RoutingTable) -> Family {
    let mut taken =
        Family::counter("sluice_match_requests_total", "Requests that a match of their app took.");
    for app in table.apps.values() {
        for entry in app.matches.iter().flat_map(|matches| matches.iter()) {
            let labels = [("app", app.id.as_str()), ("match", entry.name())];
            taken.sample(&labels, entry.live.taken() as f64);
        }
    }
    taken
}

/// Of all that carry any or could: a tunnel outlives its app, and an app of the same name may have come since.
fn tunnels(table: &RoutingTable, retired: &[Arc<ServiceMetrics>]) -> Family {
    let mut family =
        Family::gauge("sluice_tunnels_open", "Connections that carry bytes to an endpoint, both ways.");
    let routed = table.apps.values().flat_map(|app| &app.services);
    let mut open: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for service in routed.chain(retired).filter(|service| service.used().next().is_some()) {
        let labels = (service.app().as_str(), service.version().map_or("", |version| version.as_str()));
        let tunnels: i64 = service.used().map(|cells| cells.tunnels_open.value()).sum();
        *open.entry(labels).or_default() += tunnels;
    }
    for ((app, version), count) in open {
        family.sample(&[("app", app), ("version", version)], count as f64);
    }
    family
}

fn endpoints(table: &RoutingTable, families: &mut Vec<MetricFamily>) {
    let mut endpoints = Family::gauge(
        "sluice_endpoints",
        "Endpoints by state; unknown ones take traffic until a probe fails.",
    );
    for app in table.apps.values() {
        let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
        for endpoint in &app.endpoints {
            let state = endpoint.state();
            *counts.entry((endpoint.key.version.as_str(), state)).or_default() += 1;
        }
        for ((version, state), count) in counts {
            let labels = [("app", app.id.as_str()), ("version", version), ("state", state)];
            endpoints.sample(&labels, f64::from(count));
        }
    }
    families.extend(endpoints.finish());
}

/// Of apps and tenants that are limited: the others are not counted.
fn in_flight(table: &RoutingTable, tenants: &Tenants, families: &mut Vec<MetricFamily>) {
    let mut requests = Family::gauge("sluice_in_flight", "Requests under way, of apps with limits.");
    let mut waiting = Family::gauge("sluice_queued", "Requests that wait for room at an endpoint.");
    let mut of_tenants =
        Family::gauge("sluice_tenant_in_flight", "Requests under way or waiting, of tenants with limits.");
    for app in table.apps.values() {
        if let Some(gate) = app.gate.as_ref().filter(|gate| gate.limits.is_some()) {
            let labels = [("app", app.id.as_str())];
            requests.sample(&labels, f64::from(gate.entrance.in_flight.used()));
            waiting.sample(&labels, f64::from(gate.entrance.waiting.used()));
        }
    }
    for tenant in tenants.present() {
        of_tenants.sample(&[("tenant", &tenant.name)], f64::from(tenant.in_flight.used()));
    }
    families.extend([requests, waiting, of_tenants].into_iter().filter_map(Family::finish));
}

/// Of apps that have a threshold.
fn panics(table: &RoutingTable) -> Family {
    let mut panics = Family::gauge(
        "sluice_panic",
        "Whether all endpoints of the app are used (1) because too few are healthy, or only the healthy ones (0).",
    );
    for app in table.apps.values().filter(|app| app.panic_threshold() > 0) {
        panics.sample(&[("app", app.id.as_str())], f64::from(u8::from(app.stage() == Stage::Panic)));
    }
    panics
}

/// Where there were any.
fn ejections(table: &RoutingTable, families: &mut Vec<MetricFamily>) {
    let mut ejections =
        Family::counter("sluice_ejections_total", "Endpoints ejected for how they served, by reason.");
    for app in table.apps.values() {
        for (cause, count) in app.live.ejections().filter(|(_, count)| *count > 0) {
            ejections.sample(&[("app", app.id.as_str()), ("reason", cause.as_str())], count as f64);
        }
    }
    families.extend(ejections.finish());
}

fn ports(board: &Board) -> Family {
    let mut family =
        Family::gauge("sluice_app_ports", "Ports of their own that apps ask for, by whether they have them.");
    let board = board.load();
    let refused = board.iter().filter(|asked| asked.refusal.is_some()).count();
    family.sample(&[("state", "open")], (board.len() - refused) as f64);
    family.sample(&[("state", "refused")], refused as f64);
    family
}
