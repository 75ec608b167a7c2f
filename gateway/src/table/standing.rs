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

/// How many of an app's endpoints are healthy, and what follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Strength {
    pub healthy: usize,
    /// Of those that have a weight and that no operator has withdrawn.
    pub of: usize,
    /// So few are healthy that all are used.
    pub panics: bool,
}

impl CompiledApp {
    /// Percent below which all endpoints are used; 0: never.
    pub fn panic_threshold(&self) -> u8 {
        self.spec.health.as_ref().map_or(0, |health| health.panic_threshold)
    }

    /// Of all versions together: the share of one whose endpoints are all down goes to the others, which is better than
    /// to endpoints that are down.
    pub fn strength(&self) -> Strength {
        let counts = |endpoint: &&Arc<PooledEndpoint>| endpoint.weight > 0 && endpoint.word.state.admits();
        let (mut healthy, mut of) = (0, 0);
        for endpoint in self.endpoints.iter().filter(counts) {
            of += 1;
            healthy += usize::from(endpoint.is_available());
        }
        let panics = healthy * 100 < of * usize::from(self.panic_threshold());
        Strength { healthy, of, panics }
    }

    /// Whether all endpoints are used because too few are healthy.
    pub fn panics(&self) -> bool {
        self.panic_threshold() > 0 && self.strength().panics
    }
}

impl Pool {
    /// Positions of those that may be picked. Where only ejected ones are left they are: that they served badly is no
    /// reason to serve nobody. Where the app `panics` ([`CompiledApp::panics`]) those are too that are down. Whom an
    /// operator has withdrawn is not.
    pub fn eligible(&self, panics: bool) -> Vec<u32> {
        let positions = |may: fn(&PooledEndpoint) -> bool| -> Vec<u32> {
            let endpoints = self.endpoints.iter().zip(0u32..);
            endpoints.filter(|(endpoint, _)| may(endpoint)).map(|(_, position)| position).collect()
        };
        if panics {
            return positions(|endpoint| endpoint.word.state.admits());
        }
        let available = positions(PooledEndpoint::is_available);
        let has_weight = |position: &u32| self.endpoints[*position as usize].weight > 0;
        if available.iter().any(has_weight) {
            return available;
        }
        positions(|endpoint| endpoint.word.state.admits() && endpoint.live.health.is_up())
    }
}
