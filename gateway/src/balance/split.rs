//! An app's traffic by version: a fixed sequence that all workers walk together.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Candidate, SmoothRotation};

/// Shares are kept to one in ten thousand. Sums that divide 1,000, such as percentages, come out exact
/// over any 1,000 requests; a longer sequence would cost memory for a precision nobody can see.
const MAX_STEPS: u64 = 10_000;

/// Which share each request in a row belongs to.
#[derive(Debug)]
pub struct SplitSchedule {
    steps: Box<[u16]>,
}

impl SplitSchedule {
    /// `shares` must have one above 0; positions in it are what [`Self::step`] returns.
    pub fn new(shares: &[u16]) -> Self {
        let divisor = shares.iter().fold(0, |divisor, share| greatest_common_divisor(divisor, *share)).max(1);
        let reduced: Vec<u64> = shares.iter().map(|share| u64::from(share / divisor)).collect();
        let sum: u64 = reduced.iter().sum();
        let weights: Vec<u16> = reduced.iter().map(|share| fit(*share, sum)).collect();
        let mut rotation = SmoothRotation::default();
        let candidates =
            weights.iter().zip(0..).map(|(weight, id)| Candidate { id, weight: u32::from(*weight) });
        rotation.update(candidates);
        let length: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        Self { steps: (0..length).filter_map(|_| rotation.pick()).map(|position| position as u16).collect() }
    }

    /// The share of the next request. `cursor` is shared by all workers and outlives the schedule.
    pub fn step(&self, cursor: &AtomicU64) -> usize {
        // Relaxed: nothing else is published with the count.
        let turn = cursor.fetch_add(1, Ordering::Relaxed);
        let length = self.steps.len().max(1) as u64;
        self.steps.get((turn % length) as usize).map_or(0, |step| usize::from(*step))
    }
}

/// A share of a long sequence, scaled to [`MAX_STEPS`]; a small share never becomes none.
fn fit(share: u64, sum: u64) -> u16 {
    if sum <= MAX_STEPS {
        return share as u16;
    }
    ((share * MAX_STEPS + sum / 2) / sum).max(u64::from(share > 0)) as u16
}

fn greatest_common_divisor(a: u16, b: u16) -> u16 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(schedule: &SplitSchedule, cursor: &AtomicU64, turns: usize, shares: usize) -> Vec<usize> {
        let mut counts = vec![0; shares];
        for _ in 0..turns {
            counts[schedule.step(cursor)] += 1;
        }
        counts
    }

    #[test]
    fn ninety_to_ten_is_exact_over_any_thousand_requests() {
        let schedule = SplitSchedule::new(&[90, 10]);
        for start in 0..50 {
            assert_eq!(counts(&schedule, &AtomicU64::new(start), 1000, 2), [900, 100]);
        }
    }

    #[test]
    fn a_tiny_share_is_not_lost() {
        let schedule = SplitSchedule::new(&[65_535, 1, 0]);
        let counts = counts(&schedule, &AtomicU64::new(0), 20_002, 3);
        assert!(counts[1] >= 1 && counts[2] == 0, "{counts:?}");
    }

    proptest! {
        #[test]
        fn any_window_is_within_a_few_requests_of_its_shares(shares in proptest::collection::vec(0u16..=100, 1..5), start in 0u64..5000) {
            let sum: usize = shares.iter().map(|share| usize::from(*share)).sum();
            prop_assume!(sum > 0);
            let schedule = SplitSchedule::new(&shares);
            let counts = counts(&schedule, &AtomicU64::new(start), 1000, shares.len());
            for (count, share) in counts.iter().zip(&shares) {
                let wanted = 1000.0 * f64::from(*share) / sum as f64;
                prop_assert!((*count as f64 - wanted).abs() <= shares.len() as f64, "{:?} of {:?}", counts, shares);
            }
        }
    }
}
