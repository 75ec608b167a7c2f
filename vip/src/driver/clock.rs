//! The driver's clock: it runs on while the machine is suspended, as the clocks of all others do.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant as TokioInstant;

use crate::moment::Moment;

pub fn now() -> Moment {
    let time = clock_gettime(ClockId::Boottime);
    let nanos = i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec);
    Moment::from_nanos(u64::try_from(nanos).unwrap_or(0))
}

/// The same moment on the clock that the kernel's timers use, or an earlier one: that clock is read first, so
/// what passes in between makes it earlier.
pub fn instant(moment: Moment) -> Instant {
    let read = Instant::now();
    read + moment.since(now())
}

pub fn timer(moment: Moment) -> TokioInstant {
    TokioInstant::from_std(instant(moment))
}
