use std::time::Duration;

use proptest::prelude::*;
use topology::{HashAlgorithm, HashKey, Hashing};

use super::*;
use crate::balance::{Maglev, PeakEwma, hash};

const DECAY: Duration = Duration::from_secs(10);

/// Endpoints that tests say everything about.
#[derive(Default)]
struct Field {
    out: Vec<bool>,
    in_flight: Vec<u32>,
    most: Vec<u32>,
    latency: Vec<PeakEwma>,
    now: Duration,
}

impl Field {
    fn of(count: usize) -> Self {
        Self {
            out: vec![false; count],
            in_flight: vec![0; count],
            most: vec![u32::MAX; count],
            latency: (0..count).map(|_| PeakEwma::default()).collect(),
            now: Duration::ZERO,
        }
    }
}

impl Candidates for Field {
    fn may(&self, position: usize) -> bool {
        !self.out[position]
    }

    fn in_flight(&self, position: usize) -> u32 {
        self.in_flight[position]
    }

    fn cost(&self, position: usize, share: f64) -> f64 {
        self.latency[position].cost(self.in_flight[position], share, self.now, DECAY)
    }

    fn take(&mut self, position: usize) -> bool {
        let has_room = self.in_flight[position] < self.most[position];
        self.in_flight[position] += u32::from(has_room);
        has_room
    }
}

fn by_key(bounded_load: Option<u32>) -> Balance {
    Balance::Hash(Hashing { key: HashKey::Client, algorithm: HashAlgorithm::Maglev, bounded_load }.into())
}

fn every_policy() -> [Balance; 5] {
    let ewma = Balance::PeakEwma { decay: DECAY };
    [Balance::Random, Balance::LeastRequests, ewma, by_key(None), by_key(Some(125))]
}

fn members(weights: &[u32]) -> Vec<Member> {
    let member = |(place, weight): (usize, &u32)| Member { place, weight: *weight, whole: *weight };
    weights.iter().enumerate().map(member).collect()
}

fn chooser(balance: &Balance, weights: &[u32]) -> (Box<Chooser>, KeyTable) {
    let mut chooser = Chooser::new(balance, 1).expect("no turns");
    chooser.update(balance, &members(weights));
    (chooser, table(weights))
}

fn table(weights: &[u32]) -> KeyTable {
    let names: Vec<_> = (0..weights.len()).map(|number| format!("c{number}")).collect();
    let names: Vec<_> = names.iter().map(|name| [name.as_str()]).collect();
    KeyTable::Maglev(Maglev::new(names.iter().zip(weights).map(|(name, weight)| (&name[..], *weight))))
}

/// Who gets `requests`, each of which is over before the next one.
fn counts(balance: &Balance, weights: &[u32], field: &mut Field, requests: u64) -> Vec<u64> {
    let (mut chooser, table) = chooser(balance, weights);
    let mut counts = vec![0; weights.len()];
    for request in 0..requests {
        let key = hash(request.to_le_bytes());
        let picked = chooser.choose(field, Some((key, &table)), true).expect("somebody");
        counts[picked] += 1;
        field.in_flight[picked] -= 1;
    }
    counts
}

#[test]
fn without_a_difference_shares_are_those_of_the_weights() {
    let weights = [6, 3, 1, 0];
    for balance in [Balance::Random, by_key(None), by_key(Some(125))] {
        let counts = counts(&balance, &weights, &mut Field::of(4), 100_000);
        for (count, weight) in counts.iter().zip(weights) {
            let difference = *count as f64 / 100_000.0 - f64::from(weight) / 10.0;
            assert!(difference.abs() < 0.01, "{balance:?}: {counts:?}");
        }
    }
    // The first of the two drawn decides.
    let counts = counts(&Balance::LeastRequests, &weights, &mut Field::of(4), 100_000);
    assert!(counts[0].abs_diff(60_000) < 1_000 && counts[3] == 0, "{counts:?}");
}

/// Every endpoint finishes as many requests per step as its speed; one request comes per step and unit of it.
fn under_load(balance: &Balance, weights: &[u32], speeds: &[u32], steps: u32) -> (Vec<u64>, Field) {
    let (mut chooser, _) = chooser(balance, weights);
    let (mut field, mut counts) = (Field::of(weights.len()), vec![0; weights.len()]);
    for _ in 0..steps {
        for _ in 0..speeds.iter().sum::<u32>() {
            let picked = chooser.choose(&mut field, None, true).expect("somebody");
            counts[picked] += 1;
        }
        for (in_flight, speed) in field.in_flight.iter_mut().zip(speeds) {
            *in_flight = in_flight.saturating_sub(*speed);
        }
    }
    (counts, field)
}

#[test]
fn least_requests_avoids_who_is_slow_and_keeps_queues_short() {
    let (counts, field) = under_load(&Balance::LeastRequests, &[1; 4], &[10, 10, 10, 1], 1_000);
    assert!(counts[3] * 6 < counts[0], "{counts:?}");
    assert!(field.in_flight.iter().all(|in_flight| *in_flight < 60), "{:?}", field.in_flight);
    // By lot it would have been a quarter of all, and a queue without an end.
    let (_, field) = under_load(&Balance::Random, &[1; 4], &[10, 10, 10, 1], 1_000);
    assert!(field.in_flight[3] > 5_000, "{:?}", field.in_flight);
}

#[test]
fn least_requests_counts_by_weight() {
    let (mut chooser, _) = chooser(&Balance::LeastRequests, &[3, 1]);
    let mut field = Field::of(2);
    for _ in 0..400 {
        chooser.choose(&mut field, None, true).expect("somebody");
    }
    assert!(field.in_flight[0].abs_diff(300) <= 1, "{:?}", field.in_flight);
}

#[test]
fn peak_ewma_leaves_who_became_slow_and_comes_back() {
    let balance = Balance::PeakEwma { decay: DECAY };
    let (mut chooser, _) = chooser(&balance, &[1; 3]);
    let mut field = Field::of(3);
    let mut run = |field: &mut Field, latencies: [u64; 3], requests: u32| {
        let mut counts = [0u32; 3];
        for _ in 0..requests {
            let picked = chooser.choose(field, None, true).expect("somebody");
            counts[picked] += 1;
            field.in_flight[picked] -= 1;
            field.now += Duration::from_millis(10);
            field.latency[picked].observe(Duration::from_millis(latencies[picked]), field.now, DECAY);
        }
        counts
    };
    let even = run(&mut field, [10, 10, 10], 600);
    assert!(even.iter().all(|count| *count > 100), "{even:?}");
    // It is asked until it has been slow once, and then not before half of that is forgotten.
    let spike = run(&mut field, [10, 10, 500], 600);
    assert!(spike[2] <= 1, "{spike:?}");
    let later = run(&mut field, [10, 10, 10], 12_000);
    assert!(later[2] > 2_000, "{later:?}");
}

#[test]
fn one_key_has_one_endpoint_and_others_stand_in_as_long_as_it_is_out() {
    let (mut chooser, table) = chooser(&by_key(None), &[1; 5]);
    let mut field = Field::of(5);
    let keys: Vec<u64> = (0..2_000u64).map(|key| hash(key.to_le_bytes())).collect();
    let mut pick =
        |field: &mut Field, key| chooser.choose(field, Some((key, &table)), true).expect("somebody");
    let before: Vec<_> = keys.iter().map(|key| pick(&mut field, *key)).collect();
    field.out[2] = true;
    for (key, was) in keys.iter().zip(&before) {
        let is = pick(&mut field, *key);
        assert!(if *was == 2 { is != 2 } else { is == *was });
    }
    field.out[2] = false;
    assert!(keys.iter().zip(&before).all(|(key, was)| pick(&mut field, *key) == *was));
}

/// An endpoint that is not even in the list: its place in the table is passed over.
#[test]
fn keys_of_those_that_are_left_stay_where_they_are() {
    let (mut chooser, table) = chooser(&by_key(None), &[1; 4]);
    let mut rest = members(&[1; 4]);
    rest.remove(1);
    let keys: Vec<u64> = (0..1_000u64).map(|key| hash(key.to_le_bytes())).collect();
    let owners: Vec<_> = keys.iter().map(|key| table.owners(*key).next().unwrap()).collect();
    chooser.update(&by_key(None), &rest);
    let mut field = Field::of(3);
    for (key, owner) in keys.iter().zip(owners) {
        let picked = chooser.choose(&mut field, Some((*key, &table)), true).expect("somebody");
        assert!(owner == 1 || rest[picked].place == owner);
    }
}

#[test]
fn a_beginner_gets_a_part_of_its_keys_and_later_all_of_them() {
    let (mut chooser, table) = chooser(&by_key(None), &[100; 4]);
    let keys: Vec<u64> = (0..20_000u64).map(|key| hash(key.to_le_bytes())).collect();
    let mut field = Field::of(4);
    let mut former = Vec::new();
    for weight in [10, 50, 100] {
        let mut beginning = members(&[100; 4]);
        beginning[3].weight = weight;
        chooser.update(&by_key(None), &beginning);
        let mut pick = |key: &u64| chooser.choose(&mut field, Some((*key, &table)), true);
        let own: Vec<_> = keys.iter().filter(|key| pick(key) == Some(3)).copied().collect();
        let share = own.len() as f64 / keys.len() as f64;
        assert!((share - 0.25 * f64::from(weight) / 100.0).abs() < 0.01, "{share} at {weight}");
        assert!(former.iter().all(|key| own.contains(key)), "whoever came stays");
        former = own;
    }
    // Where it is the only one, nothing is spared.
    let mut alone = members(&[100]);
    alone[0].weight = 10;
    chooser.update(&by_key(None), &alone);
    assert!(keys[..100].iter().all(|key| chooser.choose(&mut field, Some((*key, &table)), false).is_some()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With all requests of one key, too.
    #[test]
    fn nobody_has_more_than_the_bound(count in 1usize..8, bound in 105u32..300, one_key: bool) {
        let balance = by_key(Some(bound));
        let (mut chooser, table) = chooser(&balance, &vec![1; count]);
        let mut field = Field::of(count);
        for request in 1..=200u64 {
            let key = if one_key { 7 } else { hash(request.to_le_bytes()) };
            let picked = chooser.choose(&mut field, Some((key, &table)), true);
            prop_assert!(picked.is_some(), "there is always room for one more");
            let most = (u64::from(bound) * request).div_ceil(100 * count as u64);
            prop_assert!(field.in_flight.iter().all(|own| u64::from(*own) <= most), "{:?}", field.in_flight);
        }
    }

    /// Whatever the policy: nobody who may not be asked, nobody without a weight, nobody who is full.
    #[test]
    fn only_who_may_is_asked(
        weights in proptest::collection::vec(0u32..=100 * 0xffff, 0..8),
        out: [bool; 8],
        most in proptest::collection::vec(0u32..4, 8),
        requests in 0u64..40,
    ) {
        for balance in every_policy() {
            let (mut chooser, table) = chooser(&balance, &weights);
            let mut field = Field::of(weights.len());
            field.out.copy_from_slice(&out[..weights.len()]);
            field.most.copy_from_slice(&most[..weights.len()]);
            for request in 0..requests {
                let key = hash(request.to_le_bytes());
                if let Some(picked) = chooser.choose(&mut field, Some((key, &table)), request % 2 == 0) {
                    prop_assert!(weights[picked] > 0 && !out[picked] && field.in_flight[picked] <= most[picked]);
                }
            }
        }
    }

    /// Whatever the policy, as long as nothing differs but the weights: each request is over before the next one. Of two
    /// that are drawn the first is asked.
    #[test]
    fn shares_are_within_a_hundredth_of_the_weights(weights in proptest::collection::vec(1u32..100, 1..8)) {
        let sum: u32 = weights.iter().sum();
        for balance in [Balance::Random, Balance::LeastRequests, by_key(None), by_key(Some(125))] {
            let counts = counts(&balance, &weights, &mut Field::of(weights.len()), 60_000);
            for (count, weight) in counts.iter().zip(&weights) {
                let difference = *count as f64 / 60_000.0 - f64::from(*weight) / f64::from(sum);
                prop_assert!(difference.abs() < 0.01, "{balance:?}: {counts:?} of {weights:?}");
            }
        }
    }

    /// Who goes out takes only its own keys along, and they come back with it.
    #[test]
    fn nobody_elses_keys_move_when_one_goes_out(count in 2usize..9, gone in 0usize..9) {
        let gone = gone % count;
        let (mut chooser, table) = chooser(&by_key(None), &vec![1; count]);
        let keys: Vec<u64> = (0..500u64).map(|key| hash(key.to_le_bytes())).collect();
        let mut field = Field::of(count);
        let mut owners = |field: &mut Field| -> Vec<_> {
            keys.iter().map(|key| chooser.choose(field, Some((*key, &table)), true)).collect()
        };
        let before = owners(&mut field);
        field.out[gone] = true;
        for (was, is) in before.iter().zip(owners(&mut field)) {
            let is_right = if *was == Some(gone) { is.is_some() && is != Some(gone) } else { is == *was };
            prop_assert!(is_right, "{was:?} then {is:?}");
        }
        field.out[gone] = false;
        prop_assert_eq!(owners(&mut field), before);
    }
}
