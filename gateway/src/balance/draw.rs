//! By lot: each is drawn as often as its share of the weight says.

use std::ops::Range;

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014): quick, and good enough to share work by. Whoever seeds it alike
/// sees it alike.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number below `most`, which is not 0. Its bias is below `most` in 2^64.
    pub fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        ((u128::from(bits) * u128::from(most)) >> 64) as u64
    }
}

/// Weights to draw by, of positions in a list.
#[derive(Debug, Default)]
pub struct Draw {
    /// At each position, the sum of the weights up to it and with it.
    sums: Vec<u64>,
}

impl Draw {
    pub fn update(&mut self, weights: impl Iterator<Item = u32>) {
        self.sums.clear();
        self.sums.extend(weights.scan(0u64, |sum, weight| {
            *sum += u64::from(weight);
            Some(*sum)
        }));
    }

    /// Positions, those of no weight too.
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    pub fn total(&self) -> u64 {
        self.sums.last().copied().unwrap_or_default()
    }

    pub fn weight(&self, position: usize) -> u64 {
        let Range { start, end } = self.part(position);
        end - start
    }

    /// `None`: nobody has a weight above 0.
    pub fn one(&self, dice: &mut Dice) -> Option<usize> {
        let total = self.total();
        (total > 0).then(|| self.at(dice.below(total)))
    }

    /// As [`Self::one`], of all but one.
    pub fn another(&self, than: usize, dice: &mut Dice) -> Option<usize> {
        let left_out = self.part(than);
        let rest = self.total() - (left_out.end - left_out.start);
        let drawn = (rest > 0).then(|| dice.below(rest))?;
        Some(self.at(if drawn < left_out.start { drawn } else { drawn + left_out.end - left_out.start }))
    }

    fn at(&self, drawn: u64) -> usize {
        self.sums.partition_point(|sum| *sum <= drawn)
    }

    fn part(&self, position: usize) -> Range<u64> {
        let start = position.checked_sub(1).map_or(0, |before| self.sums[before]);
        start..self.sums[position]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn draw(weights: &[u32]) -> Draw {
        let mut draw = Draw::default();
        draw.update(weights.iter().copied());
        draw
    }

    #[test]
    fn where_nobody_has_a_weight_nobody_is_drawn() {
        let mut dice = Dice::seeded(1);
        assert_eq!(draw(&[]).one(&mut dice), None);
        assert_eq!(draw(&[0, 0]).one(&mut dice), None);
        assert_eq!(draw(&[0, 7, 0]).one(&mut dice), Some(1));
        assert_eq!(draw(&[0, 7, 0]).another(1, &mut dice), None);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn shares_are_within_a_hundredth_of_the_weights(weights in proptest::collection::vec(0u32..100, 1..8), seed: u64) {
            const DRAWS: usize = 100_000;
            let (draw, mut dice) = (draw(&weights), Dice::seeded(seed));
            prop_assume!(draw.total() > 0);
            let mut counts = vec![0usize; weights.len()];
            for _ in 0..DRAWS {
                counts[draw.one(&mut dice).unwrap()] += 1;
            }
            for (count, weight) in counts.iter().zip(&weights) {
                let wanted = f64::from(*weight) / draw.total() as f64;
                prop_assert!((*count as f64 / DRAWS as f64 - wanted).abs() < 0.01, "{counts:?} of {weights:?}");
            }
        }

        #[test]
        fn another_one_is_another_one_and_has_a_weight(weights in proptest::collection::vec(0u32..=100 * 0xffff, 1..8), seed: u64) {
            let (draw, mut dice) = (draw(&weights), Dice::seeded(seed));
            for _ in 0..100 {
                let Some(one) = draw.one(&mut dice) else { break };
                prop_assert!(weights[one] > 0 && draw.weight(one) == u64::from(weights[one]));
                match draw.another(one, &mut dice) {
                    Some(other) => prop_assert!(other != one && weights[other] > 0),
                    None => prop_assert!(weights.iter().enumerate().all(|(at, weight)| at == one || *weight == 0)),
                }
            }
        }
    }
}
