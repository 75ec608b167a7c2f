//! Which match takes a request: what an app with matches pays for each request that none of them takes.

use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use criterion::Criterion;
use gateway::filter::Asked;
use gateway::message::{NO_NAMES, RequestHead, target};
use gateway::proxy::matching::taken_by;
use gateway::table::{RoutingTable, compile};
use topology::{
    AppSpec, Condition, MatchEffect, Named, RequestMatch, Snapshot, UserCondition, UserGroup, UserId,
    ValueMatch,
};

use crate::{heads, tables};

pub fn measure(criterion: &mut Criterion) {
    let named = |name: &str| Named { name: name.into(), value: ValueMatch::Equals("yes".into()) };
    let user = UserCondition { id: UserId::Cookie("session".into()), group: UserGroup::Percent(1) };
    let network = "10.0.0.0/8".parse().expect("it is a network");
    let mut group = criterion.benchmark_group("matches/browser");
    for (name, condition) in [
        ("method", Condition::Method(vec!["POST".into()])),
        ("client", Condition::Client(vec![network])),
        ("header", Condition::Header(named("x-canary"))),
        ("cookie", Condition::Cookie(named("canary"))),
        ("query", Condition::Query(named("canary"))),
        ("user", Condition::User(user)),
    ] {
        for count in [1, 8] {
            let table = table(&condition, count);
            let app = table.apps.values().next().expect("the table has an app");
            let matches = app.matches.as_deref().expect("the app has matches");
            let parsed = RequestHead::parse(heads::BROWSER).expect("it is valid");
            let path = target::route_path(parsed.path_and_query.within(heads::BROWSER)).expect("it is valid");
            let now = Instant::now();
            group.bench_function(format!("{count}_{name}"), |bencher| {
                bencher.iter(|| {
                    let asked = Asked {
                        request: black_box(&parsed),
                        head: heads::BROWSER,
                        path: &path,
                        host: "shop.example.com",
                        app: "shop",
                        taken_by: None,
                        id: &[b'0'; 32],
                        now,
                        worker: 0,
                        is_tls: false,
                        peer: IpAddr::from([198, 51, 100, 7]),
                        trusts: None,
                        told: &NO_NAMES,
                        found: Default::default(),
                    };
                    taken_by(matches, &asked)
                });
            });
        }
    }
    group.finish();
}

/// One app, with `count` matches of one `condition` each.
fn table(condition: &Condition, count: usize) -> RoutingTable {
    let entry = |number: usize| RequestMatch {
        name: format!("m{number}").into(),
        conditions: vec![condition.clone()],
        effect: MatchEffect::Default,
    };
    let mut app = tables::app(0, 1);
    let spec = AppSpec { matches: Some((0..count).map(entry).collect()), ..(*app.spec).clone() };
    app.spec = Arc::new(spec);
    let apps = [(app.id.clone(), Arc::new(app))];
    let snapshot = Snapshot { apps: apps.into_iter().collect(), ..Snapshot::default() };
    compile(&tables::settings(), &RoutingTable::default(), snapshot).0
}
