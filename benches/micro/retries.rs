//! What every request pays into its pool's budget for retries, and what a retry costs there.

use std::hint::black_box;

use criterion::Criterion;
use gateway::worker::RetryBudget;
use topology::RetryAllowance;

pub fn measure(criterion: &mut Criterion) {
    let mut budget = RetryBudget::new(RetryAllowance::DEFAULT, 0);
    criterion.bench_function("retries/deposit", |bencher| bencher.iter(|| budget.deposit(black_box(1))));
    criterion.bench_function("retries/withdraw", |bencher| bencher.iter(|| budget.withdraw(black_box(1))));
}
