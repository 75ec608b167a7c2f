//! What an app's filters decided, by kind.

use std::sync::OnceLock;

use super::Kind;
use crate::metrics::Counter;

/// All workers' counters of one app's filters.
#[derive(Debug)]
pub struct FilterMetrics(Box<[OnceLock<Box<FilterCells>>]>);

/// One worker's part.
#[derive(Debug, Default)]
pub struct FilterCells {
    passed: [Counter; Kind::ALL.len()],
    refused: [Counter; Kind::ALL.len()],
}

impl FilterMetrics {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// The cells that `worker` alone writes.
    pub fn cells(&self, worker: usize) -> &FilterCells {
        self.0[worker].get_or_init(Box::default)
    }

    /// Over all workers: how many requests a kind let pass, and how many it refused or answered.
    pub fn totals(&self, kind: Kind) -> (u64, u64) {
        let used = || self.0.iter().filter_map(OnceLock::get);
        let at = kind as usize;
        (
            used().map(|cells| cells.passed[at].value()).sum(),
            used().map(|cells| cells.refused[at].value()).sum(),
        )
    }
}

impl FilterCells {
    pub fn passed(&self, kind: Kind) {
        self.passed[kind as usize].increment();
    }

    pub fn refused(&self, kind: Kind) {
        self.refused[kind as usize].increment();
    }
}
