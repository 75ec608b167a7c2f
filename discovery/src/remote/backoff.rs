//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A server that restarts is back within seconds; the first attempts cost it nothing.
const FIRST: Duration = Duration::from_millis(100);
/// The longest that a recovered registry goes unnoticed. With 100 gateways it is 50 connections a second.
const MAX: Duration = Duration::from_secs(2);

/// Doubling delays up to a limit, each cut by up to a random half, so that a fleet that lost its registry
/// at one moment does not come back at one moment.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    attempts: u32,
}

impl Backoff {
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// Nothing has failed since the last success.
    pub(crate) fn is_fresh(&self) -> bool {
        self.attempts == 0
    }

    pub(crate) async fn wait(&mut self) {
        // A new RandomState is as random as a hash table needs, which is enough here.
        let delay = self.next(RandomState::new().hash_one(self.attempts));
        tokio::time::sleep(delay).await;
    }

    fn next(&mut self, random: u64) -> Duration {
        let whole = FIRST.saturating_mul(2_u32.saturating_pow(self.attempts)).min(MAX);
        self.attempts = self.attempts.saturating_add(1);
        let half = whole / 2;
        half + half.mul_f64((random >> 11) as f64 / (1_u64 << 53) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit_and_differ_by_up_to_a_half() {
        for random in [0, u64::MAX] {
            let mut backoff = Backoff::default();
            let delays: Vec<_> = (0..100).map(|_| backoff.next(random)).collect();
            let wanted = |n: u32| FIRST.saturating_mul(2_u32.saturating_pow(n)).min(MAX);
            for (n, delay) in (0..).zip(&delays) {
                assert!(*delay >= wanted(n) / 2 && *delay <= wanted(n), "{n}: {delay:?}");
            }
            backoff.reset();
            assert_eq!(backoff.next(random), delays[0]);
        }
    }
}
