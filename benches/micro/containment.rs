//! What limits cost where there are some, and what is asked of every answer where there are none.

use std::hint::black_box;
use std::sync::Arc;

use criterion::Criterion;
use gateway::table::{CompiledApp, RoutingTable, compile};
use healthcheck::outlier::{Fault, Streak};
use topology::{AppSpec, Capacity, Containment, Outliers, Snapshot};

use crate::tables;

pub fn measure(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("containment");
    // Every answer of every app: one load.
    let (streak, settings) = (Streak::default(), Outliers::default());
    group.bench_function("success", |bencher| bencher.iter(|| black_box(&streak).succeed()));
    group.bench_function("failure", |bencher| {
        bencher.iter(|| black_box(&streak).fail(Fault::NoAnswer, black_box(&settings)));
    });
    // A request's places with its app and its endpoint, taken and given back.
    let app = limited();
    let (gate, endpoint) = (app.gate.as_ref().expect("it is limited"), &app.endpoints[0]);
    let load = endpoint.live.load.get().expect("it is counted");
    group.bench_function("places", |bencher| {
        bencher.iter(|| {
            let is_taken =
                gate.entrance.in_flight.try_take(gate.most) && gate.try_take_place(black_box(endpoint));
            load.in_flight.give_back();
            gate.entrance.in_flight.give_back();
            gate.entrance.wake_one();
            is_taken
        });
    });
    group.finish();
}

fn limited() -> Arc<CompiledApp> {
    let mut app = tables::app(0, 2);
    let limits = Capacity { in_flight: Some(100), in_flight_per_endpoint: Some(50), ..Capacity::none() };
    let containment = Containment { capacity: Some(limits), ..Containment::default() };
    app.spec = Arc::new(AppSpec { containment: Some(Arc::new(containment)), ..(*app.spec).clone() });
    let id = app.id.clone();
    let snapshot =
        Snapshot { apps: [(id.clone(), Arc::new(app))].into_iter().collect(), ..Snapshot::default() };
    let (table, _) = compile(&tables::settings(), &RoutingTable::default(), snapshot);
    table.app(&id).expect("it was compiled").clone()
}
