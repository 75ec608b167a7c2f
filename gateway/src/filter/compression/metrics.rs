//! What compression saved, by coding.

use std::sync::OnceLock;

use topology::filters::Coding;

use crate::metrics::Counter;

/// All workers' counters of one app.
#[derive(Debug)]
pub struct CompressionMetrics(Box<[OnceLock<Box<CompressionCells>>]>);

/// One worker's part.
#[derive(Debug, Default)]
pub struct CompressionCells {
    responses: [Counter; Coding::ALL.len()],
    taken: [Counter; Coding::ALL.len()],
    given: [Counter; Coding::ALL.len()],
    /// Responses that went out as they came because the worker's encoders held all that they may.
    pub crowded: Counter,
}

/// Over all workers, of one coding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CodingTotals {
    pub responses: u64,
    /// Bytes that went in, and that came out.
    pub taken: u64,
    pub given: u64,
}

impl CompressionMetrics {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| OnceLock::new()).collect())
    }

    /// The cells that `worker` alone writes.
    pub fn cells(&self, worker: usize) -> &CompressionCells {
        self.0[worker].get_or_init(Box::default)
    }

    pub fn totals(&self, coding: Coding) -> CodingTotals {
        let sum = |counter: fn(&CompressionCells, usize) -> &Counter| {
            let used = self.0.iter().filter_map(OnceLock::get);
            used.map(|cells| counter(cells, coding as usize).value()).sum()
        };
        CodingTotals {
            responses: sum(|cells, at| &cells.responses[at]),
            taken: sum(|cells, at| &cells.taken[at]),
            given: sum(|cells, at| &cells.given[at]),
        }
    }

    pub fn crowded(&self) -> u64 {
        self.0.iter().filter_map(OnceLock::get).map(|cells| cells.crowded.value()).sum()
    }
}

impl CompressionCells {
    /// A body that was coded, to its end or not.
    pub fn count(&self, coding: Coding, taken: u64, given: u64) {
        self.responses[coding as usize].increment();
        self.taken[coding as usize].add(taken);
        self.given[coding as usize].add(given);
    }
}
