//! Response-rate limiting: what a flood of forged queries would have us send to its victim.
//!
//! Who asks over UDP may be anybody; what can be limited is how much of the same goes to one network. Responses of one
//! kind to one network draw on one account, all responses to that network on another one. Time is an argument.

use std::hash::{BuildHasher, Hash};
use std::net::IpAddr;
use std::time::Duration;

use foldhash::fast::RandomState;

/// Networks that are told apart (BIND's defaults): a household's IPv4 neighbours, an IPv6 site.
const V4_PREFIX: u32 = 24;
const V6_PREFIX: u32 = 56;
/// Debt beyond which nobody goes, in seconds of the rate: who stops flooding is served again after that.
const WINDOW_SECONDS: i64 = 15;
/// Accounts that may share a slot: the one that was used least recently makes room.
const WAYS: usize = 4;
/// 65,536 accounts: 1.5 MiB, at whatever rate and from wherever a flood comes.
const SETS: usize = 1 << 14;
/// Accounts are in thousandths of a response.
const UNIT: i64 = 1_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Equal responses to one network in a second.
    pub responses: u32,
    /// All responses to one network in a second.
    pub total: u32,
    /// One in so many of those that are held back goes out truncated, so that who really asked asks again over TCP. 0: none.
    pub slip: u32,
}

/// What becomes of a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Send,
    /// With nothing in it but that there is more over TCP.
    Slip,
    Drop,
}

#[derive(Debug, Clone, Copy, Default)]
struct Account {
    /// 0: nobody's.
    tag: u64,
    balance: i64,
    /// Milliseconds of the limiter's time.
    at: u64,
}

#[derive(Debug)]
pub struct Limiter {
    limit: RateLimit,
    accounts: Box<[[Account; WAYS]]>,
    hasher: RandomState,
    held_back: u32,
}

impl Limiter {
    pub fn new(limit: RateLimit) -> Self {
        let accounts = vec![[Account::default(); WAYS]; SETS].into_boxed_slice();
        Self { limit, accounts, hasher: RandomState::default(), held_back: 0 }
    }

    /// `kind` is the same for responses that a flood would get alike. `now`: since any fixed moment.
    pub fn judge(&mut self, peer: IpAddr, kind: impl Hash, now: Duration) -> Verdict {
        let network = network(peer);
        let RateLimit { responses, total, slip } = self.limit;
        let now = now.as_millis() as u64;
        // Both pay, so that a flood of one kind counts for all.
        let is_within_total = self.draw((network, 0_u8), total, now);
        let is_within_kind = self.draw((network, 1_u8, kind), responses, now);
        if is_within_total && is_within_kind {
            return Verdict::Send;
        }
        self.held_back = self.held_back.wrapping_add(1);
        if slip > 0 && self.held_back.is_multiple_of(slip) { Verdict::Slip } else { Verdict::Drop }
    }

    fn draw(&mut self, key: impl Hash, rate: u32, now: u64) -> bool {
        let hash = self.hasher.hash_one(key).max(1);
        let full = i64::from(rate) * UNIT;
        let set = &mut self.accounts[(hash >> 40) as usize % SETS];
        let account = match set.iter().position(|account| account.tag == hash) {
            Some(at) => &mut set[at],
            None => {
                let oldest = (0..WAYS).min_by_key(|at| (set[*at].tag != 0, set[*at].at)).unwrap_or(0);
                set[oldest] = Account { tag: hash, balance: full, at: now };
                &mut set[oldest]
            }
        };
        let elapsed = i64::try_from(now.saturating_sub(account.at)).unwrap_or(i64::MAX);
        // A thousandth of a response per millisecond and response of the rate.
        let earned = elapsed.saturating_mul(i64::from(rate));
        account.balance = account.balance.saturating_add(earned).min(full);
        account.at = account.at.max(now);
        account.balance = (account.balance - UNIT).max(-WINDOW_SECONDS * full);
        account.balance >= 0
    }
}

fn network(peer: IpAddr) -> u128 {
    match peer.to_canonical() {
        IpAddr::V4(ip) => u128::from(u32::from(ip) >> (32 - V4_PREFIX)),
        // Above all of the others.
        IpAddr::V6(ip) => u128::from(ip) >> (128 - V6_PREFIX) | 1 << 100,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: RateLimit = RateLimit { responses: 5, total: 20, slip: 2 };

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn sent(limiter: &mut Limiter, from: &str, kind: u32, count: usize, at: Duration) -> usize {
        (0..count).filter(|_| limiter.judge(peer(from), kind, at) == Verdict::Send).count()
    }

    #[test]
    fn a_network_gets_so_many_equal_responses_a_second_and_others_theirs() {
        let mut limiter = Limiter::new(LIMIT);
        let start = Duration::from_secs(1_000);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 1, 100, start), 5);
        assert_eq!(sent(&mut limiter, "192.0.2.77", 1, 10, start), 0, "the same network");
        assert_eq!(sent(&mut limiter, "198.51.100.1", 1, 10, start), 5, "another one");
        assert_eq!(sent(&mut limiter, "2001:db8::1", 1, 10, start), 5);
        assert_eq!(sent(&mut limiter, "2001:db8:0:1::1", 1, 10, start), 0, "the same site");
    }

    #[test]
    fn all_responses_together_are_limited_too() {
        let mut limiter = Limiter::new(LIMIT);
        let all: usize = (0..100).map(|kind| sent(&mut limiter, "192.0.2.1", kind, 1, Duration::ZERO)).sum();
        assert_eq!(all, 20);
    }

    #[test]
    fn who_floods_waits_until_his_debt_is_paid_and_no_longer_than_the_window() {
        let mut limiter = Limiter::new(RateLimit { total: 1_000_000, ..LIMIT });
        let start = Duration::from_secs(5);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 1, 100_000, start), 5);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 1, 1, start + Duration::from_secs(14)), 0);
        assert_eq!(sent(&mut limiter, "192.0.2.1", 1, 100, start + Duration::from_secs(31)), 5);
        // A steady rate within the limit is never held back.
        let steady = (0..500).map(|turn| Duration::from_secs(100) + Duration::from_millis(200) * turn);
        assert!(steady.into_iter().all(|at| limiter.judge(peer("192.0.2.1"), 1, at) == Verdict::Send));
    }

    #[test]
    fn one_in_so_many_slips_through_truncated() {
        let mut limiter = Limiter::new(LIMIT);
        let verdicts: Vec<_> = (0..25).map(|_| limiter.judge(peer("192.0.2.1"), 1, Duration::ZERO)).collect();
        assert_eq!(verdicts.iter().filter(|verdict| **verdict == Verdict::Slip).count(), 10);
        let mut silent = Limiter::new(RateLimit { slip: 0, ..LIMIT });
        assert!((0..100).all(|_| silent.judge(peer("192.0.2.1"), 1, Duration::ZERO) != Verdict::Slip));
    }

    #[test]
    fn a_flood_from_everywhere_stays_in_its_memory() {
        let mut limiter = Limiter::new(LIMIT);
        for number in 0..300_000_u32 {
            limiter.judge(
                IpAddr::from(number.to_be_bytes()),
                number % 7,
                Duration::from_millis(number.into()),
            );
        }
        assert_eq!(limiter.accounts.len() * WAYS, 65_536);
    }
}
