//! Who is probed and when.

mod prober;
mod shared;
mod timetable;

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use topology::{AppId, HealthSettings, InstanceKey, Protocol};

use crate::cell::{Inherit, Writer};
use crate::pace::{self, FirstProbes};
use crate::sharing::{EndpointHash, Fingerprint};
use crate::{HealthCell, HealthReport, ProbeStats, ProbeTls, Transition};
use prober::Surroundings;
use shared::{Printer, Shared, Sharing};
use timetable::{Assignment, LineId, Timetable};

/// How many sockets probes may have, over all endpoints.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Probes under way at once. Those that are due beyond it come late.
    pub under_way: usize,
    /// Connections kept open between probes. Beyond them each probe costs a new one, which is most of its CPU.
    pub kept: usize,
}

/// How probing goes, for metrics.
#[derive(Clone)]
pub struct ProbeWatch(Arc<Surroundings>);

/// Where there are sockets to be had. Held by those who are told of what probes find, so it holds nobody.
#[derive(Clone)]
pub struct Relief(Weak<Surroundings>);

impl Relief {
    /// Has all connections closed that are kept between probes, a few at a time: the process has run out of sockets.
    pub fn give_up_kept(&self) {
        if let Some(surroundings) = self.0.upgrade() {
            surroundings.give_up_kept();
        }
    }
}

impl std::fmt::Debug for Relief {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Relief")
    }
}

/// How probing stands at a moment.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// How long the endpoint has been waiting that was to be probed first. More than a moment: not all can be probed when they are due.
    pub lag: Duration,
    /// Probes that wait for an answer.
    pub under_way: usize,
    /// Connections that wait for the next probe.
    pub kept: usize,
}

impl ProbeWatch {
    pub fn stats(&self) -> &ProbeStats {
        &self.0.stats
    }

    pub fn standing(&self) -> Standing {
        let lag = self.0.lag();
        let timetable = self.0.timetable();
        Standing { lag, under_way: timetable.under_way(), kept: timetable.kept() }
    }

    pub fn relief(&self) -> Relief {
        Relief(Arc::downgrade(&self.0))
    }
}

impl std::fmt::Debug for ProbeWatch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_tuple("ProbeWatch").field(&self.standing()).finish()
    }
}

impl Bounds {
    /// What [`Self::under_way`] has to be for no more. Without a bound, endpoints that hang in their tens of thousands take all
    /// sockets that the process may have, and clients find none. It is reached where more than 4,096 a second hang for
    /// the whole default timeout, which takes 20,000 such endpoints.
    pub const MAX_UNDER_WAY: usize = 4096;
    /// Of the connections that are kept, with TLS: each has buffers and keys of several KiB.
    pub const MAX_KEPT_WITH_TLS: usize = 4096;
}

/// Learns of every change of state that a probe found, on the task of that probe: it must not block.
/// Changes that the owner caused itself (a target removed or moved to another address is unknown again)
/// are not told.
pub type OnTransition = Arc<dyn Fn(&ProbeTarget, Transition) + Send + Sync>;

/// Learns of every endpoint whose settings ask for more than ejection ([`topology::OnFailure`]) and that has
/// failed `fall` probes in a row, and again after every further `fall`; on the task of that probe: it must not
/// block.
pub type OnFailing = Arc<dyn Fn(&ProbeTarget, &HealthReport) + Send + Sync>;

/// An endpoint that is to be probed.
#[derive(Debug, Clone)]
pub struct ProbeTarget {
    pub app: AppId,
    pub key: InstanceKey,
    pub address: SocketAddr,
    pub protocol: Protocol,
    /// `None`: in clear text.
    pub tls: Option<Arc<dyn ProbeTls>>,
    pub settings: Arc<HealthSettings>,
    /// Whether other gateways may probe it for this one: they know it by the same names.
    pub may_be_shared: bool,
    pub cell: Arc<HealthCell>,
}

impl ProbeTarget {
    fn has_same_tls(&self, other: &Self) -> bool {
        match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

/// Probes every target that it was last told of. Dropping the checker ends that.
pub struct Checker {
    /// Of each app in the order of their keys.
    apps: HashMap<AppId, Vec<Probing>>,
    surroundings: Arc<Surroundings>,
    first: FirstProbes,
    random: fastrand::Rng,
    /// `None`: everything is probed here.
    sharing: Option<Box<Sharing>>,
    /// One for each probe under way, and the one that begins them.
    tasks: TaskTracker,
    cancel: CancellationToken,
    _cancel_on_drop: DropGuard,
}

struct Probing {
    target: Arc<ProbeTarget>,
    /// Where others may probe it for this gateway.
    shared: Option<(EndpointHash, Fingerprint)>,
    /// Of those: whether it is among the gateways that have to.
    is_mine: bool,
    work: Work,
}

enum Work {
    Own {
        line: LineId,
        since: Instant,
        /// Others that have to probe it see it otherwise, and the log says so.
        is_disputed: bool,
    },
    /// Others probe it.
    Heeded {
        writer: Writer,
        /// Since when nobody says anything.
        unheard: Option<Instant>,
    },
}

impl Checker {
    /// Probes on `runtime`, until `cancel`.
    pub fn new(
        on_transition: OnTransition,
        bounds: Bounds,
        runtime: &Handle,
        cancel: &CancellationToken,
    ) -> Self {
        // The hasher's random keys are the standard library's only source of entropy.
        Self::with_seed(on_transition, bounds, runtime, cancel, RandomState::new().hash_one(0))
    }

    /// With jitter that repeats itself.
    pub fn with_seed(
        on_transition: OnTransition,
        bounds: Bounds,
        runtime: &Handle,
        cancel: &CancellationToken,
        seed: u64,
    ) -> Self {
        let cancel = cancel.child_token();
        let mut random = fastrand::Rng::with_seed(seed);
        let timetable = Timetable::new(bounds);
        let surroundings = Arc::new(Surroundings::new(on_transition, timetable, random.fork()));
        let tasks = TaskTracker::new();
        tasks.spawn_on(prober::run(surroundings.clone(), tasks.clone(), cancel.clone()), runtime);
        Self {
            apps: HashMap::new(),
            surroundings,
            first: FirstProbes::new(Instant::now()),
            random,
            sharing: None,
            tasks,
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
        }
    }

    /// Has `hook` told of what `on_failure` asks for. The first one stays.
    pub fn on_failing(&self, hook: OnFailing) {
        let _ = self.surroundings.on_failing.set(hook);
    }

    /// For whoever tells how probing goes.
    pub fn watch(&self) -> ProbeWatch {
        ProbeWatch(self.surroundings.clone())
    }

    /// Makes `targets` all that is probed of `app`. A target that did not change keeps its turn and its
    /// connection; one with other settings keeps its state; one with another address or protocol starts
    /// as unknown; one that is gone is unknown from now on. Of targets with one key the first counts.
    pub fn reconcile(&mut self, app: &AppId, mut targets: Vec<ProbeTarget>) {
        targets.sort_by(|one, other| one.key.cmp(&other.key));
        targets.dedup_by(|later, first| later.key == first.key);
        let mut before = self.apps.remove(app).unwrap_or_default().into_iter().peekable();
        let mut after = Vec::with_capacity(targets.len());
        let mut printer = Printer::default();
        for target in targets {
            while let Some(gone) = before.next_if(|probing| probing.target.key < target.key) {
                self.stop_probing(&gone);
            }
            let former = before.next_if(|probing| probing.target.key == target.key);
            after.push(match former {
                Some(probing) if probing.serves(&target) => probing,
                former => {
                    let shared = self.enlist(former.as_ref(), &target, &mut printer);
                    match former {
                        Some(probing) => self.replace(&probing, target, shared),
                        None => self.start(Arc::new(target), shared, Inherit::State),
                    }
                }
            });
        }
        before.for_each(|gone| self.stop_probing(&gone));
        if !after.is_empty() {
            self.apps.insert(app.clone(), after);
        }
    }

    /// Targets of which no probe has said anything yet.
    pub fn awaiting_first_probe(&self) -> usize {
        let probing = self.apps.values().flatten();
        probing.filter(|probing| !probing.target.cell.is_probed()).count()
    }

    pub fn remove(&mut self, app: &AppId) {
        self.reconcile(app, Vec::new());
    }

    /// Stops all probing and waits until no task is left. The cells keep their states.
    pub async fn stop(self) {
        self.cancel.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn replace(&mut self, old: &Probing, target: ProbeTarget, shared: Shared) -> Probing {
        self.end(&old.work);
        if !Arc::ptr_eq(&old.target.cell, &target.cell) {
            old.target.cell.detach();
        }
        let same_socket = old.target.address == target.address
            && old.target.protocol == target.protocol
            && old.target.has_same_tls(&target);
        self.start(Arc::new(target), shared, if same_socket { Inherit::State } else { Inherit::Nothing })
    }

    fn start(&mut self, target: Arc<ProbeTarget>, shared: Shared, inherit: Inherit) -> Probing {
        let now = Instant::now();
        let first = now + self.first.delay(now, pace::interval(&target.settings, true), &mut self.random);
        let writer = target.cell.attach(inherit);
        let bucket = shared.map(|(endpoint, _)| endpoint.bucket() as u8);
        let line = self.surroundings.add(Assignment { target: target.clone(), writer, bucket }, first);
        Probing { target, shared, is_mine: false, work: Work::Own { line, since: now, is_disputed: false } }
    }

    fn stop_probing(&mut self, probing: &Probing) {
        self.end(&probing.work);
        probing.target.cell.detach();
        self.dismiss(probing);
    }

    fn end(&self, work: &Work) {
        if let Work::Own { line, .. } = work {
            self.surroundings.remove(*line);
        }
    }
}

impl Probing {
    /// Whether it goes on as it is.
    fn serves(&self, target: &ProbeTarget) -> bool {
        Arc::ptr_eq(&self.target.cell, &target.cell)
            && self.target.address == target.address
            && self.target.protocol == target.protocol
            && self.target.has_same_tls(target)
            && self.target.settings == target.settings
            && self.target.may_be_shared == target.may_be_shared
    }
}

#[cfg(test)]
mod tests;
