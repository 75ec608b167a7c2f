//! From a snapshot to the table in force.

use std::sync::Arc;
use std::time::{Duration, Instant};

use healthcheck::sharing::Colleague;
use healthcheck::{Checker, OnTransition, ProbeTarget, ProbeTls, State, Transition};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use topology::{App, HealthSettings, OnFailure, Origin, Protocol, Snapshot};

use super::Applied;
use super::outliers::probed_back_to_life;
use super::panic;
use super::verdicts::{Doubt, Talk};
use crate::config::UNSHARED_KEY;
use crate::listener::tls::TlsRegistry;
use crate::metrics::ServiceMetrics;
use crate::table::compile::Settings;
use crate::table::{CompiledApp, PooledEndpoint, Upstream, compile};
use crate::worker::Shared;

/// Between two looks at who was probed: ten thousand endpoints cost a millisecond.
const FIRST_PROBES_POLL: Duration = Duration::from_millis(20);

/// Between two looks at what colleagues say and at what is to be said to them.
const LOOK: Duration = Duration::from_millis(250);

/// The one writer of the table.
pub struct Applier {
    settings: Settings,
    shared: Arc<Shared>,
    applied: Arc<Applied>,
    checker: Checker,
    tls: Arc<TlsRegistry>,
    default_health: Arc<HealthSettings>,
    /// `None`: everything is probed here.
    talk: Option<Talk>,
}

impl Applier {
    pub fn new(
        settings: Settings,
        shared: Arc<Shared>,
        applied: Arc<Applied>,
        checker: Checker,
        tls: Arc<TlsRegistry>,
    ) -> Self {
        Self { settings, shared, applied, checker, tls, default_health: Arc::default(), talk: None }
    }

    /// Probes from now on what its part is, and has others told of it. To be called before the first snapshot.
    pub fn share_probes(&mut self, me: &str, probers: usize, talk: Talk) {
        self.checker.share(me, probers);
        self.talk = Some(talk);
    }

    /// Puts `snapshot` in force. Requests under way keep the table that they began with.
    pub fn apply(&mut self, snapshot: Snapshot) {
        let began = Instant::now();
        // First, since a host that is routed is to be believed.
        self.tls.follow(&snapshot.certificates);
        let former = self.shared.table.load_full();
        let (table, changes) = compile(&self.settings, &former, snapshot);
        let table = Arc::new(table);
        self.shared.table.store(table.clone());
        let took = began.elapsed();
        self.applied.record(took);
        for (id, compiled) in &changes {
            self.retire(former.app(id), compiled.as_deref());
            if let Some(former) = former.app(id) {
                self.applied.departed.note(former, compiled.as_deref());
            }
            if let Some(why) = compiled.as_ref().and_then(|compiled| compiled.rejection.as_ref()) {
                tracing::warn!(app = %id, %why, "app rejected; its former spec stays where there is one");
            }
            warn_of_sessions(former.app(id), compiled.as_deref());
            match (table.snapshot.apps.get(id), &compiled) {
                (Some(app), Some(compiled)) => self.checker.reconcile(id, self.targets(app, compiled)),
                _ => self.checker.remove(id),
            }
            // Starting and ending probes can change a state without a transition.
            if let Some(compiled) = compiled {
                panic::look(&self.shared, &compiled.id);
                compiled.live.health_changed();
            }
        }
        tracing::info!(
            revision = table.snapshot.revision.0,
            registry_revision = table.snapshot.registry_revision,
            apps = table.apps.len(),
            changed = changes.len(),
            micros = took.as_micros() as u64,
            "table in force"
        );
    }

    /// Versions that went may still carry tunnels.
    fn retire(&self, former: Option<&Arc<CompiledApp>>, now: Option<&CompiledApp>) {
        let Some(former) = former else { return };
        let stays = |old: &&Arc<ServiceMetrics>| {
            now.is_some_and(|now| now.services.iter().any(|new| Arc::ptr_eq(new, old)))
        };
        self.applied.retired.add(former.services.iter().filter(|old| !stays(old)));
    }

    /// Waits until every endpoint that is probed has been probed once, for `most` at the longest.
    pub async fn await_first_probes(&self, most: Duration) {
        let began = Instant::now();
        while self.checker.awaiting_first_probe() > 0 {
            if began.elapsed() >= most {
                let endpoints = self.checker.awaiting_first_probe();
                tracing::warn!(endpoints, "serving before every endpoint was probed once");
                break;
            }
            tokio::time::sleep(FIRST_PROBES_POLL).await;
        }
    }

    /// Applies every further snapshot until `cancel`; then stops the probers.
    pub async fn run(mut self, mut snapshots: watch::Receiver<Snapshot>, cancel: CancellationToken) {
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_sharing = self.talk.is_some();
            tokio::select! {
                biased;
                () = cancel.cancelled() => break,
                changed = snapshots.changed() => {
                    if changed.is_err() {
                        break;
                    }
                    let snapshot = snapshots.borrow_and_update().clone();
                    self.apply(snapshot);
                }
                news = news(self.talk.as_mut()), if is_sharing => match news {
                    News::Heard(colleagues) => self.checker.hear(colleagues),
                    News::Doubt((app, key)) => self.checker.doubt(&app, &key),
                },
                _ = looks.tick(), if is_sharing => self.look(),
                // A bucket at a time: a change is not to wait for all of them.
                () = tokio::task::yield_now(), if self.checker.is_behind() => self.checker.catch_up(),
            }
        }
        self.checker.stop().await;
    }

    fn look(&mut self) {
        if !self.checker.look() {
            return;
        }
        let verdicts = self.checker.verdicts();
        if let Some(talk) = &self.talk {
            talk.found.send_modify(|(looks, found)| (*looks, *found) = (*looks + 1, verdicts));
        }
    }

    /// Who is probed: everybody where the app has health settings, and otherwise those who registered
    /// themselves, since the platform's containers promise to answer. Datagram services promise nothing.
    fn targets(&self, app: &App, compiled: &CompiledApp) -> Vec<ProbeTarget> {
        if !compiled.spec.probing || matches!(compiled.upstream, Upstream::Unknown) {
            return Vec::new();
        }
        // Not the written one where that is rejected.
        let spec = &compiled.spec;
        let tls = compiled.upstream.tls().map(|tls| tls.clone() as Arc<dyn ProbeTls>);
        let written = spec.health.clone();
        let settings_for = |origin| match (&written, origin) {
            (Some(settings), _) => Some(settings.clone()),
            (None, Origin::Registry) => Some(self.default_health.clone()),
            (None, Origin::File) => None,
        };
        // Both lists are in the order of the keys.
        let pairs = app.endpoints.iter().zip(&compiled.endpoints);
        let target = |(endpoint, pooled): (&topology::Endpoint, &Arc<PooledEndpoint>)| {
            if endpoint.protocol == Protocol::Udp {
                return None;
            }
            let settings = settings_for(endpoint.origin)?;
            // Others know what stands in the registry. Whoever starts instances anew listens to its own gateway.
            let may_be_shared =
                endpoint.origin == Origin::Registry && settings.on_failure == OnFailure::Eject;
            Some(ProbeTarget {
                app: app.id.clone(),
                key: endpoint.key.clone(),
                address: endpoint.address,
                protocol: endpoint.protocol,
                tls: tls.clone(),
                settings,
                may_be_shared,
                cell: pooled.live.health.clone(),
            })
        };
        pairs.filter_map(target).collect()
    }
}

enum News {
    Heard(Option<Vec<Colleague>>),
    Doubt(Doubt),
}

/// What others say, or what requests have found; never, once nobody listens any more.
async fn news(talk: Option<&mut Talk>) -> News {
    let Some(Talk { heard, doubts, .. }) = talk else { return std::future::pending().await };
    tokio::select! {
        Ok(()) = heard.changed() => News::Heard(heard.borrow_and_update().clone()),
        Some(doubt) = doubts.recv() => News::Doubt(doubt),
        else => std::future::pending().await,
    }
}

/// Once, when an app becomes sticky.
fn warn_of_sessions(former: Option<&Arc<CompiledApp>>, now: Option<&CompiledApp>) {
    let is_new = former.is_none_or(|former| former.sessions.is_none());
    if let Some(app) = now.filter(|_| is_new)
        && app.sessions.as_ref().is_some_and(|sessions| !sessions.are_shared())
    {
        tracing::warn!(app = %app.id, "sticky: {UNSHARED_KEY}");
    }
}

/// Tells every worker to look at an app's health again.
pub fn on_transition(shared: Arc<Shared>) -> OnTransition {
    Arc::new(move |target: &ProbeTarget, transition: Transition| {
        if let Some(app) = shared.table.load().app(&target.app) {
            // The cell tells whether it is still the same endpoint.
            let is_probed =
                |endpoint: &&Arc<PooledEndpoint>| Arc::ptr_eq(&endpoint.live.health, &target.cell);
            let has_recovered = transition.from == State::Down && transition.to.is_up();
            if let Some(endpoint) = app.endpoint(&target.key).filter(is_probed).filter(|_| has_recovered) {
                probed_back_to_life(app, &endpoint.live);
            }
            panic::look(&shared, &target.app);
            app.live.health_changed();
        }
        let why = target.cell.report().last_error.map(|error| error.text);
        tracing::info!(
            target: "sluice::health",
            app = %target.app,
            version = %target.key.version,
            instance = %target.key.instance,
            address = %target.address,
            from = transition.from.as_str(),
            to = transition.to.as_str(),
            why = why.as_deref().filter(|_| !transition.to.is_up()).unwrap_or(""),
            "endpoint health"
        );
    })
}
