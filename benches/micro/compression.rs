//! What an app with compression pays: the choice per request, and a page's coding.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use gateway::filter::compression::{Encoder, Room, choose};
use gateway::message::RequestHead;
use topology::filters::{Coding, Compression, CompressionLevel};

use crate::heads;

/// A usual page, and a usual answer of an API.
const SIZES: [usize; 2] = [64 << 10, 4 << 10];
const LEVELS: [CompressionLevel; 3] =
    [CompressionLevel::Fast, CompressionLevel::Balanced, CompressionLevel::Small];

pub fn measure(criterion: &mut Criterion) {
    let parsed = RequestHead::parse(heads::BROWSER).expect("it is valid");
    criterion.bench_function("compression/choose", |bencher| {
        bencher.iter(|| choose(black_box(&parsed), heads::BROWSER, &Compression::DEFAULT_CODINGS));
    });
    for size in SIZES {
        let page = page(size);
        let mut group = criterion.benchmark_group(format!("compression/{}_KiB", size >> 10));
        group.throughput(Throughput::Bytes(size as u64));
        for coding in Coding::ALL {
            for level in LEVELS {
                group.bench_function(format!("{}_{}", coding.as_str(), level.as_str()), |bencher| {
                    bencher.iter(|| code(coding, level, black_box(&page)));
                });
            }
        }
        group.finish();
    }
}

fn code(coding: Coding, level: CompressionLevel, page: &[u8]) -> u64 {
    let room = Room::default();
    let mut encoder = Encoder::new(coding, level, Some(page.len() as u64), &room).expect("there is room");
    encoder.write(page).expect("there is memory");
    encoder.finish().expect("there is memory");
    encoder.given
}

/// Rows of a table, each a little different.
fn page(bytes: usize) -> Vec<u8> {
    let row = |number: usize| {
        let price = number * 7919 % 10_000;
        format!(
            "<tr class=\"item\"><td>{number}</td><td>Shoes no. {}</td><td>{price}.00 EUR</td></tr>\n",
            number * 31
        )
    };
    let mut page: Vec<u8> = (0..).flat_map(|number| row(number).into_bytes()).take(bytes).collect();
    page.truncate(bytes);
    page
}
