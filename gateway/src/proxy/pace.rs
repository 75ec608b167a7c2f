//! Whether a client is as fast as it has to be: bytes a second, over windows in which nobody else was
//! waited for. Deadlines alone do not see somebody who sends, or takes, a byte now and then.

use std::time::Duration;

use crate::worker::TICK;

/// In which a request's body has to have come as far as the rate says: Apache's grace, and longer than any
/// retransmission.
pub const UPLOAD_WINDOW: Duration = Duration::from_secs(20);
/// In which a client has to have taken as much of a response: a receiver opens its window in steps, of up to half a
/// large buffer, and may stop for as long as [`super::timeouts::BODY`].
pub const DOWNLOAD_WINDOW: Duration = super::timeouts::BODY;

#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Bytes that a window has to bring; 0: whatever comes is enough.
    quota: u64,
    window: u32,
    /// When the window began, in ticks, and how far the body was.
    since: u32,
    from: u64,
    /// The client was waited for when that was last looked at.
    waited: bool,
}

impl Pace {
    /// `rate` is in bytes per second; 0: none.
    pub fn of(rate: u32, window: Duration, now: u32) -> Self {
        let window_ticks = (window.as_millis() / TICK.as_millis()) as u32;
        Self {
            quota: u64::from(rate) * window.as_secs(),
            window: window_ticks,
            since: now,
            from: 0,
            waited: false,
        }
    }

    pub fn is_on(&self) -> bool {
        self.quota > 0
    }

    /// Whether a whole window has not brought its quota. `bytes` is how far the body is by now; whatever
    /// passes while the client is not waited for does not count.
    pub fn lags(&mut self, now: u32, bytes: u64, waits_for_client: bool) -> bool {
        if self.quota == 0 {
            return false;
        }
        // Nobody looks while somebody else is waited for, so the time before such a look is not the client's.
        let waited = std::mem::replace(&mut self.waited, waits_for_client);
        if !waits_for_client || !waited || bytes - self.from >= self.quota {
            (self.since, self.from) = (now, bytes);
            return false;
        }
        now - self.since >= self.window
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WINDOW: u32 = 200;

    proptest! {
        #[test]
        fn who_keeps_the_rate_is_never_cut_and_who_brings_half_of_it_always_is(
            rate in 1u32..100_000, steps in proptest::collection::vec(1u32..50, 40..200),
        ) {
            let (mut fast, mut slow) = (Pace::of(rate, UPLOAD_WINDOW, 7), Pace::of(rate, UPLOAD_WINDOW, 7));
            let (mut now, mut slow_was_cut) = (7, false);
            for step in steps {
                now += step;
                let due = u64::from(rate) * u64::from(now - 7) / 10 + 50 * u64::from(rate);
                prop_assert!(!fast.lags(now, due, true), "tick {now}");
                slow_was_cut |= slow.lags(now, u64::from(rate) * u64::from(now - 7) / 20, true);
            }
            prop_assert!(slow_was_cut || now - 7 < 3 * WINDOW);
        }
    }

    #[test]
    fn time_in_which_somebody_else_is_waited_for_does_not_count() {
        let mut pace = Pace::of(240, UPLOAD_WINDOW, 0);
        assert!(!pace.lags(0, 0, true));
        assert!(!pace.lags(WINDOW - 1, 0, true));
        assert!(!pace.lags(WINDOW, 0, false));
        // Long silence of an endpoint, in which nobody looked.
        assert!(!pace.lags(9 * WINDOW, 1, true));
        assert!(!pace.lags(10 * WINDOW - 1, 1, true));
        assert!(pace.lags(10 * WINDOW, 1, true));
    }

    #[test]
    fn without_a_rate_nobody_lags() {
        let mut pace = Pace::of(0, UPLOAD_WINDOW, 0);
        assert!(!pace.is_on() && !pace.lags(1_000_000, 0, true));
    }
}
