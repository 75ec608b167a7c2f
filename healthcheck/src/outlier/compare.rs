//! Which endpoints differ from those that stand for each other with them. Pure: samples in, findings out.

use std::time::Duration;

use topology::{Slowness, SuccessRate};

/// What an endpoint did in one interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample {
    pub requests: u64,
    /// Of the requests: without an answer, or with one of 500 and above.
    pub failures: u64,
    /// Of the requests: with a head, whose latencies are summed.
    pub answers: u64,
    pub latency_nanos: u64,
}

impl Sample {
    fn success(&self) -> f64 {
        1.0 - self.failures as f64 / self.requests.max(1) as f64
    }

    pub fn mean_latency(&self) -> Duration {
        Duration::from_nanos(self.mean_nanos())
    }

    fn mean_nanos(&self) -> u64 {
        self.latency_nanos / self.answers.max(1)
    }

    /// What happened since `before`.
    pub fn since(&self, before: &Self) -> Self {
        Self {
            requests: self.requests.saturating_sub(before.requests),
            failures: self.failures.saturating_sub(before.failures),
            answers: self.answers.saturating_sub(before.answers),
            latency_nanos: self.latency_nanos.saturating_sub(before.latency_nanos),
        }
    }
}

/// A success rate that is too low.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Unsuccessful {
    /// In the list of samples.
    pub position: usize,
    /// From 0 to 1, as are the others.
    pub rate: f64,
    pub mean: f64,
    /// Below which it lies.
    pub threshold: f64,
}

/// Rates nearer to the mean than this are no outliers, however alike the others are: a deviation of
/// almost nothing would eject for almost nothing.
const LEAST_GAP: f64 = 0.05;

/// Those whose success rate lies too far below the others', the lowest first.
pub fn find_unsuccessful(samples: &[Sample], settings: &SuccessRate) -> Vec<Unsuccessful> {
    let compared: Vec<(usize, f64)> = samples
        .iter()
        .enumerate()
        .filter(|(_, sample)| sample.requests >= u64::from(settings.min_requests))
        .map(|(position, sample)| (position, sample.success()))
        .collect();
    let others = compared.len().saturating_sub(1);
    if others < usize::from(settings.min_endpoints).max(1) {
        return Vec::new();
    }
    let sum: f64 = compared.iter().map(|(_, rate)| rate).sum();
    let squares: f64 = compared.iter().map(|(_, rate)| rate * rate).sum();
    let mut found: Vec<Unsuccessful> = compared
        .iter()
        .filter_map(|(position, rate)| {
            let mean = (sum - rate) / others as f64;
            let variance = ((squares - rate * rate) / others as f64 - mean * mean).max(0.0);
            let gap = (f64::from(settings.deviations) * variance.sqrt()).max(LEAST_GAP);
            let threshold = mean - gap;
            (*rate < threshold).then_some(Unsuccessful { position: *position, rate: *rate, mean, threshold })
        })
        .collect();
    found.sort_by(|a, b| a.rate.total_cmp(&b.rate));
    found
}

/// A latency that is too high.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slow {
    /// In the list of samples.
    pub position: usize,
    pub mean: Duration,
    /// Of the others' means.
    pub median: Duration,
}

/// Those whose mean latency is a multiple of the others', the slowest first.
pub fn find_slow(samples: &[Sample], settings: &Slowness) -> Vec<Slow> {
    let mut compared: Vec<(u64, usize)> = samples
        .iter()
        .enumerate()
        .filter(|(_, sample)| sample.answers >= u64::from(settings.min_requests))
        .map(|(position, sample)| (sample.mean_nanos(), position))
        .collect();
    let others = compared.len().saturating_sub(1);
    if others < usize::from(settings.min_endpoints).max(1) {
        return Vec::new();
    }
    compared.sort_unstable();
    let least = u64::try_from(settings.least.as_nanos()).unwrap_or(u64::MAX);
    let mut found: Vec<Slow> = compared
        .iter()
        .enumerate()
        .filter_map(|(rank, (mean, position))| {
            let median = median_without(&compared, rank);
            let limit = median.saturating_mul(u64::from(settings.factor)).max(least);
            let [mean_latency, median] = [*mean, median].map(Duration::from_nanos);
            (*mean > limit).then_some(Slow { position: *position, mean: mean_latency, median })
        })
        .collect();
    found.reverse();
    found
}

/// The median of a sorted list without its element at `rank`, of two middle ones the greater: so never more
/// than half of the list lies above it. The list has at least two.
fn median_without(sorted: &[(u64, usize)], rank: usize) -> u64 {
    let middle = (sorted.len() - 1) / 2;
    sorted[if middle >= rank { middle + 1 } else { middle }].0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rates(percents: &[u64]) -> Vec<Sample> {
        let sample =
            |percent: &u64| Sample { requests: 1000, failures: 10 * (100 - percent), ..Sample::default() };
        percents.iter().map(sample).collect()
    }

    fn latencies(millis: &[u64]) -> Vec<Sample> {
        let sample = |millis: &u64| Sample {
            requests: 100,
            answers: 100,
            latency_nanos: 100 * millis * 1_000_000,
            ..Sample::default()
        };
        millis.iter().map(sample).collect()
    }

    fn unsuccessful(percents: &[u64]) -> Vec<usize> {
        let found = find_unsuccessful(&rates(percents), &SuccessRate::default());
        found.iter().map(|one| one.position).collect()
    }

    fn slow(millis: &[u64]) -> Vec<usize> {
        find_slow(&latencies(millis), &Slowness::default()).iter().map(|one| one.position).collect()
    }

    #[test]
    fn the_one_that_fails_more_than_the_others_is_found() {
        assert_eq!(unsuccessful(&[99, 100, 70, 98]), [2]);
        assert_eq!(unsuccessful(&[99, 100, 97, 98]), [0; 0], "a few percent are no outlier");
        assert_eq!(unsuccessful(&[20, 25, 22, 18]), [0; 0], "where all fail nobody is one");
        assert_eq!(unsuccessful(&[99, 20, 99]), [0; 0], "two others are too few");
    }

    #[test]
    fn the_one_that_is_slower_than_the_others_is_found() {
        assert_eq!(slow(&[30, 32, 310]), [2]);
        assert_eq!(slow(&[30, 32, 80]), [0; 0], "less than three times as slow");
        assert_eq!(slow(&[1, 1, 15]), [0; 0], "nobody notices 15 ms");
        assert_eq!(slow(&[30, 310]), [0; 0], "one other is too few");
        assert_eq!(slow(&[900, 30, 31, 29, 1200, 30]), [4, 0], "the slowest first");
    }

    #[test]
    fn who_served_too_little_is_neither_found_nor_compared_with() {
        let mut few = latencies(&[30, 32, 310]);
        few[2].answers = 3;
        assert!(find_slow(&few, &Slowness::default()).is_empty());
        let mut few = rates(&[99, 99, 99, 10]);
        few[3].requests = 20;
        assert!(find_unsuccessful(&few, &SuccessRate::default()).is_empty());
    }

    proptest! {
        #[test]
        fn nobody_at_or_above_the_mean_is_found(percents in proptest::collection::vec(0u64..=100, 0..12)) {
            let mean = percents.iter().sum::<u64>() as f64 / percents.len().max(1) as f64;
            for position in unsuccessful(&percents) {
                prop_assert!((percents[position] as f64) < mean);
            }
        }

        #[test]
        fn at_most_half_are_slow(millis in proptest::collection::vec(1u64..5000, 0..12)) {
            let found = slow(&millis);
            prop_assert!(found.len() * 2 <= millis.len(), "{:?} of {:?}", found, millis);
        }
    }
}
