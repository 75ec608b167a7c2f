//! The clock that all processes of a machine share.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment of `CLOCK_MONOTONIC`, which other processes can name too. `Instant` is the same clock and
/// does not say its value.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Moment(f64);

impl Moment {
    pub fn now() -> Self {
        let now = clock_gettime(ClockId::Monotonic);
        Self(now.tv_sec as f64 + now.tv_nsec as f64 / 1e9)
    }

    /// As another process read it.
    pub fn from_seconds(seconds: f64) -> Self {
        Self(seconds)
    }

    /// Negative when `self` came first.
    pub fn millis_since(self, earlier: Self) -> f64 {
        (self.0 - earlier.0) * 1e3
    }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
