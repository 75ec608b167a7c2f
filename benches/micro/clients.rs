//! What a connection pays for being counted among its client's.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use criterion::Criterion;
use gateway::worker::{ClientKey, Clients};

/// Clients that are connected meanwhile.
const OTHERS: u32 = 10_000;

pub fn measure(criterion: &mut Criterion) {
    let clients = Arc::new(Clients::default());
    let key = |number: u32| ClientKey::from(IpAddr::from(Ipv4Addr::from(number)));
    let held: Vec<_> = (0..OTHERS).map(|number| clients.admit(key(number), 1)).collect();
    // Counted in, and out again.
    criterion.bench_function("clients/admit_and_leave", |bencher| {
        bencher.iter(|| drop(clients.admit(black_box(key(OTHERS)), 100)));
    });
    drop(held);
}
