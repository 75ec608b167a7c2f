//! The life of a change: discovery publishes a snapshot, [`apply`] compiles what differs into the next
//! table, one swap puts it in force, and the probers follow. Beside it [`Judge`] decides whom requests have
//! found too bad to go on with.

mod apply;
mod comparisons;
mod concurrency;
mod departed;
mod failures;
mod outliers;
mod panic;
pub mod probes;
pub mod report;
pub mod verdicts;
mod witness;

use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

pub use apply::{Applier, on_transition};
pub use departed::Departed;
pub use failures::{Failure, Failures, on_failing};
pub use outliers::Judge;
pub use witness::ProbedEndpoints;

use tokio::sync::watch;

use crate::metrics::RetiredServices;

/// What is known of the changes so far; for metrics.
#[derive(Debug)]
pub struct Applied {
    last: Mutex<Last>,
    changes: watch::Sender<u64>,
    /// What changes have taken out of the table.
    pub retired: RetiredServices,
    pub departed: Departed,
}

#[derive(Debug, Clone, Copy)]
struct Last {
    at: Instant,
    took: Duration,
    count: u64,
}

impl Default for Applied {
    fn default() -> Self {
        let last = Last { at: Instant::now(), took: Duration::ZERO, count: 0 };
        Self {
            last: Mutex::new(last),
            changes: watch::Sender::new(0),
            retired: RetiredServices::default(),
            departed: Departed::default(),
        }
    }
}

impl Applied {
    fn record(&self, took: Duration) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = Last { at: Instant::now(), took, count: last.count + 1 };
        self.changes.send_replace(last.count);
    }

    /// Told of each table after it is in force.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn last(&self) -> Last {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since the last change.
    pub fn age(&self) -> Duration {
        self.last().at.elapsed()
    }

    /// What compiling the last change took.
    pub fn took(&self) -> Duration {
        self.last().took
    }

    pub fn count(&self) -> u64 {
        self.last().count
    }
}
