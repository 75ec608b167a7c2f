//! Probes that begin when it is their turn.
//!
//! One task waits for the turns of all endpoints. A probe is a task of its own for as long as it is under way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use topology::{OnFailure, ProbeKind, Protocol};
use tracing::debug;

use super::timetable::{Assignment, Begun, LineId, Timetable};
use super::{OnFailing, OnTransition, ProbeTarget};
use crate::cell::Recorded;
use crate::probe::http::{HttpProbe, Rest};
use crate::probe::{Deadline, Idle, Outcome, Pass, ProbeResult, Way, grpc, http2, mysql, redis, tcp};
use crate::verdict::Thresholds;
use crate::{ProbeStats, pace};

/// Probes that are begun before others on the thread have their turn, when many are due at once. A probe needs three turns, and the
/// runtime gives 61 before it comes back here: as many end as begin, however many are due, so that a thread with too much to do
/// has few under way, and none is taken for dead because it was answered late.
const BATCH: usize = 8;
/// Connections that are closed in a turn: a few tens of microseconds.
const CLOSED_AT_ONCE: usize = 16;

/// What all probes of a checker share.
pub(super) struct Surroundings {
    pub(super) on_transition: OnTransition,
    pub(super) on_failing: OnceLock<OnFailing>,
    pub(super) stats: Arc<ProbeStats>,
    /// A bit for every bucket of shared targets of which a probe has found something new.
    pub(super) changed: AtomicU64,
    timetable: Mutex<Timetable>,
    random: Mutex<fastrand::Rng>,
    /// Somebody has found no socket.
    lacks_sockets: AtomicBool,
    /// The timetable has an earlier turn than it had, or room again, or something else is to be done.
    moved: Notify,
}

impl Surroundings {
    pub(super) fn new(on_transition: OnTransition, timetable: Timetable, random: fastrand::Rng) -> Self {
        Self {
            on_transition,
            on_failing: OnceLock::new(),
            stats: Arc::default(),
            changed: AtomicU64::new(0),
            timetable: Mutex::new(timetable),
            random: Mutex::new(random),
            lacks_sockets: AtomicBool::new(false),
            moved: Notify::new(),
        }
    }

    pub(super) fn add(&self, assignment: Assignment, first: Instant) -> LineId {
        let mut timetable = self.timetable();
        let is_earlier = timetable.would_be_first(first);
        let id = timetable.add(assignment, first);
        drop(timetable);
        if is_earlier {
            self.moved.notify_one();
        }
        id
    }

    /// The endpoint is probed no more, as of now.
    pub(super) fn remove(&self, line: LineId) {
        let mut timetable = self.timetable();
        let task = timetable.remove(line);
        let has_discarded = timetable.has_discarded();
        drop(timetable);
        if let Some(task) = task {
            task.abort();
        }
        if has_discarded {
            self.moved.notify_one();
        }
    }

    /// How long the one has been waiting that was to be probed first.
    pub(super) fn lag(&self) -> Duration {
        self.timetable()
            .earliest()
            .map_or(Duration::ZERO, |due| Instant::now().saturating_duration_since(due))
    }

    /// See [`super::Relief`].
    pub(super) fn give_up_kept(&self) {
        self.lacks_sockets.store(true, Ordering::Relaxed);
        self.moved.notify_one();
    }

    pub(super) fn timetable(&self) -> MutexGuard<'_, Timetable> {
        // What is done with it does not panic half way.
        self.timetable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn jittered(&self, interval: Duration) -> Duration {
        pace::jittered(interval, &mut self.random.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Begins every probe of `surroundings` at its time, until `cancel`: then those under way are dropped with their
/// connections.
pub(super) async fn run(surroundings: Arc<Surroundings>, tasks: TaskTracker, cancel: CancellationToken) {
    loop {
        let next = begin(&surroundings, &tasks, &cancel);
        let waiting = async {
            match next {
                // Others have their turn first.
                Some(due) if due <= Instant::now() => tokio::task::yield_now().await,
                Some(due) => tokio::select! {
                    () = sleep_until(due) => {}
                    () = surroundings.moved.notified() => {}
                },
                None => surroundings.moved.notified().await,
            }
        };
        if cancel.run_until_cancelled(waiting).await.is_none() {
            // Whoever still watches keeps no connection open.
            surroundings.timetable().clear();
            return;
        }
    }
}

/// Begins some of the probes that are due and closes some of the connections that nobody wants; returns when there is more to do,
/// if that is known.
fn begin(
    surroundings: &Arc<Surroundings>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Option<Instant> {
    let now = Instant::now();
    let mut begun = Vec::new();
    let discarded = {
        let mut timetable = surroundings.timetable();
        if surroundings.lacks_sockets.swap(false, Ordering::Relaxed) {
            timetable.give_up_kept();
        }
        while begun.len() < BATCH {
            let Some(probe) = timetable.begin(now) else { break };
            begun.push(probe);
        }
        timetable.discarded(CLOSED_AT_ONCE)
    };
    discarded.into_iter().for_each(Idle::cut);
    // Not under the lock: a runtime that ends drops what it is given, and that takes the lock.
    let started: Vec<_> = begun
        .into_iter()
        .map(|Begun { id, assignment, idle }| {
            let probe =
                Probe { surroundings: surroundings.clone(), id, assignment, begun: Instant::now(), idle };
            (id, tasks.spawn(probe.run(cancel.clone())).abort_handle())
        })
        .collect();
    let mut timetable = surroundings.timetable();
    let gone: Vec<_> = started.into_iter().filter_map(|(id, task)| timetable.note_task(id, task)).collect();
    let next = if timetable.has_discarded() { Some(now) } else { timetable.next() };
    drop(timetable);
    gone.iter().for_each(tokio::task::AbortHandle::abort);
    next
}

/// One that is under way. Whatever ends it, a panic in the owner's hook too, the endpoint has its next turn.
struct Probe {
    surroundings: Arc<Surroundings>,
    id: LineId,
    assignment: Assignment,
    /// When it had its first turn. Intervals and its deadline count from here: after a stall there is nothing to catch up, and
    /// nobody is short of time because we were.
    begun: Instant,
    idle: Option<Idle>,
}

impl Drop for Probe {
    fn drop(&mut self) {
        let ProbeTarget { settings, cell, .. } = &*self.assignment.target;
        let due = self.begun + self.surroundings.jittered(pace::interval(settings, cell.is_up()));
        let mut timetable = self.surroundings.timetable();
        let had_room = timetable.has_room();
        let is_earlier = timetable.would_be_first(due);
        let surplus = timetable.end(self.id, due, self.idle.take());
        drop(timetable);
        if let Some(idle) = surplus {
            idle.cut();
        }
        if is_earlier || !had_room {
            self.surroundings.moved.notify_one();
        }
    }
}

impl Probe {
    async fn run(mut self, cancel: CancellationToken) {
        self.begun = Instant::now();
        let idle = self.idle.take();
        let idle = cancel.run_until_cancelled(self.probe(idle)).await;
        self.idle = idle.flatten();
    }

    async fn probe(&self, idle: Option<Idle>) -> Option<Idle> {
        let deadline = Deadline::after(self.begun, pace::timeout(&self.assignment.target.settings));
        let (outcome, rest) = self.attempt(deadline, idle).await;
        // The rest of a slow body changes nothing: the result counts now.
        self.take(&outcome, self.begun.elapsed());
        rest?.into_idle().await?.rest()
    }

    async fn attempt(&self, deadline: Deadline, idle: Option<Idle>) -> (Outcome, Option<Rest>) {
        let ProbeTarget { address, protocol, tls, settings, .. } = &*self.assignment.target;
        let way = Way { address: *address, tls: tls.as_ref(), deadline };
        let outcome = match (&settings.kind, protocol) {
            // No answer that every datagram service gives; whoever asks for a probe hears nothing bad.
            (_, Protocol::Udp) => Ok(Pass::Whole),
            (ProbeKind::Native, Protocol::Tcp) | (ProbeKind::Tcp, _) => tcp::probe(way, *protocol).await,
            // Boxed is what would make room in every probe that few need.
            (ProbeKind::Native | ProbeKind::Http, Protocol::Http2) => {
                Box::pin(http2::probe(way, &settings.path, &settings.http)).await
            }
            (ProbeKind::Native | ProbeKind::Http, Protocol::Http1 | Protocol::Tcp) => {
                return HttpProbe { way, path: &settings.path, http: &settings.http }.run(idle).await;
            }
            (ProbeKind::Grpc { service }, _) => Box::pin(grpc::probe(way, service)).await,
            (ProbeKind::MySql { user }, _) => Box::pin(mysql::probe(way, user)).await,
            (ProbeKind::Redis, _) => Box::pin(redis::probe(way)).await,
        };
        (outcome, None)
    }

    fn take(&self, outcome: &Outcome, latency: Duration) {
        let Assignment { target, writer, bucket } = &self.assignment;
        let ProbeTarget { app, key, settings, cell, .. } = &**target;
        let thresholds = Thresholds::new(settings.rise, settings.fall);
        let recorded = cell.record(*writer, thresholds, outcome, latency);
        if recorded == Recorded::Stale {
            return;
        }
        let result = ProbeResult::of(outcome);
        self.surroundings.stats.count_probe(result);
        if result == ProbeResult::Local {
            self.surroundings.give_up_kept();
        }
        if let Err(error) = outcome {
            let (version, instance) = (&key.version, &key.instance);
            debug!(%app, %version, %instance, result = error.result().as_str(), error = error.to_text(), "probe");
        }
        if let Recorded::Changed(transition) = recorded {
            self.surroundings.stats.count_transition(transition.to);
            if let Some(bucket) = bucket {
                // After the state that it tells of.
                self.surroundings.changed.fetch_or(1 << bucket, Ordering::Release);
            }
            (self.surroundings.on_transition)(target, transition);
        }
        if outcome.as_ref().is_err_and(|error| error.result().is_conclusive()) {
            self.report_failing();
        }
    }

    /// After `fall` failures in a row, and again after every further `fall`: who was not there to hear it, or could do
    /// nothing then, hears it again.
    fn report_failing(&self) {
        let target = &self.assignment.target;
        let settings = &target.settings;
        let Some(on_failing) =
            self.surroundings.on_failing.get().filter(|_| settings.on_failure != OnFailure::Eject)
        else {
            return;
        };
        let report = target.cell.report();
        let failures = report.consecutive_failures;
        if !report.state.is_up() && failures > 0 && failures.is_multiple_of(settings.fall.max(1)) {
            on_failing(target, &report);
        }
    }
}
