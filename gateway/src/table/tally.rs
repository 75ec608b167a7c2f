//! What an endpoint's requests came to, worker by worker.

use std::time::Duration;

use healthcheck::outlier::Sample;

use crate::metrics::Counter;

/// All workers' counts, for whoever compares endpoints.
#[derive(Debug)]
pub struct Tally(Box<[TallyCells]>);

/// One worker's part. Aligned so that no two workers write one cache line.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct TallyCells {
    requests: Counter,
    failures: Counter,
    answers: Counter,
    latency_nanos: Counter,
}

impl Tally {
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| TallyCells::default()).collect())
    }

    /// The cells that `worker` alone writes.
    pub fn cells(&self, worker: usize) -> &TallyCells {
        &self.0[worker]
    }

    /// Since the beginning.
    pub fn total(&self) -> Sample {
        self.0.iter().fold(Sample::default(), |sum, cells| Sample {
            requests: sum.requests + cells.requests.value(),
            failures: sum.failures + cells.failures.value(),
            answers: sum.answers + cells.answers.value(),
            latency_nanos: sum.latency_nanos + cells.latency_nanos.value(),
        })
    }
}

impl TallyCells {
    /// `latency` is to the answer's head, where there was one.
    pub fn count(&self, failed: bool, latency: Option<Duration>) {
        self.requests.increment();
        if failed {
            self.failures.increment();
        }
        if let Some(latency) = latency {
            self.answers.increment();
            self.latency_nanos.add(u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX));
        }
    }
}
