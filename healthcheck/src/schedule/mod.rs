//! Who is probed and when: one small task per endpoint.

mod prober;
mod shared;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use topology::{AppId, HealthSettings, InstanceKey, Protocol};

use crate::cell::{Inherit, Writer};
use crate::pace::{self, FirstProbes};
use crate::sharing::{EndpointHash, Fingerprint};
use crate::{HealthCell, HealthReport, ProbeStats, ProbeTls, Transition};
use prober::{Prober, Surroundings};
use shared::{Printer, Shared, Sharing};

/// Connections kept open between probes, over all endpoints. Beyond them each probe connects anew,
/// which costs CPU where an open socket costs a file descriptor that traffic may need.
const MAX_KEPT_CONNECTIONS: usize = 4096;

/// Probes under way at once, over all endpoints. Each has a socket: without a bound, endpoints that hang in their tens of
/// thousands take all that the process may have, and clients find none. It is reached where more than 4,096 a second hang for
/// the whole default timeout, which takes 20,000 such endpoints; then probes come late.
const MAX_ATTEMPTS: usize = 4096;

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

/// Keeps one probing task for every target that it was last told of.
///
/// The methods that start tasks must be called within a tokio runtime, and the tasks run there.
/// Dropping the checker stops them all.
pub struct Checker {
    apps: HashMap<AppId, HashMap<InstanceKey, Probing>>,
    surroundings: Arc<Surroundings>,
    first: FirstProbes,
    random: fastrand::Rng,
    /// `None`: everything is probed here.
    sharing: Option<Box<Sharing>>,
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
        task: JoinHandle<()>,
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
    /// Ends with `cancel`.
    pub fn new(on_transition: OnTransition, cancel: &CancellationToken) -> Self {
        // The hasher's random keys are the standard library's only source of entropy.
        Self::with_seed(on_transition, cancel, RandomState::new().hash_one(0))
    }

    /// With jitter that repeats itself.
    pub fn with_seed(on_transition: OnTransition, cancel: &CancellationToken, seed: u64) -> Self {
        let cancel = cancel.child_token();
        let surroundings = Surroundings {
            on_transition,
            on_failing: OnceLock::new(),
            stats: Arc::default(),
            changed: AtomicU64::new(0),
            attempts: Semaphore::new(MAX_ATTEMPTS),
            connections: Arc::new(Semaphore::new(MAX_KEPT_CONNECTIONS)),
        };
        Self {
            apps: HashMap::new(),
            surroundings: Arc::new(surroundings),
            first: FirstProbes::new(Instant::now()),
            random: fastrand::Rng::with_seed(seed),
            sharing: None,
            tasks: TaskTracker::new(),
            _cancel_on_drop: cancel.clone().drop_guard(),
            cancel,
        }
    }

    /// Has `hook` told of what `on_failure` asks for. The first one stays.
    pub fn on_failing(&self, hook: OnFailing) {
        let _ = self.surroundings.on_failing.set(hook);
    }

    pub fn stats(&self) -> Arc<ProbeStats> {
        self.surroundings.stats.clone()
    }

    /// Makes `targets` all that is probed of `app`. A target that did not change keeps its task and its
    /// connection; one with other settings keeps its state; one with another address or protocol starts
    /// as unknown; one that is gone is unknown from now on. Of targets with one key the first counts.
    pub fn reconcile(&mut self, app: &AppId, targets: Vec<ProbeTarget>) {
        let mut before = self.apps.remove(app).unwrap_or_default();
        let mut after = HashMap::with_capacity(targets.len());
        let mut printer = Printer::default();
        for target in targets {
            if let Entry::Vacant(vacant) = after.entry(target.key.clone()) {
                let probing = match before.remove(&target.key) {
                    Some(probing) if probing.serves(&target) => probing,
                    former => {
                        let shared = self.enlist(former.as_ref(), &target, &mut printer);
                        match former {
                            Some(probing) => self.replace(&probing, target, shared),
                            None => self.start(Arc::new(target), shared, Inherit::State),
                        }
                    }
                };
                vacant.insert(probing);
            }
        }
        for probing in before.values() {
            probing.stop();
            self.dismiss(probing);
        }
        if !after.is_empty() {
            self.apps.insert(app.clone(), after);
        }
    }

    /// Targets of which no probe has said anything yet.
    pub fn awaiting_first_probe(&self) -> usize {
        let probing = self.apps.values().flat_map(HashMap::values);
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
        old.work.end();
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
        let bucket = shared.map_or(0, |(endpoint, _)| 1 << endpoint.bucket());
        let random = self.random.fork();
        let prober = Prober::new(target.clone(), writer, self.surroundings.clone(), bucket, random);
        let task = self.tasks.spawn(prober.run(first, self.cancel.clone()));
        Probing { target, shared, is_mine: false, work: Work::Own { task, since: now, is_disputed: false } }
    }
}

impl Probing {
    /// Whether the task goes on as it is. One that has ended did so by a panic in the owner's hook.
    fn serves(&self, target: &ProbeTarget) -> bool {
        Arc::ptr_eq(&self.target.cell, &target.cell)
            && self.target.address == target.address
            && self.target.protocol == target.protocol
            && self.target.has_same_tls(target)
            && self.target.settings == target.settings
            && self.target.may_be_shared == target.may_be_shared
            && !self.work.has_ended()
    }

    fn stop(&self) {
        self.work.end();
        self.target.cell.detach();
    }
}

impl Work {
    fn end(&self) {
        if let Self::Own { task, .. } = self {
            task.abort();
        }
    }

    fn has_ended(&self) -> bool {
        matches!(self, Self::Own { task, .. } if task.is_finished())
    }
}

#[cfg(test)]
mod tests;
