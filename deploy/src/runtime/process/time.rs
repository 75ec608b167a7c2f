//! Time as the records have it: microseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) fn micros(at: SystemTime) -> i64 {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub(super) fn micros_now() -> i64 {
    micros(SystemTime::now())
}

pub(super) fn from_micros(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(micros.max(0).unsigned_abs())
}
