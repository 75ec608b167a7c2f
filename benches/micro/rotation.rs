//! Whose turn it is among the endpoints of a version.

use std::hint::black_box;

use std::time::Duration;

use criterion::Criterion;
use gateway::balance::{
    Candidate, Candidates, Chooser, KeyTable, Maglev, Member, PeakEwma, SmoothRotation, mix,
};
use topology::{Balance, HashAlgorithm, HashKey, Hashing};

const ENDPOINTS: [u64; 3] = [2, 10, 100];

type Weight = fn(u64) -> u32;

fn equal(_: u64) -> u32 {
    1
}

fn unequal(number: u64) -> u32 {
    1 + (number % 7) as u32
}

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rotation/pick");
    for count in ENDPOINTS {
        for (name, weight) in [("equal", equal as Weight), ("unequal", unequal)] {
            let mut rotation = rotation(count, weight);
            group.bench_function(format!("{count}_{name}"), |bencher| {
                bencher.iter(|| black_box(&mut rotation).pick());
            });
        }
    }
    group.finish();
    choose(criterion);
    let mut group = criterion.benchmark_group("rotation/update");
    for count in ENDPOINTS {
        let mut rotation = rotation(count, unequal);
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter(|| black_box(&mut rotation).update(candidates(count, unequal)));
        });
    }
}

fn rotation(count: u64, weight: Weight) -> SmoothRotation {
    let mut rotation = SmoothRotation::default();
    rotation.update(candidates(count, weight));
    rotation
}

fn candidates(count: u64, weight: Weight) -> impl Iterator<Item = Candidate> {
    (0..count).map(move |id| Candidate { id, weight: weight(id) })
}

const DECAY: Duration = Duration::from_secs(10);

/// Endpoints that are all healthy, with something to do.
struct Field {
    in_flight: Vec<u32>,
    latency: Vec<PeakEwma>,
}

impl Candidates for Field {
    fn may(&self, _: usize) -> bool {
        true
    }

    fn in_flight(&self, position: usize) -> u32 {
        self.in_flight[position]
    }

    fn cost(&self, position: usize, share: f64) -> f64 {
        self.latency[position].cost(self.in_flight[position], share, Duration::from_secs(1), DECAY)
    }

    fn take(&mut self, _: usize) -> bool {
        true
    }
}

/// The other policies, and the table that one of them needs; paid when a pool changes.
fn choose(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("rotation/choose");
    for count in ENDPOINTS {
        let hash = |bounded_load| {
            Balance::Hash(
                Hashing { key: HashKey::Uri, algorithm: HashAlgorithm::Maglev, bounded_load }.into(),
            )
        };
        for (name, balance) in [
            ("random", Balance::Random),
            ("least_requests", Balance::LeastRequests),
            ("peak_ewma", Balance::PeakEwma { decay: DECAY }),
            ("hash", hash(None)),
            ("hash_bounded", hash(Some(125))),
        ] {
            let members: Vec<_> = candidates(count, unequal)
                .enumerate()
                .map(|(place, candidate)| Member { place, weight: candidate.weight, whole: candidate.weight })
                .collect();
            let mut chooser = Chooser::new(&balance, 1).expect("no turns");
            chooser.update(&balance, &members);
            let (keys, mut field, mut key) = (KeyTable::Maglev(table(count)), field(count), 0);
            group.bench_function(format!("{count}_{name}"), |bencher| {
                bencher.iter(|| {
                    key += 1;
                    chooser.choose(black_box(&mut field), Some((mix(key), &keys)), true)
                });
            });
        }
    }
    group.finish();
    let mut group = criterion.benchmark_group("rotation/maglev");
    for count in ENDPOINTS {
        group.bench_function(count.to_string(), |bencher| bencher.iter(|| table(black_box(count))));
    }
}

fn table(count: u64) -> Maglev {
    let names: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    let names: Vec<_> = names.iter().map(|name| [name.as_str()]).collect();
    let weights = candidates(count, unequal).map(|candidate| candidate.weight);
    Maglev::new(names.iter().map(|name| &name[..]).zip(weights))
}

fn field(count: u64) -> Field {
    let latency = |number| {
        let latency = PeakEwma::default();
        latency.observe(Duration::from_millis(1 + number % 7), Duration::ZERO, DECAY);
        latency
    };
    Field {
        in_flight: (0..count).map(|number| (number % 5) as u32).collect(),
        latency: (0..count).map(latency).collect(),
    }
}
