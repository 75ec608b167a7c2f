//! How long to wait before the next attempt.

use std::time::Duration;

/// A daemon that is restarted is back within this.
const FIRST: Duration = Duration::from_millis(100);
/// What an operator who has mended the receiver is willing to wait.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Backoff(Duration);

impl Default for Backoff {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Backoff {
    /// The next wait: twice the last one up to a bound, less a part that `random` decides, so that a fleet
    /// does not come back at one moment.
    pub fn next(&mut self, random: u64) -> Duration {
        let wait = self.0;
        self.0 = (wait * 2).min(LONGEST);
        let quarter = wait.as_micros() as u64 / 4;
        wait - Duration::from_micros(random % quarter.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ_by_a_quarter() {
        let mut backoff = Backoff::default();
        let mut longest = FIRST;
        for random in 0..20u64 {
            let wait = backoff.next(random.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert!(wait <= longest && wait >= longest * 3 / 4, "{wait:?} of {longest:?}");
            longest = (longest * 2).min(LONGEST);
        }
        assert_eq!(longest, LONGEST);
    }
}
