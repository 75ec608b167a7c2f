//! How soon an endpoint is expected to answer: finagle's and linkerd2's peak-sensitive moving average.
//!
//! What is slower than expected counts at once and in full; what is faster is believed little by little. With
//! time alone what was seen fades, so that an endpoint that was slow gets another chance.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a failed attempt counts as at least: who refuses or breaks off in a millisecond is not quick.
const FAILURE: Duration = Duration::from_secs(1);
/// What an endpoint is expected to take that has something to do and of which nothing is known: so much that a new
/// one gets a single request first, wherever there is somebody else.
const UNKNOWN_NANOS: f64 = 1e12;
/// Below it nothing is known any more.
const FORGOTTEN_NANOS: f64 = 1.0;

/// One endpoint's, of all workers.
///
/// Both halves are in one word, so that nobody reads one without the other: above, the latency in nanoseconds as
/// `f32`; below, when it was so, in milliseconds. Those come around after 49 days; an endpoint that got nothing for just so long
/// is at worst believed to be as slow as then, until it is asked.
#[derive(Debug, Default)]
pub struct PeakEwma(AtomicU64);

impl PeakEwma {
    /// An attempt at `now` took `latency`.
    pub fn observe(&self, latency: Duration, now: Duration, decay: Duration) {
        let latency = latency.as_nanos() as f64;
        self.update(now, |known, age| {
            let kept = weight(age, decay);
            let faded = known * kept;
            Some(if latency >= faded { latency } else { faded + latency * (1.0 - kept) })
        });
    }

    /// An attempt came to nothing, after `latency`.
    pub fn fail(&self, latency: Duration, now: Duration, decay: Duration) {
        self.at_least(latency.max(FAILURE), now, decay);
    }

    /// An attempt has taken `latency`, and would have taken longer.
    pub fn at_least(&self, latency: Duration, now: Duration, decay: Duration) {
        let latency = latency.as_nanos() as f64;
        self.update(now, |known, age| (latency > known * weight(age, decay)).then_some(latency));
    }

    /// What is expected at `now`; `None`: nothing is known.
    pub fn expected(&self, now: Duration, decay: Duration) -> Option<Duration> {
        let nanos = self.nanos(now, decay);
        (nanos >= FORGOTTEN_NANOS).then(|| Duration::from_nanos(nanos as u64))
    }

    /// What asking it costs where `in_flight` requests are under way there, of which each counts as `share`: 1 for a
    /// mean weight, less for a larger one.
    pub fn cost(&self, in_flight: u32, share: f64, now: Duration, decay: Duration) -> f64 {
        let nanos = self.nanos(now, decay);
        let expected = if nanos < FORGOTTEN_NANOS && in_flight > 0 { UNKNOWN_NANOS } else { nanos };
        expected * (1.0 + f64::from(in_flight) * share)
    }

    fn nanos(&self, now: Duration, decay: Duration) -> f64 {
        let (known, at) = unpack(self.0.load(Ordering::Relaxed));
        known * weight(age(at, now), decay)
    }

    /// Relaxed: nothing else is published with it.
    fn update(&self, now: Duration, next: impl Fn(f64, Duration) -> Option<f64>) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            let (known, at) = unpack(word);
            next(known, age(at, now)).map(|nanos| pack(nanos, now))
        });
    }
}

/// Of what was known for so long.
fn weight(age: Duration, decay: Duration) -> f64 {
    (-age.as_secs_f64() / decay.as_secs_f64()).exp()
}

/// A moment that another worker saw a little later is no age.
fn age(at: u32, now: Duration) -> Duration {
    let millis = millis(now).wrapping_sub(at);
    Duration::from_millis(if millis > u32::MAX / 2 { 0 } else { millis.into() })
}

fn millis(time: Duration) -> u32 {
    time.as_millis() as u32
}

fn pack(nanos: f64, now: Duration) -> u64 {
    u64::from((nanos as f32).to_bits()) << 32 | u64::from(millis(now))
}

fn unpack(word: u64) -> (f64, u32) {
    (f64::from(f32::from_bits((word >> 32) as u32)), word as u32)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DECAY: Duration = Duration::from_secs(10);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn expected(latency: &PeakEwma, now: u64) -> u128 {
        latency.expected(ms(now), DECAY).map_or(0, |latency| latency.as_millis())
    }

    #[test]
    fn a_spike_counts_at_once_and_is_forgotten_slowly() {
        let latency = PeakEwma::default();
        assert_eq!(latency.expected(ms(5), DECAY), None);
        (0..100).for_each(|at| latency.observe(ms(10), ms(at), DECAY));
        assert_eq!(expected(&latency, 100), 9);
        latency.observe(ms(500), ms(100), DECAY);
        assert_eq!(expected(&latency, 100), 500);
        // Quick answers are believed little by little...
        for at in 0..100 {
            latency.observe(ms(10), ms(100 + 10 * at), DECAY);
        }
        assert!((400..500).contains(&expected(&latency, 1_100)), "{}", expected(&latency, 1_100));
        // ... and after a decay the spike counts for a third.
        latency.observe(ms(500), ms(2_000), DECAY);
        assert_eq!(expected(&latency, 12_000), 183);
    }

    #[test]
    fn what_failed_is_never_quick() {
        let latency = PeakEwma::default();
        latency.fail(ms(1), ms(0), DECAY);
        assert_eq!(expected(&latency, 0), 1_000);
        latency.fail(ms(3_000), ms(0), DECAY);
        latency.fail(ms(1), ms(0), DECAY);
        latency.at_least(ms(2_000), ms(0), DECAY);
        assert_eq!(expected(&latency, 0), 3_000);
    }

    #[test]
    fn an_unknown_one_gets_one_request_first() {
        let (new, old) = (PeakEwma::default(), PeakEwma::default());
        old.observe(ms(10), ms(0), DECAY);
        let cost = |of: &PeakEwma, in_flight| of.cost(in_flight, 1.0, ms(0), DECAY);
        assert!(cost(&new, 0) < cost(&old, 0) && cost(&new, 1) > cost(&old, 1_000));
        assert!(cost(&old, 1) > cost(&old, 0));
    }

    #[test]
    fn milliseconds_that_come_around_are_no_trouble() {
        let (latency, around) = (PeakEwma::default(), u64::from(u32::MAX));
        latency.observe(ms(100), ms(around - 5), DECAY);
        assert!((99..=100).contains(&expected(&latency, around + 5)));
        // Another worker's clock was read a little earlier.
        assert_eq!(expected(&latency, around - 9), 100);
    }

    proptest! {
        #[test]
        fn what_is_expected_is_never_above_the_slowest_seen(steps in proptest::collection::vec((0u64..10_000, 0u64..100_000), 1..50)) {
            let (latency, mut now, mut slowest) = (PeakEwma::default(), 0, 0);
            for (took, passed) in steps {
                (now, slowest) = (now + passed, slowest.max(took));
                latency.observe(ms(took), ms(now), DECAY);
                prop_assert!(expected(&latency, now) <= u128::from(slowest) + 1);
                prop_assert!(latency.cost(3, 1.0, ms(now), DECAY).is_finite());
            }
        }
    }
}
