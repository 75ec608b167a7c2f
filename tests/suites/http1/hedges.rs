//! A second endpoint for requests whose first one is slow.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tests::{App, Config, DEADLINE, Endpoint, Gate, Gateway, RawEndpoint, Reply, eventually, read_head};

/// Two endpoints, whichever is asked first; on one worker, so that they are asked in turn.
fn gateway(lines: &str, addresses: [std::net::SocketAddr; 2]) -> Gateway {
    let app = App::new("all").host("*").line(lines).line("outliers = { enabled = false }");
    let app = app.endpoint("v1", "c1", addresses[0]).endpoint("v1", "c2", addresses[1]);
    Gateway::start(&Config::with_workers(1).app(&app))
}

/// Two endpoints that behave by how many requests both have had before.
fn by_turn(behaviour: impl Fn(usize) -> Reply + Send + Sync + 'static) -> [Endpoint; 2] {
    let (turn, behaviour) = (Arc::new(AtomicUsize::new(0)), Arc::new(behaviour));
    ["a", "b"].map(|id| {
        let (turn, behaviour) = (Arc::clone(&turn), Arc::clone(&behaviour));
        Endpoint::behaving(id, move |_| behaviour(turn.fetch_add(1, Ordering::AcqRel)))
    })
}

fn hedges(gateway: &Gateway, result: &str) -> u64 {
    gateway.metrics().count("sluice_hedges_total", &[("app", "all"), ("result", result)])
}

const SOON: &str = r#"hedge = { after = "50ms" }"#;

#[test]
fn a_read_whose_endpoint_is_slow_is_answered_by_another_one() {
    let endpoints = by_turn(|turn| if turn % 2 == 0 { Reply::Hang } else { Reply::ok("second") });
    let gateway = gateway(SOON, [endpoints[0].address(), endpoints[1].address()]);
    for (at, method) in ["GET", "HEAD", "OPTIONS"].into_iter().enumerate() {
        let mut client = gateway.connect();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n"));
        assert_eq!(client.receive_for(method).status, 200, "{method}");
        assert_eq!(hedges(&gateway, "won"), at as u64 + 1);
    }
    assert_eq!((endpoints[0].requests(), endpoints[1].requests()), (3, 3), "each endpoint once");
    // The slow ones are let go: what is left open is kept.
    eventually(DEADLINE, "the losers are closed", || endpoints[0].open() + endpoints[1].open() <= 2);
    let answered = gateway.metrics().count("sluice_requests_total", &[("app", "all"), ("status", "2xx")]);
    assert_eq!(answered, 3, "a request is counted once");
}

#[test]
fn a_quick_endpoint_gets_no_rival_and_a_write_never_has_one() {
    let endpoints = by_turn(|turn| if turn < 10 { Reply::ok("quick") } else { Reply::Hang });
    let line = "hedge = { after = \"1s\" }\ntimeouts = { first_byte = \"2s\" }";
    let gateway = gateway(line, [endpoints[0].address(), endpoints[1].address()]);
    for _ in 0..10 {
        assert_eq!(gateway.get("a", "/").text(), "quick");
    }
    for request in
        ["POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut client = gateway.connect();
        client.send(request);
        assert_eq!(client.receive().reason(), Some("upstream_timeout"));
    }
    assert_eq!(endpoints[0].requests() + endpoints[1].requests(), 12);
    assert!(!gateway.metrics().text().contains("sluice_hedges_total"));
}

#[test]
fn the_first_endpoint_may_still_win() {
    let gate = Gate::default();
    let slow = gate.clone();
    let endpoints = by_turn(move |turn| {
        if turn == 0 {
            slow.pass();
            return Reply::ok("first");
        }
        Reply::Hang
    });
    let gateway = gateway(SOON, [endpoints[0].address(), endpoints[1].address()]);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "both are asked", || endpoints[0].requests() + endpoints[1].requests() == 2);
    gate.open();
    assert_eq!(client.receive().text(), "first");
    assert_eq!(hedges(&gateway, "lost"), 1);
    eventually(DEADLINE, "the other one is closed", || endpoints[0].open() + endpoints[1].open() == 1);
}

#[test]
fn an_endpoint_that_fails_fast_does_not_win_over_one_that_is_slow_and_right() {
    let gate = Gate::default();
    let slow = gate.clone();
    let endpoints = by_turn(move |turn| {
        if turn == 0 {
            slow.pass();
            return Reply::ok("right");
        }
        Reply::Answer(503, Vec::new(), b"wrong".to_vec())
    });
    let gateway = gateway(SOON, [endpoints[0].address(), endpoints[1].address()]);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "both are asked", || endpoints[0].requests() + endpoints[1].requests() == 2);
    gate.open();
    assert_eq!(client.receive().text(), "right");
    assert_eq!(hedges(&gateway, "failed"), 1);
}

#[test]
fn a_first_endpoint_that_fails_leaves_it_to_the_second() {
    let (first, second) = (Gate::default(), Gate::default());
    let gates = [first.clone(), second.clone()];
    let endpoints = by_turn(move |turn| {
        gates[turn].pass();
        if turn == 0 { Reply::Reset } else { Reply::ok("second") }
    });
    let gateway = gateway(SOON, [endpoints[0].address(), endpoints[1].address()]);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "both are asked", || endpoints[0].requests() + endpoints[1].requests() == 2);
    first.open();
    eventually(DEADLINE, "the first one is gone", || endpoints[0].open() + endpoints[1].open() == 1);
    second.open();
    assert_eq!(client.receive().text(), "second");
    assert_eq!(hedges(&gateway, "won"), 1);
    assert_eq!(endpoints[0].requests() + endpoints[1].requests(), 2);
}

#[test]
fn hedges_are_paid_for_by_the_budget_of_retries() {
    let endpoints = by_turn(|_| Reply::Hang);
    let line =
        "retries = { budget = { percent = 0, min_per_second = 0 } }\ntimeouts = { request = \"500ms\" }";
    let gateway = gateway(&format!("{SOON}\n{line}"), [endpoints[0].address(), endpoints[1].address()]);
    assert_eq!(gateway.get("a", "/").reason(), Some("request_timeout"));
    assert_eq!(endpoints[0].requests() + endpoints[1].requests(), 1);
    assert_eq!(gateway.metrics().count("sluice_retry_budget_exhausted_total", &[("app", "all")]), 1);
}

#[test]
fn both_attempts_end_with_the_requests_time_and_with_the_client() {
    let endpoints = by_turn(|_| Reply::Hang);
    let line = format!("{SOON}\ntimeouts = {{ request = \"500ms\" }}");
    let one = gateway(&line, [endpoints[0].address(), endpoints[1].address()]);
    assert_eq!(one.get("a", "/").reason(), Some("request_timeout"));
    eventually(DEADLINE, "both are let go", || endpoints[0].open() + endpoints[1].open() == 0);
    let one = gateway(SOON, [endpoints[0].address(), endpoints[1].address()]);
    let mut client = one.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "both are asked", || endpoints[0].requests() + endpoints[1].requests() == 4);
    client.wire.reset_at_end().expect("the connection is open");
    drop(client);
    eventually(DEADLINE, "both are let go", || endpoints[0].open() + endpoints[1].open() == 0);
}

/// The first attempt is who looks after the client; it must go on when it has failed.
#[test]
fn a_second_attempt_that_is_alone_ends_with_the_client() {
    let first = Gate::default();
    let failing = first.clone();
    let endpoints = by_turn(move |turn| {
        if turn == 0 {
            failing.pass();
            return Reply::Reset;
        }
        Reply::Hang
    });
    let gateway = gateway(SOON, [endpoints[0].address(), endpoints[1].address()]);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    eventually(DEADLINE, "both are asked", || endpoints[0].requests() + endpoints[1].requests() == 2);
    first.open();
    eventually(DEADLINE, "the first one is gone", || endpoints[0].open() + endpoints[1].open() == 1);
    client.wire.reset_at_end().expect("the connection is open");
    drop(client);
    eventually(DEADLINE, "the other one is let go", || endpoints[0].open() + endpoints[1].open() == 0);
    let aborted = [("app", "all"), ("reason", "client_abort")];
    eventually(DEADLINE, "it is counted once", || {
        gateway.metrics().count("sluice_requests_total", &aborted) == 1
    });
}

#[test]
fn an_endpoint_that_is_at_work_gets_no_rival() {
    let gate = Gate::default();
    let endpoints = [0, 1].map(|_| {
        let slow = gate.clone();
        RawEndpoint::start(move |wire, _| {
            read_head(wire)?;
            wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
            slow.pass();
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
        })
    });
    let gateway = gateway(r#"hedge = { after = "500ms" }"#, [endpoints[0].address(), endpoints[1].address()]);
    let mut client = gateway.connect();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.receive_head().status, 103);
    // Twice the time after which a silent one would have got one.
    std::thread::sleep(std::time::Duration::from_secs(1));
    gate.open();
    assert_eq!(client.receive().text(), "done");
    assert_eq!(endpoints[0].accepted() + endpoints[1].accepted(), 1);
}
