//! One line of the access log, with the batch that it fills a part of.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::Criterion;
use gateway::access_log::{Ending, Entry, Format, LogPlan, LogTarget, LogWriter, WorkerLog};
use gateway::message::RequestHead;
use gateway::metrics::WorkerMetrics;
use gateway::proxy::{Facts, LogFacts};
use gateway::worker::request_ids::RequestIds;

use crate::{heads, tables};

/// The default's.
const BACKLOG: usize = 16 << 20;
const FORMATS: [(&str, Format); 2] = [("json", Format::Json), ("combined", Format::Combined)];
const HEADS: [(&str, &[u8]); 2] = [("curl", heads::CURL), ("browser", heads::BROWSER)];

pub fn measure(criterion: &mut Criterion) {
    // The writer's own thread throws the lines away: what remains is a worker's part.
    let metrics = Arc::new(WorkerMetrics::default());
    let mut group = criterion.benchmark_group("access_log/line");
    for (name, format) in FORMATS {
        let target = LogTarget::File { path: PathBuf::from("/dev/null"), rotation: None };
        let plan = LogPlan { target, format, backlog: BACKLOG, envelope: None };
        let writer = LogWriter::start(plan).expect("it can be opened");
        let log = writer.worker(metrics.clone());
        for (client, head) in HEADS {
            let facts = facts(head);
            group.bench_function(format!("{name}_{client}"), |bencher| write(bencher, &log, &facts));
        }
        drop(log);
        writer.finish();
    }
    group.finish();
    let parsed = RequestHead::parse(heads::BROWSER).expect("it is valid");
    criterion.bench_function("access_log/facts_browser", |bencher| {
        bencher.iter(|| LogFacts::of(&parsed, heads::BROWSER, None));
    });
}

fn write(bencher: &mut criterion::Bencher<'_>, log: &WorkerLog, facts: &Facts) {
    let table = tables::table(1, 1);
    let app = table.apps.values().next().expect("the table has an app");
    let peer = IpAddr::from([198, 51, 100, 7]);
    let at = Instant::now();
    bencher.iter(|| {
        log.write(|| Entry {
            facts,
            body_bytes: 4_802,
            ending: Ending {
                at,
                client: peer,
                listener: "web",
                status: 200,
                reason: None,
                received_bytes: 412,
                sent_bytes: 5_120,
                took: Duration::from_micros(1_234),
                awaited: Some(Duration::from_micros(1_198)),
                app: Some(app.id.as_str()),
                endpoint: app.endpoints.first().map(|endpoint| &**endpoint),
                retries: 0,
            },
        });
    });
}

fn facts(head: &[u8]) -> Facts {
    let parsed = RequestHead::parse(head).expect("it is valid");
    Facts {
        method: parsed.method,
        version: parsed.version,
        framing: parsed.framing,
        keep_alive: parsed.keep_alive,
        expects_continue: parsed.expects_continue,
        log: Some(Box::new(LogFacts::of(&parsed, head, None))),
        ..Facts::unknown(Instant::now(), RequestIds::default().next(), head.len())
    }
}
