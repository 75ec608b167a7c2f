//! One app's change, in tables of every size: the cost must be the change's.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use gateway::table::compile;
use topology::Snapshot;

use crate::tables::{self, ENDPOINTS};

const APPS: [usize; 3] = [10, 10_000, 100_000];

pub fn measure(criterion: &mut Criterion) {
    let settings = tables::settings();
    for apps in APPS {
        let former = tables::table(apps, ENDPOINTS);
        let changed = [
            ("endpoint_comes", with(&former.snapshot, tables::app(apps / 2, ENDPOINTS + 1))),
            ("app_comes", with(&former.snapshot, tables::app(apps, ENDPOINTS))),
            ("app_goes", without(&former.snapshot, &tables::app(apps / 2, 0).id)),
        ];
        let mut group = criterion.benchmark_group(format!("compile/{apps}_apps"));
        for (name, snapshot) in changed {
            // With the drop of the table that it makes: the gateway's control thread pays for both.
            group.bench_function(name, |bencher| {
                bencher.iter(|| compile(&settings, black_box(&former), snapshot.clone()));
            });
        }
    }
}

fn with(snapshot: &Snapshot, app: topology::App) -> Snapshot {
    let mut next = snapshot.clone();
    next.apps.insert(app.id.clone(), Arc::new(app));
    next
}

fn without(snapshot: &Snapshot, app: &topology::AppId) -> Snapshot {
    let mut next = snapshot.clone();
    next.apps.remove(app);
    next
}
