//! How requests are divided.

use std::thread;

use tests::{App, Config, Endpoint, Gateway, RawClient};

use crate::refusal;

const HOST: &str = "shop.test";

/// Endpoints that answer with their ids, and a gateway in front of `app` with them.
fn weighted(weights: &[(&str, u16)]) -> (Gateway, Vec<Endpoint>) {
    let endpoints: Vec<_> = weights.iter().map(|(id, _)| Endpoint::start(id)).collect();
    let app =
        weights.iter().zip(&endpoints).fold(App::new("shop").host(HOST), |app, ((id, weight), endpoint)| {
            app.weighted("v1", id, endpoint.address(), *weight)
        });
    (Gateway::start(&Config::new().app(&app)), endpoints)
}

/// v1 with one instance gets 90 %, v2 with three gets 10 %.
fn split() -> (Gateway, Vec<Endpoint>) {
    let endpoints: Vec<_> = ["v1", "v2", "v2", "v2"].iter().map(|id| Endpoint::start(id)).collect();
    let app = App::new("shop")
        .host(HOST)
        .line("split = { v1 = 90, v2 = 10 }")
        .endpoint("v1", "a", endpoints[0].address())
        .endpoint("v2", "b", endpoints[1].address())
        .endpoint("v2", "c", endpoints[2].address())
        .endpoint("v2", "d", endpoints[3].address());
    (Gateway::start(&Config::new().app(&app)), endpoints)
}

fn ask(client: &mut RawClient) -> String {
    let response = client.get(HOST, "/");
    assert_eq!(response.status, 200, "{}", response.text());
    response.text()
}

fn count(answers: &[String], id: &str) -> usize {
    answers.iter().filter(|answer| *answer == id).count()
}

#[track_caller]
fn assert_any_thousand_is_exact(answers: &[String]) {
    for (first, window) in answers.windows(1_000).enumerate() {
        assert_eq!(count(window, "v1"), 900, "of the 1000 requests from number {first}");
    }
}

#[test]
fn endpoints_of_equal_weight_take_turns() {
    let (gateway, _endpoints) = weighted(&[("a", 1), ("b", 1), ("c", 1)]);
    let mut client = gateway.connect();
    let answers: Vec<_> = (0..30).map(|_| ask(&mut client)).collect();
    for window in answers.windows(3) {
        for id in ["a", "b", "c"] {
            assert_eq!(count(window, id), 1, "{answers:?}");
        }
    }
}

#[test]
fn weights_divide_exactly_and_without_bursts() {
    let (gateway, _endpoints) = weighted(&[("a", 5), ("b", 2), ("c", 1)]);
    let mut client = gateway.connect();
    let answers: Vec<_> = (0..80).map(|_| ask(&mut client)).collect();
    for window in answers.windows(8) {
        assert_eq!((count(window, "a"), count(window, "b"), count(window, "c")), (5, 2, 1), "{answers:?}");
    }
    // Smooth: the lightest never waits for the heaviest to finish its whole share, nor does "b" follow "b".
    assert!(answers.windows(4).all(|window| count(window, "a") < 4), "{answers:?}");
    assert!(answers.windows(2).all(|window| count(window, "b") < 2), "{answers:?}");
}

#[test]
fn the_heaviest_weight_does_not_starve_the_lightest() {
    let (gateway, endpoints) = weighted(&[("a", 65_535), ("b", 65_535), ("c", 1)]);
    let mut client = gateway.connect();
    for _ in 0..100 {
        ask(&mut client);
    }
    assert!(endpoints[0].requests().abs_diff(endpoints[1].requests()) <= 1);
}

#[test]
fn weight_zero_takes_nothing() {
    let (gateway, endpoints) = weighted(&[("a", 0), ("b", 1)]);
    let mut client = gateway.connect();
    for _ in 0..50 {
        assert_eq!(ask(&mut client), "b");
    }
    assert_eq!(endpoints[0].accepted(), 0);
}

#[test]
fn an_app_whose_weights_are_all_zero_is_a_503() {
    let (gateway, endpoints) = weighted(&[("a", 0), ("b", 0)]);
    for _ in 0..3 {
        assert_eq!(refusal(&gateway, HOST, "/").0, 503);
    }
    assert_eq!(endpoints[0].requests() + endpoints[1].requests(), 0);
}

#[test]
fn a_split_is_exact_over_any_thousand_requests_of_one_connection() {
    let (gateway, _endpoints) = split();
    let mut client = gateway.connect();
    let answers: Vec<_> = (0..2_500).map(|_| ask(&mut client)).collect();
    assert_any_thousand_is_exact(&answers);
}

#[test]
fn a_split_is_exact_over_any_thousand_requests_of_all_connections() {
    let (gateway, _endpoints) = split();
    // Enough for both workers to have some.
    let mut clients: Vec<_> = (0..8).map(|_| gateway.connect()).collect();
    let answers: Vec<_> = (0..2_500).map(|number| ask(&mut clients[number % 8])).collect();
    assert_any_thousand_is_exact(&answers);
}

#[test]
fn a_split_is_exact_over_a_thousand_requests_at_once() {
    let (gateway, _endpoints) = split();
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let mut client = gateway.connect();
            thread::spawn(move || (0..250).map(|_| ask(&mut client)).collect::<Vec<_>>())
        })
        .collect();
    let answers: Vec<_> =
        clients.into_iter().flat_map(|client| client.join().expect("a client does not panic")).collect();
    assert_eq!((count(&answers, "v1"), count(&answers, "v2")), (900, 100));
}

#[test]
fn a_split_comes_without_bursts() {
    let (gateway, _endpoints) = split();
    let mut client = gateway.connect();
    let answers: Vec<_> = (0..200).map(|_| ask(&mut client)).collect();
    for window in answers.windows(10) {
        assert_eq!(count(window, "v2"), 1, "{answers:?}");
    }
}

#[test]
fn a_version_outside_the_split_gets_nothing() {
    let endpoints = [Endpoint::start("v1"), Endpoint::start("v2")];
    let app = App::new("shop")
        .host(HOST)
        .line("split = { v1 = 1 }")
        .endpoint("v1", "a", endpoints[0].address())
        .endpoint("v2", "b", endpoints[1].address());
    let gateway = Gateway::start(&Config::new().app(&app));
    let mut client = gateway.connect();
    for _ in 0..20 {
        assert_eq!(ask(&mut client), "v1");
    }
}

#[test]
fn without_a_split_every_version_counts_by_its_weights() {
    let endpoints = [Endpoint::start("v1"), Endpoint::start("v2")];
    let app = App::new("shop").host(HOST).weighted("v1", "a", endpoints[0].address(), 3).weighted(
        "v2",
        "b",
        endpoints[1].address(),
        1,
    );
    let gateway = Gateway::start(&Config::new().app(&app));
    let mut client = gateway.connect();
    let answers: Vec<_> = (0..40).map(|_| ask(&mut client)).collect();
    assert_eq!((count(&answers, "v1"), count(&answers, "v2")), (30, 10));
}
