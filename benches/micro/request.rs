//! A request's head: found, understood, and written for upstream.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use criterion::{Criterion, Throughput};
use gateway::message::encode::{self, Hop};
use gateway::message::{RequestHead, scan::HeadScan, target};

use crate::heads;

const HEADS: [(&str, &[u8]); 2] = [("curl", heads::CURL), ("browser", heads::BROWSER)];

const HOP: Hop<'static> = Hop {
    peer: IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
    is_trusted: false,
    is_tls: false,
    local_authority: "192.0.2.1:8080",
    pseudonym: "gw-1",
    request_id: "0123456789abcdef0123456789abcdef",
    identity: None,
    trace: None,
    edits: None,
};

pub fn measure(criterion: &mut Criterion) {
    scan_and_parse(criterion);
    route_key(criterion);
    encode(criterion);
}

fn scan_and_parse(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request/scan_and_parse");
    for (name, head) in HEADS {
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let received = black_box(head);
                let end = HeadScan::default().find_end(received).expect("it is valid");
                RequestHead::parse(&received[..end.expect("it is complete")]).expect("it is valid")
            });
        });
    }
}

/// What routing compares: host and path without their spellings.
fn route_key(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request/route_key");
    for (name, head) in HEADS {
        let parsed = RequestHead::parse(head).expect("it is valid");
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let host = topology::normalize_host(parsed.authority.within(black_box(head)));
                let path = target::route_path(parsed.path_and_query.within(head)).expect("it is valid");
                black_box((host, path));
            });
        });
    }
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("request/encode");
    for (name, head) in HEADS {
        let parsed = RequestHead::parse(head).expect("it is valid");
        let mut out = Vec::with_capacity(4 << 10);
        group.throughput(Throughput::Bytes(head.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                out.clear();
                encode::request(black_box(&parsed), head, &HOP, &mut out);
                black_box(out.len())
            });
        });
    }
}
