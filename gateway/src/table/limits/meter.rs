//! A count with a limit.

use std::sync::atomic::{AtomicU32, Ordering};

/// Aligned, so that a count that changes with every request does not take the line of one that is only read.
///
/// Sequentially consistent, and so is the count of those who wait: whoever gives back looks for waiters
/// afterwards, whoever waits looks for room afterwards, and one of the two sees the other.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Meter {
    used: AtomicU32,
    /// Workers' tasks that would take one if there were one.
    wanted: AtomicU32,
}

impl Meter {
    /// Takes one if fewer than `limit` are taken, by whichever worker.
    pub fn try_take(&self, limit: u32) -> bool {
        let more = |used: u32| (used < limit).then_some(used + 1);
        self.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// Takes one, however many are taken.
    pub fn take(&self) {
        self.used.fetch_add(1, Ordering::SeqCst);
    }

    pub fn give_back(&self) {
        self.used.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn used(&self) -> u32 {
        self.used.load(Ordering::SeqCst)
    }

    /// Says that one is wanted, as long as what is returned lives.
    pub fn want(&self) -> Want<'_> {
        self.wanted.fetch_add(1, Ordering::SeqCst);
        Want(self)
    }

    /// Whether one that is held without need should be given back.
    pub fn is_wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) > 0
    }
}

#[derive(Debug)]
pub struct Want<'m>(&'m Meter);

impl Drop for Want<'_> {
    fn drop(&mut self) {
        self.0.wanted.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_together_never_take_more_than_the_limit() {
        const LIMIT: u32 = 3;
        let (meter, most) = (Meter::default(), AtomicU32::new(0));
        let inside = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        if meter.try_take(LIMIT) {
                            most.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            meter.give_back();
                        }
                    }
                });
            }
        });
        assert_eq!(meter.used(), 0);
        assert!((1..=LIMIT).contains(&most.load(Ordering::SeqCst)));
    }

    #[test]
    fn a_want_lasts_as_long_as_who_wants() {
        let meter = Meter::default();
        let want = meter.want();
        assert!(meter.is_wanted());
        drop(want);
        assert!(!meter.is_wanted());
    }
}
