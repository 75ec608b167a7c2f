//! Addresses of which connections were cut off for flooding, and for how long they stay out: of all workers,
//! in a fixed table that nobody locks.
//!
//! A bucket that is full forgets whom it would let in again first. Who fills buckets attacks from thousands of
//! addresses, where staying out one by one is no defence any more.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::{ClientKey, TICK};

/// 4,096 addresses in 32 KiB.
const BUCKETS: usize = 512;
/// Penalties of a cache line.
const SLOTS: usize = 8;
/// Of the first time. A whole office may have the same address: it is out for as long as a page takes.
const FIRST_TICKS: u32 = (1_000 / TICK.as_millis()) as u32;
/// Doubled each time up to this: 64 s, in which an attacker has had one connection's worth of work.
const MOST_DOUBLINGS: u32 = 6;
/// Each time as long as this without a flood halves what the next one costs.
const FORGIVE_TICKS: u32 = (60_000 / TICK.as_millis()) as u32;
/// Connections that an address may break one after the other. A program with a bug tries again a few times, or once a
/// second; who does it for the work that it makes is back at once.
const MOST_BROKEN: u32 = 10;
/// In which one of them is forgotten.
const MEND_TICKS: u32 = FIRST_TICKS;

/// Of a slot's 64 bits, from the lowest: a tick, a number of doublings, one of broken connections. What is left tells
/// addresses of a bucket apart: of 30 million, one has the mark of another.
const UNTIL_BITS: u32 = 32;
const DOUBLINGS_BITS: u32 = 3;
const BROKEN_BITS: u32 = 4;
const MARK: u64 = u64::MAX << (UNTIL_BITS + DOUBLINGS_BITS + BROKEN_BITS);

/// As a slot holds it. No mark, and 0 for all else: an empty one.
#[derive(Debug, Clone, Copy, Default)]
struct Penalty {
    /// Connections, up to `until`.
    broken: u32,
    doublings: u32,
    /// Not served before; of an address that is not out, when it last did something wrong.
    until: u32,
}

impl Penalty {
    fn of(slot: u64) -> Self {
        let field = |at: u32, bits: u32| (slot >> at) as u32 & ((1 << bits) - 1);
        Self {
            broken: field(UNTIL_BITS + DOUBLINGS_BITS, BROKEN_BITS),
            doublings: field(UNTIL_BITS, DOUBLINGS_BITS),
            until: slot as u32,
        }
    }

    fn marked(self, mark: u64) -> u64 {
        let Self { broken, doublings, until } = self;
        let counts = u64::from(broken) << DOUBLINGS_BITS | u64::from(doublings);
        mark | counts << UNTIL_BITS | u64::from(until)
    }

    fn is_out(self, now: u32) -> bool {
        now < self.until
    }

    /// What a flood costs whose address has had `before`; `None` as long as that lasts.
    fn after(before: Option<Self>, now: u32) -> Option<Self> {
        let doublings = match before {
            None => 0,
            Some(before) => {
                let forgiven = now.checked_sub(before.until)? / FORGIVE_TICKS;
                (before.doublings + 1).saturating_sub(forgiven).min(MOST_DOUBLINGS)
            }
        };
        Some(Self { broken: 0, doublings, until: now + (FIRST_TICKS << doublings) })
    }

    /// What a broken connection leaves, as [`Self::after`].
    fn broken_after(before: Option<Self>, now: u32) -> Option<Self> {
        let Some(known) = before else { return Some(Self { broken: 1, doublings: 0, until: now }) };
        let passed = now.checked_sub(known.until)?;
        let broken = known.broken.saturating_sub(passed / MEND_TICKS) + 1;
        if broken > MOST_BROKEN {
            // What broke before was no flood: the first one costs what a first one does.
            return Self::after(before.filter(|known| known.doublings > 0), now);
        }
        let doublings = known.doublings.saturating_sub(passed / FORGIVE_TICKS);
        Some(Self { broken, doublings, until: now })
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; SLOTS]);

/// What the slots of a bucket held at one look. All is decided by it: where another look found a slot for
/// somebody whom the first one did not find, two workers would give one address two slots.
type Held = [u64; SLOTS];

impl Bucket {
    fn look(&self) -> Held {
        self.0.each_ref().map(|slot| slot.load(Ordering::Relaxed))
    }
}

fn find(held: &Held, mark: u64) -> Option<usize> {
    held.iter().position(|value| *value != 0 && value & MARK == mark)
}

/// The slot that is let go for somebody new: the first of those that end first.
fn oldest(held: &Held) -> usize {
    (1..SLOTS).fold(0, |oldest, slot| {
        if Penalty::of(held[slot]).until < Penalty::of(held[oldest]).until { slot } else { oldest }
    })
}

/// Time is in ticks since [`super::Shared::began`].
#[derive(Debug)]
pub struct Penalties {
    buckets: Box<[Bucket]>,
    /// Seeded: nobody can aim at another's bucket.
    hasher: RandomState,
    /// When the last of them ends.
    latest: AtomicU32,
    /// How many there have been.
    count: AtomicU32,
}

impl Default for Penalties {
    fn default() -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(),
            hasher: RandomState::new(),
            latest: AtomicU32::new(0),
            count: AtomicU32::new(0),
        }
    }
}

impl Penalties {
    /// The tick up to which `client` has to stay out, if it has to. One load while nobody has to.
    pub fn out_until(&self, client: ClientKey, now: u32) -> Option<u32> {
        if now >= self.latest.load(Ordering::Relaxed) {
            return None;
        }
        let (bucket, mark) = self.place(client);
        let held = bucket.look();
        let own = find(&held, mark)?;
        Some(Penalty::of(held[own]).until).filter(|until| now < *until)
    }

    /// Changes with every address that is put out, so that connections that are open look whether it is theirs.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// A connection of `client` was cut off. Others that are cut off while it is out are part of the same
    /// flood, and do not add to it.
    pub fn strike(&self, client: ClientKey, now: u32) {
        self.change(client, now, Penalty::after);
    }

    /// A connection of `client` ended by an error that no client makes. Whether that was one too many: then
    /// it is as a flood.
    pub fn count_broken(&self, client: ClientKey, now: u32) -> bool {
        self.change(client, now, Penalty::broken_after).is_some_and(|penalty| penalty.is_out(now))
    }

    /// What `client` has from now on, if that changes.
    fn change(
        &self,
        client: ClientKey,
        now: u32,
        after: impl Fn(Option<Penalty>, u32) -> Option<Penalty>,
    ) -> Option<Penalty> {
        let (bucket, mark) = self.place(client);
        loop {
            let held = bucket.look();
            let own = find(&held, mark);
            let penalty = after(own.map(|slot| Penalty::of(held[slot])), now)?;
            let slot = own.unwrap_or_else(|| oldest(&held));
            let before = held[slot];
            if own.is_none() && !penalty.is_out(now) && Penalty::of(before).is_out(now) {
                // Nobody who is out is forgotten for somebody who is not.
                return None;
            }
            let marked = penalty.marked(mark);
            if bucket.0[slot].compare_exchange(before, marked, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                if penalty.is_out(now) {
                    self.latest.fetch_max(penalty.until, Ordering::Relaxed);
                    self.count.fetch_add(1, Ordering::Release);
                }
                return Some(penalty);
            }
        }
    }

    fn place(&self, client: ClientKey) -> (&Bucket, u64) {
        let hash = self.hasher.hash_one(client);
        (&self.buckets[hash as usize % BUCKETS], hash & MARK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u32) -> ClientKey {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    fn is_out(penalties: &Penalties, number: u32, now: u32) -> bool {
        penalties.out_until(client(number), now).is_some()
    }

    #[test]
    fn who_floods_again_and_again_stays_out_longer_and_longer() {
        let penalties = Penalties::default();
        let mut now = 5;
        let mut stays = Vec::new();
        for _ in 0..9 {
            penalties.strike(client(1), now);
            let began = now;
            while is_out(&penalties, 1, now) {
                penalties.strike(client(1), now);
                now += 1;
            }
            stays.push((now - began) / FIRST_TICKS);
        }
        assert_eq!(stays, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(penalties.count(), 9);
        assert!(!is_out(&penalties, 2, now - 1));
    }

    #[test]
    fn time_without_a_flood_forgives() {
        let penalties = Penalties::default();
        penalties.strike(client(1), 0);
        penalties.strike(client(1), FIRST_TICKS);
        let free = FIRST_TICKS + 2 * FIRST_TICKS;
        assert!(!is_out(&penalties, 1, free));
        penalties.strike(client(1), free + 2 * FORGIVE_TICKS);
        assert!(!is_out(&penalties, 1, free + 2 * FORGIVE_TICKS + FIRST_TICKS));
    }

    #[test]
    fn a_flood_on_all_workers_at_once_is_one_flood() {
        const WORKERS: usize = 4;
        const ADDRESSES: u32 = 200;
        let penalties = Penalties::default();
        std::thread::scope(|scope| {
            for _ in 0..WORKERS {
                scope.spawn(|| (0..ADDRESSES).for_each(|number| penalties.strike(client(number), 3)));
            }
        });
        assert_eq!(penalties.count(), ADDRESSES);
        assert!(
            (0..ADDRESSES).all(|number| { penalties.out_until(client(number), 3) == Some(3 + FIRST_TICKS) })
        );
    }

    #[test]
    fn a_full_bucket_forgets_whom_it_would_let_in_first() {
        let penalties = Penalties::default();
        let home = |number| penalties.hasher.hash_one(client(number)) as usize % BUCKETS;
        let neighbours: Vec<u32> = (1..).filter(|number| home(*number) == home(1)).take(SLOTS + 1).collect();
        for (now, number) in (0..).zip(&neighbours) {
            penalties.strike(client(*number), now);
        }
        let now = SLOTS as u32;
        let are_out: Vec<bool> = neighbours.iter().map(|number| is_out(&penalties, *number, now)).collect();
        assert_eq!(are_out, [&[false][..], &[true; SLOTS]].concat());
    }

    #[test]
    fn who_breaks_connections_in_a_row_is_out_and_who_does_it_now_and_then_is_not() {
        let penalties = Penalties::default();
        let breaks = |number, now| penalties.count_broken(client(number), now);
        assert!((0..100).all(|round| !breaks(1, 1 + round * MEND_TICKS)));
        assert!((0..MOST_BROKEN).all(|_| !breaks(2, 3) && !is_out(&penalties, 2, 3)));
        assert!(breaks(2, 3) && is_out(&penalties, 2, 3));
        // It counts once, and then anew.
        assert!(!breaks(2, 4) && !breaks(2, 3 + FIRST_TICKS));
        assert_eq!(penalties.count(), 1);
        penalties.strike(client(2), 3 + FIRST_TICKS);
        assert!(is_out(&penalties, 2, 3 + 2 * FIRST_TICKS), "the second time is longer");
    }

    proptest! {
        /// A few addresses, none of which is forgotten: each by itself, whatever the others do.
        #[test]
        fn each_address_stays_out_for_its_own_floods(
            floods in proptest::collection::vec((0u32..6, 0u32..900), 0..200),
        ) {
            let penalties = Penalties::default();
            let mut known: HashMap<u32, Penalty> = HashMap::new();
            let mut now = 0;
            for (number, later) in floods {
                now += later;
                penalties.strike(client(number), now);
                if let Some(penalty) = Penalty::after(known.get(&number).copied(), now) {
                    known.insert(number, penalty);
                }
                for other in 0..6 {
                    let until = known.get(&other).map(|penalty| penalty.until).filter(|until| now < *until);
                    prop_assert_eq!(penalties.out_until(client(other), now), until);
                }
            }
        }

        #[test]
        fn who_floods_is_out_and_nobody_for_more_than_a_minute(
            floods in proptest::collection::vec((0u32..9_000, 0u32..20), 0..9_000),
        ) {
            let penalties = Penalties::default();
            let mut now = 0;
            for (number, later) in floods {
                now += later;
                penalties.strike(client(number), now);
                prop_assert!(is_out(&penalties, number, now));
                prop_assert!(!is_out(&penalties, number, now + (FIRST_TICKS << MOST_DOUBLINGS)));
            }
        }
    }
}
