//! Whom an app's policy chooses, through a real gateway.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, RawClient, RawEndpoint, Reply, eventually};

const HOST: &str = "shop.test";

const POLICIES: [&str; 6] = [
    r#"balance = "round_robin""#,
    r#"balance = "random""#,
    r#"balance = "least_requests""#,
    r#"balance = "peak_ewma""#,
    r#"balance = { kind = "hash", key = "client" }"#,
    r#"balance = { kind = "hash", key = "client", bounded_load = 1.25 }"#,
];

fn shop(balance: &str, endpoints: &[&Endpoint]) -> App {
    let addresses: Vec<_> = endpoints.iter().map(|endpoint| endpoint.address()).collect();
    at(balance, &addresses)
}

/// Instances are named `c0`, `c1` and so on.
fn at(balance: &str, addresses: &[SocketAddr]) -> App {
    let app = App::new("shop").host(HOST).line(balance);
    addresses
        .iter()
        .enumerate()
        .fold(app, |app, (number, address)| app.endpoint("v1", &format!("c{number}"), *address))
}

/// Endpoints that name themselves, but for `/slow`, which waits for the gate.
fn gated(count: usize, gate: &Gate) -> Vec<Endpoint> {
    let endpoint = |number| {
        let closed = gate.clone();
        Endpoint::behaving(&format!("c{number}"), move |request| {
            if request.target == "/slow" {
                closed.pass();
            }
            Reply::ok(format!("c{number}"))
        })
    };
    (0..count).map(endpoint).collect()
}

fn named(count: usize) -> Vec<Endpoint> {
    gated(count, &Gate::default())
}

fn references(endpoints: &[Endpoint]) -> Vec<&Endpoint> {
    endpoints.iter().collect()
}

fn asked(endpoints: &[Endpoint]) -> u64 {
    endpoints.iter().map(Endpoint::requests).sum()
}

/// A request that is not answered before the gate opens; the position of who has it.
fn ask_slowly(gateway: &Gateway, endpoints: &[Endpoint]) -> (RawClient, usize) {
    let before: Vec<_> = endpoints.iter().map(Endpoint::requests).collect();
    let mut client = gateway.connect();
    client.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    let whose = || endpoints.iter().zip(&before).position(|(endpoint, before)| endpoint.requests() > *before);
    eventually(DEADLINE, "somebody is asked", || whose().is_some());
    (client, whose().expect("somebody was asked"))
}

fn ask(client: &mut RawClient, target: &str, fields: &str) -> String {
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\n{fields}\r\n"));
    let response = client.receive();
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}

/// What `/v1/endpoints` says of each, in the order of their names.
fn reports(gateway: &Gateway) -> Vec<serde_json::Value> {
    gateway.admin_json("/v1/endpoints?app=shop")["items"].as_array().expect("a page has items").clone()
}

fn in_flight(gateway: &Gateway) -> u64 {
    reports(gateway).iter().map(|report| report["in_flight"].as_u64().expect("they are counted")).sum()
}

/// A response is there a little before the place that it held is given back.
#[track_caller]
fn settles(gateway: &Gateway, in_flight_then: u64) {
    eventually(DEADLINE, "what is over is given back", || in_flight(gateway) == in_flight_then);
}

#[test]
fn least_requests_go_to_who_has_the_fewest_whichever_worker_asks() {
    let gate = Gate::default();
    let endpoints = gated(2, &gate);
    let config = Config::new().app(&shop(r#"balance = "least_requests""#, &references(&endpoints)));
    let gateway = Gateway::start(&config);
    let (mut held, busy) = ask_slowly(&gateway, &endpoints);
    // Connections fall to one worker or the other; of two endpoints both are always drawn.
    for _ in 0..40 {
        assert_eq!(ask(&mut gateway.connect(), "/", ""), format!("c{}", 1 - busy));
        settles(&gateway, 1);
    }
    assert_eq!(reports(&gateway)[busy]["in_flight"], 1);
    assert!(reports(&gateway)[busy]["in_flight_limit"].is_null());
    let (mut second, other) = ask_slowly(&gateway, &endpoints);
    assert_ne!(busy, other);
    gate.open();
    assert_eq!((held.receive().status, second.receive().status), (200, 200));
    settles(&gateway, 0);
}

#[test]
fn what_is_under_way_is_given_back_however_it_ends() {
    let gate = Gate::default();
    let endpoints = gated(2, &gate);
    let app = shop(r#"balance = "least_requests""#, &references(&endpoints));
    let hedged = app.clone().line(r#"hedge = { after = "50ms" }"#);
    let gateway = Gateway::start(&Config::with_workers(1).app(&hedged));
    let mut client = gateway.connect();
    client.send(format!("GET /slow HTTP/1.1\r\nHost: {HOST}\r\n\r\n"));
    eventually(DEADLINE, "both are asked", || endpoints.iter().all(|endpoint| endpoint.requests() == 1));
    eventually(DEADLINE, "both are counted", || in_flight(&gateway) == 2);
    // Another table, in which nothing is counted any more, and then one in which it is again.
    gateway.put_app(&shop(r#"balance = "random""#, &references(&endpoints)));
    eventually(DEADLINE, "it is not told", || reports(&gateway)[0]["in_flight"].is_null());
    gateway.put_app(&app);
    eventually(DEADLINE, "both are still counted", || {
        reports(&gateway)[0]["in_flight"] == 1 && reports(&gateway)[1]["in_flight"] == 1
    });
    client.wire.reset_at_end().expect("the connection is open");
    drop(client);
    settles(&gateway, 0);
    // An endpoint that refuses is not left with a request.
    endpoints[0].stop();
    for _ in 0..20 {
        assert_eq!(ask(&mut gateway.connect(), "/", ""), "c1");
    }
    settles(&gateway, 0);
    gate.open();
}

#[test]
fn an_endpoint_that_was_slow_once_is_avoided_by_peak_ewma() {
    let gate = Gate::default();
    let endpoints = gated(2, &gate);
    let balance = r#"balance = { kind = "peak_ewma", decay = "10m" }"#;
    let gateway = Gateway::start(&Config::with_workers(1).app(&shop(balance, &references(&endpoints))));
    let (mut held, slow) = ask_slowly(&gateway, &endpoints);
    let mut client = gateway.connect();
    let quick = format!("c{}", 1 - slow);
    // Nothing is known of the one that has not answered yet, so it gets nothing more.
    for _ in 0..20 {
        assert_eq!(ask(&mut client, "/", ""), quick);
    }
    gate.open();
    assert_eq!(held.receive().status, 200);
    let expected = |number: usize| reports(&gateway)[number]["expected_seconds"].as_f64();
    settles(&gateway, 0);
    // It took as long as twenty of the others together.
    assert!(expected(slow) > expected(1 - slow), "{:?} and {:?}", expected(slow), expected(1 - slow));
    assert_eq!(ask(&mut client, "/", ""), quick);
}

#[test]
fn a_failure_is_not_quick() {
    let endpoints =
        [Endpoint::behaving("bad", |_| Reply::Answer(500, Vec::new(), Vec::new())), Endpoint::start("good")];
    let gateway = Gateway::start(
        &Config::with_workers(1).app(&shop(r#"balance = "peak_ewma""#, &references(&endpoints))),
    );
    let mut client = gateway.connect();
    for _ in 0..30 {
        client.get(HOST, "/");
    }
    // By turns it would have been half of them.
    assert!(endpoints[0].requests() <= 2, "{} requests", endpoints[0].requests());
}

#[test]
fn lots_are_drawn_by_weight() {
    let endpoints = named(2);
    let app = App::new("shop")
        .host(HOST)
        .line(r#"balance = "random""#)
        .weighted("v1", "c0", endpoints[0].address(), 9)
        .weighted("v1", "c1", endpoints[1].address(), 1);
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    let mut client = gateway.connect();
    let answers: Vec<_> = (0..600).map(|_| ask(&mut client, "/", "")).collect();
    // Six standard deviations on either side of 60.
    assert!((16..=104).contains(&endpoints[1].requests()), "{}", endpoints[1].requests());
    // In turn the lighter one would come every ten requests.
    let light: Vec<_> = (0..600).filter(|at| answers[*at] == "c1").collect();
    assert!(light.windows(2).any(|pair| pair[1] - pair[0] != 10), "{light:?}");
}

#[test]
fn one_key_has_one_endpoint_on_every_worker_and_after_a_restart() {
    let endpoints = named(4);
    let app = shop(r#"balance = { kind = "hash", key = "cookie:session" }"#, &references(&endpoints));
    let where_all_are = |gateway: &Gateway| {
        let of = |session| ask(&mut gateway.connect(), "/", &format!("Cookie: a=b; session={session}\r\n"));
        (0..40).map(of).collect::<Vec<_>>()
    };
    let gateway = Gateway::start(&Config::new().app(&app));
    let first = where_all_are(&gateway);
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 4, "{first:?}");
    assert_eq!(where_all_are(&gateway), first);
    drop(gateway);
    let gateway = Gateway::start(&Config::new().app(&app));
    assert_eq!(where_all_are(&gateway), first);
    // Without a session, or with two, they take turns.
    let gateway = Gateway::start(&Config::with_workers(1).app(&app));
    for fields in ["", "Cookie: session=1; session=2\r\n"] {
        let mut client = gateway.connect();
        let turns: BTreeSet<_> = (0..4).map(|_| ask(&mut client, "/", fields)).collect();
        assert_eq!(turns.len(), 4);
    }
}

#[test]
fn keys_of_an_endpoint_that_is_out_go_elsewhere_and_come_back() {
    let endpoints = named(3);
    let app = shop(r#"balance = { kind = "hash", key = "header:X-User" }"#, &references(&endpoints)).probed();
    let gateway = Gateway::start(&Config::new().app(&app));
    let of = |user: u32| ask(&mut gateway.connect(), "/", &format!("X-User: {user}\r\n"));
    let before: Vec<_> = (0..60).map(of).collect();
    let is = |state: &str| reports(&gateway)[1]["state"] == state;
    endpoints[1].set_healthy(false);
    eventually(DEADLINE, "it is down", || is("down"));
    for (user, was) in (0..60).zip(&before) {
        let is = of(user);
        assert!(if was == "c1" { is != "c1" } else { is == *was }, "{user} was at {was} and is at {is}");
    }
    endpoints[1].set_healthy(true);
    eventually(DEADLINE, "it is up", || is("up"));
    eventually(DEADLINE, "all are back", || (0..60).map(of).eq(before.iter().cloned()));
}

#[test]
fn every_part_of_a_request_can_be_its_key() {
    let endpoints = named(4);
    let config = |key: &str| {
        let line = format!(r#"balance = {{ kind = "hash", key = "{key}" }}"#);
        Config::with_workers(1).trusting("127.0.0.1").app(&shop(&line, &references(&endpoints)))
    };
    // Requests that are one to the key, and how many there are of those that differ.
    for (key, same, other) in [
        ("path", ["/a?1", "/a?2"], "/b"),
        ("path", ["/a/x/..", "/a/"], "/b"),
        ("uri", ["/a?1", "/a?1"], "/a?"),
    ] {
        let gateway = Gateway::start(&config(key));
        let mut client = gateway.connect();
        let first = ask(&mut client, same[0], "");
        assert!((0..8).all(|_| ask(&mut client, same[1], "") == first), "{key}");
        let others: BTreeSet<_> = (0..40).map(|n| ask(&mut client, &format!("{other}{n}"), "")).collect();
        assert_eq!(others.len(), 4, "{key}");
    }
    let gateway = Gateway::start(&config("client"));
    let mut client = gateway.connect();
    let mut from = |address: u32| ask(&mut client, "/", &format!("X-Forwarded-For: 10.0.0.{address}\r\n"));
    let first: Vec<_> = (0..40).map(&mut from).collect();
    assert_eq!(first.iter().collect::<BTreeSet<_>>().len(), 4);
    assert!((0..40).map(&mut from).eq(first));
}

#[test]
fn a_bounded_load_leaves_a_hot_keys_requests_to_others() {
    // Of the third request's three a quarter more than one each is two.
    for (bound, wanted) in [("", 1), (", bounded_load = 1.25", 2)] {
        let gate = Gate::default();
        let endpoints = gated(3, &gate);
        let line = format!(r#"balance = {{ kind = "hash", key = "client"{bound} }}"#);
        let gateway = Gateway::start(&Config::new().app(&shop(&line, &references(&endpoints))));
        let held: Vec<_> = (0..3).map(|_| ask_slowly(&gateway, &endpoints)).collect();
        let whose: BTreeSet<_> = held.iter().map(|(_, position)| *position).collect();
        assert_eq!(whose.len(), wanted, "{bound}");
        assert!(wanted == 1 || held[1].1 != held[0].1, "the second one finds its endpoint above the bound");
        gate.open();
        held.into_iter().for_each(|(mut client, _)| assert_eq!(client.receive().status, 200));
    }
}

/// Nobody's answer is lost by a dead endpoint, and no endpoint is asked twice, whoever chooses.
#[test]
fn a_retry_goes_to_another_endpoint_by_every_policy() {
    for policy in POLICIES {
        let resets: Vec<_> = (0..2)
            .map(|_| RawEndpoint::start(|wire, _| tests::read_head(wire).and_then(|_| wire.reset_at_end())))
            .collect();
        let good = Endpoint::start("good");
        let addresses = [resets[0].address(), good.address(), resets[1].address()];
        let app = at(policy, &addresses)
            .line("outliers = { enabled = false }")
            .line("retries = { attempts = 3, budget = { percent = 100, min_per_second = 100 } }");
        let gateway = Gateway::start(&Config::with_workers(1).app(&app));
        for request in 1..=10 {
            assert_eq!(ask(&mut gateway.connect(), "/", ""), "good", "{policy}");
            assert!(resets.iter().all(|bad| bad.accepted() <= request), "{policy}: one was asked twice");
        }
        assert_eq!(good.requests(), 10);
    }
}

#[test]
fn a_limit_holds_and_is_counted_once_by_every_policy() {
    for policy in POLICIES {
        let gate = Gate::default();
        let endpoints = gated(3, &gate);
        let app =
            shop(policy, &references(&endpoints)).line("limits = { in_flight_per_endpoint = 1, queue = 0 }");
        let gateway = Gateway::start(&Config::new().app(&app));
        let held: Vec<_> = (0..3).map(|_| ask_slowly(&gateway, &endpoints)).collect();
        let whose: BTreeSet<_> = held.iter().map(|(_, position)| *position).collect();
        assert_eq!((whose.len(), in_flight(&gateway)), (3, 3), "{policy}");
        assert_eq!(gateway.get(HOST, "/").reason(), Some("app_overloaded"), "{policy}");
        gate.open();
        held.into_iter().for_each(|(mut client, _)| assert_eq!(client.receive().status, 200));
        settles(&gateway, 0);
    }
}

#[test]
fn a_split_and_weights_of_zero_hold_by_every_policy() {
    for policy in POLICIES {
        let endpoints = named(4);
        let mut app = App::new("shop").host(HOST).line(policy).line("split = { v1 = 90, v2 = 10 }");
        for (number, (version, weight)) in [("v1", 1), ("v1", 0), ("v2", 1), ("v2", 1)].iter().enumerate() {
            app = app.weighted(version, &format!("c{number}"), endpoints[number].address(), *weight);
        }
        let gateway = Gateway::start(&Config::with_workers(1).app(&app));
        let mut client = gateway.connect();
        (0..100).for_each(|_| drop(ask(&mut client, "/", "")));
        let requests: Vec<_> = endpoints.iter().map(Endpoint::requests).collect();
        assert_eq!((requests[0], requests[1], requests[2] + requests[3]), (90, 0, 10), "{policy}");
    }
}

#[test]
fn a_policy_changes_while_it_is_in_use_and_is_told() {
    let endpoints = named(3);
    let gateway = Gateway::start(&Config::with_workers(1).app(&shop(POLICIES[0], &references(&endpoints))));
    let told = || gateway.admin_json("/v1/apps?app=shop")["items"][0]["balance"].clone();
    assert_eq!(told(), serde_json::json!({ "kind": "round_robin" }));
    let mut client = gateway.connect();
    for (line, wanted) in [
        (
            POLICIES[5],
            serde_json::json!({ "kind": "hash", "key": "client", "algorithm": "maglev", "bounded_load": 1.25 }),
        ),
        (POLICIES[3], serde_json::json!({ "kind": "peak_ewma", "decay_seconds": 10.0 })),
        (POLICIES[4], serde_json::json!({ "kind": "hash", "key": "client", "algorithm": "maglev" })),
        (POLICIES[2], serde_json::json!({ "kind": "least_requests" })),
        (POLICIES[0], serde_json::json!({ "kind": "round_robin" })),
    ] {
        gateway.put_app(&shop(line, &references(&endpoints)));
        eventually(DEADLINE, "it is in force", || told() == wanted);
        let answers: BTreeSet<_> = (0..12).map(|_| ask(&mut client, "/", "")).collect();
        if line.contains("hash") {
            assert_eq!(answers.len(), 1, "{line}");
        }
    }
    assert_eq!(asked(&endpoints), 60);
}
