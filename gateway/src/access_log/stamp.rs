//! Moments as lines write them.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The time of the day that an [`Instant`] was, without asking the clock for every line. Set anew at
/// every tick, so that a clock that is corrected is believed within one.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    instant: Instant,
    /// Since 1970.
    then: Duration,
}

impl Clock {
    pub fn now() -> Self {
        let then = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { instant: Instant::now(), then }
    }

    /// Since 1970.
    pub fn time_of(&self, instant: Instant) -> Duration {
        match instant.checked_duration_since(self.instant) {
            Some(since) => self.then + since,
            None => self.then.saturating_sub(self.instant - instant),
        }
    }
}

/// A moment as both formats write it.
#[derive(Debug)]
pub struct Stamp {
    second: u64,
    /// `2026-11-20T14:41:34.000Z`: of a second, patched for each moment in it.
    iso: [u8; ISO_BYTES],
    /// `20/Nov/2026:14:41:34 +0000`.
    common: String,
}

const ISO_BYTES: usize = 24;
const MILLIS_AT: usize = 20;

impl Default for Stamp {
    fn default() -> Self {
        let mut stamp = Self { second: 0, iso: *b"1970-01-01T00:00:00.000Z", common: String::new() };
        stamp.begin(0);
        stamp
    }
}

impl Stamp {
    /// Becomes the moment `since_1970`. A busy worker asks for thousands in one second: all but the first
    /// cost three digits.
    pub fn set(&mut self, since_1970: Duration) {
        if self.second != since_1970.as_secs() {
            self.begin(since_1970.as_secs());
        }
        let millis = since_1970.subsec_millis();
        for (digit, power) in self.iso[MILLIS_AT..].iter_mut().zip([100, 10, 1]) {
            *digit = b'0' + (millis / power % 10) as u8;
        }
    }

    /// RFC 3339, in UTC, with milliseconds.
    pub fn iso(&self) -> &[u8] {
        &self.iso
    }

    pub fn common(&self) -> &str {
        &self.common
    }

    fn begin(&mut self, second: u64) {
        self.second = second;
        let known = i64::try_from(second).ok().and_then(|second| jiff::Timestamp::from_second(second).ok());
        let utc = known.unwrap_or_default().to_zoned(jiff::tz::TimeZone::UTC);
        let iso = utc.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        // A year of five digits would have another length; clocks that are so wrong show 1970.
        self.iso = iso.as_bytes().try_into().unwrap_or(*b"1970-01-01T00:00:00.000Z");
        self.common = utc.strftime("%d/%b/%Y:%H:%M:%S %z").to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_its_moment_within_and_across_seconds() {
        let mut stamp = Stamp::default();
        for (millis, iso, common) in [
            (1_795_642_894_007, "2026-11-25T21:41:34.007Z", "25/Nov/2026:21:41:34 +0000"),
            (1_795_642_894_950, "2026-11-25T21:41:34.950Z", "25/Nov/2026:21:41:34 +0000"),
            (1_795_642_895_000, "2026-11-25T21:41:35.000Z", "25/Nov/2026:21:41:35 +0000"),
            (0, "1970-01-01T00:00:00.000Z", "01/Jan/1970:00:00:00 +0000"),
        ] {
            stamp.set(Duration::from_millis(millis));
            assert_eq!((std::str::from_utf8(stamp.iso()).unwrap(), stamp.common()), (iso, common));
        }
        stamp.set(Duration::from_secs(u64::MAX));
        assert_eq!(stamp.iso().len(), ISO_BYTES);
    }

    #[test]
    fn instants_before_and_after_the_clock_was_set_are_told() {
        let instant = Instant::now() + Duration::from_secs(10);
        let clock = Clock { instant, then: Duration::from_secs(100) };
        assert_eq!(clock.time_of(instant + Duration::from_millis(5)), Duration::from_millis(100_005));
        assert_eq!(clock.time_of(instant - Duration::from_millis(5)), Duration::from_millis(99_995));
    }
}
