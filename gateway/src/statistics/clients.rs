//! How many different clients: HyperLogLog (Flajolet et al. 2007) with the estimator of Ertl ("New
//! cardinality estimation algorithms for HyperLogLog sketches", 2017), which needs no tables of biases.

/// 2 to this registers of a byte each: 1 KiB, and a standard error of 1.04 / √1024 = 3.3 %.
const PRECISION: u32 = 10;
const REGISTERS: usize = 1 << PRECISION;
/// Bits of a hash that say how rare it is. With 32 in all, two of a million clients share one by chance in
/// 0.01 % of the cases.
const RANK_BITS: u32 = u32::BITS - PRECISION;
/// As long as there are no more, their hashes themselves are kept: most apps have few clients at a time, and
/// of them the number is as good as exact.
const FEW: usize = 64;

#[derive(Debug, Clone)]
pub enum Clients {
    /// Distinct hashes.
    Few(Vec<u32>),
    Many(Box<[u8; REGISTERS]>),
}

impl Default for Clients {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

impl Clients {
    /// `hash` is well spread over all 32 bits, and the same for the same client wherever it is seen.
    pub fn add(&mut self, hash: u32) {
        match self {
            Self::Many(registers) => raise(registers, hash),
            Self::Few(hashes) if hashes.contains(&hash) => {}
            Self::Few(hashes) if hashes.len() < FEW => hashes.push(hash),
            Self::Few(hashes) => {
                let mut registers = Box::new([0; REGISTERS]);
                hashes.iter().for_each(|known| raise(&mut registers, *known));
                raise(&mut registers, hash);
                *self = Self::Many(registers);
            }
        }
    }

    /// Those of both, each once.
    pub fn merge(&mut self, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Few(hashes)) => hashes.iter().for_each(|hash| self.add(*hash)),
            (Self::Many(registers), Self::Many(others)) => {
                registers.iter_mut().zip(&**others).for_each(|(own, other)| *own = (*own).max(*other));
            }
            (Self::Few(hashes), Self::Many(others)) => {
                let mut registers = others.clone();
                hashes.iter().for_each(|hash| raise(&mut registers, *hash));
                *self = Self::Many(registers);
            }
        }
    }

    /// How many different ones were added, about.
    pub fn estimate(&self) -> u64 {
        match self {
            Self::Few(hashes) => hashes.len() as u64,
            Self::Many(registers) => estimate(registers),
        }
    }

    /// What it takes beside itself.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Few(hashes) => hashes.capacity() * size_of::<u32>(),
            Self::Many(_) => REGISTERS,
        }
    }
}

/// The register of a hash keeps the longest run of zeros that any of its hashes began with.
fn raise(registers: &mut [u8; REGISTERS], hash: u32) {
    let register = &mut registers[(hash >> RANK_BITS) as usize];
    let rank = (hash << PRECISION).leading_zeros().min(RANK_BITS) as u8 + 1;
    *register = (*register).max(rank);
}

/// Algorithm 6 of Ertl's paper.
fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    const HIGHEST: usize = RANK_BITS as usize + 1;
    let mut counts = [0_u32; HIGHEST + 1];
    registers.iter().for_each(|rank| counts[usize::from(*rank)] += 1);
    let registers = REGISTERS as f64;
    let mut sum = registers * tau(1.0 - f64::from(counts[HIGHEST]) / registers);
    for count in counts[1..HIGHEST].iter().rev() {
        sum = 0.5 * (sum + f64::from(*count));
    }
    sum += registers * sigma(f64::from(counts[0]) / registers);
    (registers * registers / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
}

/// x + Σ x^(2^k) 2^(k-1): corrects for registers that are empty.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum <= before {
            return sum;
        }
    }
}

/// (1 - x - Σ (1 - x^(2^-k))² 2^-k) / 3: corrects for registers that can rise no further.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x).powi(2) * y;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    use foldhash::quality::FixedState;

    use super::*;

    /// Numbers as clients of one seed.
    fn hash(seed: u64, number: u64) -> u32 {
        FixedState::with_seed(seed).hash_one(number) as u32
    }

    #[test]
    fn few_are_counted_exactly_however_often_they_come() {
        let mut clients = Clients::default();
        for round in 0..3 {
            for number in 0..FEW as u64 {
                clients.add(hash(1, number));
            }
            assert_eq!(clients.estimate(), FEW as u64, "round {round}");
        }
        assert!(clients.bytes() <= FEW * 4);
    }

    #[test]
    fn many_are_estimated_within_the_error_that_is_documented() {
        // 30 seeds of each size: the mean error must vanish, and the standard error be what the number of
        // registers promises, with room for chance.
        for size in [100, 1_000, 3_000, 10_000, 200_000] {
            let errors: Vec<f64> = (0..30)
                .map(|seed| {
                    let mut clients = Clients::default();
                    let exact: HashSet<u32> = (0..size).map(|number| hash(seed, number)).collect();
                    (0..size).for_each(|number| clients.add(hash(seed, number)));
                    clients.estimate() as f64 / exact.len() as f64 - 1.0
                })
                .collect();
            let mean = errors.iter().sum::<f64>() / errors.len() as f64;
            let deviation =
                (errors.iter().map(|error| error * error).sum::<f64>() / errors.len() as f64).sqrt();
            assert!(mean.abs() < 0.02 && deviation < 0.045, "{size}: mean {mean}, deviation {deviation}");
        }
    }

    #[test]
    fn what_two_have_seen_is_what_one_would_have_seen() {
        for (ours, theirs) in [(10, 20), (10, 5_000), (5_000, 10), (5_000, 5_000)] {
            let (mut one, mut left, mut right) = (Clients::default(), Clients::default(), Clients::default());
            for number in 0..ours {
                left.add(hash(7, number));
                one.add(hash(7, number));
            }
            // Half of them are known already.
            for number in ours / 2..ours / 2 + theirs {
                right.add(hash(7, number));
                one.add(hash(7, number));
            }
            left.merge(&right);
            assert_eq!(left.estimate(), one.estimate(), "{ours} and {theirs}");
        }
    }

    #[test]
    fn the_most_that_fit_are_still_a_number() {
        assert!(estimate(&[RANK_BITS as u8 + 1; REGISTERS]) > 1 << 30);
        assert_eq!(estimate(&[0; REGISTERS]), 0);
    }
}
