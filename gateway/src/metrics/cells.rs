//! Cells with one writer.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// Counts up. One thread writes, any thread reads, so an increment is a load and a store, not a locked
/// instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn increment(&self) {
        self.add(1);
    }

    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Goes up and down; one writer.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    pub fn set(&self, value: i64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn add(&self, amount: i64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    pub fn value(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds, in seconds. From what a proxy adds (tens of microseconds) to what a client gives up
/// on, about two per factor of four: enough to see a shift, few enough for 10,000 apps.
pub const LATENCY_BUCKETS_SECONDS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];

const BUCKETS: usize = LATENCY_BUCKETS_SECONDS.len();

/// The bounds in nanoseconds, so that recording needs no floating point.
const BOUNDS_NANOS: [u64; BUCKETS] = {
    let mut bounds = [0; BUCKETS];
    let mut i = 0;
    while i < BUCKETS {
        bounds[i] = (LATENCY_BUCKETS_SECONDS[i] * 1e9) as u64;
        i += 1;
    }
    bounds
};

/// Latencies by bucket; the last one has no upper bound.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [Counter; BUCKETS + 1],
    sum_nanos: Counter,
}

impl Histogram {
    pub fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_NANOS.iter().position(|bound| nanos <= *bound).unwrap_or(BUCKETS);
        self.buckets[bucket].increment();
        self.sum_nanos.add(nanos);
    }

    /// Adds this worker's counts to `total`.
    pub fn add_to(&self, total: &mut HistogramTotal) {
        for (bucket, sum) in self.buckets.iter().zip(&mut total.buckets) {
            *sum += bucket.value();
        }
        total.sum_seconds += self.sum_nanos.value() as f64 / 1e9;
    }
}

/// A histogram over all workers. Buckets are not cumulative.
#[derive(Debug, Clone, Default)]
pub struct HistogramTotal {
    pub buckets: [u64; BUCKETS + 1],
    pub sum_seconds: f64,
}

impl HistogramTotal {
    /// What came after `former`, an earlier total of the same.
    pub fn since(&self, former: &Self) -> Self {
        let mut buckets = self.buckets;
        for (bucket, before) in buckets.iter_mut().zip(former.buckets) {
            *bucket = bucket.saturating_sub(before);
        }
        Self { buckets, sum_seconds: self.sum_seconds - former.sum_seconds }
    }

    /// The bound that this share of them, 0 to 1, stays below; `None` where there are none. Beyond the last bound: four
    /// times that.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let total: u64 = self.buckets.iter().sum();
        let wanted = ((total as f64) * share).ceil() as u64;
        let mut seen = 0;
        let found = self.buckets.iter().position(|bucket| {
            seen += bucket;
            total > 0 && seen >= wanted
        })?;
        let beyond = 4 * BOUNDS_NANOS[BUCKETS - 1];
        Some(Duration::from_nanos(BOUNDS_NANOS.get(found).copied().unwrap_or(beyond)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_fall_into_the_bucket_that_bounds_them() {
        let histogram = Histogram::default();
        for nanos in [0, 100_000, 100_001, 20_000_000_000] {
            histogram.record(Duration::from_nanos(nanos));
        }
        let mut total = HistogramTotal::default();
        histogram.add_to(&mut total);
        assert_eq!((total.buckets[0], total.buckets[1], total.buckets[BUCKETS]), (2, 1, 1));
        assert!((total.sum_seconds - 20.000_200_001).abs() < 1e-9);
        assert_eq!(total.quantile(0.5), Some(Duration::from_micros(100)));
        assert_eq!(total.quantile(0.99), Some(Duration::from_secs(40)));
        assert_eq!(total.since(&total).quantile(0.99), None);
    }
}
