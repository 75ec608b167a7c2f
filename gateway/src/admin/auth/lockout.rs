//! Who guesses tokens waits longer and longer.
//!
//! A token of 256 random bits is not guessed; this keeps guessing from costing us, and the audit log readable. Addresses
//! are counted in a table of fixed size, IPv6 ones by the 64 bits that one customer has.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

/// Addresses that are remembered. Who has more of them than this guesses no better: see above.
pub const MAX_ADDRESSES: usize = 4_096;
/// Mistakes that cost nothing: an old token in a script that runs a few times.
pub const FREE_FAILURES: u32 = 5;
/// After the first failure that costs something; it doubles with each further one.
pub const FIRST_LOCK: Duration = Duration::from_secs(1);
/// Long enough that guessing makes four attempts an hour.
pub const LONGEST_LOCK: Duration = Duration::from_secs(15 * 60);
/// Failures are forgotten when there was none for so long.
pub const FORGET: Duration = Duration::from_secs(30 * 60);

#[derive(Debug, Default)]
pub struct Lockout {
    addresses: HashMap<IpAddr, Failures>,
}

#[derive(Debug, Clone, Copy)]
struct Failures {
    count: u32,
    last: Duration,
    until: Duration,
}

impl Lockout {
    /// How long nobody at `address` is listened to. Times are since any one moment.
    pub fn remaining(&self, address: IpAddr, now: Duration) -> Option<Duration> {
        let failures = self.addresses.get(&group(address))?;
        failures.until.checked_sub(now).filter(|left| !left.is_zero())
    }

    /// A wrong token came from `address`.
    pub fn failed(&mut self, address: IpAddr, now: Duration) {
        let address = group(address);
        if !self.addresses.contains_key(&address) {
            self.make_room(now);
        }
        let failures = self.addresses.entry(address).or_insert(Failures { count: 0, last: now, until: now });
        if now.saturating_sub(failures.last) > FORGET {
            failures.count = 0;
        }
        failures.count = failures.count.saturating_add(1);
        failures.last = now;
        if let Some(excess) = failures.count.checked_sub(FREE_FAILURES + 1) {
            let lock = FIRST_LOCK.saturating_mul(2_u32.saturating_pow(excess)).min(LONGEST_LOCK);
            failures.until = now + lock;
        }
    }

    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    fn make_room(&mut self, now: Duration) {
        if self.addresses.len() < MAX_ADDRESSES {
            return;
        }
        self.addresses.retain(|_, failures| now.saturating_sub(failures.last) <= FORGET);
        if self.addresses.len() >= MAX_ADDRESSES {
            let oldest = self.addresses.iter().min_by_key(|(_, failures)| failures.last);
            if let Some(oldest) = oldest.map(|(address, _)| *address) {
                self.addresses.remove(&oldest);
            }
        }
    }
}

fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn v4(number: u32) -> IpAddr {
        IpAddr::V4(number.into())
    }

    #[test]
    fn locks_double_up_to_the_longest_and_are_forgotten() {
        let mut lockout = Lockout::default();
        let mut now = Duration::ZERO;
        for _ in 0..FREE_FAILURES {
            lockout.failed(v4(1), now);
            assert_eq!(lockout.remaining(v4(1), now), None);
        }
        let mut locks = Vec::new();
        for _ in 0..12 {
            lockout.failed(v4(1), now);
            let lock = lockout.remaining(v4(1), now).unwrap();
            assert_eq!(lockout.remaining(v4(2), now), None, "others are not concerned");
            locks.push(lock.as_secs());
            now += lock;
            assert_eq!(lockout.remaining(v4(1), now), None);
        }
        assert_eq!(locks, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
        now += FORGET + Duration::from_secs(1);
        lockout.failed(v4(1), now);
        assert_eq!(lockout.remaining(v4(1), now), None);
    }

    #[test]
    fn one_customers_ipv6_addresses_are_one() {
        let mut lockout = Lockout::default();
        for host in 0..10_u16 {
            lockout.failed(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, host).into(), Duration::ZERO);
        }
        assert_eq!(lockout.len(), 1);
        assert!(lockout.remaining("2001:db8:0:1::ffff".parse().unwrap(), Duration::ZERO).is_some());
        assert!(lockout.remaining("2001:db8:0:2::1".parse().unwrap(), Duration::ZERO).is_none());
    }

    proptest! {
        #[test]
        fn it_stays_small_and_locks_nobody_who_did_not_fail(
            attempts in prop::collection::vec((0u32..6_000, 0u64..40), 1..12_000)
        ) {
            let mut lockout = Lockout::default();
            let (mut now, mut failures) = (Duration::ZERO, HashMap::<u32, u32>::new());
            for (address, pause) in attempts {
                now += Duration::from_secs(pause);
                lockout.failed(v4(address), now);
                *failures.entry(address).or_default() += 1;
                prop_assert!(lockout.len() <= MAX_ADDRESSES);
                if let Some(lock) = lockout.remaining(v4(address), now) {
                    prop_assert!(lock <= LONGEST_LOCK);
                    prop_assert!(failures[&address] > FREE_FAILURES);
                }
                prop_assert_eq!(lockout.remaining(v4(1_000_000), now), None);
            }
        }
    }
}
