//! How often each of many clients has asked, in bounded memory, without a lock.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::gcra::{Gcra, Verdict};

/// Slots that a key may be in: two cache lines.
const WAYS: usize = 8;

/// A key, and the moment from which on it has asked for nothing.
#[derive(Debug, Default)]
struct Slot {
    /// 0: free.
    key: AtomicU64,
    arrival: AtomicU64,
}

/// Shared by all workers, so a limit is the gateway's and not each worker's. Two workers that count the
/// same client at the same moment both count. Only where more clients than slots are active at once is
/// one forgotten, the one that has asked for least, and that client begins anew.
#[derive(Debug)]
pub struct Buckets {
    count: usize,
    /// From the first request on.
    slots: OnceLock<Box<[Slot]>>,
}

impl Buckets {
    /// For at least `keys` keys.
    pub fn new(keys: u32) -> Self {
        Self { count: (keys as usize).next_multiple_of(WAYS), slots: OnceLock::new() }
    }

    /// Counts a request of `key` at `now`, or says that it is one too many. `key` is a hash that clients
    /// cannot foresee.
    pub fn take(&self, key: u64, now: u64, gcra: &Gcra) -> Verdict {
        let key = key.max(1);
        let slots = self.slots.get_or_init(|| (0..self.count).map(|_| Slot::default()).collect());
        let first = (key % (self.count / WAYS) as u64) as usize * WAYS;
        let slot = find(&slots[first..first + WAYS], key);
        let mut arrival = slot.arrival.load(Ordering::Relaxed);
        loop {
            let (verdict, next) = gcra.decide(arrival, now);
            let Some(next) = next else { return verdict };
            match slot.arrival.compare_exchange_weak(arrival, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return verdict,
                Err(other) => arrival = other,
            }
        }
    }
}

/// The slot that `key` has, or takes.
fn find(set: &[Slot], key: u64) -> &Slot {
    loop {
        let mut least = &set[0];
        let mut least_seen = (u64::MAX, u64::MAX);
        for slot in set {
            let found = slot.key.load(Ordering::Relaxed);
            if found == key {
                return slot;
            }
            let seen = if found == 0 { 0 } else { slot.arrival.load(Ordering::Relaxed).max(1) };
            if seen < least_seen.0 {
                (least, least_seen) = (slot, (seen, found));
            }
        }
        let taken = least.key.compare_exchange(least_seen.1, key, Ordering::Relaxed, Ordering::Relaxed);
        if taken.is_ok() {
            least.arrival.store(0, Ordering::Relaxed);
            return least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn keys_do_not_know_of_each_other() {
        let (buckets, gcra) = (Buckets::new(64), Gcra::new(1, SECOND, 1));
        assert!(buckets.take(1, SECOND, &gcra).is_ok());
        assert!(buckets.take(1, SECOND, &gcra).is_err());
        assert!(buckets.take(2, SECOND, &gcra).is_ok());
    }

    #[test]
    fn a_flood_of_keys_does_not_free_those_that_are_limited() {
        let (buckets, gcra) = (Buckets::new(64), Gcra::new(10, SECOND, 10));
        let limited = 7;
        while buckets.take(limited, SECOND, &gcra).is_ok() {}
        for key in 1_000..100_000 {
            assert!(buckets.take(key, SECOND, &gcra).is_ok(), "a new client may ask");
        }
        assert!(buckets.take(limited, SECOND, &gcra).is_err());
    }

    #[test]
    fn workers_count_together() {
        let (buckets, gcra) = (Buckets::new(64), Gcra::new(1_000, 3_600 * SECOND, 1_000));
        let passed = |_| (0..10_000).filter(|_| buckets.take(7, SECOND, &gcra).is_ok()).count();
        let total: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|at| scope.spawn(move || passed(at))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(total, 1_000);
    }
}
