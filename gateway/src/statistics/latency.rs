//! How long requests took, closely enough for a quantile.

use std::time::Duration;

/// Steps to each doubling: a bucket is at most a quarter wider than it is high, so that its middle is off by
/// less than an eighth.
const STEPS_BITS: u32 = 2;
const STEPS: usize = 1 << STEPS_BITS;
/// From a microsecond to two hours: what takes longer counts as that.
const DOUBLINGS: usize = 32;
const BUCKETS: usize = DOUBLINGS * STEPS;

/// Requests by how long they took, in steps of a quarter.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// As many as are needed for the longest.
    buckets: Vec<u32>,
}

impl Latencies {
    pub fn add(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = bucket_of(micros);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] = self.buckets[bucket].saturating_add(1);
    }

    pub fn merge(&mut self, other: &Self) {
        if other.buckets.len() > self.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (own, other) in self.buckets.iter_mut().zip(&other.buckets) {
            *own = own.saturating_add(*other);
        }
    }

    /// What `share` of all took at the most, give or take an eighth; `None` without any.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().map(|count| u64::from(*count)).sum();
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut below = 0;
        let bucket = self.buckets.iter().position(|count| {
            below += u64::from(*count);
            below >= rank
        })?;
        Some(Duration::from_micros(middle_of(bucket)))
    }

    /// What it takes beside itself.
    pub fn bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<u32>()
    }
}

/// The highest bit and the [`STEPS_BITS`] below it; numbers below [`STEPS`] are themselves.
fn bucket_of(micros: u64) -> usize {
    if micros < STEPS as u64 {
        return micros as usize;
    }
    let doubling = micros.ilog2() - STEPS_BITS;
    let step = (micros >> doubling) as usize & (STEPS - 1);
    ((doubling as usize + 1) * STEPS + step).min(BUCKETS - 1)
}

fn middle_of(bucket: usize) -> u64 {
    let Some(doubling) = (bucket / STEPS).checked_sub(1) else { return bucket as u64 };
    let least = ((STEPS + bucket % STEPS) as u64) << doubling;
    least + (1 << doubling) / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_in_order_and_their_middle_is_near() {
        let mut last = 0;
        for micros in (0..5_000).chain((1..3_600_000_000).step_by(999_983)) {
            let bucket = bucket_of(micros);
            assert!(bucket >= last || micros == 1, "{micros}");
            last = bucket;
            assert!(middle_of(bucket).abs_diff(micros) * 8 <= micros, "{micros}: {}", middle_of(bucket));
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_within_an_eighth_also_of_merged_ones() {
        let (mut fast, mut slow) = (Latencies::default(), Latencies::default());
        assert_eq!(fast.quantile(0.5), None);
        (1..=900).for_each(|millis| fast.add(Duration::from_millis(millis)));
        (901..=1_000).for_each(|millis| slow.add(Duration::from_millis(millis)));
        fast.merge(&slow);
        for (share, wanted) in [(0.5, 0.5), (0.9, 0.9), (0.99, 0.99), (0.0, 0.001), (1.0, 1.0)] {
            let found = fast.quantile(share).unwrap().as_secs_f64();
            assert!((found / wanted - 1.0).abs() <= 0.125, "{share}: {found}");
        }
    }
}
