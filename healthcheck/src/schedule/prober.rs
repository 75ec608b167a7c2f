//! The task that probes one endpoint.
//!
//! There are as many as there are endpoints, so what a task holds while it sleeps is kept small: an
//! attempt lives in a box of its own and goes with it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use topology::Protocol;
use tracing::debug;

use super::{OnTransition, ProbeTarget};
use crate::cell::{Recorded, Writer};
use crate::probe::http::{HttpProbe, Rest};
use crate::probe::{Deadline, ProbeError, ProbeResult, ProbeStream, http2, tcp};
use crate::verdict::Thresholds;
use crate::{ProbeStats, pace};

/// What all probers of a checker share.
pub(super) struct Surroundings {
    pub(super) on_transition: OnTransition,
    pub(super) stats: Arc<ProbeStats>,
    /// A permit for every connection kept between probes.
    pub(super) connections: Arc<Semaphore>,
}

pub(super) struct Prober {
    target: ProbeTarget,
    writer: Writer,
    surroundings: Arc<Surroundings>,
    random: fastrand::Rng,
}

struct Kept {
    stream: ProbeStream,
    _permit: OwnedSemaphorePermit,
}

impl Prober {
    pub(super) fn new(
        target: ProbeTarget,
        writer: Writer,
        surroundings: Arc<Surroundings>,
        random: fastrand::Rng,
    ) -> Self {
        Self { target, writer, surroundings, random }
    }

    /// Probes from `first` on, until `cancel`: an attempt under way is dropped with its connection.
    pub(super) async fn run(mut self, first: Instant, cancel: CancellationToken) {
        let mut start = first;
        let mut kept = None;
        while cancel.run_until_cancelled(sleep_until(start)).await.is_some() {
            // Counted from when this probe really starts: after a stall there is nothing to catch up.
            start = Instant::now();
            let attempt = Box::pin(self.probe(start, kept));
            let Some(connection) = cancel.run_until_cancelled(attempt).await else { return };
            kept = connection;
            start += pace::jittered(pace::interval(&self.target.settings), &mut self.random);
        }
    }

    async fn probe(&self, start: Instant, kept: Option<Kept>) -> Option<Kept> {
        let deadline = Deadline::after(start, pace::timeout(&self.target.settings));
        let (outcome, rest) = self.attempt(deadline, kept.map(|kept| kept.stream)).await;
        // The rest of a slow body changes nothing: the result counts now.
        self.take(&outcome, start.elapsed());
        let stream = rest?.into_idle().await?;
        let permit = self.surroundings.connections.clone().try_acquire_owned().ok()?;
        Some(Kept { stream, _permit: permit })
    }

    async fn attempt(
        &self,
        deadline: Deadline,
        kept: Option<ProbeStream>,
    ) -> (Result<(), ProbeError>, Option<Rest>) {
        let ProbeTarget { address, protocol, tls, settings, .. } = &self.target;
        let (address, tls) = (*address, tls.as_ref());
        match protocol {
            // No answer that every datagram service gives; whoever asks for a probe hears nothing bad.
            Protocol::Udp => (Ok(()), None),
            Protocol::Tcp => (tcp::probe(address, tls, deadline).await, None),
            Protocol::Http2 => (http2::probe(address, tls, &settings.path, deadline).await, None),
            Protocol::Http1 => HttpProbe { address, tls, path: &settings.path, deadline }.run(kept).await,
        }
    }

    fn take(&self, outcome: &Result<(), ProbeError>, latency: Duration) {
        let ProbeTarget { app, key, settings, cell, .. } = &self.target;
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
            (self.surroundings.on_transition)(&self.target, transition);
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
            cell,
        };
        let surroundings = Arc::new(Surroundings {
            on_transition: Arc::new(|_, _| {}),
            stats: Arc::default(),
            connections: Arc::new(Semaphore::new(1)),
        });
        let prober = Prober::new(target, writer, surroundings, fastrand::Rng::with_seed(1));
        println!("an attempt: {} bytes", std::mem::size_of_val(&prober.probe(Instant::now(), None)));
        let future = prober.run(Instant::now(), CancellationToken::new());
        let size = std::mem::size_of_val(&future);
        println!("a prober's future: {size} bytes, a cell: {} bytes", size_of::<HealthCell>());
        assert!(size < 1024, "{size}");
    }
}
