//! How much of a gateway's requests stays in its zone.
//!
//! All gateways together are taken to get as much in every zone. A zone whose healthy endpoints have at least its part
//! of all capacity (one of as many parts as there are zones) keeps everything. One that has less keeps as much as its
//! endpoints can take without being worse off than the others, and sends the rest to zones with more than their part,
//! each as much as it has more. Where all gateways do so, every endpoint of the fleet gets its share by weight, and
//! nothing crosses zones that need not: Envoy's zone-aware routing, with zones for the gateways whose number it asks.

use std::collections::BTreeMap;

/// What factors are parts of. With 65,535, the greatest weight, and a hundred for slow starts it fits 32 bits.
pub const WHOLE: u32 = 256;

/// Who may be asked, as far as zones are concerned.
#[derive(Debug, Clone, Copy)]
pub struct Zoned<'z> {
    /// `None`: nobody has said, which counts as a zone of its own.
    pub zone: Option<&'z str>,
    /// Whether it is the gateway's.
    pub is_own: bool,
    pub weight: u64,
}

/// What weights count, in 256ths, by the order of `candidates`; `zones` is how many there are, with those whose
/// endpoints are all out. `None`: as they are, since there is nobody in the gateway's zone, or nobody elsewhere.
pub fn factors(candidates: &[Zoned<'_>], zones: usize) -> Option<Vec<u32>> {
    let total: u64 = candidates.iter().map(|one| one.weight).sum();
    let own: u64 = candidates.iter().filter(|one| one.is_own).map(|one| one.weight).sum();
    if own == 0 || own == total {
        return None;
    }
    let (total, zones) = (total as f64, zones as f64);
    let stays = own as f64 / total * zones;
    let elsewhere = match stays < 1.0 {
        true => elsewhere(candidates, total, zones, stays),
        false => BTreeMap::new(),
    };
    let factor = |one: &Zoned<'_>| match one.is_own {
        true => WHOLE,
        false => elsewhere.get(&one.zone).copied().unwrap_or_default(),
    };
    Some(candidates.iter().map(factor).collect())
}

/// By zone, beside the gateway's, whose factor is [`WHOLE`]: nobody elsewhere is asked for more than those at home are.
fn elsewhere<'z>(
    candidates: &[Zoned<'z>],
    total: f64,
    zones: f64,
    stays: f64,
) -> BTreeMap<Option<&'z str>, u32> {
    let mut weights: BTreeMap<Option<&str>, u64> = BTreeMap::new();
    for one in candidates.iter().filter(|one| !one.is_own) {
        *weights.entry(one.zone).or_default() += one.weight;
    }
    let surplus = |weight: u64| (weight as f64 / total - 1.0 / zones).max(0.0);
    let spare: f64 = weights.values().map(|weight| surplus(*weight)).sum();
    let factor = |weight: u64| {
        if weight == 0 || spare <= 0.0 {
            return 0;
        }
        // What it is sent of all, by weight; at home that is `zones` / `total`.
        let density = (1.0 - stays) * surplus(weight) / spare / weight as f64;
        let part = f64::from(WHOLE) * density * total / zones;
        // Rounded to none, a zone that has to help would not.
        if part > 0.0 { (part.round() as u32).clamp(1, WHOLE) } else { 0 }
    };
    weights.into_iter().map(|(zone, weight)| (zone, factor(weight))).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 4] = ["a", "b", "c", "d"];

    /// By zone, the part of its requests that a gateway in `own` sends there.
    fn shares(weights: &[u64], own: usize) -> Vec<f64> {
        let candidates: Vec<_> = weights
            .iter()
            .enumerate()
            .map(|(at, weight)| Zoned { zone: Some(NAMES[at]), is_own: at == own, weight: *weight })
            .collect();
        let factors = factors(&candidates, weights.len()).unwrap_or_else(|| vec![1; weights.len()]);
        let parts: Vec<_> =
            weights.iter().zip(factors).map(|(weight, factor)| weight * u64::from(factor)).collect();
        let sum: u64 = parts.iter().sum();
        parts.into_iter().map(|part| part as f64 / sum as f64).collect()
    }

    #[test]
    fn who_has_enough_keeps_all() {
        assert_eq!(shares(&[1, 1], 0), [1.0, 0.0]);
        assert_eq!(shares(&[10, 1, 1], 0), [1.0, 0.0, 0.0]);
        // A zone that is down does not make the others' parts greater.
        assert_eq!(shares(&[5, 5, 0], 1), [0.0, 1.0, 0.0]);
    }

    #[test]
    fn who_has_nobody_asks_all_by_weight() {
        assert_eq!(shares(&[0, 3, 1], 0), [0.0, 0.75, 0.25]);
    }

    #[test]
    fn what_is_lacking_comes_from_those_with_more() {
        // 2 of 12, where 4 would be its part: half stays. The third has no more than its part.
        let [own, helper, other] = shares(&[2, 6, 4], 0)[..] else { panic!() };
        assert!(
            (own - 0.5).abs() < 0.005 && (helper - 0.5).abs() < 0.005 && other == 0.0,
            "{own} {helper} {other}"
        );
    }

    #[test]
    fn those_in_no_zone_are_elsewhere() {
        let one = |zone, is_own| Zoned { zone, is_own, weight: 1 };
        assert_eq!(factors(&[one(Some("a"), true), one(None, false)], 2), Some(vec![WHOLE, 0]));
    }

    proptest! {
        /// With as many requests in every zone, no endpoint of the fleet gets more than a hundredth beyond its share by weight
        /// where anybody has to help, and nobody more than its zone's own otherwise.
        #[test]
        fn gateways_of_all_zones_together_are_fair(weights in proptest::collection::vec(1u64..50, 2..5)) {
            let zones = weights.len();
            let total: u64 = weights.iter().sum();
            let mut got = vec![0.0; zones];
            for own in 0..zones {
                for (sum, part) in got.iter_mut().zip(shares(&weights, own)) {
                    *sum += part / zones as f64;
                }
            }
            for (at, weight) in weights.iter().enumerate() {
                let fair = *weight as f64 / total as f64;
                prop_assert!((got[at] - fair).abs() < 0.01, "{got:?} of {weights:?}");
            }
        }

        #[test]
        fn nothing_is_sent_away_that_can_stay(weights in proptest::collection::vec(1u64..50, 2..5)) {
            let total: u64 = weights.iter().sum();
            for own in 0..weights.len() {
                let stays = (weights[own] * weights.len() as u64) as f64 / total as f64;
                let share = shares(&weights, own)[own];
                prop_assert!((share - stays.min(1.0)).abs() < 0.01, "{share} stays of {stays}, {weights:?}");
            }
        }
    }
}
