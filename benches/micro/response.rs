//! A response's head: understood, and written for the client.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use gateway::message::encode::{self, Downstream};
use gateway::message::scan::HeadScan;
use gateway::message::{Method, ResponseHead, Version};

use crate::heads;

const HEADS: [(&str, &[u8]); 2] =
    [("short", heads::SHORT_RESPONSE), ("application", heads::APPLICATION_RESPONSE)];

const DOWNSTREAM: Downstream<'static> =
    Downstream { version: Version::Http11, keep_alive: true, hsts: None, date: |_| {}, edits: None };

pub fn measure(criterion: &mut Criterion) {
    scan_and_parse(criterion);
    encode(criterion);
}

fn scan_and_parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response/scan_and_parse");
    for (name, head) in HEADS {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let received = black_box(head);
                let end = HeadScan::default().find_end(received).expect("it is valid");
                ResponseHead::parse(&received[..end.expect("it is complete")], Method::Get)
                    .expect("it is valid")
            });
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("response/encode");
    for (name, head) in HEADS {
        let parsed = ResponseHead::parse(head, Method::Get).expect("it is valid");
        let mut out = Vec::with_capacity(4 << 10);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                black_box(encode::response(black_box(&parsed), head, DOWNSTREAM, &mut out))
            });
        });
    }
}
