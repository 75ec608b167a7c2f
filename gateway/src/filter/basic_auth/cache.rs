//! What was verified lately, so that a client's next request need not wait.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use aws_lc_rs::rand::SystemRandom;

use super::Claim;
use super::verify::Verdict;

/// Of both kinds, so that a client that repeats a wrong password costs one hash a minute.
const LIFETIME: Duration = Duration::from_secs(60);
/// A copy of so many takes far less time than the hash that was computed for it.
const MAX_ENTRIES: usize = 1_024;

type Entries = HashMap<[u8; 32], (Instant, bool)>;

/// Read by all workers without a lock, written by the threads that verify.
#[derive(Debug)]
pub struct Cache {
    /// Of this process: entries are of no use to whoever reads them.
    key: Option<Key>,
    entries: ArcSwap<Entries>,
}

impl Default for Cache {
    fn default() -> Self {
        // Without random numbers nothing is remembered, and everything verified.
        let key = Key::generate(HMAC_SHA256, &SystemRandom::new()).ok();
        Self { key, entries: ArcSwap::default() }
    }
}

impl Cache {
    pub fn find(&self, claim: &Claim, now: Instant) -> Option<Verdict> {
        let (until, is_right) = *self.entries.load().get(&self.tag(claim)?)?;
        (now < until).then_some(if is_right { Verdict::Right } else { Verdict::Wrong })
    }

    pub fn remember(&self, claim: &Claim, is_right: bool, now: Instant) {
        let Some(tag) = self.tag(claim) else { return };
        self.entries.rcu(|entries| {
            let mut entries = (**entries).clone();
            if entries.len() >= MAX_ENTRIES {
                entries.retain(|_, (until, _)| now < *until);
            }
            if entries.len() >= MAX_ENTRIES {
                // Wrong passwords are what an attacker has many of.
                entries.retain(|_, (_, is_right)| *is_right);
            }
            if entries.len() >= MAX_ENTRIES {
                entries.clear();
            }
            entries.insert(tag, (now + LIFETIME, is_right));
            entries
        });
    }

    /// Name, password and hash: another hash in the file, and nothing of it is remembered.
    fn tag(&self, claim: &Claim) -> Option<[u8; 32]> {
        let mut message = Vec::with_capacity(128);
        for part in [claim.name.as_bytes(), claim.hash.as_bytes(), &claim.password] {
            message.extend_from_slice(&(part.len() as u64).to_le_bytes());
            message.extend_from_slice(part);
        }
        sign(self.key.as_ref()?, &message).as_ref().try_into().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(name: &str, password: &str, hash: &str) -> Claim {
        Claim { name: name.into(), password: password.as_bytes().into(), hash: hash.into(), is_known: true }
    }

    #[test]
    fn what_was_verified_holds_for_that_claim_and_a_while() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.remember(&claim("a", "p", "h"), true, now);
        cache.remember(&claim("a", "q", "h"), false, now);
        assert_eq!(cache.find(&claim("a", "p", "h"), now), Some(Verdict::Right));
        assert_eq!(cache.find(&claim("a", "q", "h"), now), Some(Verdict::Wrong));
        assert_eq!(cache.find(&claim("a", "p", "h2"), now), None, "the file says another hash now");
        assert_eq!(cache.find(&claim("ap", "", "h"), now), None);
        assert_eq!(cache.find(&claim("a", "p", "h"), now + LIFETIME), None);
    }

    #[test]
    fn a_flood_of_wrong_passwords_is_bounded_and_forgets_nobody_who_is_right() {
        let (cache, now) = (Cache::default(), Instant::now());
        cache.remember(&claim("a", "p", "h"), true, now);
        for wrong in 0..3 * MAX_ENTRIES {
            cache.remember(&claim("a", &wrong.to_string(), "h"), false, now);
        }
        assert!(cache.entries.load().len() <= MAX_ENTRIES);
        assert_eq!(cache.find(&claim("a", "p", "h"), now), Some(Verdict::Right));
    }
}
