//! From host and path to the app, in tables of every size.

use std::hint::black_box;

use criterion::Criterion;
use gateway::table::RoutingTable;

use crate::tables;

const APPS: [usize; 3] = [1, 10_000, 100_000];
/// Hosts asked for in turn. More than the caches hold at 100,000 apps, as for a gateway whose traffic
/// is spread over its tenants.
const ASKED: usize = 4096;
/// Shares no divisor with the number of apps, so it comes to all of them, and to no neighbours in a row.
const STRIDE: usize = 61_803;

pub fn measure(criterion: &mut Criterion) {
    for apps in APPS {
        let table = tables::table(apps, 1);
        let spread = |host: fn(usize) -> String| -> Vec<String> {
            (0..ASKED).map(|turn| host(turn * STRIDE % apps)).collect()
        };
        let mut group = criterion.benchmark_group(format!("find/{apps}_apps"));
        for (name, hosts) in [
            ("exact", spread(tables::exact_host)),
            ("wildcard", spread(tables::wildcard_host)),
            ("unknown", (0..ASKED).map(|turn| format!("www.nobody{turn}.example.org")).collect()),
        ] {
            group.bench_function(name, |bencher| {
                let mut turn = 0;
                bencher.iter(|| {
                    turn = (turn + 1) % ASKED;
                    find(&table, &hosts[turn])
                });
            });
        }
    }
}

fn find(table: &RoutingTable, host: &str) -> usize {
    let found = black_box(table).find("web", black_box(host), b"/index.html");
    match found {
        gateway::table::Match::App(app) => app.endpoints.len(),
        _ => 0,
    }
}
