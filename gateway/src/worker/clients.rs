//! How many connections each client address has open, over all workers and without a lock: a fixed table
//! of counters, in buckets of one cache line.
//!
//! A bucket that is full counts nobody else in. Its limit is then missed, not enforced on the wrong client:
//! whoever fills buckets does so with many addresses, which is what no limit per address stops anyway.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// 65,536 addresses in 512 KiB; at half of that one bucket in fifty is full.
const BUCKETS: usize = 8_192;
/// Counters of a cache line.
const SLOTS: usize = 8;
/// Of a counter's 64 bits: connections. The others tell addresses of a bucket apart.
const COUNT_BITS: u32 = 24;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Who counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what a single
/// subscriber has at the least.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientKey(u64);

impl From<IpAddr> for ClientKey {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            // No IPv6 network is below 2^32: that would be `::/32`, which is nobody's.
            IpAddr::V4(address) => Self(u64::from(u32::from(address))),
            IpAddr::V6(address) => Self((u128::from(address) >> 64) as u64),
        }
    }
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Bucket([AtomicU64; SLOTS]);

#[derive(Debug)]
pub struct Clients {
    buckets: Box<[Bucket]>,
    /// Seeded: nobody can aim at another's bucket.
    hasher: RandomState,
}

impl Default for Clients {
    fn default() -> Self {
        Self { buckets: (0..BUCKETS).map(|_| Bucket::default()).collect(), hasher: RandomState::new() }
    }
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Counted {
    clients: Arc<Clients>,
    key: ClientKey,
}

/// The client has as many as it may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooMany;

impl Clients {
    /// Counts one more connection of `client`; `None` where there is no room to count it. Of workers that
    /// count the same client at the same moment, each may let one more in than `most`.
    ///
    /// # Errors
    /// [`TooMany`] when it has `most` already.
    pub fn admit(self: &Arc<Self>, client: ClientKey, most: u32) -> Result<Option<Counted>, TooMany> {
        let (bucket, mark) = self.place(client);
        loop {
            let (mut open, mut own, mut free) = (0, None, None);
            for slot in &bucket.0 {
                let value = slot.load(Ordering::Relaxed);
                if value == 0 {
                    free = free.or(Some(slot));
                } else if value & !COUNT_MASK == mark {
                    open += value & COUNT_MASK;
                    own = own.or(Some((slot, value)));
                }
            }
            if open >= u64::from(most).min(COUNT_MASK) {
                return Err(TooMany);
            }
            let (slot, before) = match (own, free) {
                (Some((slot, value)), _) => (slot, value),
                (None, Some(slot)) => (slot, 0),
                (None, None) => return Ok(None),
            };
            let after = if before == 0 { mark | 1 } else { before + 1 };
            if slot.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return Ok(Some(Counted { clients: self.clone(), key: client }));
            }
        }
    }

    fn release(&self, client: ClientKey) {
        let (bucket, mark) = self.place(client);
        loop {
            let values = bucket.0.iter().map(|slot| (slot, slot.load(Ordering::Relaxed)));
            let mut own = values.filter(|(_, value)| *value != 0 && value & !COUNT_MASK == mark);
            // Whoever was counted has a slot: only those who were counted take one away.
            let Some((slot, before)) = own.next() else { return };
            let after = if before & COUNT_MASK == 1 { 0 } else { before - 1 };
            if slot.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    fn place(&self, client: ClientKey) -> (&Bucket, u64) {
        let hash = self.hasher.hash_one(client);
        (&self.buckets[hash as usize % BUCKETS], hash & !COUNT_MASK)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.clients.release(self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn is_empty(clients: &Clients) -> bool {
        clients.buckets.iter().flat_map(|bucket| &bucket.0).all(|slot| slot.load(Ordering::Relaxed) == 0)
    }

    proptest! {
        #[test]
        fn each_client_has_at_most_what_it_may_have(
            steps in proptest::collection::vec((0u8..20, 1u32..6, any::<bool>()), 0..300),
        ) {
            let clients = Arc::new(Clients::default());
            let mut held: HashMap<u8, Vec<Option<Counted>>> = HashMap::new();
            for (client, most, comes) in steps {
                let of_client = held.entry(client).or_default();
                if comes {
                    let admitted = clients.admit(IpAddr::from([10, 0, 0, client]).into(), most);
                    prop_assert_eq!(admitted.is_ok(), of_client.len() < most as usize);
                    of_client.extend(admitted);
                } else {
                    of_client.pop();
                }
            }
            drop(held);
            prop_assert!(is_empty(&clients));
        }
    }

    #[test]
    fn workers_count_together_and_lose_nothing() {
        const WORKERS: usize = 4;
        const MOST: u32 = 100;
        let clients = Arc::new(Clients::default());
        let held: Vec<Vec<_>> = std::thread::scope(|scope| {
            let work = || {
                scope.spawn(|| {
                    let mut held = Vec::new();
                    for round in 0..2_000 {
                        held.extend(clients.admit(ClientKey(1), MOST));
                        if round % 3 == 0 {
                            held.pop();
                        }
                    }
                    held
                })
            };
            let workers: Vec<_> = (0..WORKERS).map(|_| work()).collect();
            workers.into_iter().map(|worker| worker.join().unwrap()).collect()
        });
        let open: usize = held.iter().map(Vec::len).sum();
        assert!((MOST as usize..MOST as usize + WORKERS).contains(&open), "{open}");
        drop(held);
        assert!(is_empty(&clients));
    }

    #[test]
    fn a_full_bucket_refuses_nobody() {
        let clients = Arc::new(Clients::default());
        let home = |key| clients.hasher.hash_one(ClientKey(key)) as usize % BUCKETS;
        let neighbours: Vec<_> = (1..).filter(|key| home(*key) == home(1)).take(SLOTS + 1).collect();
        let held: Vec<_> = neighbours.iter().map(|key| clients.admit(ClientKey(*key), 1)).collect();
        assert!(held[..SLOTS].iter().all(|held| matches!(held, Ok(Some(_)))));
        assert!(matches!(held[SLOTS], Ok(None)));
    }

    #[test]
    fn an_ipv6_subscriber_is_one_client() {
        let key = |text: &str| ClientKey::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:1:ffff::2"));
        assert_ne!(key("2001:db8:0:1::1"), key("2001:db8:0:2::1"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.2.2"));
    }
}
