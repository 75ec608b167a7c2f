//! Who is ejected, and who returns. One judge for all workers: the share of endpoints that may be out
//! holds exactly, and an ejection is counted and logged once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use healthcheck::outlier::{Cause, may_eject};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use topology::{AppId, Outliers};

use super::comparisons::Comparisons;
use super::panic;
use super::verdicts::Doubt;
use crate::table::live::EndpointLive;
use crate::table::{CompiledApp, PooledEndpoint, RoutingTable};
use crate::worker::{Shared, Suspicion};

/// How late a return or a comparison may be. A look at nothing costs nothing that can be measured.
const LOOK: Duration = Duration::from_millis(100);
struct Ejected {
    app: AppId,
    endpoint: Arc<PooledEndpoint>,
}

pub struct Judge {
    shared: Arc<Shared>,
    reports: mpsc::Receiver<Suspicion>,
    comparisons: Comparisons,
    ejected: Vec<Ejected>,
    /// Who probes whom others say to be up; `None`: nobody's probes are shared.
    doubts: Option<mpsc::Sender<Doubt>>,
}

impl Judge {
    pub fn new(
        shared: Arc<Shared>,
        reports: mpsc::Receiver<Suspicion>,
        doubts: Option<mpsc::Sender<Doubt>>,
    ) -> Self {
        Self { shared, reports, comparisons: Comparisons::default(), ejected: Vec::new(), doubts }
    }

    pub async fn run(mut self, cancel: CancellationToken) {
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(suspicion) = self.reports.recv() => self.hear(&suspicion, Instant::now()),
                _ = look.tick() => self.look(Instant::now()),
            }
        }
    }

    fn hear(&mut self, suspicion: &Suspicion, now: Instant) {
        let table = self.shared.table.load_full();
        let Some((app, endpoint)) = present(&table, &suspicion.endpoint) else { return };
        let settings = app.spec.outliers();
        let last =
            suspicion.last.map_or(String::new(), |reason| format!(", the last with {}", reason.as_str()));
        let why = match suspicion.cause {
            Cause::GatewayErrors => format!("{} gateway errors in a row", settings.gateway_errors),
            _ => format!("{} requests in a row without an answer{last}", settings.failures),
        };
        self.eject(&app, &endpoint, suspicion.cause, &why, &settings, now);
    }

    fn look(&mut self, now: Instant) {
        let table = self.shared.table.load_full();
        self.bring_back(&table, now);
        for found in self.comparisons.look(&table, now) {
            let settings = found.app.spec.outliers();
            self.eject(&found.app, &found.endpoint, found.cause, &found.why, &settings, now);
        }
    }

    fn eject(
        &mut self,
        app: &CompiledApp,
        endpoint: &Arc<PooledEndpoint>,
        cause: Cause,
        why: &str,
        settings: &Outliers,
        now: Instant,
    ) {
        let live = &endpoint.live;
        if !endpoint.is_available() {
            return;
        }
        if !has_company(app, live, settings) {
            tracing::debug!(target: "sluice::health", app = %app.id, instance = %endpoint.key.instance, why,
                "not ejected: as many endpoints are out as may be");
            return;
        }
        let Some(lasts) = live.ejection.eject(now, cause, why, settings) else { return };
        app.live.count_ejection(cause);
        panic::look(&self.shared, &app.id);
        app.live.health_changed();
        tracing::warn!(
            target: "sluice::health",
            app = %app.id,
            version = %endpoint.key.version,
            instance = %endpoint.key.instance,
            address = %endpoint.address,
            cause = cause.as_str(),
            why,
            seconds = lasts.as_secs_f64(),
            "endpoint ejected"
        );
        if let Some(doubts) = &self.doubts {
            // No room: so many are probed by now that one more makes no difference.
            let _ = doubts.try_send((app.id.clone(), endpoint.key.clone()));
        }
        self.ejected.push(Ejected { app: app.id.clone(), endpoint: endpoint.clone() });
    }

    /// Those whose time is over, and those that something else has brought back.
    fn bring_back(&mut self, table: &RoutingTable, now: Instant) {
        self.ejected.retain(|Ejected { app, endpoint }| {
            if !endpoint.live.ejection.is_out() {
                return false;
            }
            if !endpoint.live.ejection.end_if_due(now) {
                return true;
            }
            let app = table.app(app);
            let settings = app.map_or_else(Outliers::default, |app| app.spec.outliers());
            endpoint.live.streak.put_on_probation(&settings);
            endpoint.live.returned();
            if let Some(app) = app {
                panic::look(&self.shared, &app.id);
                app.live.health_changed();
            }
            tracing::info!(
                target: "sluice::health",
                app = %endpoint.metrics.app(),
                version = %endpoint.key.version,
                instance = %endpoint.key.instance,
                address = %endpoint.address,
                "ejected endpoint returns"
            );
            false
        });
    }
}

/// The endpoint as the table in force has it, and its app; `None` where it is another one by now.
fn present(
    table: &RoutingTable,
    endpoint: &PooledEndpoint,
) -> Option<(Arc<CompiledApp>, Arc<PooledEndpoint>)> {
    let app = table.app(endpoint.metrics.app())?;
    let now = app.endpoint(&endpoint.key)?;
    Arc::ptr_eq(&now.live, &endpoint.live).then(|| (app.clone(), now.clone()))
}

/// Whether enough of those that stand for the endpoint stay.
fn has_company(app: &CompiledApp, endpoint: &EndpointLive, settings: &Outliers) -> bool {
    let Some(pool) = app.pool_of(endpoint.id) else { return false };
    // Whom an operator has withdrawn stands in for nobody.
    let serving = || pool.endpoints.iter().filter(|other| other.weight > 0 && other.word.state.admits());
    let out = serving().filter(|other| !other.is_available()).count();
    may_eject(serving().count(), out, settings.max_ejected_percent)
}

/// Probes have seen an endpoint die and live again: what requests met was its former life.
pub fn probed_back_to_life(app: &CompiledApp, live: &EndpointLive) {
    live.streak.clear();
    live.returned();
    if live.ejection.end(Instant::now()) {
        tracing::info!(target: "sluice::health", app = %app.id, "its probes end an endpoint's ejection");
    }
}
