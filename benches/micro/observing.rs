//! What a request costs that is counted by path and client, or traced.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use criterion::Criterion;
use gateway::message::RequestHead;
use gateway::message::trace_context::Parent;
use gateway::metrics::{ServiceMetrics, WorkerMetrics};
use gateway::statistics::{self, Seen, WorkerStatistics};
use gateway::trace::{self, WorkerTracing};
use topology::{AppId, Sample};

use crate::heads;

/// As many different ones as an hour of a busy app has; a multiple of no counter.
const DIFFERENT: u32 = 100_003;

pub fn measure(criterion: &mut Criterion) {
    let (to, _deltas) = statistics::channel();
    let statistics = WorkerStatistics::new(to, 1, Arc::new(WorkerMetrics::default()));
    let app = AppId::parse("shop").expect("it is a name");
    let service = Arc::new(ServiceMetrics::new(&app, None, 1));
    let seen = |client: u32, target| Seen {
        status: 200,
        has_failed: false,
        received_bytes: 412,
        sent_bytes: 5_120,
        took: Some(Duration::from_micros(1_234)),
        client: IpAddr::V4(Ipv4Addr::from_bits(client)),
        target,
    };
    criterion.bench_function("statistics/count_one", |bencher| {
        bencher.iter(|| statistics.count(&service, &seen(7, b"/index.html?a=b")));
    });
    let targets: Vec<_> = (0..DIFFERENT).map(|number| format!("/items/{number}?a=b")).collect();
    criterion.bench_function("statistics/count_all_different", |bencher| {
        let mut all = targets.iter().zip(0..).cycle();
        bencher.iter(|| {
            let (target, client) = all.next().expect("it has no end");
            statistics.count(&service, &seen(client, target.as_bytes()));
        });
    });
    let (to, _batches) = trace::channel();
    let tracing = WorkerTracing::new(Sample::NONE, to, Arc::new(WorkerMetrics::default()));
    let parsed = RequestHead::parse(heads::BROWSER).expect("it is valid");
    criterion.bench_function("trace/begin_unsampled", |bencher| {
        bencher.iter(|| tracing.begin(&parsed, heads::BROWSER, false));
    });
    criterion.bench_function("trace/parse_traceparent", |bencher| {
        let value = std::hint::black_box(b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
        bencher.iter(|| Parent::parse(value));
    });
}
