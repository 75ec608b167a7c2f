//! Which version a request belongs to.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use criterion::Criterion;
use gateway::balance::SplitSchedule;

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("split/step");
    for (name, shares) in [("90_10", &[90, 10][..]), ("9999_1", &[9_999, 1][..])] {
        let (schedule, cursor) = (SplitSchedule::new(shares), AtomicU64::new(0));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(&schedule).step(&cursor)));
    }
    group.finish();
    // The longest sequence that there is; paid when an app's split changes.
    criterion.bench_function("split/new_9999_1", |bencher| {
        bencher.iter(|| SplitSchedule::new(black_box(&[9_999, 1])));
    });
}
