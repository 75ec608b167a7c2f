//! Placements among fifty hosts that run twenty instances each.

use std::collections::{BTreeMap, BTreeSet};

use criterion::Criterion;
use deploy::model::{Host, Ledger, Placement, Reservation, Share};
use deploy::scheduler::{Seat, Wish, choose, explain};
use topology::{AppId, HostId};

const HOSTS: u8 = 50;
const INSTANCES: u16 = 20;

pub fn measure(criterion: &mut Criterion) {
    let seats: Vec<Seat> = (0..HOSTS).map(seat).collect();
    let app = AppId::parse("shop").expect("it is an id");
    let placement = Placement::default();
    let fits = Reservation { memory: 1 << 30, cpu: 500, ..Reservation::default() };
    let too_large = Reservation { memory: 1 << 40, ..fits };
    let wish = |resources| Wish { app: &app, resources, placement: &placement, avoid: &[], shunned_by: &[] };
    let mut group = criterion.benchmark_group("schedule/50_hosts_1000_instances");
    let mut lot = fastrand::Rng::with_seed(1);
    group.bench_function("placed", |bencher| bencher.iter(|| choose(&wish(fits), &seats, lot.u64(..))));
    group.bench_function("refused", |bencher| bencher.iter(|| choose(&wish(too_large), &seats, 1)));
    group.bench_function("explained", |bencher| bencher.iter(|| explain(&wish(fits), &seats)));
    group.finish();
}

fn seat(at: u8) -> Seat {
    let id = HostId::parse(&format!("h{at}")).expect("it is an id");
    let share = |number: u16| Share { memory: 512 << 20, cpu: 250, port: 25_000 + number };
    let given = (0..INSTANCES).map(|number| (format!("app-{}/i{at}-{number}", number % 10), share(number)));
    Seat {
        id,
        host: Host {
            address: [10, 0, 0, at].into(),
            memory: 64 << 30,
            cpu: 32_000,
            labels: BTreeMap::new(),
            ports: Host::DEFAULT_PORTS,
            endpoint: None,
            cordoned: false,
            drained: false,
        },
        ledger: Ledger { given: given.collect() },
        reachable: true,
        load: Some(u32::from(at) * 7 % 900),
        foreign_ports: BTreeSet::new(),
    }
}
