//! A part of many.

/// Which of many equal things are taken, as a share from none to all. Kept in millionths: exact to
/// compare, and finer than any traffic asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sample(u32);

impl Sample {
    const WHOLE: u32 = 1_000_000;
    pub const ALL: Self = Self(Self::WHOLE);
    pub const NONE: Self = Self(0);

    /// `None` for what is no share: below 0, above 1, or no number. A share above 0 never becomes none.
    pub fn of(share: f64) -> Option<Self> {
        if !(0.0..=1.0).contains(&share) {
            return None;
        }
        let millionths = (share * f64::from(Self::WHOLE)).round() as u32;
        Some(Self(if share > 0.0 { millionths.max(1) } else { 0 }))
    }

    /// Whether what has drawn `number`, evenly spread over all values of its type, is among those taken.
    pub fn takes(self, number: u64) -> bool {
        ((number >> 32) * u64::from(Self::WHOLE)) >> 32 < u64::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_takes_its_part_of_evenly_spread_numbers() {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        for (share, wanted) in [(0.0, 0), (0.01, 1_000), (0.1, 10_000), (0.5, 50_000), (1.0, 100_000)] {
            let sample = Sample::of(share).unwrap();
            let taken = (0..100_000u64).filter(|i| sample.takes(i.wrapping_mul(STEP))).count();
            assert!(taken.abs_diff(wanted) <= 2, "{share}: {taken}");
        }
        assert!(Sample::ALL.takes(u64::MAX) && !Sample::NONE.takes(0));
    }

    #[test]
    fn only_shares_are_shares_and_a_small_one_is_not_none() {
        for bad in [-0.1, 1.000_001, f64::NAN, f64::INFINITY] {
            assert_eq!(Sample::of(bad), None, "{bad}");
        }
        assert!(Sample::of(1e-12).unwrap() > Sample::NONE);
    }
}
