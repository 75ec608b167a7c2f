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
