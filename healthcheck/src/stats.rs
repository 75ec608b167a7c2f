//! How many probes ended how, over all endpoints.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{ProbeResult, State};

/// Counters that only grow. Whoever renders metrics reads them.
#[derive(Debug, Default)]
pub struct ProbeStats {
    results: [AtomicU64; ProbeResult::ALL.len()],
    to_up: AtomicU64,
    to_down: AtomicU64,
}

impl ProbeStats {
    /// Probes by result, every result named even where none ended so.
    pub fn probes(&self) -> impl Iterator<Item = (ProbeResult, u64)> + '_ {
        ProbeResult::ALL.into_iter().zip(self.results.iter().map(|count| count.load(Relaxed)))
    }

    /// Transitions by the state they led to.
    pub fn transitions(&self) -> [(State, u64); 2] {
        [(State::Up, self.to_up.load(Relaxed)), (State::Down, self.to_down.load(Relaxed))]
    }

    pub(crate) fn count_probe(&self, result: ProbeResult) {
        self.results[result as usize].fetch_add(1, Relaxed);
    }

    pub(crate) fn count_transition(&self, to: State) {
        match to {
            State::Up => self.to_up.fetch_add(1, Relaxed),
            State::Down => self.to_down.fetch_add(1, Relaxed),
            // No probe leads back to it.
            State::Unknown => return,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_result_has_its_own_count() {
        let stats = ProbeStats::default();
        for (times, result) in ProbeResult::ALL.into_iter().enumerate() {
            (0..times).for_each(|_| stats.count_probe(result));
        }
        let counted: Vec<_> = stats.probes().collect();
        let wanted: Vec<_> = (0..).zip(ProbeResult::ALL).map(|(times, result)| (result, times)).collect();
        assert_eq!(counted, wanted);
    }
}
