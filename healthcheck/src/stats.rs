//! How many probes ended how, over all endpoints.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use crate::{ProbeResult, State};

/// Counters that only grow. Whoever renders metrics reads them.
#[derive(Debug, Default)]
pub struct ProbeStats {
    results: [AtomicU64; ProbeResult::ALL.len()],
    to_up: AtomicU64,
    to_down: AtomicU64,
    pub sharing: SharingStats,
}

/// Of probing that a fleet shares; all 0 where nothing is shared.
#[derive(Debug, Default)]
pub struct SharingStats {
    /// In thousandths.
    saved: AtomicU64,
    received_up: AtomicU64,
    received_down: AtomicU64,
    stale: AtomicU64,
    heeded: AtomicUsize,
    disputed: AtomicUsize,
    colleagues: AtomicUsize,
    silent: AtomicUsize,
}

impl SharingStats {
    /// Probes that others' verdicts have made needless.
    pub fn saved(&self) -> u64 {
        self.saved.load(Relaxed) / 1_000
    }

    /// Verdicts of others that this gateway has looked into or begun to rely on, by the state that they say.
    pub fn received(&self) -> [(State, u64); 2] {
        [(State::Up, self.received_up.load(Relaxed)), (State::Down, self.received_down.load(Relaxed))]
    }

    /// How often an endpoint came to be probed here because nobody said anything of it any more.
    pub fn stale(&self) -> u64 {
        self.stale.load(Relaxed)
    }

    /// Endpoints that others probe for us.
    pub fn heeded(&self) -> usize {
        self.heeded.load(Relaxed)
    }

    /// Endpoints that others have to probe, and that this gateway probes since it sees them otherwise or since those others
    /// contradict each other.
    pub fn disputed(&self) -> usize {
        self.disputed.load(Relaxed)
    }

    /// Gateways that share with this one, and how many of those are not heard.
    pub fn colleagues(&self) -> (usize, usize) {
        (self.colleagues.load(Relaxed), self.silent.load(Relaxed))
    }

    pub(crate) fn save(&self, probes: f64) {
        self.saved.fetch_add((probes * 1_000.0) as u64, Relaxed);
    }

    pub(crate) fn count_received(&self, is_up: bool) {
        let count = if is_up { &self.received_up } else { &self.received_down };
        count.fetch_add(1, Relaxed);
    }

    pub(crate) fn count_stale(&self) {
        self.stale.fetch_add(1, Relaxed);
    }

    pub(crate) fn note(&self, heeded: usize, disputed: usize) {
        self.heeded.store(heeded, Relaxed);
        self.disputed.store(disputed, Relaxed);
    }

    pub(crate) fn note_colleagues(&self, colleagues: usize, silent: usize) {
        self.colleagues.store(colleagues, Relaxed);
        self.silent.store(silent, Relaxed);
    }
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
