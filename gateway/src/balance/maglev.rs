//! A table of whom every key belongs to: Maglev hashing (Eisenbud et al., NSDI 2016, section 3.4).
//!
//! Each member has its own order of all places, and they take free ones in turn, heavier ones more often. So
//! each gets its share to within a place, and when one goes, nearly nobody else's places change.

use super::hash::{hash, mix};

/// The paper's smaller size, a prime. One size for all: another one would move nearly every key, and an app that
/// grows past a bound should not lose its caches. So a table takes 128 KiB, where an app hashes and has had requests.
const PLACES: usize = 65_537;
/// Nobody's place while the table is filled, so the number of members stays below it.
const FREE: u16 = u16::MAX;

#[derive(Debug, PartialEq, Eq)]
pub struct Maglev {
    /// Positions of members, whom each place belongs to; empty where nobody has a weight.
    places: Box<[u16]>,
}

struct Taker {
    position: u16,
    weight: u64,
    /// Where in its order it is, and how far it goes from one place to the next.
    next: u32,
    skip: u32,
    /// What it has of a turn.
    credit: u64,
}

impl Maglev {
    /// Of members by name and weight. Names decide, positions do not: the same members make the same table on every
    /// gateway, whatever their order is that [`Self::owners`] counts in. Beyond 65,535 members the others get nothing.
    pub fn new<'m>(members: impl Iterator<Item = (&'m [&'m str], u32)>) -> Self {
        let mut takers: Vec<(u64, Taker)> = members
            .take(usize::from(FREE))
            .zip(0u16..)
            .filter(|((_, weight), _)| *weight > 0)
            .map(|((name, weight), position)| taker(name, weight, position))
            .collect();
        // Whoever comes first has the first choice.
        takers.sort_by_key(|(name, _)| *name);
        let mut takers: Vec<Taker> = takers.into_iter().map(|(_, taker)| taker).collect();
        Self { places: fill(&mut takers) }
    }

    /// The members whom a key belongs to, from the first to those that stand in for it; without an end, so that most
    /// come again and again. The next place is found by another hash: who is beside whom in the table is not even.
    pub fn owners(&self, key: u64) -> impl Iterator<Item = usize> {
        let hashes = (0u64..).map(move |turn| if turn == 0 { key } else { mix(key.wrapping_add(turn)) });
        hashes.map_while(|hash| self.places.get((hash % PLACES as u64) as usize).map(|at| usize::from(*at)))
    }
}

fn taker(name: &[&str], weight: u32, position: u16) -> (u64, Taker) {
    // 0 separates: no name has it.
    let name = hash(name.iter().flat_map(|part| part.bytes().chain([0])));
    let places = PLACES as u64;
    let next = (name % places) as u32;
    let skip = (mix(name ^ SKIP) % (places - 1) + 1) as u32;
    (name, Taker { position, weight: weight.into(), next, skip, credit: 0 })
}

/// Any constant makes another hash of the same name.
const SKIP: u64 = 0x5bd1_e995_9d1b_54a5;

/// In every round the heaviest take one place each, the others as often as their weight says. In the first one
/// everybody does, so that nobody is left out.
fn fill(takers: &mut [Taker]) -> Box<[u16]> {
    let Some(heaviest) = takers.iter().map(|taker| taker.weight).max() else { return Box::default() };
    let mut places = vec![FREE; PLACES].into_boxed_slice();
    takers.iter_mut().for_each(|taker| taker.credit = heaviest - taker.weight);
    let mut free = PLACES;
    loop {
        for taker in &mut *takers {
            taker.credit += taker.weight;
            if taker.credit < heaviest {
                continue;
            }
            taker.credit -= heaviest;
            taker.take(&mut places);
            free -= 1;
            if free == 0 {
                return places;
            }
        }
    }
}

impl Taker {
    /// The next free place in its order. There is one: the size is a prime, so the order has all of them.
    fn take(&mut self, places: &mut [u16]) {
        loop {
            let at = self.next as usize;
            self.next = (self.next + self.skip) % PLACES as u32;
            if places[at] == FREE {
                places[at] = self.position;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn table(members: &[(String, u32)]) -> Maglev {
        let names: Vec<_> = members.iter().map(|(name, weight)| ([name.as_str()], *weight)).collect();
        Maglev::new(names.iter().map(|(name, weight)| (&name[..], *weight)))
    }

    fn equal(count: u32) -> Vec<(String, u32)> {
        (0..count).map(|number| (format!("c{number}"), 1)).collect()
    }

    fn keys(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|key| hash(key.to_le_bytes()))
    }

    fn owner<'m>(table: &Maglev, members: &'m [(String, u32)], key: u64) -> &'m str {
        &members[table.owners(key).next().unwrap()].0
    }

    #[test]
    fn nobody_with_a_weight_is_nobody() {
        assert_eq!(table(&[]).owners(7).next(), None);
        assert_eq!(table(&[("a".into(), 0)]).owners(u64::MAX).next(), None);
        assert!(
            table(&[("a".into(), 0), ("b".into(), 1)])
                .owners(u64::MAX)
                .take(99)
                .all(|position| position == 1)
        );
    }

    #[test]
    fn the_lightest_beside_the_heaviest_has_a_place() {
        let table = table(&[("a".into(), 65_535), ("b".into(), 1), ("c".into(), 65_535)]);
        assert_eq!(table.places.iter().filter(|position| **position == 1).count(), 1);
    }

    #[test]
    fn the_order_of_the_members_decides_nothing() {
        let members = equal(7);
        let reversed: Vec<_> = members.iter().rev().cloned().collect();
        let (one, other) = (table(&members), table(&reversed));
        assert!(keys(1_000).all(|key| owner(&one, &members, key) == owner(&other, &reversed, key)));
    }

    #[test]
    fn keys_of_one_that_is_passed_over_go_to_all_others_alike() {
        let table = table(&equal(5));
        let mut counts = [0u32; 5];
        for key in keys(200_000).filter(|key| table.owners(*key).next() == Some(0)) {
            counts[table.owners(key).find(|position| *position != 0).unwrap()] += 1;
        }
        let whole: u32 = counts.iter().sum();
        for count in &counts[1..] {
            let share = f64::from(*count) / f64::from(whole);
            assert!((share - 0.25).abs() < 0.02, "{counts:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(12))]

        #[test]
        fn shares_are_within_a_hundredth_of_the_weights(weights in proptest::collection::vec(0u32..100, 1..12)) {
            let sum: u32 = weights.iter().sum();
            prop_assume!(sum > 0);
            let members: Vec<_> = weights.iter().enumerate().map(|(at, weight)| (format!("c{at}"), *weight)).collect();
            let table = table(&members);
            let mut counts = vec![0u32; weights.len()];
            keys(50_000).for_each(|key| counts[table.owners(key).next().unwrap()] += 1);
            for (count, weight) in counts.iter().zip(&weights) {
                let difference = f64::from(*count) / 50_000.0 - f64::from(*weight) / f64::from(sum);
                prop_assert!(difference.abs() < 0.01, "{counts:?} of {weights:?}");
            }
        }

        /// The paper's promise, section 5.3: what moves without need is little beside what has to.
        #[test]
        fn who_leaves_takes_little_more_than_its_own_keys_along(count in 2u32..60, gone in 0u32..60) {
            let gone = gone % count;
            let before = equal(count);
            let after: Vec<_> = before.iter().filter(|(name, _)| *name != format!("c{gone}")).cloned().collect();
            let (old, new) = (table(&before), table(&after));
            let (mut own, mut others) = (0u32, 0u32);
            for key in keys(20_000) {
                let (was, is) = (owner(&old, &before, key), owner(&new, &after, key));
                if was == format!("c{gone}") { own += 1 } else if was != is { others += 1 }
            }
            let share = |keys: u32| f64::from(keys) / 20_000.0;
            prop_assert!((share(own) - 1.0 / f64::from(count)).abs() < 0.012, "{own} of its own");
            prop_assert!(share(others) < 0.02, "{others} of others'");
        }
    }
}
