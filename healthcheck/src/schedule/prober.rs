//! The task that probes one endpoint.
//!
//! There are as many as there are endpoints, so what a task holds while it sleeps is kept small: an
//! attempt lives in a box of its own and goes with it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use topology::{OnFailure, ProbeKind, Protocol};
use tracing::debug;

use super::{OnFailing, OnTransition, ProbeTarget};
use crate::cell::{Recorded, Writer};
use crate::probe::http::{HttpProbe, Rest};
use crate::probe::{Deadline, Outcome, Pass, ProbeResult, ProbeStream, Way, grpc, http2, mysql, redis, tcp};
use crate::verdict::Thresholds;
use crate::{ProbeStats, pace};

/// What all probers of a checker share.
pub(super) struct Surroundings {
    pub(super) on_transition: OnTransition,
    pub(super) on_failing: OnceLock<OnFailing>,
    pub(super) stats: Arc<ProbeStats>,
    /// A bit for every bucket of shared targets of which a probe has found something new.
    pub(super) changed: AtomicU64,
    /// A permit for every probe under way.
    pub(super) attempts: Semaphore,
    /// A permit for every connection kept between probes.
    pub(super) connections: Arc<Semaphore>,
}

pub(super) struct Prober {
    target: Arc<ProbeTarget>,
    writer: Writer,
    surroundings: Arc<Surroundings>,
    /// The bit of its bucket; 0: it is not shared.
    bucket: u64,
    random: fastrand::Rng,
}

struct Kept {
    stream: ProbeStream,
    _permit: OwnedSemaphorePermit,
}

impl Prober {
    pub(super) fn new(
        target: Arc<ProbeTarget>,
        writer: Writer,
        surroundings: Arc<Surroundings>,
        bucket: u64,
        random: fastrand::Rng,
    ) -> Self {
        Self { target, writer, surroundings, bucket, random }
    }

    /// Probes from `first` on, until it is aborted or `cancel`: an attempt under way is dropped with its connection.
    pub(super) async fn run(mut self, first: Instant, cancel: CancellationToken) {
        let mut start = first;
        let mut kept = None;
        while cancel.run_until_cancelled(sleep_until(start)).await.is_some() {
            // Before the attempt has its room: who waits for its turn is as small as who sleeps.
            let turn = self.surroundings.attempts.acquire();
            let Some(Ok(place)) = cancel.run_until_cancelled(turn).await else { return };
            // Counted from when this probe really starts: after a stall there is nothing to catch up.
            start = Instant::now();
            let attempt = Box::pin(self.probe(start, kept));
            let Some(connection) = cancel.run_until_cancelled(attempt).await else { return };
            kept = connection;
            drop(place);
            let interval = pace::interval(&self.target.settings, self.target.cell.is_up());
            start += pace::jittered(interval, &mut self.random);
        }
    }

    async fn probe(&self, start: Instant, kept: Option<Box<Kept>>) -> Option<Box<Kept>> {
        let deadline = Deadline::after(start, pace::timeout(&self.target.settings));
        let (outcome, rest) = self.attempt(deadline, kept.map(|kept| kept.stream)).await;
        // The rest of a slow body changes nothing: the result counts now.
        self.take(&outcome, start.elapsed());
        let stream = rest?.into_idle().await?;
        let Ok(permit) = self.surroundings.connections.clone().try_acquire_owned() else {
            stream.cut();
            return None;
        };
        Some(Box::new(Kept { stream, _permit: permit }))
    }

    async fn attempt(&self, deadline: Deadline, kept: Option<ProbeStream>) -> (Outcome, Option<Rest>) {
        let ProbeTarget { address, protocol, tls, settings, .. } = &*self.target;
        let way = Way { address: *address, tls: tls.as_ref(), deadline };
        let outcome = match (&settings.kind, protocol) {
            // No answer that every datagram service gives; whoever asks for a probe hears nothing bad.
            (_, Protocol::Udp) => Ok(Pass::Whole),
            (ProbeKind::Native, Protocol::Tcp) | (ProbeKind::Tcp, _) => tcp::probe(way, *protocol).await,
            (ProbeKind::Native | ProbeKind::Http, Protocol::Http2) => {
                http2::probe(way, &settings.path, &settings.http).await
            }
            (ProbeKind::Native | ProbeKind::Http, Protocol::Http1 | Protocol::Tcp) => {
                return HttpProbe { way, path: &settings.path, http: &settings.http }.run(kept).await;
            }
            (ProbeKind::Grpc { service }, _) => grpc::probe(way, service).await,
            (ProbeKind::MySql { user }, _) => mysql::probe(way, user).await,
            (ProbeKind::Redis, _) => redis::probe(way).await,
        };
        (outcome, None)
    }

    fn take(&self, outcome: &Outcome, latency: Duration) {
        let ProbeTarget { app, key, settings, cell, .. } = &*self.target;
        let thresholds = Thresholds::new(settings.rise, settings.fall);
        let recorded = cell.record(self.writer, thresholds, outcome, latency);
        if recorded == Recorded::Stale {
            return;
        }
        self.surroundings.stats.count_probe(ProbeResult::of(outcome));
        if let Err(error) = outcome {
            let (version, instance) = (&key.version, &key.instance);
            debug!(%app, %version, %instance, result = error.result().as_str(), error = error.to_text(), "probe");
        }
        if let Recorded::Changed(transition) = recorded {
            self.surroundings.stats.count_transition(transition.to);
            self.surroundings.changed.fetch_or(self.bucket, Relaxed);
            (self.surroundings.on_transition)(&self.target, transition);
        }
        if outcome.as_ref().is_err_and(|error| error.result().is_conclusive()) {
            self.report_failing();
        }
    }

    /// After `fall` failures in a row, and again after every further `fall`: who was not there to hear it, or could do
    /// nothing then, hears it again.
    fn report_failing(&self) {
        let settings = &self.target.settings;
        let Some(on_failing) =
            self.surroundings.on_failing.get().filter(|_| settings.on_failure != OnFailure::Eject)
        else {
            return;
        };
        let report = self.target.cell.report();
        let failures = report.consecutive_failures;
        if !report.state.is_up() && failures > 0 && failures.is_multiple_of(settings.fall.max(1)) {
            on_failing(&self.target, &report);
        }
    }
}

#[cfg(test)]
mod tests {
    use topology::{AppId, HealthSettings, InstanceId, InstanceKey, VersionId};

    use super::*;
    use crate::HealthCell;
    use crate::cell::Inherit;

    /// Most endpoints are asleep at any time, and there may be tens of thousands.
    #[test]
    fn sleeping_prober_is_small() {
        let cell = Arc::new(HealthCell::new());
        let writer = cell.attach(Inherit::State);
        let target = ProbeTarget {
            app: AppId::parse("shop").unwrap(),
            key: InstanceKey {
                version: VersionId::parse("v1").unwrap(),
                instance: InstanceId::parse("c1").unwrap(),
            },
            address: "127.0.0.1:1".parse().unwrap(),
            protocol: Protocol::Http1,
            tls: None,
            settings: Arc::new(HealthSettings::default()),
            may_be_shared: true,
            cell,
        };
        let surroundings = Arc::new(Surroundings {
            on_transition: Arc::new(|_, _| {}),
            on_failing: OnceLock::new(),
            stats: Arc::default(),
            changed: AtomicU64::new(0),
            attempts: Semaphore::new(1),
            connections: Arc::new(Semaphore::new(1)),
        });
        let prober = Prober::new(Arc::new(target), writer, surroundings, 0, fastrand::Rng::with_seed(1));
        println!("an attempt: {} bytes", std::mem::size_of_val(&prober.probe(Instant::now(), None)));
        let future = prober.run(Instant::now(), CancellationToken::new());
        let size = std::mem::size_of_val(&future);
        println!("a prober's future: {size} bytes, a cell: {} bytes", size_of::<HealthCell>());
        assert!(size <= 512, "{size}");
    }
}
