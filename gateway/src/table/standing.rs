//! Which endpoints may be picked, and why the others may not: what requests go by, and what is shown of it.

use std::time::SystemTime;

use topology::AdminState;

use super::app::{Pool, PooledEndpoint};

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

/// Positions of those that may be picked.
#[derive(Debug, Default)]
pub struct Ranks {
    pub first: Vec<u32>,
    /// Whether those are backups.
    pub are_backups: bool,
    /// Who else there is, once the first have been asked.
    pub backups: Vec<u32>,
}

impl Pool {
    /// Backups are first where no other one can be picked. Where only ejected ones are left they are: that they served
    /// badly is no reason to serve nobody. Whom an operator has withdrawn is not.
    pub fn ranks(&self) -> Ranks {
        let positions = |may: &dyn Fn(&PooledEndpoint) -> bool| -> Vec<u32> {
            let endpoints = self.endpoints.iter().zip(0u32..);
            endpoints.filter(|(endpoint, _)| may(endpoint)).map(|(_, position)| position).collect()
        };
        let has_weight = |position: &u32| self.endpoints[*position as usize].weight > 0;
        let of = |is_backup: bool| {
            move |endpoint: &PooledEndpoint| endpoint.is_backup == is_backup && endpoint.is_available()
        };
        let (primaries, backups) = (positions(&of(false)), positions(&of(true)));
        match (primaries.iter().any(has_weight), backups.iter().any(has_weight)) {
            (true, true) => Ranks { first: primaries, are_backups: false, backups },
            (true, false) => Ranks { first: primaries, ..Ranks::default() },
            (false, true) => Ranks { first: backups, are_backups: true, backups: Vec::new() },
            (false, false) => {
                let first =
                    positions(&|endpoint| endpoint.word.state.admits() && endpoint.live.health.is_up());
                Ranks { first, ..Ranks::default() }
            }
        }
    }

    /// Positions of those that may be picked at first, see [`Self::ranks`].
    pub fn eligible(&self) -> Vec<u32> {
        self.ranks().first
    }
}
