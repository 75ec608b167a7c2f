//! A chunked body, decoded in place as it arrives.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput};
use gateway::message::chunked::{ChunkedDecoder, LAST_CHUNK, write_chunk};

const PAYLOAD_BYTES: usize = 64 << 10;
/// Small ones as a template engine flushes them, large ones as a file server does.
const CHUNK_BYTES: [usize; 3] = [64, 1 << 10, 16 << 10];
/// What the gateway's usual buffer takes at once.
const READ_BYTES: usize = 64 << 10;

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("chunked/decode_64_KiB");
    group.throughput(Throughput::Bytes(PAYLOAD_BYTES as u64));
    for size in CHUNK_BYTES {
        let body = body(size);
        group.bench_function(format!("chunks_of_{size}"), |bencher| {
            bencher.iter_batched_ref(|| body.clone(), |body| decode(body), BatchSize::SmallInput);
        });
    }
    group.finish();
    let mut out = Vec::with_capacity(2 * READ_BYTES);
    let payload = vec![b'x'; 1 << 10];
    criterion.bench_function("chunked/write_chunk_1_KiB", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_chunk(black_box(&payload), &mut out);
            black_box(out.len())
        });
    });
}

fn body(chunk_bytes: usize) -> Vec<u8> {
    let payload = vec![b'x'; PAYLOAD_BYTES];
    let mut body = Vec::new();
    payload.chunks(chunk_bytes).for_each(|chunk| write_chunk(chunk, &mut body));
    body.extend_from_slice(LAST_CHUNK);
    body
}

fn decode(body: &mut [u8]) -> usize {
    let mut decoder = ChunkedDecoder::default();
    let read = |piece| decoder.decode(piece).expect("it is valid").payload;
    let payload = body.chunks_mut(READ_BYTES).map(read).sum();
    assert!(decoder.is_done());
    payload
}
