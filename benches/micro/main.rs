//! Functions that every request or every change runs through, one file each.

mod access_log;
mod chunked;
mod clients;
mod compile;
mod compression;
mod containment;
mod filters;
mod find;
mod heads;
mod matches;
mod observing;
mod request;
mod response;
mod retries;
mod rotation;
mod schedule;
mod split;
mod tables;

use criterion::{criterion_group, criterion_main};

/// The binary's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

criterion_group!(
    benches,
    request::measure,
    response::measure,
    chunked::measure,
    clients::measure,
    find::measure,
    filters::measure,
    matches::measure,
    compile::measure,
    compression::measure,
    rotation::measure,
    retries::measure,
    split::measure,
    containment::measure,
    access_log::measure,
    observing::measure,
    schedule::measure
);
criterion_main!(benches);
