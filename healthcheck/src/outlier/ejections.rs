//! How long an endpoint is out, and how long the next time. Pure: the caller says what time it is.

use std::time::{Duration, Instant};

use topology::Outliers;

/// One endpoint's ejections so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Ejections {
    until: Option<Instant>,
    /// How often the first length is doubled next time.
    repeats: u32,
    /// How long the last one was to last.
    last: Duration,
    returned: Option<Instant>,
}

impl Ejections {
    pub fn is_out(&self) -> bool {
        self.until.is_some()
    }

    /// Takes the endpoint out; returns for how long.
    pub fn eject(&mut self, now: Instant, settings: &Outliers) -> Duration {
        self.forgive(now);
        let doubled = settings.ejection.saturating_mul(1_u32.checked_shl(self.repeats).unwrap_or(u32::MAX));
        self.last = doubled.min(settings.max_ejection);
        // Past the maximum there is nothing left to double, and good conduct should not have to make up
        // for more.
        if doubled < settings.max_ejection {
            self.repeats += 1;
        }
        (self.until, self.returned) = (Some(now + self.last), None);
        self.last
    }

    /// Whether it is out and has been for as long as it was to be.
    pub fn is_due(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// It is back, whether it was due or not.
    pub fn end(&mut self, now: Instant) {
        if self.until.take().is_some() {
            self.returned = Some(now);
        }
    }

    /// For every stretch as long as the last ejection that it has served since, one repeat is forgotten.
    fn forgive(&mut self, now: Instant) {
        let Some(returned) = self.returned else { return };
        let stretches = (now - returned).as_nanos() / self.last.as_nanos().max(1);
        self.repeats = self.repeats.saturating_sub(u32::try_from(stretches).unwrap_or(u32::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn every_ejection_in_a_row_lasts_twice_as_long_up_to_the_longest() {
        let settings = Outliers { ejection: seconds(5), max_ejection: seconds(30), ..Outliers::default() };
        let (mut ejections, mut now) = (Ejections::default(), Instant::now());
        for wanted in [5, 10, 20, 30, 30, 30] {
            let lasts = ejections.eject(now, &settings);
            assert_eq!(lasts, seconds(wanted));
            assert!(ejections.is_out() && !ejections.is_due(now + lasts - Duration::from_nanos(1)));
            now += lasts;
            assert!(ejections.is_due(now));
            ejections.end(now);
            assert!(!ejections.is_out());
        }
    }

    #[test]
    fn good_conduct_is_rewarded_step_by_step() {
        let settings = Outliers { ejection: seconds(5), ..Outliers::default() };
        let (mut ejections, start) = (Ejections::default(), Instant::now());
        for _ in 0..3 {
            ejections.eject(start, &settings);
            ejections.end(start);
        }
        // The last one lasted 20 s, the next would 40 s.
        let mut kept = ejections;
        assert_eq!(kept.eject(start + seconds(19), &settings), seconds(40));
        let mut once = ejections;
        assert_eq!(once.eject(start + seconds(20), &settings), seconds(20));
        assert_eq!(ejections.eject(start + seconds(3600), &settings), seconds(5));
    }

    proptest! {
        #[test]
        fn lengths_stay_between_the_first_and_the_longest(served in proptest::collection::vec(0u64..400, 1..60), first in 1u64..20, longest in 20u64..400) {
            let settings = Outliers { ejection: seconds(first), max_ejection: seconds(longest), ..Outliers::default() };
            let (mut ejections, mut now) = (Ejections::default(), Instant::now());
            let mut before = None;
            for served in served {
                now += seconds(served);
                let lasts = ejections.eject(now, &settings);
                prop_assert!(lasts >= settings.ejection && lasts <= settings.max_ejection);
                if let Some(before) = before {
                    prop_assert!(lasts <= 2 * before, "it grows by doubling: {:?} after {:?}", lasts, before);
                }
                before = Some(lasts);
                now += lasts;
                prop_assert!(ejections.is_due(now));
                ejections.end(now);
            }
        }
    }
}
