//! How much of its weight an endpoint has that has just begun to serve.

use std::time::Duration;

use topology::SLOW_START_PERCENT;

/// What the whole weight is in: weights of an app with slow start are multiplied by this, so that a share
/// of a weight of 1 is a whole number.
pub const WHOLE: u32 = 100;

/// Of [`WHOLE`]: it grows evenly from [`SLOW_START_PERCENT`] while an endpoint has served for less than `ramp`.
pub fn share(serving_for: Duration, ramp: Duration) -> u32 {
    if serving_for >= ramp {
        return WHOLE;
    }
    let grown = serving_for.as_secs_f64() / ramp.as_secs_f64();
    SLOW_START_PERCENT + (f64::from(WHOLE - SLOW_START_PERCENT) * grown) as u32
}

/// How long a share lasts until it grows by one.
pub fn step(ramp: Duration) -> Duration {
    ramp / (WHOLE - SLOW_START_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use crate::balance::{Candidate, SmoothRotation};

    const RAMP: Duration = Duration::from_secs(30);

    #[test]
    fn a_tenth_at_first_and_the_whole_in_the_end() {
        let shares = [0, 10, 15, 29, 30, 99].map(|seconds| share(Duration::from_secs(seconds), RAMP));
        assert_eq!(shares, [10, 40, 55, 97, 100, 100]);
    }

    #[test]
    fn a_new_endpoint_gets_a_tenth_of_an_old_ones_requests() {
        let mut rotation = SmoothRotation::default();
        let weight = |serving_for| share(serving_for, RAMP);
        let candidates = [(1, weight(RAMP)), (2, weight(Duration::ZERO))];
        rotation.update(candidates.into_iter().map(|(id, weight)| Candidate { id, weight }));
        let picks: Vec<_> = (0..110).filter_map(|_| rotation.pick()).collect();
        assert_eq!(picks.iter().filter(|pick| **pick == 1).count(), 10);
    }

    proptest! {
        #[test]
        fn a_share_never_shrinks_and_never_ends_short(ramp in 1u64..100_000, a in 0u64..200_000, b in 0u64..200_000) {
            let ramp = Duration::from_millis(ramp);
            let [earlier, later] = [a.min(b), a.max(b)].map(|millis| share(Duration::from_millis(millis), ramp));
            prop_assert!(earlier <= later && (SLOW_START_PERCENT..=WHOLE).contains(&later));
            prop_assert_eq!(share(ramp, ramp), WHOLE);
        }
    }
}
