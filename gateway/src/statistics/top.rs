//! What comes most often: SpaceSaving (Metwally, Agrawal, El Abbadi 2005), which keeps as many counters as it
//! has, and gives the one that counts least to whatever is new.
//!
//! With k counters and n additions nothing that came more than n / k times is missing, and no count is too
//! high by more than n / k; how much it may be is kept beside it. Both hold for merged ones (Agarwal et al.,
//! "Mergeable summaries", 2012).

/// Those shown are ten; with this many counters a share of 1.6 % is never missed.
pub const COUNTERS: usize = 64;
/// Longer names are cut: two that differ only behind it are one.
pub const MAX_NAME_BYTES: usize = 128;

/// Counts names by their hashes.
#[derive(Debug, Clone, Default)]
pub struct Top {
    /// In step with `items`; together, since every addition looks through them.
    hashes: Vec<u64>,
    items: Vec<Item>,
}

/// One that comes often.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Item {
    pub name: Vec<u8>,
    pub count: u64,
    /// By how much `count` may be too high.
    pub excess: u64,
}

impl Top {
    /// `hash` is of `name`, and well spread.
    pub fn add(&mut self, hash: u64, name: &[u8]) {
        if let Some(at) = self.hashes.iter().position(|known| *known == hash) {
            self.items[at].count += 1;
            // What comes often is found early.
            if at > 0 && self.items[at].count > self.items[at - 1].count {
                self.hashes.swap(at, at - 1);
                self.items.swap(at, at - 1);
            }
            return;
        }
        let name = &name[..name.len().min(MAX_NAME_BYTES)];
        if self.items.len() < COUNTERS {
            self.hashes.push(hash);
            return self.items.push(Item { name: name.to_vec(), count: 1, excess: 0 });
        }
        let least = (0..COUNTERS).min_by_key(|at| self.items[*at].count).unwrap_or_default();
        self.hashes[least] = hash;
        let item = &mut self.items[least];
        item.name.clear();
        item.name.extend_from_slice(name);
        item.excess = item.count;
        item.count += 1;
    }

    /// What both have counted. What one of them does not know may have come as often there as its least.
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.unseen(), other.unseen());
        for item in &mut self.items {
            item.count += theirs;
            item.excess += theirs;
        }
        let known = self.items.len();
        for (hash, item) in other.hashes.iter().zip(&other.items) {
            match self.hashes[..known].iter().position(|known| known == hash) {
                Some(at) => {
                    let own = &mut self.items[at];
                    own.count += item.count - theirs;
                    own.excess = own.excess - theirs + item.excess;
                }
                None => {
                    self.hashes.push(*hash);
                    let Item { name, count, excess } = item.clone();
                    self.items.push(Item { name, count: count + ours, excess: excess + ours });
                }
            }
        }
        self.shrink();
    }

    /// The `most` that came most often, those first.
    pub fn most(&self, most: usize) -> Vec<&Item> {
        let mut items: Vec<&Item> = self.items.iter().collect();
        items.sort_by(|one, other| other.count.cmp(&one.count).then_with(|| one.name.cmp(&other.name)));
        items.truncate(most);
        items
    }

    /// What it takes beside itself.
    pub fn bytes(&self) -> usize {
        let names: usize = self.items.iter().map(|item| item.name.capacity()).sum();
        names + self.items.capacity() * size_of::<Item>() + self.hashes.capacity() * size_of::<u64>()
    }

    /// How often something may have come that is not among the items.
    fn unseen(&self) -> u64 {
        match self.items.len() < COUNTERS {
            true => 0,
            false => self.items.iter().map(|item| item.count).min().unwrap_or(0),
        }
    }

    fn shrink(&mut self) {
        let mut order: Vec<usize> = (0..self.items.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(self.items[*at].count));
        order.truncate(COUNTERS);
        self.hashes = order.iter().map(|at| self.hashes[*at]).collect();
        self.items = order.iter().map(|at| std::mem::take(&mut self.items[*at])).collect();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::hash::BuildHasher;

    use foldhash::quality::FixedState;
    use proptest::prelude::*;

    use super::*;

    fn add(top: &mut Top, name: &str) {
        top.add(FixedState::with_seed(3).hash_one(name), name.as_bytes());
    }

    /// What the module promises of `top`, which has seen `names`.
    fn check(top: &Top, names: &[String]) -> Result<(), TestCaseError> {
        let mut exact: HashMap<&str, u64> = HashMap::new();
        names.iter().for_each(|name| *exact.entry(name).or_default() += 1);
        let bound = names.len() as u64 / COUNTERS as u64;
        prop_assert!(top.items.len() <= COUNTERS && top.hashes.len() == top.items.len());
        for item in &top.items {
            let true_count = exact[std::str::from_utf8(&item.name).unwrap()];
            prop_assert!(
                item.count >= true_count && item.count - item.excess <= true_count,
                "{item:?}: {true_count}"
            );
            prop_assert!(item.excess <= bound, "{item:?} is off by more than {bound}");
        }
        for (name, count) in exact {
            let found = top.items.iter().any(|item| item.name == name.as_bytes());
            prop_assert!(found || count <= bound, "{name} came {count} times and is missing");
        }
        Ok(())
    }

    /// Names of which the first are much more frequent than the last, as everywhere.
    fn names() -> impl Strategy<Value = Vec<String>> {
        let name = (0.0_f64..1.0).prop_map(|x| format!("/{}", (300.0 * x.powi(4)) as u32));
        proptest::collection::vec(name, 0..3_000)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        #[test]
        fn counts_are_within_their_bounds(names in names()) {
            let mut top = Top::default();
            names.iter().for_each(|name| add(&mut top, name));
            check(&top, &names)?;
        }

        #[test]
        fn counts_of_several_are_within_their_bounds_together(parts in proptest::collection::vec(names(), 1..5)) {
            let mut all = Top::default();
            for part in &parts {
                let mut top = Top::default();
                part.iter().for_each(|name| add(&mut top, name));
                all.merge(&top);
            }
            let names = parts.concat();
            check(&all, &names)?;
        }
    }

    #[test]
    fn the_most_frequent_come_first_and_long_names_are_cut() {
        let mut top = Top::default();
        for (name, count) in [("/b", 2), ("/a", 3), ("/c", 2)] {
            (0..count).for_each(|_| add(&mut top, name));
        }
        let names: Vec<_> = top.most(2).into_iter().map(|item| (&item.name[..], item.count)).collect();
        assert_eq!(names, [(&b"/a"[..], 3), (b"/b", 2)]);
        add(&mut top, &"x".repeat(10_000));
        assert!(top.bytes() < 10_000 && top.most(9)[3].name.len() == MAX_NAME_BYTES);
    }
}
