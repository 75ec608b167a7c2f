//! What an engine has seen and done, in numbers. Everything is there from the beginning of the process; what is of an app or a
//! host goes with it.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use topology::{AppId, HostId};

use super::Engine;
use super::operator::AppStatus;
use super::survey::Standing;
use super::world::World;
use crate::lifecycle::HostSight;
use crate::model::{Millis, OperationKind, OperationResult, Phase, Status};

/// In seconds: from a process that starts at once to a pull of a large image.
const PHASE_BOUNDS: [f64; 12] = [0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0];
/// In seconds: a pass is to stay below one.
const PASS_BOUNDS: [f64; 10] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Why an instance that was wanted has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// It did not start.
    Start,
    /// It never passed its probes.
    Probe,
    /// It ended by itself.
    Died,
    /// Policy: its probes failed while it served.
    Unhealthy,
    /// Its host is lost or was removed.
    Host,
}

impl Cause {
    pub fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Probe => "probe",
            Self::Died => "died",
            Self::Unhealthy => "unhealthy",
            Self::Host => "host",
        }
    }
}

/// What a decision comes to, counted when it has been written.
#[derive(Debug, Clone)]
pub(super) enum Count {
    Phase(Phase, Millis),
    Failure(Cause),
    /// Kind, and how it ended.
    Rollout(&'static str, Status),
    Refusals(Vec<&'static str>),
}

#[derive(Debug, Default)]
pub struct Meter(Mutex<Counts>);

#[derive(Debug, Clone, Default)]
pub struct Counts {
    pub apps: BTreeMap<AppId, AppCounts>,
    pub hosts: BTreeMap<HostId, HostCounts>,
    /// Rollouts that have ended, by kind and status.
    pub rollouts: BTreeMap<(&'static str, &'static str), u64>,
    /// How long instances were in the phases that they have left, by phase.
    pub phases: BTreeMap<&'static str, Spread>,
    /// Hosts that would not do for an instance, by the word of the scheduler. Counted when the reason becomes another one.
    pub refusals: BTreeMap<&'static str, u64>,
    pub passes: Spread,
    /// What was asked of this process.
    pub asked: BTreeMap<OperationKind, u64>,
    /// Operations that this process has seen the end of.
    pub ended: BTreeMap<(OperationKind, OperationResult), u64>,
}

/// One app.
#[derive(Debug, Clone, Default)]
pub struct AppCounts {
    pub wanted: u32,
    pub phases: BTreeMap<&'static str, u32>,
    /// Stopped by policy and not replaced.
    pub withheld: u32,
    pub standing: Option<Standing>,
    /// When its rollout that is under way took its last step.
    pub progressed: Option<Millis>,
    pub failures: BTreeMap<Cause, u64>,
}

/// One host.
#[derive(Debug, Clone, Default)]
pub struct HostCounts {
    /// `up`, `unreachable`, `lost`.
    pub state: &'static str,
    pub instances: usize,
    /// In bytes: given out, and there in all.
    pub memory: (u64, u64),
    /// In thousandths of a processor.
    pub cpu: (u32, u32),
}

/// How many were up to each bound, and one more beyond the last.
#[derive(Debug, Clone, Default)]
pub struct Spread {
    pub bounds: &'static [f64],
    pub counts: Vec<u64>,
    pub sum: f64,
}

impl Spread {
    fn add(&mut self, bounds: &'static [f64], value: f64) {
        self.bounds = bounds;
        self.counts.resize(bounds.len() + 1, 0);
        let at = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
        self.counts[at] += 1;
        self.sum += value;
    }
}

impl Meter {
    /// As they are now.
    pub fn read(&self) -> Counts {
        self.counts().clone()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn asked(&self, kind: OperationKind) {
        *self.counts().asked.entry(kind).or_default() += 1;
    }

    pub(super) fn ended(&self, kind: OperationKind, result: OperationResult) {
        *self.counts().ended.entry((kind, result)).or_default() += 1;
    }

    pub(super) fn count(&self, app: &AppId, made: &[Count]) {
        let mut counts = self.counts();
        for each in made {
            match each {
                Count::Phase(phase, lasted) => {
                    let seconds = *lasted as f64 / 1000.0;
                    counts.phases.entry(phase.name()).or_default().add(&PHASE_BOUNDS, seconds);
                }
                Count::Failure(cause) => {
                    let of_app = counts.apps.entry(app.clone()).or_default();
                    *of_app.failures.entry(*cause).or_default() += 1;
                }
                Count::Rollout(kind, status) => {
                    *counts.rollouts.entry((kind, status.name())).or_default() += 1;
                }
                Count::Refusals(codes) => {
                    for code in codes {
                        *counts.refusals.entry(code).or_default() += 1;
                    }
                }
            }
        }
    }
}

impl Engine {
    /// Takes in how everything is, and how long it took to look at it.
    pub(super) fn measure(&self, world: &World, took: Duration, now: Millis) {
        let apps: Vec<_> = world
            .apps
            .iter()
            .filter(|(_, view)| view.deployment.is_some() || !view.records.is_empty())
            .map(|(app, view)| {
                let status = AppStatus::written(view);
                let mut phases = BTreeMap::new();
                for record in view.records.values() {
                    *phases.entry(record.value.phase.name()).or_default() += 1;
                }
                let rollout = status.rollout.as_ref();
                let counts = AppCounts {
                    wanted: status.count(),
                    phases,
                    withheld: rollout.map_or(0, |rollout| rollout.withheld),
                    standing: Some(status.standing()),
                    progressed: rollout
                        .filter(|rollout| rollout.status.is_active() || rollout.undoing())
                        .map(|rollout| rollout.progressed),
                    failures: BTreeMap::new(),
                };
                (app.clone(), counts)
            })
            .collect();
        let hosts = self.measure_hosts(world, now);
        let mut counts = self.parts.meter.counts();
        let mut former = std::mem::take(&mut counts.apps);
        for (app, mut of_app) in apps {
            of_app.failures = former.remove(&app).map(|former| former.failures).unwrap_or_default();
            counts.apps.insert(app, of_app);
        }
        counts.hosts = hosts;
        counts.passes.add(&PASS_BOUNDS, took.as_secs_f64());
    }

    fn measure_hosts(&self, world: &World, now: Millis) -> BTreeMap<HostId, HostCounts> {
        let sightings = self.parts.sightings();
        let count = |(id, host): (&HostId, &crate::model::Host)| {
            let answers = sightings.hosts.get(id).is_some_and(super::sights::HostSighting::is_reachable);
            let state = match self.parts.host_sight(world, &sightings, id, now) {
                HostSight::Lost | HostSight::Gone => "lost",
                HostSight::Up if answers => "up",
                HostSight::Up => "unreachable",
            };
            let (ledger, _) = world.ledger(id);
            let counts = HostCounts {
                state,
                instances: ledger.given.len(),
                memory: (ledger.memory(), host.memory),
                cpu: (ledger.cpu(), host.cpu),
            };
            (id.clone(), counts)
        };
        world.hosts.iter().map(count).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fall_below_the_bound_that_they_reach() {
        let mut spread = Spread::default();
        for value in [0.1, 0.2, 700.0] {
            spread.add(&PHASE_BOUNDS, value);
        }
        assert_eq!((spread.counts[0], spread.counts[1], spread.counts[PHASE_BOUNDS.len()]), (1, 1, 1));
        assert!((spread.sum - 700.3).abs() < 1e-9);
    }
}
