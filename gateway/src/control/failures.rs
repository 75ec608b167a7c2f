//! Endpoints that are to be started anew or stopped because they fail their probes: told to whoever runs instances.
//!
//! The gateway does neither itself. It says so as often as an endpoint has failed `fall` probes in a row, so whoever
//! was not there to hear it, or fell behind, hears it again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;

use healthcheck::{HealthReport, OnFailing, ProbeTarget};
use tokio::sync::broadcast;
use topology::{AdminState, AppId, InstanceKey, OnFailure};

use crate::worker::Shared;

/// What one who falls behind may still hear: as many endpoints of a host that died, at a few hundred bytes each.
const KEPT: usize = 1024;

/// An endpoint that has failed `fall` probes in a row, or a multiple of it.
#[derive(Debug, Clone)]
pub struct Failure {
    pub app: AppId,
    pub key: InstanceKey,
    pub address: SocketAddr,
    /// [`OnFailure::Restart`] or [`OnFailure::Stop`].
    pub action: OnFailure,
    /// Probes in a row.
    pub failures: u32,
    pub at: SystemTime,
    /// The last probe's error and its causes; at most [`healthcheck::ProbeError::MAX_TEXT_BYTES`] long.
    pub why: Arc<str>,
}

/// Where failures are told.
#[derive(Debug)]
pub struct Failures {
    sender: broadcast::Sender<Failure>,
    heard: [AtomicU64; Self::ACTIONS.len()],
    unheard: [AtomicU64; Self::ACTIONS.len()],
}

impl Default for Failures {
    fn default() -> Self {
        Self { sender: broadcast::channel(KEPT).0, heard: Default::default(), unheard: Default::default() }
    }
}

impl Failures {
    const ACTIONS: [OnFailure; 2] = [OnFailure::Restart, OnFailure::Stop];

    /// Every failure from now on. One who falls behind by 1,024 loses the oldest and is told how many.
    pub fn subscribe(&self) -> broadcast::Receiver<Failure> {
        self.sender.subscribe()
    }

    /// How many were told so far, by what was to be done, and whether anybody listened.
    pub fn counts(&self) -> impl Iterator<Item = (OnFailure, bool, u64)> + '_ {
        let of = |counts: &[AtomicU64; Self::ACTIONS.len()], at: usize| counts[at].load(Relaxed);
        (0..).zip(Self::ACTIONS).flat_map(move |(at, action)| {
            [(action, true, of(&self.heard, at)), (action, false, of(&self.unheard, at))]
        })
    }

    fn tell(&self, failure: Failure) {
        let Some(at) = Self::ACTIONS.iter().position(|action| *action == failure.action) else { return };
        let (app, version, instance) =
            (failure.app.clone(), failure.key.version.clone(), failure.key.instance.clone());
        let (action, failures, why) = (failure.action.as_str(), failure.failures, failure.why.clone());
        let is_heard = self.sender.send(failure).is_ok();
        let counts = if is_heard { &self.heard } else { &self.unheard };
        counts[at].fetch_add(1, Relaxed);
        tracing::warn!(
            target: "sluice::health", %app, %version, %instance, action, failures, %why, is_heard,
            "endpoint keeps failing its probes"
        );
    }
}

/// Tells of what probes find, but for endpoints in maintenance: there they decide nothing.
pub fn on_failing(shared: Arc<Shared>, failures: Arc<Failures>) -> OnFailing {
    Arc::new(move |target: &ProbeTarget, report: &HealthReport| {
        let table = shared.table.load();
        let endpoint = table.app(&target.app).and_then(|app| app.endpoint(&target.key));
        // The cell tells whether it is still the same endpoint.
        let endpoint = endpoint.filter(|endpoint| Arc::ptr_eq(&endpoint.live.health, &target.cell));
        if endpoint.is_none_or(|endpoint| endpoint.word.state == AdminState::Maintenance) {
            return;
        }
        failures.tell(Failure {
            app: target.app.clone(),
            key: target.key.clone(),
            address: target.address,
            action: target.settings.on_failure,
            failures: report.consecutive_failures,
            at: SystemTime::now(),
            why: report.last_error.as_ref().map_or_else(|| "".into(), |error| error.text.clone()),
        });
    })
}

#[cfg(test)]
mod tests {
    use topology::{InstanceId, VersionId};

    use super::*;

    fn failure(action: OnFailure, failures: u32) -> Failure {
        Failure {
            app: AppId::parse("shop").unwrap(),
            key: InstanceKey {
                version: VersionId::parse("v1").unwrap(),
                instance: InstanceId::parse("c1").unwrap(),
            },
            address: ([127, 0, 0, 1], 1).into(),
            action,
            failures,
            at: SystemTime::UNIX_EPOCH,
            why: "answered 500".into(),
        }
    }

    #[test]
    fn what_nobody_hears_is_counted_as_such_and_who_listens_hears_the_next() {
        let failures = Failures::default();
        failures.tell(failure(OnFailure::Restart, 3));
        let mut listener = failures.subscribe();
        failures.tell(failure(OnFailure::Restart, 6));
        failures.tell(failure(OnFailure::Stop, 3));
        failures.tell(failure(OnFailure::Eject, 3));
        assert_eq!(listener.try_recv().map(|failure| failure.failures).ok(), Some(6));
        assert_eq!(listener.try_recv().map(|failure| failure.action).ok(), Some(OnFailure::Stop));
        assert!(listener.try_recv().is_err());
        let counts: Vec<_> = failures.counts().collect();
        let (restart, stop) = (OnFailure::Restart, OnFailure::Stop);
        assert_eq!(counts, [(restart, true, 1), (restart, false, 1), (stop, true, 1), (stop, false, 0)]);
    }

    #[test]
    fn one_who_falls_behind_loses_the_oldest_and_nobody_waits_for_him() {
        let failures = Failures::default();
        let mut listener = failures.subscribe();
        (1..=3_000).for_each(|count| failures.tell(failure(OnFailure::Stop, count)));
        assert!(matches!(listener.try_recv(), Err(broadcast::error::TryRecvError::Lagged(1_976))));
        assert_eq!(listener.try_recv().map(|failure| failure.failures).ok(), Some(1_977));
    }
}
