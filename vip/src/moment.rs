//! A point of a gateway's own clock, which runs on while the machine sleeps.

use std::ops::Add;
use std::time::Duration;

/// Nanoseconds of one machine's clock. Moments of two machines cannot be compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// Before everything: a lease that ends here never was.
    pub const START: Self = Self(0);

    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; nothing if it is before.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// Stops at the end of time instead of beginning anew.
impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(nanos))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_do_not_wrap() {
        let late = Moment::from_nanos(u64::MAX - 1);
        assert_eq!(late + Duration::from_secs(1), Moment::from_nanos(u64::MAX));
        assert_eq!(Moment::START.since(late), Duration::ZERO);
    }
}
