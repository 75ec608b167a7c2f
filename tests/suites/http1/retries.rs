//! Which request is sent again, and to whom.

use std::net::SocketAddr;

use tests::{App, Config, DEADLINE, Endpoint, Gateway, RawEndpoint, Reply, Response, eventually};

/// Nobody is probed, so only requests find out who is well.
fn gateway(addresses: &[SocketAddr]) -> Gateway {
    let app = addresses.iter().enumerate().fold(App::new("all").host("*"), |app, (at, address)| {
        app.endpoint("v1", &format!("c{at}"), *address)
    });
    Gateway::start(&Config::new().app(&app))
}

/// An address where nobody listens.
fn dead() -> SocketAddr {
    let endpoint = Endpoint::start("dead");
    endpoint.stop();
    eventually(DEADLINE, "the endpoint refuses", || {
        std::net::TcpStream::connect(endpoint.address()).is_err()
    });
    endpoint.address()
}

fn post(gateway: &Gateway) -> Response {
    let mut client = gateway.connect();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody");
    client.receive()
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_request_while_another_is_well() {
    let live = Endpoint::behaving("live", |request| Reply::ok(request.body.clone()));
    let gateway = gateway(&[dead(), live.address()]);
    for _ in 0..20 {
        assert_eq!(gateway.get("a", "/").status, 200);
        // Not a byte was sent, so a write may go elsewhere too, with its body.
        assert_eq!(post(&gateway).text(), "body");
    }
    assert_eq!(live.requests(), 40);
}

#[test]
fn a_write_that_an_endpoint_may_have_seen_is_never_sent_again() {
    let endpoints = [Endpoint::behaving("a", |_| Reply::Close), Endpoint::behaving("b", |_| Reply::Close)];
    let gateway = gateway(&[endpoints[0].address(), endpoints[1].address()]);
    for count in 1..=10 {
        let response = post(&gateway);
        assert_eq!((response.status, response.reason()), (502, Some("upstream_reset")));
        assert_eq!(endpoints[0].requests() + endpoints[1].requests(), count);
    }
}

#[test]
fn a_read_goes_to_another_endpoint_when_the_first_goes_away() {
    let (bad, good) = (Endpoint::behaving("bad", |_| Reply::Reset), Endpoint::start("good"));
    let gateway = gateway(&[bad.address(), good.address()]);
    for _ in 0..10 {
        assert_eq!(gateway.get("a", "/").text(), "good");
    }
}

#[test]
fn a_read_is_not_sent_twice_to_an_endpoint_that_failed_it() {
    let endpoint = Endpoint::behaving("a", |_| Reply::Close);
    let gateway = gateway(&[endpoint.address()]);
    for count in 1..=5 {
        assert_eq!(gateway.get("a", "/").status, 502);
        assert_eq!(endpoint.requests(), count);
    }
}

#[test]
fn a_response_that_has_begun_is_never_asked_for_again() {
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf";
    let endpoints = [
        Endpoint::behaving("a", move |_| Reply::RawThenClose(half.to_vec())),
        Endpoint::behaving("b", move |_| Reply::RawThenClose(half.to_vec())),
    ];
    let gateway = gateway(&[endpoints[0].address(), endpoints[1].address()]);
    for count in 1..=6 {
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert!(client.try_receive("GET").is_err(), "half a response was completed");
        assert_eq!(endpoints[0].requests() + endpoints[1].requests(), count);
    }
}

#[test]
fn a_kept_connection_that_turns_out_closed_fails_no_read() {
    // Reads the second request and goes, as one does whose idle timeout ends at that moment.
    let endpoint = RawEndpoint::start(|wire, _| {
        tests::read_head(wire)?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        tests::read_head(wire)?;
        wire.reset_at_end()
    });
    let gateway = gateway(&[endpoint.address()]);
    let mut client = gateway.connect();
    for _ in 0..10 {
        assert_eq!(client.get("a", "/").text(), "ok");
    }
}

/// Whose turn it is does not depend on how they have done so far.
const NOBODY_EJECTED: &str = "outliers = { enabled = false }";

/// An app with these lines in front of `addresses`, on one worker.
fn retrying(line: &str, addresses: &[SocketAddr]) -> Gateway {
    let line = &format!("{line}\n{NOBODY_EJECTED}");
    let app =
        addresses.iter().enumerate().fold(App::new("all").host("*").line(line), |app, (at, address)| {
            app.endpoint("v1", &format!("c{at}"), *address)
        });
    Gateway::start(&Config::with_workers(1).app(&app))
}

fn failing(status: u16) -> Endpoint {
    Endpoint::behaving("bad", move |_| Reply::Answer(status, Vec::new(), b"failed".to_vec()))
}

#[test]
fn a_status_is_asked_again_for_where_the_app_says_so_and_only_for_reads() {
    for status in [500, 502, 503, 504] {
        let (bad, good) = (failing(status), Endpoint::start("good"));
        let gateway =
            retrying(&format!("retries = {{ on = [\"{status}\"] }}"), &[bad.address(), good.address()]);
        for _ in 0..6 {
            assert_eq!(gateway.get("a", "/").text(), "good");
        }
        assert!(bad.requests() >= 3, "{} requests", bad.requests());
        assert_eq!(bad.accepted(), 1, "a response that was let go costs no connection");
        let asked = bad.requests();
        let word = status.to_string();
        let counted = || gateway.metrics().count("sluice_retries_total", &[("reason", &word)]);
        assert_eq!(counted(), asked);
        let statuses: Vec<u16> = (0..4).map(|_| post(&gateway).status).collect();
        assert_eq!(statuses.iter().filter(|given| **given == status).count(), 2, "{statuses:?}");
        assert_eq!(counted(), asked, "a write was repeated");
    }
}

#[test]
fn a_status_is_passed_on_where_nobody_asked_for_more_or_nobody_is_left() {
    let bad = [failing(503), failing(503)];
    let unasked = retrying("", &[bad[0].address(), bad[1].address()]);
    assert_eq!((unasked.get("a", "/").text().as_str(), bad[0].requests() + bad[1].requests()), ("failed", 1));
    let asked = retrying("retries = { on = [\"503\"] }", &[bad[0].address(), bad[1].address()]);
    let response = asked.get("a", "/");
    assert_eq!((response.status, response.reason(), response.text().as_str()), (503, None, "failed"));
    assert_eq!(bad[0].requests() + bad[1].requests(), 3, "each endpoint once");
}

#[test]
fn a_late_endpoint_is_left_for_another_one_where_the_app_says_so() {
    let (late, good) = (Endpoint::behaving("late", |_| Reply::Hang), Endpoint::start("good"));
    let line = "retries = { on = [\"timeout\"] }\ntimeouts = { first_byte = \"200ms\" }";
    let gateway = retrying(line, &[late.address(), good.address()]);
    for _ in 0..2 {
        assert_eq!(gateway.get("a", "/").text(), "good");
    }
    assert!(late.requests() >= 1);
    assert_eq!(gateway.metrics().count("sluice_retries_total", &[("reason", "timeout")]), late.requests());
    let reasons: Vec<_> = (0..2).map(|_| post(&gateway).status).collect();
    assert!(reasons.contains(&504), "a write was repeated: {reasons:?}");
}

#[test]
fn attempts_are_as_many_as_the_app_says() {
    let good = Endpoint::start("good");
    let dead = [dead(), dead(), dead(), dead()];
    let all = [&dead[..], &[good.address()]].concat();
    // The worker avoids those that refuse, so the first requests are the ones that count.
    assert_eq!(retrying("retries = { attempts = 5 }", &all).get("a", "/").text(), "good");
    let bad = [Endpoint::behaving("a", |_| Reply::Close), Endpoint::behaving("b", |_| Reply::Close)];
    let once = retrying("retries = { attempts = 1 }", &[bad[0].address(), bad[1].address()]);
    assert_eq!(once.get("a", "/").reason(), Some("upstream_reset"));
    assert_eq!(bad[0].requests() + bad[1].requests(), 1);
}

#[test]
fn retries_end_where_the_budget_does() {
    let (bad, good) = (Endpoint::behaving("bad", |_| Reply::Close), Endpoint::start("good"));
    let budget = "budget = { percent = 10, min_per_second = 0, window = \"60s\" }";
    let gateway = retrying(&format!("retries = {{ {budget} }}"), &[bad.address(), good.address()]);
    let failed = (0..40).filter(|_| gateway.get("a", "/").status != 200).count() as u64;
    let metrics = gateway.metrics();
    let retries = metrics.count("sluice_retries_total", &[("reason", "reset")]);
    // A tenth of those that have come so far; who is asked first may change by one.
    assert!((3..=4).contains(&retries), "{retries} retries");
    assert_eq!(metrics.count("sluice_retry_budget_exhausted_total", &[("app", "all")]), failed);
    assert_eq!(bad.requests(), retries + failed);
}

/// A wait so long that only something else can end it in time. The random part of it may be short: such a
/// request is answered, and another one is made.
const LONG_WAIT: &str = "retries = { backoff = { base = \"10s\" } }";

#[test]
fn a_wait_before_a_retry_ends_with_the_requests_time() {
    let bad = [Endpoint::behaving("a", |_| Reply::Close), Endpoint::behaving("b", |_| Reply::Close)];
    let line = format!("{LONG_WAIT}\ntimeouts = {{ request = \"300ms\" }}");
    let gateway = retrying(&line, &[bad[0].address(), bad[1].address()]);
    eventually(DEADLINE, "a wait is longer than the request's time", || {
        gateway.get("a", "/").reason() == Some("request_timeout")
    });
}

#[test]
fn a_wait_before_a_retry_ends_when_the_client_goes() {
    let bad = [Endpoint::behaving("a", |_| Reply::Close), Endpoint::behaving("b", |_| Reply::Close)];
    let gateway = retrying(LONG_WAIT, &[bad[0].address(), bad[1].address()]);
    let aborted = || gateway.metrics().count("sluice_requests_total", &[("reason", "client_abort")]);
    eventually(DEADLINE, "a client goes during a wait", || {
        let before = bad[0].requests() + bad[1].requests();
        let mut client = gateway.connect();
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        eventually(DEADLINE, "an endpoint is asked", || bad[0].requests() + bad[1].requests() > before);
        client.wire.reset_at_end().expect("the connection is open");
        drop(client);
        tests::comes_true(std::time::Duration::from_secs(1), || aborted() > 0)
    });
}

#[test]
fn a_wait_before_a_retry_ends_when_the_gateway_is_cut() {
    let bad = [Endpoint::behaving("a", |_| Reply::Close), Endpoint::behaving("b", |_| Reply::Close)];
    let app = App::new("all").host("*").line(LONG_WAIT);
    let app = app.endpoint("v1", "c1", bad[0].address()).endpoint("v1", "c2", bad[1].address());
    let config = Config::new().app(&app).gateway(r#"drain_timeout = "100ms""#);
    let mut gateway = Gateway::start(&config);
    // Of ten, some wait for longer than a moment.
    let mut clients: Vec<_> = (0..10).map(|_| gateway.connect()).collect();
    clients.iter_mut().for_each(|client| client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n"));
    eventually(DEADLINE, "all are under way", || bad[0].requests() + bad[1].requests() >= 10);
    gateway.signal(rustix::process::Signal::TERM);
    let reasons = clients.iter_mut().filter_map(|client| client.try_receive("GET").ok());
    let reasons: Vec<_> = reasons.map(|response| response.reason().map(str::to_owned)).collect();
    assert!(reasons.contains(&Some("shutdown".to_owned())), "{reasons:?}");
    assert!(gateway.wait(DEADLINE).success());
}
