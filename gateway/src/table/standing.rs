//! Which endpoints may be picked, and why the others may not: what requests go by, and what is shown of it.

use std::sync::Arc;
use std::time::SystemTime;

use topology::AdminState;

use super::app::{CompiledApp, Pool, PooledEndpoint};

/// Why an endpoint takes nothing, the weightiest reason first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Out {
    /// By an operator's word.
    Withdrawn(AdminState),
    /// By what its last probes found.
    Down { error: Option<String> },
    /// By what requests met there.
    Ejected { until: SystemTime, why: String },
    /// Its weight is 0, as it was registered or by an operator's word.
    Weightless { by_operator: bool },
}

impl PooledEndpoint {
    /// Whether requests may go there, whatever its weight.
    #[inline]
    pub fn is_available(&self) -> bool {
        self.word.state.admits() && self.live.is_available()
    }

    /// The word in reports and metric labels. Probes decide nothing in maintenance, so that comes first; what is
    /// drained and down is down.
    pub fn state(&self) -> &'static str {
        match self.word.state {
            AdminState::Maintenance => AdminState::Maintenance.as_str(),
            AdminState::Drain if self.live.health.is_up() => AdminState::Drain.as_str(),
            AdminState::Drain | AdminState::Ready => self.live.state(),
        }
    }

    /// Whether it would take requests but for an operator's word.
    pub fn is_withdrawn(&self) -> bool {
        match self.word.state {
            AdminState::Maintenance => true,
            AdminState::Drain => self.live.health.is_up(),
            AdminState::Ready => self.word.weight == Some(0) && self.live.health.is_up(),
        }
    }

    /// Why it takes nothing; `None` while it may.
    pub fn out(&self) -> Option<Out> {
        let report = self.live.health.report();
        let down = || Out::Down { error: report.last_error.as_ref().map(|error| error.text.to_string()) };
        match self.word.state {
            AdminState::Maintenance => return Some(Out::Withdrawn(AdminState::Maintenance)),
            AdminState::Drain if report.state.is_up() => return Some(Out::Withdrawn(AdminState::Drain)),
            AdminState::Drain => return Some(down()),
            AdminState::Ready if !report.state.is_up() => return Some(down()),
            AdminState::Ready => {}
        }
        if let Some(ejection) = self.live.ejection.report() {
            return Some(Out::Ejected { until: ejection.until, why: ejection.text.to_string() });
        }
        (self.weight == 0).then_some(Out::Weightless { by_operator: self.word.weight == Some(0) })
    }
}

/// How many of an app's endpoints are healthy, of those that have a weight and that no operator has withdrawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Level {
    pub healthy: usize,
    pub of: usize,
}

/// Whom an app's requests are for, by how many of its endpoints are healthy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Stage {
    /// For the healthy ones; for backups where there are no others.
    #[default]
    Usual,
    /// For healthy backups beside the healthy others, which are too few.
    Helped,
    /// For all, since too few are healthy of either kind.
    Panic,
}

impl Stage {
    pub(super) fn from_u8(stage: u8) -> Self {
        [Self::Usual, Self::Helped, Self::Panic]
            .into_iter()
            .find(|one| *one as u8 == stage)
            .unwrap_or_default()
    }

    /// The word in reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Usual => "usual",
            Self::Helped => "helped",
            Self::Panic => "panic",
        }
    }
}

/// The app's endpoints that are no backups, and those that are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strength {
    pub primaries: Level,
    pub backups: Level,
}

impl Strength {
    /// `threshold`: percent that have to be healthy; 0: it is always as usual.
    pub fn stage(&self, threshold: u8) -> Stage {
        let has_enough = |level: Level| level.healthy * 100 >= level.of * usize::from(threshold);
        match (self.primaries.of, self.backups.of) {
            (0, _) if has_enough(self.backups) => Stage::Usual,
            (1.., _) if has_enough(self.primaries) => Stage::Usual,
            (1.., 1..) if has_enough(self.backups) => Stage::Helped,
            _ => Stage::Panic,
        }
    }
}

impl CompiledApp {
    /// Percent below which all endpoints are used; 0: never.
    pub fn panic_threshold(&self) -> u8 {
        self.spec.health.as_ref().map_or(0, |health| health.panic_threshold)
    }

    /// Of all versions together: the share of one whose endpoints are all down goes to the others, which is better than
    /// to endpoints that are down. Of all zones together, since those help each other first.
    pub fn strength(&self) -> Strength {
        let mut strength = Strength::default();
        let counts = |endpoint: &&Arc<PooledEndpoint>| endpoint.weight > 0 && endpoint.word.state.admits();
        for endpoint in self.endpoints.iter().filter(counts) {
            let Strength { primaries, backups } = &mut strength;
            let level = if endpoint.is_backup { backups } else { primaries };
            level.of += 1;
            level.healthy += usize::from(endpoint.is_available());
        }
        strength
    }

    pub fn stage(&self) -> Stage {
        match self.panic_threshold() {
            0 => Stage::Usual,
            threshold => self.strength().stage(threshold),
        }
    }
}

/// Positions of those that may be picked.
#[derive(Debug, Default)]
pub(super) struct Eligible {
    pub first: Vec<u32>,
    /// Whether there are backups among those.
    pub has_backups: bool,
    /// Who else there is, once the first have been asked.
    pub backups: Vec<u32>,
}

impl Pool {
    /// Backups are first where no other one can be picked. Where only ejected ones are left they are: that they served
    /// badly is no reason to serve nobody. In a panic those are too that are down. Whom an operator has withdrawn is
    /// not.
    pub(super) fn eligible(&self, stage: Stage) -> Eligible {
        let positions = |may: &dyn Fn(&PooledEndpoint) -> bool| -> Vec<u32> {
            let endpoints = self.endpoints.iter().zip(0u32..);
            endpoints.filter(|(endpoint, _)| may(endpoint)).map(|(_, position)| position).collect()
        };
        let has_backups =
            |positions: &[u32]| positions.iter().any(|position| self.endpoints[*position as usize].is_backup);
        let among_all =
            |first: Vec<u32>| Eligible { has_backups: has_backups(&first), first, backups: Vec::new() };
        if stage == Stage::Panic {
            return among_all(positions(&|endpoint| endpoint.word.state.admits()));
        }
        let has_weight = |position: &u32| self.endpoints[*position as usize].weight > 0;
        let of = |is_backup: bool| {
            move |endpoint: &PooledEndpoint| endpoint.is_backup == is_backup && endpoint.is_available()
        };
        let (primaries, backups) = (positions(&of(false)), positions(&of(true)));
        match (primaries.iter().any(has_weight), backups.iter().any(has_weight)) {
            (true, true) if stage == Stage::Helped => among_all(positions(&PooledEndpoint::is_available)),
            (true, true) => Eligible { first: primaries, has_backups: false, backups },
            (true, false) => Eligible { first: primaries, ..Eligible::default() },
            (false, true) => among_all(backups),
            (false, false) => {
                among_all(positions(&|endpoint| endpoint.word.state.admits() && endpoint.live.health.is_up()))
            }
        }
    }
}
