//! Failures in a row, as all workers together see them.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use topology::Outliers;

/// How a request went wrong, as far as that is its endpoint's doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// There was no answer, or none that could be passed on whole.
    NoAnswer,
    /// The answer was 502, 503 or 504.
    GatewayError,
}

/// Both kinds since the last success: failures in the lower half, gateway errors in the upper one. A
/// success costs one load while there was no failure, so workers share the line without contending.
///
/// Relaxed: whether a failure of one worker comes before or after a success of another one is nobody's
/// to say.
#[derive(Debug, Default)]
pub struct Streak(AtomicU32);

const HALF: u32 = u16::MAX as u32;

impl Streak {
    #[inline]
    pub fn succeed(&self) {
        if self.0.load(Relaxed) != 0 {
            self.0.store(0, Relaxed);
        }
    }

    /// Counts a fault. Whether it makes the streak one that `settings` eject for, or another time as long.
    pub fn fail(&self, fault: Fault, settings: &Outliers) -> bool {
        let (shift, most) = match fault {
            Fault::NoAnswer => (0, settings.failures),
            Fault::GatewayError => (16, settings.gateway_errors),
        };
        let bump = |both: u32| ((both >> shift) & HALF != HALF).then(|| both + (1 << shift));
        let Ok(before) = self.0.fetch_update(Relaxed, Relaxed, bump) else { return false };
        let count = ((before >> shift) & HALF) + 1;
        // The first report may have come when too many were out already.
        most > 0 && count.is_multiple_of(u32::from(most))
    }

    /// Of an endpoint that has just returned: the next fault ejects it again, the next success clears it.
    pub fn put_on_probation(&self, settings: &Outliers) {
        let (failures, errors) =
            (settings.failures.saturating_sub(1), settings.gateway_errors.saturating_sub(1));
        self.0.store(u32::from(errors) << 16 | u32::from(failures), Relaxed);
    }

    pub fn clear(&self) {
        self.0.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Outliers {
        Outliers { failures: 3, gateway_errors: 2, ..Outliers::default() }
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (streak, settings) = (Streak::default(), settings());
        assert!(!streak.fail(Fault::NoAnswer, &settings) && !streak.fail(Fault::NoAnswer, &settings));
        streak.succeed();
        assert!(!streak.fail(Fault::NoAnswer, &settings) && !streak.fail(Fault::NoAnswer, &settings));
        assert!(streak.fail(Fault::NoAnswer, &settings));
    }

    #[test]
    fn the_kinds_are_counted_apart() {
        let (streak, settings) = (Streak::default(), settings());
        streak.fail(Fault::NoAnswer, &settings);
        streak.fail(Fault::NoAnswer, &settings);
        assert!(!streak.fail(Fault::GatewayError, &settings));
        assert!(streak.fail(Fault::GatewayError, &settings));
        assert!(streak.fail(Fault::NoAnswer, &settings));
    }

    #[test]
    fn a_kind_that_is_off_never_ejects_and_no_count_runs_over_into_the_other() {
        let off = Outliers { failures: 0, gateway_errors: 0, ..Outliers::default() };
        let streak = Streak::default();
        for _ in 0..=2 * HALF {
            assert!(!streak.fail(Fault::NoAnswer, &off));
        }
        assert!(streak.fail(Fault::GatewayError, &Outliers { gateway_errors: 1, ..off }));
    }

    #[test]
    fn on_probation_one_fault_of_either_kind_is_enough() {
        let settings = settings();
        for fault in [Fault::NoAnswer, Fault::GatewayError] {
            let streak = Streak::default();
            streak.put_on_probation(&settings);
            assert!(streak.fail(fault, &settings));
            streak.put_on_probation(&settings);
            streak.succeed();
            assert!(!streak.fail(fault, &settings));
        }
    }
}
