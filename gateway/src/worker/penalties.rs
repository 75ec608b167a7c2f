//! Addresses whose connections were cut off for flooding, and for how long they stay out.
//!
//! Each worker learns for itself: SO_REUSEPORT brings an address that comes back to all of them soon
//! enough, and nothing has to be shared.

use std::cell::RefCell;
use std::collections::HashMap;

use foldhash::quality::RandomState;

use super::{ClientKey, TICK};

/// 40 KiB of each worker. More addresses than these attack from many places, where staying out one by one is
/// no defence any more; whoever has been allowed back the longest is forgotten first.
const MAX_ADDRESSES: usize = 1_024;
/// Of the first time. A whole office may have the same address: it is out for as long as a page takes.
const FIRST_TICKS: u32 = (1_000 / TICK.as_millis()) as u32;
/// Doubled each time up to this: 64 s, in which an attacker has had one connection's worth of work.
const MOST_DOUBLINGS: u32 = 6;
/// Each time as long as this without a flood halves what the next one costs.
const FORGIVE_TICKS: u32 = (60_000 / TICK.as_millis()) as u32;

#[derive(Debug, Clone, Copy)]
struct Penalty {
    doublings: u32,
    /// Not served before.
    until: u32,
}

/// Of one worker. Time is in its ticks.
#[derive(Debug, Default)]
pub struct Penalties(RefCell<HashMap<ClientKey, Penalty, RandomState>>);

impl Penalties {
    /// Whether `client` has to stay out for now.
    pub fn is_out(&self, client: ClientKey, now: u32) -> bool {
        let known = self.0.borrow();
        !known.is_empty() && known.get(&client).is_some_and(|penalty| now < penalty.until)
    }

    /// A connection of `client` was cut off. Others that it had open at the same time are cut off as part of
    /// the same flood, and do not add to it.
    pub fn strike(&self, client: ClientKey, now: u32) {
        let mut known = self.0.borrow_mut();
        let before = known.get(&client).copied();
        if before.is_some_and(|penalty| now < penalty.until) {
            return;
        }
        if before.is_none() && known.len() >= MAX_ADDRESSES {
            let oldest = known.iter().min_by_key(|(_, penalty)| penalty.until).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                known.remove(&oldest);
            }
        }
        let doublings = before.map_or(0, |penalty| {
            let forgiven = (now - penalty.until) / FORGIVE_TICKS;
            (penalty.doublings + 1).saturating_sub(forgiven).min(MOST_DOUBLINGS)
        });
        known.insert(client, Penalty { doublings, until: now + (FIRST_TICKS << doublings) });
    }

    /// Forgets who has behaved for long enough that the next time would be the first one.
    pub fn sweep(&self, now: u32) {
        self.0.borrow_mut().retain(|_, penalty| {
            now < penalty.until || (now - penalty.until) / FORGIVE_TICKS <= penalty.doublings
        });
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn client(number: u32) -> ClientKey {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn who_floods_again_and_again_stays_out_longer_and_longer() {
        let penalties = Penalties::default();
        let mut now = 5;
        let mut stays = Vec::new();
        for _ in 0..9 {
            penalties.strike(client(1), now);
            let began = now;
            while penalties.is_out(client(1), now) {
                penalties.strike(client(1), now);
                now += 1;
            }
            stays.push((now - began) / FIRST_TICKS);
        }
        assert_eq!(stays, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert!(!penalties.is_out(client(2), now - 1));
    }

    #[test]
    fn time_without_a_flood_forgives() {
        let penalties = Penalties::default();
        penalties.strike(client(1), 0);
        penalties.strike(client(1), FIRST_TICKS);
        let free = FIRST_TICKS + 2 * FIRST_TICKS;
        assert!(!penalties.is_out(client(1), free));
        penalties.sweep(free + FORGIVE_TICKS);
        assert_eq!(penalties.0.borrow().len(), 1);
        penalties.strike(client(1), free + 2 * FORGIVE_TICKS);
        assert!(!penalties.is_out(client(1), free + 2 * FORGIVE_TICKS + FIRST_TICKS));
        penalties.sweep(free + 10 * FORGIVE_TICKS);
        assert!(penalties.0.borrow().is_empty());
    }

    proptest! {
        #[test]
        fn the_memory_is_bounded_and_nobody_stays_out_for_more_than_a_minute(
            floods in proptest::collection::vec((0u32..3_000, 0u32..20), 0..5_000),
        ) {
            let penalties = Penalties::default();
            let mut now = 0;
            for (number, later) in floods {
                now += later;
                penalties.strike(client(number), now);
                prop_assert!(penalties.is_out(client(number), now));
                prop_assert!(!penalties.is_out(client(number), now + (FIRST_TICKS << MOST_DOUBLINGS)));
                prop_assert!(penalties.0.borrow().len() <= MAX_ADDRESSES);
            }
        }
    }
}
