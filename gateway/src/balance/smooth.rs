//! Round robin, by weight where weights differ: nginx's smooth weighted round robin.
//!
//! Each turn every candidate gains its weight and the richest pays the sum of all: over any `sum`
//! turns each is picked exactly `weight` times, spread as evenly as the weights allow.

/// One that may be picked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// What stays the same when the list is built anew.
    pub id: u64,
    pub weight: u32,
}

#[derive(Debug)]
struct Standing {
    candidate: Candidate,
    credit: i64,
}

/// Picks positions of the list of candidates that it was last given.
#[derive(Debug, Default)]
pub struct SmoothRotation {
    standings: Vec<Standing>,
    total: i64,
    /// With equal weights the rotation is a counter.
    are_equal: bool,
    next: usize,
}

impl SmoothRotation {
    /// `start` decides who is first, so that not every worker begins with the same endpoint.
    pub fn starting_at(start: usize) -> Self {
        Self { next: start, ..Self::default() }
    }

    /// Takes a new list. Who was in the old one keeps its credit, so changes cause no bursts. Candidates
    /// of weight 0 stay in the list for [`Self::pick_other`] to pass over; they are never picked.
    pub fn update(&mut self, candidates: impl Iterator<Item = Candidate>) {
        let former = std::mem::take(&mut self.standings);
        let credit_of =
            |id| former.iter().find(|standing| standing.candidate.id == id).map_or(0, |s| s.credit);
        let few = former.len() <= MAX_KEPT_CREDITS;
        self.standings = candidates
            .map(|candidate| Standing { candidate, credit: if few { credit_of(candidate.id) } else { 0 } })
            .collect();
        self.total = self.standings.iter().map(|standing| i64::from(standing.candidate.weight)).sum();
        self.are_equal =
            self.standings.windows(2).all(|pair| pair[0].candidate.weight == pair[1].candidate.weight);
    }

    pub fn len(&self) -> usize {
        self.standings.len()
    }

    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The position of the next in turn; `None` when nobody has a weight above 0.
    pub fn pick(&mut self) -> Option<usize> {
        if self.total == 0 {
            return None;
        }
        if self.are_equal {
            let position = self.next % self.standings.len();
            self.next = position + 1;
            return Some(position);
        }
        let mut richest = 0;
        let mut most = i64::MIN;
        for (position, standing) in self.standings.iter_mut().enumerate() {
            standing.credit += i64::from(standing.candidate.weight);
            // A credit kept from a former list must not let a weight of 0 win.
            if standing.candidate.weight > 0 && standing.credit > most {
                (richest, most) = (position, standing.credit);
            }
        }
        self.standings[richest].credit -= self.total;
        Some(richest)
    }

    /// The next in the list that `tried` does not name, for a retry; each retry begins behind the last one,
    /// so that nobody gets all of them.
    pub fn pick_other(&mut self, tried: impl Fn(u64) -> bool) -> Option<usize> {
        self.pick_where(|_, id| !tried(id))
    }

    /// The next in the list that `accept`, given positions and ids, takes.
    pub fn pick_where(&mut self, mut accept: impl FnMut(usize, u64) -> bool) -> Option<usize> {
        let count = self.standings.len();
        let found = (0..count).map(|offset| (self.next + offset) % count).find(|position| {
            let candidate = &self.standings[*position].candidate;
            candidate.weight > 0 && accept(*position, candidate.id)
        })?;
        self.next = found + 1;
        Some(found)
    }
}

/// Carrying credits over compares each with each; beyond this many a fresh start is cheaper than the
/// slight unevenness that it prevents.
const MAX_KEPT_CREDITS: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rotation(weights: &[u32]) -> SmoothRotation {
        let mut rotation = SmoothRotation::default();
        rotation.update(
            weights.iter().enumerate().map(|(id, weight)| Candidate { id: id as u64, weight: *weight }),
        );
        rotation
    }

    #[test]
    fn the_heavy_one_is_spread_not_bunched() {
        let mut rotation = rotation(&[5, 1, 1]);
        let picks: Vec<_> = (0..7).map(|_| rotation.pick().unwrap()).collect();
        assert_eq!(picks, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn all_zero_picks_nobody_and_zero_is_never_picked() {
        assert_eq!(rotation(&[0, 0]).pick(), None);
        assert_eq!(rotation(&[]).pick(), None);
        assert_eq!(rotation(&[0, 0]).pick_other(|_| false), None);
        let mut some = rotation(&[0, 3, 0]);
        assert!((0..9).all(|_| some.pick() == Some(1)));
    }

    #[test]
    fn a_retry_goes_to_another_one() {
        let mut rotation = rotation(&[1, 1, 0]);
        assert_eq!(rotation.pick_other(|id| id == 0), Some(1));
        assert_eq!(rotation.pick_other(|id| id < 2), None);
    }

    proptest! {
        #[test]
        fn shares_are_exact_over_a_round_and_nobody_is_bunched(weights in proptest::collection::vec(0u32..40, 1..8)) {
            let total: usize = weights.iter().map(|weight| *weight as usize).sum();
            let mut rotation = rotation(&weights);
            let picks: Vec<_> = (0..2 * total).filter_map(|_| rotation.pick()).collect();
            for (id, weight) in weights.iter().map(|weight| *weight as usize).enumerate() {
                prop_assert_eq!(picks[..total].iter().filter(|pick| **pick == id).count(), weight);
                // Over any stretch nobody is ahead of its share by more than a turn per candidate.
                for length in 1..=total {
                    let got = picks[..length].iter().filter(|pick| **pick == id).count();
                    prop_assert!(got * total <= weight * length + total * weights.len());
                }
            }
        }

        /// Whoever is picked twice in a row outweighs somebody: with equal weights nobody ever is, wherever others come
        /// and go.
        #[test]
        fn nobody_is_bunched_while_others_come_and_go(count in 3u64..8, gone in proptest::collection::vec(0u64..8, 1..8)) {
            let mut rotation = SmoothRotation::default();
            let mut last = None;
            for left_out in gone {
                let list: Vec<_> = (0..count).filter(|id| *id != left_out).map(|id| Candidate { id, weight: 1 }).collect();
                rotation.update(list.iter().copied());
                for turn in 0..3 * list.len() {
                    let picked = rotation.pick().map(|at| list[at].id);
                    // A list that has moved by one may begin where the former one ended.
                    prop_assert!(picked != last || turn == 0, "{picked:?} twice");
                    last = picked;
                }
            }
        }

        /// From wherever one begins to look, nobody is more than two turns per candidate off its share.
        #[test]
        fn any_stretch_has_its_shares(weights in proptest::collection::vec(1u32..40, 1..8), start in 0usize..200, length in 1usize..200) {
            let total: u32 = weights.iter().sum();
            let mut rotation = rotation(&weights);
            let picks: Vec<_> = (0..start + length).filter_map(|_| rotation.pick()).collect();
            for (id, weight) in weights.iter().enumerate() {
                let got = picks[start..].iter().filter(|pick| **pick == id).count() as f64;
                let fair = length as f64 * f64::from(*weight) / f64::from(total);
                prop_assert!((got - fair).abs() <= 2.0 * weights.len() as f64, "{got} where {fair} is fair");
            }
        }

        #[test]
        fn a_changed_list_never_panics(rounds in proptest::collection::vec((proptest::collection::vec((0u64..6, 0u32..=100 * 0xffff), 0..6), 0usize..20), 1..10)) {
            let mut rotation = SmoothRotation::starting_at(3);
            for (list, picks) in rounds {
                rotation.update(list.iter().map(|(id, weight)| Candidate { id: *id, weight: *weight }));
                for _ in 0..picks {
                    let picked = rotation.pick();
                    prop_assert_eq!(picked.is_some(), list.iter().any(|(_, weight)| *weight > 0));
                    prop_assert!(picked.is_none_or(|position| list[position].1 > 0));
                }
            }
        }
    }
}
