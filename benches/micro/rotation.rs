//! Whose turn it is among the endpoints of a version.

use std::hint::black_box;

use criterion::Criterion;
use gateway::balance::{Candidate, SmoothRotation};

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
