//! Which gateways of a fleet probe an endpoint, and what the others make of what those found. Pure.
//!
//! Rendezvous hashing: every gateway scores every endpoint, and the `k` best probe it. Whoever knows the same gateways
//! comes to the same result without a word, and when one goes, only what it probed is probed by somebody else.

pub(crate) mod desk;
#[cfg(test)]
mod simulation;
pub(crate) mod verdicts;

use std::time::Duration;

use smallvec::SmallVec;
use topology::{AppId, InstanceKey};

pub use desk::{BEAT, Colleague};
pub use verdicts::{BUCKETS, Down, Fingerprint, MAX_DOWN, MAX_DOWN_BYTES, Verdicts, short};

/// An endpoint's share in every score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointHash(u64);

impl EndpointHash {
    pub fn of(app: &AppId, key: &InstanceKey) -> Self {
        Self(hash(&[app.as_str(), key.version.as_str(), key.instance.as_str()]))
    }
}

/// The gateways that are alive, one of which this one is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fleet {
    me: Option<u64>,
    /// In order.
    others: Vec<u64>,
}

/// The higher the better: a gateway's score, and its hash where two have the same.
type Place = (u64, u64);

/// Who is to probe an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Probers {
    pub me: bool,
    /// Positions among the fleet's others.
    pub others: SmallVec<[usize; 4]>,
}

impl Fleet {
    /// `alive` may or may not name `me`, in any order.
    pub fn new<'g>(me: &str, alive: impl IntoIterator<Item = &'g str>) -> Self {
        let mut others: Vec<u64> =
            alive.into_iter().filter(|gateway| *gateway != me).map(|gateway| hash(&[gateway])).collect();
        others.sort_unstable();
        Self { me: Some(hash(&[me])), others }
    }

    /// Whether this gateway is among the `probers` of the endpoint. Alone, or where nobody shares (0), it always is.
    pub fn probes(&self, endpoint: EndpointHash, probers: usize) -> bool {
        let Some(me) = self.me.filter(|_| probers > 0) else { return true };
        let mine = score(me, endpoint);
        let better = self.others.iter().filter(|other| (score(**other, endpoint), **other) > (mine, me));
        better.take(probers).count() < probers
    }

    /// The gateways that are to probe the endpoint: as many as `count`, or all that there are.
    pub(crate) fn probers(&self, endpoint: EndpointHash, count: usize) -> Probers {
        let others = self.others.iter().enumerate().map(|(at, other)| (*other, Some(at)));
        let mut best = SmallVec::<[(Place, Option<usize>); 4]>::new();
        for (gateway, at) in self.me.map(|me| (me, None)).into_iter().chain(others) {
            let place = (score(gateway, endpoint), gateway);
            let rank = best.partition_point(|(better, _)| *better > place);
            if rank < count {
                best.truncate(count - 1);
                best.insert(rank, (place, at));
            }
        }
        let me = best.iter().any(|(_, at)| at.is_none());
        Probers { me, others: best.into_iter().filter_map(|(_, at)| at).collect() }
    }

    /// Of a gateway that is alive, among the others.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.others.binary_search(&hash(&[name])).ok()
    }
}

/// What those that have to probe an endpoint say of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Opinion {
    Up,
    Down,
    Divided,
}

/// A word is not heeded any more when its gateway has said nothing for so many beats: a gateway that is stuck says nothing new either.
const MAX_BEATS: u32 = 3;

/// Whether a word still counts, so long after its gateway was heard last.
pub(crate) fn is_fresh(age: Duration) -> bool {
    age <= BEAT * MAX_BEATS
}

/// `None`: nobody said anything. One gateway that sees it otherwise suffices for [`Opinion::Divided`]: nothing is decided by
/// vote, since each of them may be right for its own network.
pub(crate) fn settle(are_up: impl IntoIterator<Item = bool>) -> Option<Opinion> {
    let opinion = |is_up| if is_up { Opinion::Up } else { Opinion::Down };
    are_up.into_iter().map(opinion).reduce(|one, other| if one == other { one } else { Opinion::Divided })
}

fn score(gateway: u64, EndpointHash(endpoint): EndpointHash) -> u64 {
    mix(gateway ^ endpoint.rotate_left(32))
}

/// FNV-1a over the parts, each with its end, and mixed. The same on every machine and in every version: gateways of two
/// versions share a fleet during an upgrade.
fn hash(parts: &[&str]) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    // 0xff is in no text.
    let bytes = parts.iter().flat_map(|part| part.bytes().chain([0xff]));
    mix(bytes.fold(OFFSET, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(PRIME)))
}

/// The finalizer of splitmix64, which spreads every bit over all.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use topology::{InstanceId, VersionId};

    use super::*;

    fn endpoint(number: usize) -> EndpointHash {
        let key = InstanceKey {
            version: VersionId::parse("v1").unwrap(),
            instance: InstanceId::parse(&format!("c{number}")).unwrap(),
        };
        EndpointHash::of(&AppId::parse("shop").unwrap(), &key)
    }

    /// Who probes an endpoint, each asked by itself.
    fn probers(gateways: &[String], number: usize, count: usize) -> Vec<&str> {
        let names = || gateways.iter().map(String::as_str);
        names().filter(|me| Fleet::new(me, names()).probes(endpoint(number), count)).collect()
    }

    fn gateways(names: std::ops::Range<usize>) -> Vec<String> {
        names.map(|number| format!("gw-{number}")).collect()
    }

    proptest! {
        #[test]
        fn an_endpoint_has_as_many_probers_as_asked_for_whatever_order_gateways_are_known_in(
            names in proptest::collection::hash_set("[a-z0-9-]{1,12}", 1..20), count in 1usize..5, number in 0usize..1000,
        ) {
            let names: Vec<String> = names.into_iter().collect();
            let chosen = probers(&names, number, count);
            prop_assert_eq!(chosen.len(), count.min(names.len()));
            let mut turned = names.clone();
            turned.reverse();
            let mut again = probers(&turned, number, count);
            again.reverse();
            prop_assert_eq!(&chosen, &again);
            for me in &names {
                let fleet = Fleet::new(me, names.iter().map(String::as_str));
                let probers = fleet.probers(endpoint(number), count);
                prop_assert_eq!(probers.me, chosen.contains(&me.as_str()));
                let mut others: Vec<_> = chosen.iter().filter(|name| *name != me).map(|name| fleet.position(name)).collect();
                others.sort();
                let mut found: Vec<_> = probers.others.into_iter().map(Some).collect();
                found.sort();
                prop_assert_eq!(found, others);
            }
        }

        #[test]
        fn when_a_gateway_goes_only_what_it_probed_is_probed_by_another(
            size in 2usize..20, gone in 0usize..20, count in 1usize..4, number in 0usize..1000,
        ) {
            let before = gateways(0..size);
            let gone = format!("gw-{}", gone % size);
            let after: Vec<String> = before.iter().filter(|name| **name != gone).cloned().collect();
            let (old, new) = (probers(&before, number, count), probers(&after, number, count));
            let stayed = old.iter().filter(|name| **name != gone);
            prop_assert!(stayed.clone().all(|name| new.contains(name)));
            prop_assert!(new.len() - stayed.count() <= 1);
        }

        #[test]
        fn only_one_voice_is_an_opinion(are_up in proptest::collection::vec(any::<bool>(), 0..8)) {
            let wanted = match (are_up.contains(&true), are_up.contains(&false)) {
                (false, false) => None,
                (true, false) => Some(Opinion::Up),
                (false, true) => Some(Opinion::Down),
                (true, true) => Some(Opinion::Divided),
            };
            prop_assert_eq!(settle(are_up), wanted);
        }
    }

    #[test]
    fn gateways_have_equal_parts() {
        let fleet = gateways(0..10);
        let mut counts = vec![0u32; fleet.len()];
        for (me, count) in fleet.iter().zip(&mut counts) {
            let known = Fleet::new(me, fleet.iter().map(String::as_str));
            *count = (0..20_000).filter(|number| known.probes(endpoint(*number), 3)).count() as u32;
        }
        assert_eq!(counts.iter().sum::<u32>(), 60_000);
        // Of 6,000 each, with a deviation of 65.
        assert!(counts.iter().all(|count| count.abs_diff(6_000) < 400), "{counts:?}");
    }

    #[test]
    fn one_that_is_alone_or_does_not_share_probes_everything() {
        assert!(Fleet::default().probes(endpoint(1), 3));
        assert!((0..100).all(|number| Fleet::new("a", []).probes(endpoint(number), 1)));
        assert!((0..100).all(|number| Fleet::new("a", ["b", "c"]).probes(endpoint(number), 0)));
    }

    /// Gateways of other versions must come to the same.
    #[test]
    fn scores_are_for_ever() {
        assert_eq!(hash(&["shop", "v1", "c1"]), 0xb3e2_d8f5_1509_d9ad);
        assert_ne!(hash(&["shop", "v1", "c1"]), hash(&["shop", "v1c", "1"]));
        let known = Fleet::new("gw-1", ["gw-2", "gw-3"]);
        let mine: Vec<usize> = (0..12).filter(|number| known.probes(endpoint(*number), 1)).collect();
        assert_eq!(mine, [2, 7, 8]);
    }
}
