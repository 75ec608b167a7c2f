//! Waiting for conditions instead of sleeping.

use std::time::{Duration, Instant};

/// Short against anything a test waits for, long enough not to keep a core busy.
const POLL: Duration = Duration::from_millis(10);

/// Polls until `condition` holds.
///
/// # Panics
/// When it does not within `deadline`.
#[track_caller]
pub fn eventually(deadline: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    yields(deadline, what, || condition().then_some(()));
}

/// As [`eventually`], for who has more to say than a panic: whether `condition` came to hold.
pub fn comes_true(deadline: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while !condition() {
        if start.elapsed() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// Polls until `attempt` returns a value.
///
/// # Panics
/// When it does not within `deadline`.
#[track_caller]
pub fn yields<T>(deadline: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(start.elapsed() < deadline, "not within {deadline:?}: {what}");
        std::thread::sleep(POLL);
    }
}

/// Polls until `value` has not changed for `quiet`, and returns it.
///
/// # Panics
/// When it is still changing after `deadline`.
#[track_caller]
pub fn settled(deadline: Duration, quiet: Duration, what: &str, value: impl Fn() -> u64) -> u64 {
    let mut last = value();
    let mut since = Instant::now();
    yields(deadline, what, || {
        let now = value();
        if now != last {
            last = now;
            since = Instant::now();
        }
        (since.elapsed() >= quiet).then_some(last)
    })
}
